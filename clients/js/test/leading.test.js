import assert from "node:assert/strict";
import { mock, test } from "node:test";

/** Web Locks, as far as tabs use them; each tab has a manager of its own. */
class Locks {
  static stolen = [];  // what tabs whose lock was stolen have yet to learn
  #names = new Map();

  #of(name) {
    if (!this.#names.has(name)) this.#names.set(name, { holder: undefined, queue: [] });
    return this.#names.get(name);
  }

  request(name, { signal, steal }, work) {
    const lock = this.#of(name);
    return new Promise((done, failed) => {
      const entry = { work, done, failed };
      signal?.addEventListener("abort", () => {
        const at = lock.queue.indexOf(entry);
        if (at < 0) return;
        lock.queue.splice(at, 1);
        failed(new Error("aborted"));
      });
      if (steal) {
        const from = lock.holder;
        if (from) Locks.stolen.push(() => from.failed(new Error("stolen")));
        lock.holder = undefined;
        lock.queue.unshift(entry);
      } else lock.queue.push(entry);
      queueMicrotask(() => this.#next(lock));
    });
  }

  #next(lock) {
    if (lock.holder || !lock.queue.length) return;
    const entry = lock.holder = lock.queue.shift();
    Promise.resolve(entry.work()).then((value) => {
      if (lock.holder === entry) lock.holder = undefined;
      entry.done(value);
      this.#next(lock);
    });
  }
}

/** A BroadcastChannel whose tab can be frozen: what is posted to it waits. */
class Channel {
  static all = new Set();
  static frozen = new Set();
  waiting = [];

  constructor(name) {
    this.name = name;
    this.owner = Channel.owner;
    Channel.all.add(this);
  }

  postMessage(data) {
    for (const other of Channel.all) {
      if (other === this || other.name !== this.name) continue;
      other.waiting.push(structuredClone(data));
    }
  }

  close() { Channel.all.delete(this); }

  static deliver() {
    if (!Channel.frozen.size) for (const tell of Locks.stolen.splice(0)) tell();
    for (const one of Channel.all) {
      if (Channel.frozen.has(one.owner)) continue;
      for (const data of one.waiting.splice(0)) one.onmessage({ data });
    }
  }
}

/** A server with one log, that remembers everything. */
class Daemon {
  log = [];
  streams = new Set();

  publish(data) {
    this.log.push({ id: `e.${this.log.length + 1}`, channel: "a", data });
    for (const stream of this.streams) stream.send();
  }

  fetch(url, { signal }) {
    const query = new URL(url).searchParams;
    const since = query.get("since");
    let at = since === null ? this.log.length : Number(since.slice(2));
    if (new URL(url).pathname === "/poll") {
      const messages = this.log.slice(at);
      const position = `e.${this.log.length}`;
      return Promise.resolve(Response.json({ messages, position, gap: false }));
    }
    const encoder = new TextEncoder();
    const daemon = this;
    const body = new ReadableStream({
      start(controller) {
        const stream = {
          send() {
            for (; at < daemon.log.length; at += 1) {
              const message = daemon.log[at];
              const text = `data: ${JSON.stringify(message)}\nid: ${message.id}\n\n`;
              controller.enqueue(encoder.encode(text));
            }
          },
        };
        controller.enqueue(encoder.encode(":\n"));
        stream.send();
        daemon.streams.add(stream);
        signal.addEventListener("abort", () => {
          daemon.streams.delete(stream);
          try { controller.error(new Error("aborted")); } catch { /* it is closed */ }
        });
      },
    });
    return Promise.resolve(new Response(body));
  }
}

const settle = async () => {
  for (let turn = 0; turn < 10; turn += 1) {
    Channel.deliver();
    await new Promise((done) => setImmediate(done));
  }
};

/** Let `seconds` pass. The timers of frozen tabs are the test's: they have none but looks. */
const pass = async (seconds) => {
  for (let second = 0; second < seconds; second += 1) {
    mock.timers.tick(1000);
    await settle();
  }
};

const daemon = new Daemon();
mock.timers.enable({ apis: ["setTimeout", "setInterval"] });
Object.defineProperty(globalThis, "navigator", { value: { locks: new Locks() }, configurable: true });
globalThis.BroadcastChannel = Channel;
globalThis.fetch = (url, init) => daemon.fetch(url, init);
const { connect } = await import("../src/realtime.js");

async function open(name) {
  Channel.owner = name;
  const live = connect("http://daemon/", { channels: ["a"] });
  const tab = { name, live, got: [], gaps: 0 };
  live.on("message", ({ data }) => tab.got.push(data));
  live.on("gap", () => { tab.gaps += 1; });
  await pass(1);
  return tab;
}

test("a tab takes over from a leader that does not run, and nothing is lost or repeated", async () => {
  const first = await open("first");
  const second = await open("second");
  const third = await open("third");
  daemon.publish("one");
  await pass(1);
  assert.deepEqual([first.got, second.got, third.got], [["one"], ["one"], ["one"]]);
  assert.equal(daemon.streams.size, 1);

  await pass(30);  // a quiet leader answers: nobody takes over
  assert.equal(daemon.streams.size, 1);

  const [old] = daemon.streams;
  const send = old.send;
  old.send = () => {};  // what a frozen tab does not read
  Channel.frozen.add("first");
  daemon.publish("two");
  await pass(15);
  daemon.publish("three");
  await pass(1);
  assert.deepEqual([second.got, third.got], [["one", "two", "three"], ["one", "two", "three"]]);
  assert.deepEqual(first.got, ["one"]);

  old.send = send;  // it runs again, and reads what has waited
  old.send();
  Channel.frozen.delete("first");
  daemon.publish("four");
  await pass(3);
  daemon.publish("five");
  await pass(1);
  const all = ["one", "two", "three", "four", "five"];
  assert.deepEqual([first.got, second.got, third.got], [all, all, all]);
  assert.equal(daemon.streams.size, 1, "one leader");
  assert.equal(first.gaps + second.gaps + third.gaps, 0);

  second.live.close();
  third.live.close();
  daemon.publish("six");
  await pass(3);
  assert.deepEqual(first.got, [...all, "six"]);
  first.live.close();
});
