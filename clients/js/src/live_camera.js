// The element that publishes a camera, the screen, or a stream of the page.

import { publishStream } from "./live_publish.js";
import { STYLE } from "./live_style.js";
import { pause } from "./live_wait.js";

const RETRY = 2000; // ms
const INSECURE = "Browsers give a camera only to pages of https and of localhost. "
  + "Open this page at such an address.";
const PARTS = `
  <style>${STYLE}</style>
  <video muted autoplay playsinline></video>
  <div class="note" role="status"><div class="text"></div></div>
  <div class="bar"><span class="name"></span><span class="latency"></span>
    <button class="camera">Start camera</button><button class="screen">Share screen</button>
    <button class="stop" hidden>Stop</button></div>
`;

/**
 * `<rt-camera src="/live/cam">`. The attribute `state` is `stopped`, `connecting`, `publishing` or
 * `refused`.
 */
export class CameraElement extends HTMLElement {
  #abort = null;
  #stream = null;
  #isOwn = false; // the element has asked for the stream, and stops its tracks
  #shadow = this.attachShadow({ mode: "open" });

  constructor() {
    super();
    this.#shadow.innerHTML = PARTS;
    this.#part(".camera").onclick = () => this.start("camera");
    this.#part(".screen").onclick = () => this.start("screen");
    this.#part(".stop").onclick = () => this.stop();
  }

  connectedCallback() {
    const path = this.path;
    this.#part(".name").textContent = decodeURIComponent(path.split("/").at(-1));
    this.#part(".screen").hidden = !navigator.mediaDevices?.getDisplayMedia;
    this.#part(".camera").hidden = !navigator.mediaDevices;
    if (!this.state) this.#show("stopped", navigator.mediaDevices ? "" : INSECURE);
  }

  disconnectedCallback() {
    this.stop();
  }

  get path() {
    return this.getAttribute("src") ?? location.pathname.replace(/\/publish$/, "");
  }

  get state() {
    return this.getAttribute("state");
  }

  /** The stream that is published; assign one of the page's own, such as `canvas.captureStream()`. */
  get stream() {
    return this.#stream;
  }

  set stream(stream) {
    this.stop();
    if (stream) this.#publish(stream, false);
  }

  /** Ask for the camera and the microphone, or for a "screen", and publish them. */
  async start(source = "camera") {
    this.stop();
    if (!navigator.mediaDevices) {
      this.#show("refused", INSECURE);
      return;
    }
    try {
      const wanted = { video: { height: { ideal: 720 } }, audio: true };
      const stream = source === "screen"
        ? await navigator.mediaDevices.getDisplayMedia({ video: true, audio: true })
        : await navigator.mediaDevices.getUserMedia(wanted);
      this.#publish(stream, true);
    } catch (error) {
      this.#show("refused", `${error.name}: ${error.message}`);
    }
  }

  stop() {
    this.#abort?.abort();
    this.#abort = null;
    if (this.#isOwn) for (const track of this.#stream.getTracks()) track.stop();
    this.#stream = null;
    this.#isOwn = false;
    this.#part("video").srcObject = null;
    if (this.state) this.#show("stopped", "");
  }

  #part(selector) {
    return this.#shadow.querySelector(selector);
  }

  async #publish(stream, isOwn) {
    this.#stream = stream;
    this.#isOwn = isOwn;
    this.#part("video").srcObject = stream;
    const { signal } = (this.#abort = new AbortController());
    let stopped = false;
    while (!signal.aborted && !stopped) {
      this.#show("connecting", "");
      try {
        await publishStream(stream, this.path, {
          transport: this.getAttribute("transport"),
          type: this.getAttribute("type"),
          bitrate: Number(this.getAttribute("bitrate")) || 0,
          query: location.search.includes("key=") ? location.search : "",
          signal,
          onOpen: () => this.#show("publishing", ""),
        });
        stopped = true; // the page or the user has ended its tracks
      } catch (error) {
        if (signal.aborted) return;
        if (error.final) {
          this.#show("refused", error.message);
          return;
        }
        this.#show("connecting", `${error.message || error.status}: trying again`);
        await pause(RETRY, signal);
      }
    }
    if (!signal.aborted) this.stop();
  }

  #show(state, text) {
    if (state !== this.state) {
      this.setAttribute("state", state);
      this.dispatchEvent(new CustomEvent("state", { detail: state }));
    }
    const runs = state === "connecting" || state === "publishing";
    this.#part(".note").hidden = !text;
    this.#part(".text").textContent = text;
    this.#part(".latency").textContent = state === "publishing" ? "live" : "";
    this.#part(".stop").hidden = !runs;
    this.#part(".camera").disabled = this.#part(".screen").disabled = runs;
  }
}
