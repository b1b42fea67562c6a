import assert from "node:assert/strict";
import { test } from "node:test";

import { holeEnd } from "../src/live_buffer.js";
import { openStream } from "../src/live_stream.js";

test("a player jumps over a hole, and stays where a picture is", () => {
  const ranges = [[10, 20], [21, 30]];

  assert.equal(holeEnd(ranges, 0), 10);
  assert.equal(holeEnd(ranges, 15), null);
  assert.equal(holeEnd(ranges, 19.99), 21);
  assert.equal(holeEnd(ranges, 20.5), 21);
  assert.equal(holeEnd(ranges, 29.99), null); // the newest frame: nothing is behind it
  assert.equal(holeEnd([], 3), null);
});

const responses = (t, answers) => {
  const requested = [];
  t.mock.method(globalThis, "fetch", async (url) => {
    requested.push(url);
    return answers[url]();
  });
  return requested;
};

test("a container that cannot carry the codecs is replaced by the other one", async (t) => {
  const headers = { "Content-Type": 'video/webm; codecs="vp8"' };
  const requested = responses(t, {
    "/live/cam.mp4?key=k": () => new Response("the route word webm can", { status: 415 }),
    "/live/cam.webm?key=k": () => new Response("frames", { headers }),
  });

  const { type, chunks } = await openStream("/live/cam", { query: "?key=k" });

  assert.deepEqual(requested, ["/live/cam.mp4?key=k", "/live/cam.webm?key=k"]);
  assert.equal(type, headers["Content-Type"]);
  const received = [];
  for await (const chunk of chunks) received.push(new TextDecoder().decode(chunk));
  assert.equal(received.join(""), "frames");
});

test("a refusal has the reason, and the time to ask again", async (t) => {
  const init = { status: 503, headers: { "Retry-After": "5" } };
  responses(t, { "/live/cam.mp4": () => new Response("no publisher\n", init) });

  await assert.rejects(openStream("/live/cam", {}), { status: 503, message: "no publisher", retry: 5 });
});
