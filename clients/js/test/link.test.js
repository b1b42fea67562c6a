import assert from "node:assert/strict";
import { test } from "node:test";
import { makeLink } from "../src/link.js";
import { Refused } from "../src/wire.js";

/** A link over made-up transports; `until(n)` waits for the nth word it says. */
function make(order, transports) {
  const said = [];
  let wake = () => {};
  const tell = (...words) => { said.push(words.join(" ")); wake(); };
  const told = {
    message: ({ id }) => tell("message", id),
    gap: (position) => tell("gap", position),
    cursor: (position) => tell("cursor", position),
    state: (state, name) => tell(state, name),
    refused: ({ status }) => tell("refused", status),
  };
  const link = makeLink(order, transports, {}, told);
  const until = async (count) => {
    while (said.length < count) await new Promise((done) => { wake = done; });
    return said;
  };
  return { link, until, said };
}

const late = () => Object.assign(new Error("late"), { late: true });
const forever = (signal) => new Promise((_, no) => signal.addEventListener("abort", () => no(new Error("given up"))));

test("what holds bytes back is passed by, with the position kept", async () => {
  const since = [];
  const { link, until } = make(["sse", "websocket", "poll"], {
    async sse() { throw late(); },
    async websocket() { throw new Error("no upgrade"); },
    async poll(attempt, signal) {
      since.push(attempt.since);
      attempt.opened();
      attempt.message({ id: "e.8" });
      since.push(attempt.since);
      await forever(signal);
    },
  });
  link.open(["a"], "e.7");
  assert.deepEqual(await until(5), [
    "connecting sse", "connecting websocket", "connecting poll", "open poll", "message e.8",
  ]);
  assert.deepEqual(since, ["e.7", "e.8"]);
  link.close();
});

test("a server that is down is no reason for another transport", async () => {
  let tries = 0;
  const { link, until } = make(["sse", "poll"], {
    async sse(attempt, signal) {
      tries += 1;
      if (tries === 1) {
        attempt.retry(1);
        throw new TypeError("fetch failed");
      }
      attempt.opened();
      attempt.cursor("e.9");
      await forever(signal);
    },
  });
  link.open(["a"], "e.7");
  assert.deepEqual(await until(5), [
    "connecting sse", "waiting sse", "connecting sse", "open sse", "cursor e.9",
  ]);
  assert.equal(link.since, "e.9");
  link.close();
});

test("a stream that falls silent twice is a proxy's", async () => {
  const { link, until } = make(["sse", "poll"], {
    async sse(attempt) { attempt.retry(1); attempt.opened(); throw late(); },
    async poll(attempt, signal) { attempt.opened(); await forever(signal); },
  });
  link.open(["a"], "e.7");
  const said = await until(7);
  assert.deepEqual(said.slice(-4), ["connecting sse", "open sse", "connecting poll", "open poll"]);
  link.close();
});

test("a refusal is the end", async () => {
  const { link, until } = make(["sse", "poll"], { async sse() { throw new Refused(403, "no"); } });
  link.open(["a"], "e.7");
  assert.deepEqual(await until(2), ["connecting sse", "refused 403"]);
});

test("nobody hears an attempt that was given up", async () => {
  const attempts = [];
  const { link, until, said } = make(["sse"], {
    sse(attempt, signal) { attempts.push(attempt); return forever(signal); },
  });
  link.open(["a"], "e.7");
  link.open(["a", "b"], "e.5");
  await until(2);
  attempts[0].message({ id: "e.6" });
  assert.equal(link.since, "e.5");
  attempts[1].message({ id: "e.6" });
  assert.equal(link.since, "e.6");
  assert.deepEqual(said, ["connecting sse", "connecting sse", "message e.6"]);
  link.close();
});
