import assert from "node:assert/strict";
import { mock, test } from "node:test";
import { later } from "../src/position.js";
import { makeLeader } from "../src/tabs.js";

mock.timers.enable({ apis: ["setTimeout"] });

/** A link that notes how it is opened. */
function makeLink() {
  const opened = [];
  return {
    opened, channels: [], since: undefined,
    open(channels, since) { Object.assign(this, { channels, since }); opened.push([channels.join(), since]); },
    close() {},
  };
}

/** A leader told of `wants`, after its time to collect them. */
function make(...wants) {
  const link = makeLink();
  const leader = makeLeader(link, later);
  const tell = (...all) => {
    for (const [tab, wanted] of all) leader.wants(tab, wanted);
    mock.timers.tick(1000);
    return link.opened;
  };
  tell(...wants);
  return { link, tell };
}

test("one connection for all tabs, from the earliest position", () => {
  const { link } = make(["one", { a: "e.9" }], ["two", { a: "e.7", b: "e.8" }]);
  assert.deepEqual(link.opened, [["a,b", "e.7"]]);
});

test("it is opened anew only for what it does not bring", () => {
  const { link, tell } = make(["one", { a: "e.7" }]);
  link.since = "e.20";
  assert.equal(tell(["two", { a: "e.15" }]).length, 1);
  assert.deepEqual(tell(["two", { a: "e.15", b: "e.18" }]).at(-1), ["a,b", "e.18"]);
  link.since = "e.30";
  assert.deepEqual(tell(["three", { c: "e.31" }]).at(-1), ["a,b,c", "e.30"]);
  assert.deepEqual(tell(["four", { a: "e.3" }]).at(-1), ["a,b,c", "e.3"]);
});

test("what nobody wants any more is left out", () => {
  const { link, tell } = make(["one", { a: "e.7" }], ["two", { b: "e.7" }]);
  link.since = "e.9";
  assert.deepEqual(tell(["two", undefined]).at(-1), ["a", "e.9"]);
  assert.deepEqual(tell(["one", undefined]).at(-1), ["", "e.9"]);
});
