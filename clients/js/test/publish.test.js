import assert from "node:assert/strict";
import { once } from "node:events";
import { createServer } from "node:http";
import { after, before, test } from "node:test";
import { connect } from "../src/realtime.js";

const keys = [];
const server = createServer((request, response) => {
  keys.push(request.headers["idempotency-key"]);
  response.setHeader("Content-Type", "application/json");
  response.end('{"status": "ok", "position": "e.1"}');
});
before(async () => {
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
});
after(() => server.close());

test("each publication has a key of its own, on a page by http too", async () => {
  // There is none but in a secure context (W3C Web Crypto, 10.1).
  Object.defineProperty(crypto, "randomUUID", { value: undefined, configurable: true });
  const live = connect(`http://127.0.0.1:${server.address().port}`, { share: false });
  assert.equal(await live.publish("news", "one"), "e.1");
  await live.publish("news", "two");
  await live.publish("news", "three", { key: "mine" });
  live.close();

  assert.match(keys[0], /^[a-z0-9-]{4,31}$/);
  assert.notEqual(keys[0], keys[1]);
  assert.equal(keys[2], "mine");
});
