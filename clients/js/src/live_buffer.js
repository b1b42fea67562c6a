// Plays a live stream in a video element by Media Source Extensions, near its newest frame.

import { once } from "./live_wait.js";

const KEPT = 10; // seconds behind the present picture that stay in memory
const MIN_BEHIND = 0.3; // seconds behind the newest frame that are aimed at
const MAX_BEHIND = 2; // seconds beyond the aim, then the player jumps
const SLACK = 0.2;
const FASTER = 1.1;
const BROKEN = "the stream cannot be decoded";
const HOLE = 0.05; // seconds: a shorter rest of a buffered range is a hole

const Source = globalThis.MediaSource ?? globalThis.ManagedMediaSource; // Safari on a phone

/** Whether this browser can play `type`, a content type with codecs. */
export const canPlay = (type) => Boolean(Source?.isTypeSupported(type));

/** Return the time to which `video` has to jump: over a hole, or into what is buffered. */
export function holeEnd(ranges, time) {
  for (const [start, end] of ranges) {
    if (time < start) return start;
    if (time < end - HOLE) return null; // within a range
  }
  return null;
}

export const rangesOf = ({ buffered }) =>
  Array.from({ length: buffered.length }, (_, i) => [buffered.start(i), buffered.end(i)]);

/** Appends one stream to a video, and keeps it near the newest frame. */
export class LiveBuffer {
  #video;
  #source = new Source();
  #buffer = null;
  #gap = 0; // the longest time between two arrivals of late, seconds
  #arrived = 0;

  constructor(video) {
    this.#video = video;
    video.disableRemotePlayback = true; // ManagedMediaSource needs it
    video.src = URL.createObjectURL(this.#source);
  }

  /** Seconds between the picture and the newest frame. */
  get behind() {
    const ranges = rangesOf(this.#video);
    return ranges.length ? Math.max(0, ranges.at(-1)[1] - this.#video.currentTime) : 0;
  }

  /** Append what `chunks` yields until it ends. */
  async play(type, chunks) {
    if (this.#source.readyState !== "open") await once(this.#source, "sourceopen", BROKEN);
    this.#buffer = this.#source.addSourceBuffer(type);
    this.#arrived = performance.now();
    const timer = setInterval(() => this.#follow(), 250);
    try {
      for await (const chunk of chunks) {
        this.#measure();
        await this.#append(chunk);
        this.#follow();
      }
    } finally {
      clearInterval(timer);
    }
  }

  /** Start a picture that stands although newer frames are there. */
  nudge() {
    if (this.behind < MIN_BEHIND) return;
    this.#video.currentTime += HOLE;
    this.#video.play().catch(() => {});
  }

  close() {
    const url = this.#video.src;
    this.#video.removeAttribute("src");
    this.#video.load();
    URL.revokeObjectURL(url);
  }

  #measure() {
    const now = performance.now();
    this.#gap = Math.max(this.#gap * 0.99, (now - this.#arrived) / 1000);
    this.#arrived = now;
  }

  async #append(chunk) {
    for (let tries = 0; ; tries += 1) {
      try {
        this.#buffer.appendBuffer(chunk);
        break;
      } catch (error) {
        if (error.name !== "QuotaExceededError" || tries) throw error;
        await this.#trim(1);
      }
    }
    await this.#updated();
    const [first] = rangesOf(this.#video);
    if (first && first[0] < this.#video.currentTime - 2 * KEPT) await this.#trim(KEPT);
  }

  async #trim(kept) {
    const [first] = rangesOf(this.#video);
    const end = this.#video.currentTime - kept;
    if (!first || end <= first[0]) return;
    this.#buffer.remove(first[0], end);
    await this.#updated();
  }

  async #updated() {
    if (this.#buffer.updating) await once(this.#buffer, "updateend", BROKEN);
    if (this.#video.error) throw new Error(this.#video.error.message);
    if (this.#source.readyState !== "open") throw new Error(BROKEN);
  }

  /** Jump over holes, to the newest frame if the picture is far behind, else play faster. */
  #follow() {
    const video = this.#video;
    const ranges = rangesOf(video);
    if (!ranges.length) return;
    const aim = MIN_BEHIND + Math.min(this.#gap, 5);
    const [start, end] = ranges.at(-1);
    const { behind } = this;
    const jump = holeEnd(ranges, video.currentTime);
    if (jump !== null) {
      video.currentTime = jump;
    } else if (behind > aim + MAX_BEHIND && !video.paused) {
      video.currentTime = Math.max(start, end - aim);
    }
    video.playbackRate = behind > aim + SLACK ? FASTER : 1;
  }
}
