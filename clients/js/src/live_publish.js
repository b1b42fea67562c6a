// Publishes a MediaStream by a MediaRecorder, with a websocket or with one request after another.

import { Refusal } from "./live_stream.js";

const SLICE = 100; // ms of the stream in one message
const KEYFRAMES = 1000; // ms between two keyframes: how long a new viewer waits at most
const MAX_WAITING = 2 << 20; // bytes; beyond it the recorder pauses until they are sent
const MAX_MESSAGE = 1 << 18; // bytes; the server refuses messages over `websocket-message`
const CHECK = 50; // ms
const FINAL = new Set([400, 401, 403, 409, 413, 1003, 1008, 1009]); // trying again does not help

const VIDEO_TYPES = [
  "video/webm;codecs=vp8,opus", // every browser but Safari records it, and plays it
  "video/mp4;codecs=avc1.42E01F,mp4a.40.2", // Safari
  "video/webm",
  "video/mp4",
];
const AUDIO_TYPES = ["audio/webm;codecs=opus", "audio/mp4;codecs=mp4a.40.2", "audio/webm", "audio/mp4"];

/** Return the content type in which this browser can record `stream`; "" for its own choice. */
export function recordedType(stream, isSupported = (type) => MediaRecorder.isTypeSupported(type)) {
  const types = stream.getVideoTracks().length ? VIDEO_TYPES : AUDIO_TYPES;
  return types.find(isSupported) ?? "";
}

/**
 * Publish `stream` to the live stream at `path` until it ends, or `signal` aborts.
 *
 * @param {object} options transport: "websocket" or "post"; type: a content type with codecs;
 *   bitrate: of the video, bits per second; query: of the URLs; onOpen: called when the server
 *   has accepted the first bytes.
 * @throws {Refusal} the server has refused it; `final` if trying again would not help.
 */
export async function publishStream(stream, path, options) {
  const target = options.transport === "post" ? byPost(path, options) : bySocket(path, options);
  try {
    await target.open;
    while (isLive(stream) && !options.signal.aborted && !target.failure) {
      await record(stream, target, options);
      // The recorder was stopped because too much waited: the next one goes on with a header.
      while (target.waiting && !options.signal.aborted && !target.failure) await wait(CHECK);
    }
    if (target.failure) throw target.failure;
  } finally {
    target.close();
  }
}

const isLive = (stream) => stream.getTracks().some((track) => track.readyState === "live");
const wait = (ms) => new Promise((resolve) => { setTimeout(resolve, ms); });

/** Return a Refusal that says whether trying again would help. */
export function refusal(status, reason) {
  const error = new Refusal(status, reason || `refused: ${status}`);
  error.final = FINAL.has(status);
  return error;
}

function record(stream, target, { type, bitrate, signal }) {
  const recorder = new MediaRecorder(stream, {
    mimeType: type || recordedType(stream),
    videoKeyFrameIntervalDuration: KEYFRAMES,
    ...(bitrate && { videoBitsPerSecond: bitrate }),
  });
  return new Promise((resolve, reject) => {
    const stop = () => {
      if (recorder.state !== "inactive") recorder.stop(); // the last bytes come before `stop`
    };
    const timer = setInterval(() => {
      if (target.failure || target.waiting > MAX_WAITING) stop();
    }, CHECK);
    const end = (done, value) => {
      clearInterval(timer);
      signal.removeEventListener("abort", stop);
      done(value);
    };
    recorder.ondataavailable = ({ data }) => {
      // A page that was frozen sends all that was recorded meanwhile.
      for (let start = 0; start < data.size; start += MAX_MESSAGE) {
        target.send(data.slice(start, start + MAX_MESSAGE));
      }
    };
    recorder.onstop = () => end(resolve);
    recorder.onerror = ({ error }) => end(reject, error);
    signal.addEventListener("abort", stop);
    recorder.start(SLICE);
  });
}

function bySocket(path, { query = "", onOpen }) {
  const url = new URL(`${path}.ws${query}`, location.href);
  url.protocol = url.protocol.replace("http", "ws");
  const socket = new WebSocket(url);
  const target = {
    failure: null,
    get waiting() { return socket.bufferedAmount; },
    send: (blob) => socket.readyState === WebSocket.OPEN && socket.send(blob),
    close: () => socket.close(1000),
  };
  target.open = new Promise((resolve, reject) => {
    socket.onopen = () => {
      onOpen?.();
      resolve();
    };
    socket.onclose = ({ code, reason }) => {
      target.failure = refusal(code, reason);
      reject(target.failure);
    };
  });
  return target;
}

function byPost(path, { query = "", onOpen, signal }) {
  let blobs = [];
  let start = 0; // bytes that are sent
  let sending = false;
  const target = {
    failure: null,
    open: Promise.resolve(),
    get waiting() { return blobs.reduce((sum, { size }) => sum + size, sending ? 1 : 0); },
    send: (blob) => {
      blobs.push(blob);
      if (!sending) run();
    },
    close: () => { blobs = []; },
  };
  async function run() {
    sending = true;
    try {
      while (blobs.length && !target.failure) {
        const body = new Blob(blobs);
        blobs = [];
        const range = `bytes ${start}-${start + body.size - 1}/*`; // these are parts of one stream
        const headers = { "Content-Range": range };
        const response = await fetch(path + query, { method: "PUT", body, headers, signal });
        if (!response.ok) throw refusal(response.status, (await response.text()).trim());
        if (!start) onOpen?.();
        start += body.size;
      }
    } catch (error) {
      target.failure = error;
    }
    sending = false;
  }
  return target;
}
