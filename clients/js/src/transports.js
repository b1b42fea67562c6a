// The transports. Each is an async function for one connection: it calls the methods of
// `link`, returns when the server ends the connection, and throws when it breaks.

import { eventReader } from "./events.js";
import { toMessage, withQuery } from "./message.js";
import { fault, unauthorized, watchdog } from "./wire.js";

const POLL = 25;  // seconds
const PING = 25_000;  // ms; proxies close connections on which the client sends nothing

/** Text in base64url without padding. */
const packed = (text) => btoa(String.fromCharCode(...new TextEncoder().encode(text)))
  .replaceAll("+", "-").replaceAll("/", "_").replaceAll("=", "");

const fields = (link, more) => ({ channels: link.channels.join(","), since: link.since, ...more });

/** Runs `work` under a watchdog; `late` of its error says whether that expired. */
async function watched(signal, ms, work) {
  const dog = watchdog(signal, ms);
  try {
    return await work(dog);
  } catch (error) {
    if (dog.late) throw fault("nothing came in time", { late: true });
    throw error;
  } finally {
    dog.off();
  }
}

/** A promise of the token after the one that expires; it fails if there is none. */
async function renewed({ token }) {
  if (!token.drop(token.get())) throw fault("one token");
  return token.get();
}

/** Server-sent events by fetch, which can send a token and reports each byte. */
export const sse = (link, signal) => watched(signal, link.patience, async (dog) => {
  const url = withQuery(link.urls.sse, fields(link, { format: "json" }));
  const response = await link.ask(url, { dog });
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  const read = eventReader(({ id, type, data, retry }) => {
    if (retry !== undefined) link.retry(retry);
    if (type === "gap") link.gap(JSON.parse(data).position);
    else if (type === "expire") renewed(link).then(() => reader.cancel(), () => {});
    else if (data !== undefined) link.message(toMessage(JSON.parse(data)));
    else if (id !== undefined) link.cursor(id);
  });
  for (let open = false; ; open = true) {
    const { value, done } = await reader.read();
    if (done) return;
    dog.touch(link.silence);
    if (!open) link.opened();
    read(value);
  }
});

/** A websocket (docs/websocket.md), by which the page can also publish. */
export const websocket = (link, signal) => watched(signal, link.patience, async (dog) => {
  const url = withQuery(link.urls.websocket, fields(link));
  let known = link.token.get();
  const key = await dog.rest(known);
  dog.signal.throwIfAborted();
  let open = false;
  await new Promise((done, failed) => {
    // The only header that a page can set.
    const socket = new WebSocket(url.replace(/^http/, "ws"), key ? ["realtime", `key.${packed(key)}`] : []);
    const waiting = new Map();  // publishes without an answer
    const lost = () => fault("lost", { lost: true });
    const say = (value) => socket.send(JSON.stringify(value));
    const pings = setInterval(() => { if (socket.readyState === 1) say({ type: "ping" }); }, PING);
    let numbers = 0;
    const show = (token) => {
      say({ type: "token", token });
      say({ type: "key", key: token });
    };
    const ask = (command) => new Promise((yes, no) => {
      if (socket.readyState !== 1) return no(lost());
      numbers += 1;
      waiting.set(numbers, [yes, no]);
      say({ ...command, type: "publish", id: numbers });
    });
    const publish = async (command) => {
      const shown = known;
      try {
        return await ask(command);
      } catch (error) {
        if (!unauthorized(error.status) || !link.token.drop(shown)) throw error;
        known = link.token.get();
        show(await known);
        return ask(command);
      }
    };
    const ended = (outcome, reason) => {
      clearInterval(pings);
      socket.onclose = socket.onmessage = null;
      socket.close();
      link.publish = undefined;
      for (const [, no] of waiting.values()) no(lost());
      outcome(reason);
    };
    dog.signal.addEventListener("abort", () => ended(failed, fault("given up")));
    socket.onclose = ({ code, reason }) => {
      const retry = /^retry=(\d+)$/.exec(reason);
      if (retry) link.retry(+retry[1]);
      ended(code === 1001 ? done : failed, fault(`closed: ${code} ${reason}`));
    };
    socket.onmessage = ({ data }) => {
      dog.touch(link.silence);
      const said = JSON.parse(data);
      const { type, id, position } = said;
      if (type === "message") link.message(toMessage({ ...said, id: position }));
      else if (type === "gap") link.gap(position);
      else if (type === "expire") renewed(link).then(show, () => {});
      else if (type === "unsubscribed") ended(failed, fault(type));
      else if (type === "position") {
        // This message, or one before it, is the first.
        link.publish = publish;
        link.opened();
        link.cursor(position);
      } else if (waiting.has(id)) {
        const [yes, no] = waiting.get(id);
        waiting.delete(id);
        if (type === "ack") yes(position);
        else no(fault(`${said.status} ${said.reason}`, { status: said.status }));
      }
    };
    socket.onopen = () => { open = true; };
  }).catch(async (error) => {
    // Browsers hide why a websocket was refused; a plain request gets the reason.
    if (!open) {
      await link.ask(url, { dog }).then(({ body }) => body.cancel(), (refused) => {
        if (refused.status !== 426) throw refused;
      });
    }
    throw error;
  });
});

/** Long polling, which works behind any proxy. */
export async function poll(link, signal) {
  for (let wait = 0; ; wait = POLL) {
    const answer = await watched(signal, wait * 1000 + 2 * link.patience, async (dog) => {
      const url = withQuery(link.urls.poll, fields(link, { format: "json", wait }));
      return (await link.ask(url, { dog })).json();
    });
    if (!wait) link.opened();
    if (answer.gap) link.gap(answer.position);
    for (const each of answer.messages) link.message(toMessage(each));
    link.cursor(answer.position);
    if (answer.retry) return link.retry(answer.retry);
  }
}
