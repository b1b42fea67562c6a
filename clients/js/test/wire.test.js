import assert from "node:assert/strict";
import { once } from "node:events";
import { createServer } from "node:http";
import { after, before, test } from "node:test";
import { toMessage, withQuery } from "../src/message.js";
import { asker, delay, Refused, makeToken, watchdog } from "../src/wire.js";

const asked = [];
const server = createServer((request, response) => {
  const { authorization } = request.headers;
  asked.push(authorization);
  if (request.url === "/busy") response.writeHead(503, { "Retry-After": "3" }).end("full");
  else if (request.url === "/bad") response.writeHead(400).end("no channel\n");
  else if (authorization === "Bearer good") response.end("hello");
  else response.writeHead(401).end("who are you");
});
let base;
before(async () => {
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  base = `http://127.0.0.1:${server.address().port}`;
});
after(() => server.close());

test("a token that is not taken is asked for once more", async () => {
  const tokens = ["old", "good", "never"];
  const ask = asker(makeToken(async () => tokens.shift()));
  asked.length = 0;
  assert.equal(await (await ask(base)).text(), "hello");
  assert.equal(await (await ask(base)).text(), "hello");
  assert.deepEqual(asked, ["Bearer old", "Bearer good", "Bearer good"]);
});

test("a token that is never taken is the end", async () => {
  let calls = 0;
  const ask = asker(makeToken(() => `bad${calls += 1}`));
  await assert.rejects(ask(base), (error) => error instanceof Refused && error.status === 401);
  assert.equal(calls, 2);
  await assert.rejects(asker(makeToken("bad"))(base), Refused);
  await assert.rejects(asker(makeToken())(`${base}/bad`), { status: 400, message: "400 no channel" });
});

test("who is refused at the same time waits for the same new one", async () => {
  const tokens = ["old", "good", "never"];
  const token = makeToken(async () => tokens.shift());
  const ask = asker(token);
  const answers = await Promise.all([ask(base), ask(base), ask(base)]);
  assert.ok(answers.every((answer) => answer.ok));
  assert.deepEqual(tokens, ["never"]);
});

test("a token that could not be had is asked for again", async () => {
  let calls = 0;
  const token = makeToken(() => {
    calls += 1;
    if (calls === 1) throw new Error("offline");
    return "good";
  });
  await assert.rejects(asker(token)(base), { message: "offline" });
  assert.equal(await (await asker(token)(base)).text(), "hello");
});

test("a server that is busy says for how long", async () => {
  await assert.rejects(asker(makeToken())(`${base}/busy`), (error) => !(error instanceof Refused) && error.after === 3000);
});

test("delays grow up to a bound, and are never less than the server wants", () => {
  for (const random of [0, 0.5, 1]) {
    assert.ok(delay(2000, 0, random) >= 2000);
    assert.ok(delay(2000, 9, random) <= 45_000);
    assert.ok(delay(60_000, 0, random) >= 60_000);
    assert.ok(delay(1000, 3, random) >= 8000);
  }
  assert.notEqual(delay(1000, 0), delay(1000, 0));
});

test("a watchdog barks when nothing comes, and not when it is told off", async () => {
  const outer = new AbortController();
  const late = watchdog(outer.signal, 5);
  await once(late.signal, "abort");
  assert.ok(late.late);
  const stopped = watchdog(outer.signal, 60_000);
  outer.abort();
  assert.ok(stopped.signal.aborted && !stopped.late);
  stopped.off();
});

test("a watchdog rests while the page looks for a token", async () => {
  const dog = watchdog(new AbortController().signal, 5);
  const ask = asker(makeToken(() => new Promise((done) => setTimeout(done, 100, "good"))));
  const resting = dog.rest(new Promise((done) => setTimeout(done, 100, "back")));
  assert.equal(await resting, "back");
  assert.ok(!dog.late);
  await once(dog.signal, "abort");  // and then it is awake again
  assert.ok(dog.late);
  const patient = watchdog(new AbortController().signal, 60_000);
  assert.equal(await (await ask(base, { dog: patient })).text(), "hello");
  patient.off();
});

test("messages keep text and bytes", () => {
  assert.deepEqual(toMessage({ id: "e.1", channel: "a", data: "" }),
    { id: "e.1", channel: "a", event: "message", data: "" });
  assert.deepEqual(toMessage({ id: "e.2", channel: "a", event: "x", base64: "/wA=" }).data,
    Uint8Array.of(255, 0));
  assert.equal(withQuery("http://a/b?x=1", { since: "e.1", none: undefined, channels: "a,b" }),
    "http://a/b?x=1&since=e.1&channels=a%2Cb");
});
