import assert from "node:assert/strict";
import { test } from "node:test";

// The parts of Media Source Extensions that a LiveBuffer uses. Each chunk is a second of video.
class FakeBuffer extends EventTarget {
  ranges = [];
  removed = [];
  full = Infinity; // seconds

  appendBuffer([start, end]) {
    const [last] = this.ranges.slice(-1);
    if (this.ranges.length && this.ranges.at(-1)[1] - this.ranges[0][0] >= this.full) {
      throw new DOMException("full", "QuotaExceededError");
    }
    if (last && last[1] === start) last[1] = end;
    else this.ranges.push([start, end]);
    this.#update();
  }

  remove(start, end) {
    this.removed.push([start, end]);
    this.ranges[0][0] = end;
    this.#update();
  }

  #update() {
    this.updating = true;
    queueMicrotask(() => {
      this.updating = false;
      this.dispatchEvent(new Event("updateend"));
    });
  }
}

class FakeSource extends EventTarget {
  static last;
  static isTypeSupported = (type) => type.startsWith("video/mp4");
  readyState = "open";
  buffer = new FakeBuffer();

  constructor() {
    super();
    FakeSource.last = this;
  }

  addSourceBuffer = () => this.buffer;
}

globalThis.MediaSource = undefined;
globalThis.ManagedMediaSource = FakeSource; // as in Safari on a phone
const { LiveBuffer, canPlay } = await import("../src/live_buffer.js");

function open(t) {
  t.mock.method(performance, "now", () => 0); // chunks arrive at once, on a busy machine too
  t.mock.method(URL, "createObjectURL", () => "blob:a");
  const video = {
    currentTime: 0,
    paused: false,
    get buffered() {
      const { ranges } = FakeSource.last.buffer;
      return { length: ranges.length, start: (i) => ranges[i][0], end: (i) => ranges[i][1] };
    },
  };
  return { video, live: new LiveBuffer(video), buffer: FakeSource.last.buffer };
}

async function* seconds(video, first, last, moves = true) {
  for (let second = first; second < last; second += 1) {
    yield [second, second + 1];
    if (moves) video.currentTime = second + 0.8;
  }
}

test("what is long past is removed from memory", async (t) => {
  const { video, live, buffer } = open(t);

  await live.play("video/mp4", seconds(video, 0, 3600));

  assert.ok(buffer.removed.length > 100);
  const [[start, end]] = buffer.ranges;
  assert.equal(end, 3600);
  assert.ok(end - start < 25, `${end - start} seconds are kept`);
  assert.equal(buffer.ranges.length, 1);
});

test("a full buffer is emptied up to the present picture", async (t) => {
  const { video, live, buffer } = open(t);
  buffer.full = 8;

  await live.play("video/mp4", seconds(video, 0, 30));

  assert.equal(buffer.ranges.at(-1)[1], 30);
});

test("a picture that is far behind jumps to the newest frames", async (t) => {
  const { video, live } = open(t);
  await live.play("video/mp4", seconds(video, 0, 2, false));
  assert.equal(video.currentTime, 0);

  await live.play("video/mp4", seconds(video, 2, 3, false));
  assert.equal(video.currentTime, 2.7);
});

test("a picture that is a little behind is played faster", async (t) => {
  const { video, live } = open(t);
  await live.play("video/mp4", seconds(video, 0, 1, false));
  assert.equal(video.playbackRate, 1.1);

  video.currentTime = 1.9;
  await live.play("video/mp4", seconds(video, 1, 2, false));
  assert.equal(video.playbackRate, 1);
});

test("a picture that is paused by the viewer stays where it is", async (t) => {
  const { video, live } = open(t);
  video.paused = true;
  await live.play("video/mp4", seconds(video, 0, 9, false));

  assert.equal(video.currentTime, 0);
});

test("the picture jumps over a hole", async (t) => {
  const { video, live } = open(t);
  await live.play("video/mp4", seconds(video, 5, 6, false));
  assert.equal(video.currentTime, 5);

  video.currentTime = 5.99;
  await live.play("video/mp4", seconds(video, 8, 9, false));
  assert.equal(video.currentTime, 8);
});

test("a browser that has only ManagedMediaSource plays too", (t) => {
  const { video } = open(t);

  assert.equal(canPlay('video/mp4; codecs="avc1.42C00A"'), true);
  assert.equal(canPlay('video/webm; codecs="vp8"'), false);
  assert.equal(video.disableRemotePlayback, true);
});

test("listeners are removed when a promise has ended", async () => {
  const { getEventListeners } = await import("node:events");
  const { once, pause } = await import("../src/live_wait.js");
  const target = new EventTarget();
  const { signal } = new AbortController();

  const update = once(target, "updateend", "broken");
  target.dispatchEvent(new Event("updateend"));
  await update;
  const failure = once(target, "updateend", "broken");
  target.dispatchEvent(new Event("error"));
  await assert.rejects(failure, { message: "broken" });
  await pause(1, signal);

  for (const name of ["updateend", "error"]) assert.deepEqual(getEventListeners(target, name), []);
  assert.deepEqual(getEventListeners(signal, "abort"), []);
});
