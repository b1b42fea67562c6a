// Elements for live streams:
//
//   <rt-live src="/live/cam"></rt-live>      one stream; without src, that of the page's path
//   <rt-wall list="/live.json"></rt-wall>    all streams of a list
//   <rt-camera src="/live/cam"></rt-camera>  publishes a camera, the screen, or `element.stream`
//
// `transport="websocket"` uses a websocket for each stream: browsers open only six connections
// to one host by HTTP/1.1. The attribute `state` is `connecting`, `waiting` (for a publisher),
// `playing` or `refused`.

import { LiveBuffer, canPlay } from "./live_buffer.js";
import { CameraElement } from "./live_camera.js";
import { Refusal, openStream } from "./live_stream.js";
import { STYLE } from "./live_style.js";
import { pause } from "./live_wait.js";

const PATIENCE = 1500; // ms without an answer or a picture, then there seems to be no publisher
const LIST_INTERVAL = 3000; // ms
const FORGET = 30_000; // ms that a camera of the wall stays after its stream has ended

const PARTS = `
  <style>${STYLE}</style>
  <video muted autoplay playsinline></video>
  <div class="note" role="status"><div class="text"></div>
    <div class="publish">Publish a test picture:<pre></pre><button class="copy">Copy</button>
    <a class="own" hidden>Publish from this browser</a></div></div>
  <div class="bar"><span class="name"></span><span class="latency"></span>
    <button class="sound" hidden>Sound on</button></div>
`;

/** Return a command that publishes a test picture and a tone to `url`. */
export const publishCommand = (url) =>
  "ffmpeg -re -f lavfi -i testsrc=size=640x360:rate=25 -f lavfi -i sine -c:v libx264 -preset veryfast "
  + "-tune zerolatency -pix_fmt yuv420p -g 50 -c:a aac -f mp4 "
  + `-movflags frag_every_frame+empty_moov+default_base_moof -method PUT ${url}`;

export class LiveElement extends HTMLElement {
  #abort = null;
  #buffer = null;
  #shadow = this.attachShadow({ mode: "open" });

  static observedAttributes = ["src", "transport"];

  constructor() {
    super();
    this.#shadow.innerHTML = PARTS;
    this.#part(".copy").onclick = () => navigator.clipboard?.writeText(this.#part("pre").textContent);
    this.#part(".sound").onclick = () => {
      this.video.muted = !this.video.muted;
      this.#part(".sound").textContent = this.video.muted ? "Sound on" : "Sound off";
      this.video.play().catch(() => {});
    };
    this.video.muted = true; // browsers start pictures with sound only after a click
  }

  get video() {
    return this.#part("video");
  }

  get path() {
    return this.getAttribute("src") ?? location.pathname;
  }

  connectedCallback() {
    this.#start();
  }

  disconnectedCallback() {
    this.#abort?.abort();
  }

  attributeChangedCallback() {
    if (this.#abort) this.#start();
  }

  #part(selector) {
    return this.#shadow.querySelector(selector);
  }

  #start() {
    this.#abort?.abort();
    if (!this.isConnected) return;
    this.#abort = new AbortController();
    this.#part(".name").textContent = decodeURIComponent(this.path.split("/").at(-1));
    const url = new URL(this.path, location.href);
    this.#part("pre").textContent = publishCommand(`${url.origin}${url.pathname}.mp4`);
    this.#part(".own").hidden = !this.hasAttribute("publish");
    this.#part(".own").href = `${url.pathname}/publish${location.search}`;
    this.#show("connecting", "");
    this.#run(this.#abort.signal);
  }

  async #run(signal) {
    while (!signal.aborted) {
      let delay = 1;
      try {
        await this.#playOnce(signal);
      } catch (error) {
        if (signal.aborted) break;
        delay = error.retry ?? 2;
        const isAbsent = !(error instanceof Refusal) || [503, 1000, 1006, 1013].includes(error.status);
        if (isAbsent) this.#show("waiting", "Waiting for a publisher");
        else this.#show("refused", error.message || `refused: ${error.status}`);
      }
      await pause(delay * 1000, signal);
    }
  }

  async #playOnce(signal) {
    const attempt = new AbortController();
    const cancel = () => attempt.abort();
    signal.addEventListener("abort", cancel);
    const watch = setInterval(() => this.#watch(), 500);
    const late = setTimeout(() => this.#show("waiting", "Waiting for a publisher"), PATIENCE);
    try {
      const { type, chunks } = await openStream(this.path, {
        transport: this.getAttribute("transport"),
        query: location.search.includes("key=") ? location.search : "",
        signal: attempt.signal,
      });
      clearTimeout(late);
      if (!canPlay(type)) throw new Refusal(415, `This browser cannot play ${type}`, 30);
      this.#buffer = new LiveBuffer(this.video);
      this.#part(".sound").hidden = !/opus|mp4a|mp3|vorbis/.test(type);
      this.video.play().catch(() => {}); // it waits for the first picture
      await this.#buffer.play(type, chunks);
    } finally {
      clearTimeout(late);
      clearInterval(watch);
      signal.removeEventListener("abort", cancel);
      attempt.abort();
      this.#buffer?.close();
      this.#buffer = null;
      this.#time = -1;
    }
  }

  #time = -1; // of the picture when it was last seen to move
  #moved = 0;

  #watch() {
    const { video } = this;
    if (!this.#buffer) return;
    const now = performance.now();
    if (video.currentTime !== this.#time) {
      const first = this.#time < 0;
      this.#time = video.currentTime;
      this.#moved = now;
      if (!first) this.#show("playing", "");
    } else if (video.paused && this.state === "playing") {
      this.#part(".latency").textContent = "paused";
      return;
    } else if (now - this.#moved > 2 * PATIENCE) {
      this.#show("waiting", "Waiting for the publisher");
      this.#buffer.nudge();
    }
    this.#part(".latency").textContent = `${this.#buffer.behind.toFixed(1)} s behind`;
  }

  get state() {
    return this.getAttribute("state");
  }

  #show(state, text) {
    if (state !== this.state) {
      this.setAttribute("state", state);
      this.dispatchEvent(new CustomEvent("state", { detail: state }));
    }
    this.#part(".note").hidden = !text;
    this.#part(".text").textContent = text;
    this.#part(".publish").hidden = state !== "waiting" || this.#buffer !== null;
    if (state !== "playing") this.#part(".latency").textContent = "";
  }
}

export class WallElement extends HTMLElement {
  #timer = null;
  #seen = new Map(); // path: when it was last listed or not waiting

  connectedCallback() {
    this.#refresh();
    this.#timer = setInterval(() => this.#refresh(), LIST_INTERVAL);
  }

  disconnectedCallback() {
    clearInterval(this.#timer);
  }

  async #refresh() {
    let listed = [];
    try {
      const list = new URL(this.getAttribute("list") ?? "../live.json", location.href);
      const response = await fetch(list + (location.search.includes("key=") ? location.search : ""));
      if (!response.ok) return;
      listed = (await response.json()).streams.map((name) => {
        const path = new URL(list.pathname.replace(/\.json$/, `/${encodeURIComponent(name)}`), list);
        return path.pathname;
      });
    } catch {
      return; // the daemon is away; the next time
    }
    const now = performance.now();
    for (const path of listed) this.#seen.set(path, now);
    for (const tile of this.querySelectorAll("rt-live")) {
      if (tile.state === "playing") this.#seen.set(tile.path, now);
      if (now - (this.#seen.get(tile.path) ?? 0) > FORGET) tile.parentElement.remove();
    }
    const shown = new Set([...this.querySelectorAll("rt-live")].map((tile) => tile.path));
    for (const path of listed) if (!shown.has(path)) this.#add(path);
    this.toggleAttribute("empty", !this.querySelector("rt-live"));
  }

  #add(path) {
    const link = document.createElement("a");
    link.href = path + location.search;
    const tile = document.createElement("rt-live");
    tile.setAttribute("src", path);
    tile.setAttribute("compact", "");
    tile.setAttribute("transport", this.getAttribute("transport") ?? "websocket");
    tile.addEventListener("click", (event) => {
      if (event.composedPath()[0].localName === "button") event.preventDefault();
    });
    link.append(tile);
    this.append(link);
  }
}

customElements.define("rt-live", LiveElement);
customElements.define("rt-wall", WallElement);
customElements.define("rt-camera", CameraElement);
export { CameraElement };
