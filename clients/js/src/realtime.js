// Messages of a server in every tab, each once and in order.
//
// For each channel a tab stores the position up to which it has everything. It requests
// missed messages itself, by polls that do not wait. Then it sends the leading tab the
// position from which it needs the rest. So it does not matter which tab leads, over which
// transport, or how often that changes.

import { makeLink } from "./link.js";
import { newKey, toMessage, withQuery } from "./message.js";
import { alike, later } from "./position.js";
import { canShare, joinTabs, makeLeader } from "./tabs.js";
import { poll, sse, websocket } from "./transports.js";
import { asker, delay, makeToken, pause, Refused } from "./wire.js";

export { Refused };

const ORDER = {
  auto: ["sse", "websocket", "poll"],
  publish: ["websocket", "sse", "poll"],
};

/** Connects to the streams at `url`; realtime.d.ts describes the options and the result. */
export function connect(url, options = {}) {
  const { channels: first = [], since: start, history: last, share = true, ...rest } = options;
  const base = new URL(url, globalThis.location?.href);
  const urls = { sse: base.href };
  for (const name of ["poll", "websocket", "publish"]) {
    urls[name] = new URL(rest[`${name}Url`] ?? (name === "websocket" ? "ws" : name), base).href;
  }
  const token = makeToken(rest.token);
  const ask = asker(token, rest.credentials);
  const listeners = new Map();
  const have = new Map();  // channel -> position up to which this tab has everything
  const catching = new Map();  // channel -> messages received while missed ones are requested
  const ownTab = Math.random().toString(36).slice(2);
  // The number changes with the format of posts: pages of different versions do not share.
  const shared = `realtime 2 ${base.href} ${rest.transport ?? ""} ${share}`;
  const over = new AbortController();
  const { signal } = over;
  let state = "connecting";
  let transport = "";
  let tabs;
  let ownTerm = 0;  // grows with each new leader; posts of earlier leaders are ignored
  let leader;
  let link;

  const emit = (type, value) => {
    for (const listener of [...(listeners.get(type) ?? [])]) {
      try {
        listener(value);
      } catch (error) {
        reportError(error);  // an error of the page must not end the connection
      }
    }
  };

  const enter = (next, name = transport) => {
    if (state === next && transport === name) return;
    state = next;
    transport = name;
    emit("state", { state, transport });
  };

  const onRefused = (error) => {
    enter("refused");
    emit("error", error);
  };

  const say = (type, value) => {
    const said = { type, tab: ownTab, term: ownTerm, value };
    tabs?.post(said);
    hear(said);
  };

  const sayWants = () => say("wants", Object.fromEntries(have));

  // Requests for missed messages.

  const caughtUp = (channels, position) => {
    for (const channel of channels) {
      const early = catching.get(channel);
      if (!early) continue;  // unsubscribed in the meantime
      catching.delete(channel);
      have.set(channel, position);
      early.forEach(take);
    }
    sayWants();
  };

  const catchUp = async (channels, since, history) => {
    for (let failures = 0; !signal.aborted; failures += 1) {
      let after = 0;
      try {
        for (let more = true; more && !signal.aborted;) {
          const query = { channels: channels.join(","), since, history, wait: 0, format: "json" };
          const response = await ask(withQuery(urls.poll, query), { signal });
          const { messages, position, gap } = await response.json();
          // Without a position nothing was missed; a history may need several responses.
          more = messages.length > 0 && (since !== undefined || messages.length < history);
          if (gap) emit("gap", { position, channels });
          for (const each of messages) {
            if (catching.has(each.channel)) emit("message", toMessage(each));
          }
          since = position;
          history = undefined;
        }
        return caughtUp(channels, since);
      } catch (error) {
        if (signal.aborted) return;
        if (error instanceof Refused) {
          for (const channel of channels) catching.delete(channel);
          if (have.size) return emit("error", error);
          return onRefused(error);
        }
        after = error.after ?? 0;
      }
      if (!have.size) enter("waiting");
      await pause(Math.max(after, delay(1000, failures)), signal);
    }
  };

  // Posts of the leader.

  const take = (message) => {
    const { channel, id } = message;
    const known = have.get(channel);
    catching.get(channel)?.push(message);
    if (known === undefined || !later(id, known)) return;
    have.set(channel, id);
    emit("message", message);
  };

  const posts = {
    who: sayWants,
    message: take,
    cursor({ position, channels }) {
      for (const channel of channels) {
        const known = have.get(channel);
        if (known !== undefined && later(position, known)) have.set(channel, position);
      }
    },
    gap({ position, channels, since }) {
      // A tab that is ahead of the leader's start position has missed nothing.
      const hit = channels.filter((channel) => {
        const known = have.get(channel);
        return known !== undefined && (!alike(known, position) || !later(known, since));
      });
      if (hit.length) emit("gap", { position, channels: hit });
    },
    refused: (value) => onRefused(new Refused(value.status, value.reason)),
    state: (value) => enter(value.state, value.transport),
  };

  // Coordination of tabs.

  const lead = () => {
    const { transport: wanted = "auto" } = rest;
    const means = { patience: 5000, silence: 75_000, ...rest, urls, ask, token };
    const next = makeLink(ORDER[wanted] ?? [wanted].flat(), { sse, websocket, poll }, means, {
      message: (message) => say("message", message),
      cursor: (position) => say("cursor", { position, channels: next.channels }),
      gap: (position) => say("gap", { position, channels: next.channels, since: next.since }),
      state: (name, by) => say("state", { state: name, transport: by }),
      refused: ({ status, reason }) => say("refused", { status, reason }),
    });
    leader?.close();
    ownTerm = Math.max(Date.now() + Math.random(), ownTerm + 1);
    link = next;
    leader = makeLeader(link, later);
    say("who");
  };

  const join = () => {
    tabs = joinTabs(shared, ownTab, {
      hear,
      ask: () => tabs.post({ type: "ask", tab: ownTab }),
      lead,
      lost: rejoin,
    });
  };

  const part = () => {
    leader?.close();
    leader = link = undefined;
    tabs?.leave();
    tabs = undefined;
  };

  /** Rejoin the tabs at this tab's position: it may have missed posts. */
  const rejoin = () => {
    part();
    join();
    const behind = new Map();  // position -> channels
    for (const [channel, since] of have) {
      if (!behind.has(since)) behind.set(since, []);
      behind.get(since).push(channel);
    }
    have.clear();
    for (const [since, channels] of behind) subscribe(channels, { since });
  };

  const wanted = (tab, value) => {
    if (!leader) return;
    leader.wants(tab, value);
    if (tab === ownTab) return;
    say("state", { state, transport });
    tabs.watch(tab, () => leader?.wants(tab));
  };

  const hear = ({ type, tab, term, value }) => {
    if (type === "wants") return wanted(tab, value);
    if (type === "ask") {
      // By a timer: a frozen tab of Chromium receives posts, but nothing from the network.
      if (leader) setTimeout(() => leader && say("here"), 0);
      return;
    }
    // Everything else is posted by a leader.
    if (term < ownTerm) return;
    if (term > ownTerm) {
      ownTerm = term;
      if (leader) return rejoin();  // another tab took over while this one was frozen
    }
    if (tab !== ownTab) tabs?.alive();
    posts[type]?.(value);
  };

  // What the page uses.

  const subscribed = () => [...have.keys(), ...catching.keys()];

  const subscribe = async (channels, { since, history } = {}) => {
    const fresh = [channels].flat().filter((one) => !subscribed().includes(one));
    if (!fresh.length) return;
    for (const channel of fresh) catching.set(channel, []);
    await catchUp(fresh, since, history);
  };

  if (share && canShare()) {
    join();
    // A page in the browser's back/forward cache must not lead.
    globalThis.addEventListener?.("pagehide", part, { signal });
    globalThis.addEventListener?.("pageshow", ({ persisted }) => {
      if (persisted) rejoin();
    }, { signal });
  } else lead();
  subscribe(first, { since: start, history: last });

  return {
    get state() { return state; },
    get transport() { return transport; },
    get channels() { return subscribed(); },
    /** The position up to which all channels are complete; resume there to miss nothing. */
    get position() {
      let earliest;
      for (const one of have.values()) if (!earliest || later(earliest, one)) earliest = one;
      return earliest;
    },
    subscribe,
    on(type, listener) {
      if (!listeners.has(type)) listeners.set(type, new Set());
      listeners.get(type).add(listener);
      return () => listeners.get(type).delete(listener);
    },
    unsubscribe(channels) {
      for (const channel of [channels].flat()) {
        have.delete(channel);
        catching.delete(channel);
      }
      sayWants();
    },
    async publish(channel, data, { event, key = newKey() } = {}) {
      const text = typeof data === "string";
      const socket = link?.publish;
      if (socket && text) {
        try {
          return await socket({ channel, message: data, event, idempotency_key: key });
        } catch (error) {
          if (!error.lost) throw error;  // publish again: the key makes both one message
        }
      }
      const response = await ask(withQuery(urls.publish, { channel, event }), {
        method: "POST",
        body: data,
        headers: {
          ...(!text && { "Content-Type": "application/octet-stream" }),  // text has one of its own
          ...(key && { "Idempotency-Key": key }),
        },
      });
      return (await response.json()).position;
    },
    close() {
      if (state === "closed") return;
      over.abort();
      part();
      have.clear();
      catching.clear();
      enter("closed", "");
    },
  };
}
