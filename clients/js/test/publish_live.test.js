import assert from "node:assert/strict";
import { test } from "node:test";

import { recordedType, refusal } from "../src/live_publish.js";

const stream = (videos) => ({ getVideoTracks: () => Array(videos).fill({}) });

test("a stream is recorded in the first type that the browser supports", () => {
  const all = () => true;

  assert.equal(recordedType(stream(1), all), "video/webm;codecs=vp8,opus");
  assert.equal(recordedType(stream(0), all), "audio/webm;codecs=opus");
  const isMp4 = (type) => type.includes("mp4"); // Safari
  assert.equal(recordedType(stream(1), isMp4), "video/mp4;codecs=avc1.42E01F,mp4a.40.2");
  assert.equal(recordedType(stream(1), () => false), "");
});

test("a refusal says whether trying again would help", () => {
  assert.equal(refusal(1008, "a key is needed").final, true);
  assert.equal(refusal(403, "").message, "refused: 403");
  for (const status of [503, 1001, 1006, 1013]) assert.equal(refusal(status, "").final, false);
});
