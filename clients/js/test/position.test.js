import assert from "node:assert/strict";
import { test } from "node:test";
import { alike, later } from "../src/position.js";

test("numbers compare as numbers, however large", () => {
  for (const [one, other, after] of [
    ["e.2", "e.1", true], ["e.1", "e.2", false], ["e.1", "e.1", false],
    ["e.10", "e.9", true], ["e.9", "e.10", false],
    ["e.9223372036854775807", "e.9223372036854775806", true],
    ["e.9007199254740993", "e.9007199254740992", true],
  ]) assert.equal(later(one, other), after, `${one} ${other}`);
});

test("of two logs each may come after the other", () => {
  assert.ok(later("f.1", "e.9") && later("e.9", "f.1"));
  assert.ok(alike("e.1", "e.2") && !alike("e.1", "f.1"));
});
