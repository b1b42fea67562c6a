import assert from "node:assert/strict";
import { test } from "node:test";
import { eventReader } from "../src/events.js";

const STREAM = ":\nretry: 2000\n\ndata: {\"a\":1}\nid: e.1\n\nevent: gap\ndata: one\ndata:two\n\n"
  + "id: e.2\n\n: beat\ndata\n\ndata:  x\r\nid: e.3\r\n\r\ndata: with\nid: lost";
const BLOCKS = [
  { retry: 2000 }, { id: "e.1", data: '{"a":1}' }, { type: "gap", data: "one\ntwo" },
  { id: "e.2" }, { data: "" }, { id: "e.3", data: " x" },
];

test("a stream is read alike, however it is cut", () => {
  for (const size of [1, 2, 3, 7, STREAM.length]) {
    const blocks = [];
    const read = eventReader((block) => blocks.push(block));
    for (let at = 0; at < STREAM.length; at += size) read(STREAM.slice(at, at + size));
    assert.deepEqual(blocks, BLOCKS, `pieces of ${size}`);
  }
});
