// Messages of a server in every tab, each once and in order.
//
// For each channel a tab stores the position up to which it has everything. It requests
// missed messages itself, by polls that do not wait. Then it sends the leading tab the
// position from which it needs the rest. So it does not matter which tab leads, over which
// transport, or how often that changes.

import { Link } from "./link.js";
import { newKey, toMessage, withQuery } from "./message.js";
import { alike, later } from "./position.js";
import { canShare, joinTabs, Leader } from "./tabs.js";
import { poll, sse, websocket } from "./transports.js";
import { asker, delay, pause, Refused, Token } from "./wire.js";

export { Refused };

const ORDER = {
  auto: ["sse", "websocket", "poll"],
  publish: ["websocket", "sse", "poll"],
};

class Realtime {
  state = "connecting";
  transport = "";

  #options;
  #urls;
  #token;
  #ask;
  #listeners = new Map();
  #have = new Map();  // channel -> position up to which this tab has everything
  #catching = new Map();  // channel -> messages received while missed ones are requested
  #tab = Math.random().toString(36).slice(2);
  #name;
  #tabs;
  #term = 0;  // grows with each new leader; posts of earlier leaders are ignored
  #leader;
  #link;
  #over = new AbortController();

  constructor(url, options) {
    const { channels = [], since, history, share = true, ...rest } = options;
    const base = new URL(url, globalThis.location?.href);
    this.#options = { patience: 5000, silence: 75_000, ...rest };
    this.#urls = { sse: base.href };
    for (const name of ["poll", "websocket", "publish"]) {
      this.#urls[name] = new URL(rest[`${name}Url`] ?? (name === "websocket" ? "ws" : name), base).href;
    }
    this.#token = new Token(rest.token);
    this.#ask = asker(this.#token, rest.credentials);
    if (share && canShare()) {
      // The number changes with the format of posts: pages of different versions do not share.
      this.#name = `realtime 2 ${base.href} ${rest.transport ?? ""} ${share}`;
      this.#join();
      // A page in the browser's back/forward cache must not lead.
      const signal = this.#over.signal;
      globalThis.addEventListener?.("pagehide", () => this.#part(), { signal });
      globalThis.addEventListener?.("pageshow", ({ persisted }) => {
        if (persisted) this.#rejoin();
      }, { signal });
    } else this.#lead();
    this.subscribe(channels, { since, history });
  }

  /** The position up to which all channels are complete; resume there to miss nothing. */
  get position() {
    let first;
    for (const one of this.#have.values()) if (!first || later(first, one)) first = one;
    return first;
  }

  /** The subscribed channels. */
  get channels() {
    return [...this.#have.keys(), ...this.#catching.keys()];
  }

  on(type, listener) {
    if (!this.#listeners.has(type)) this.#listeners.set(type, new Set());
    this.#listeners.get(type).add(listener);
    return () => this.#listeners.get(type).delete(listener);
  }

  async subscribe(channels, { since, history } = {}) {
    const fresh = [channels].flat().filter((one) => !this.channels.includes(one));
    if (!fresh.length) return;
    for (const channel of fresh) this.#catching.set(channel, []);
    await this.#catchUp(fresh, since, history);
  }

  unsubscribe(channels) {
    for (const channel of [channels].flat()) {
      this.#have.delete(channel);
      this.#catching.delete(channel);
    }
    this.#sayWants();
  }

  async publish(channel, data, { event, key = newKey() } = {}) {
    const text = typeof data === "string";
    const socket = this.#link?.publish;
    if (socket && text) {
      try {
        return await socket({ channel, message: data, event, idempotency_key: key });
      } catch (error) {
        if (!error.lost) throw error;  // publish again: the key makes both one message
      }
    }
    const response = await this.#ask(withQuery(this.#urls.publish, { channel, event }), {
      method: "POST",
      body: data,
      headers: {
        "Content-Type": text ? "text/plain" : "application/octet-stream",
        ...(key && { "Idempotency-Key": key }),
      },
    });
    return (await response.json()).position;
  }

  close() {
    if (this.state === "closed") return;
    this.#over.abort();
    this.#part();
    this.#have.clear();
    this.#catching.clear();
    this.#enter("closed", "");
  }

  // Requests for missed messages.

  async #catchUp(channels, since, history) {
    const signal = this.#over.signal;
    for (let failures = 0; !signal.aborted; failures += 1) {
      let after = 0;
      try {
        for (let more = true; more && !signal.aborted;) {
          const query = { channels: channels.join(","), since, history, wait: 0, format: "json" };
          const response = await this.#ask(withQuery(this.#urls.poll, query), { signal });
          const { messages, position, gap } = await response.json();
          // Without a position nothing was missed; a history may need several responses.
          more = messages.length > 0 && (since !== undefined || messages.length < history);
          if (gap) this.#emit("gap", { position, channels });
          for (const each of messages) {
            if (this.#catching.has(each.channel)) this.#emit("message", toMessage(each));
          }
          since = position;
          history = undefined;
        }
        return this.#caughtUp(channels, since);
      } catch (error) {
        if (signal.aborted) return;
        if (error instanceof Refused) {
          for (const channel of channels) this.#catching.delete(channel);
          if (this.#have.size) return this.#emit("error", error);
          return this.#refused(error);
        }
        after = error.after ?? 0;
      }
      if (!this.#have.size) this.#enter("waiting", this.transport);
      await pause(Math.max(after, delay(1000, failures)), signal);
    }
  }

  #caughtUp(channels, position) {
    for (const channel of channels) {
      const early = this.#catching.get(channel);
      if (!early) continue;  // unsubscribed in the meantime
      this.#catching.delete(channel);
      this.#have.set(channel, position);
      early.forEach((message) => this.#take(message));
    }
    this.#sayWants();
  }

  // Coordination of tabs.

  #join() {
    this.#tabs = joinTabs(this.#name, this.#tab, {
      hear: (said) => this.#hear(said),
      ask: () => this.#tabs.post({ type: "ask", tab: this.#tab }),
      lead: () => this.#lead(),
      lost: () => this.#rejoin(),
    });
  }

  #part() {
    this.#leader?.close();
    this.#leader = this.#link = undefined;
    this.#tabs?.leave();
    this.#tabs = undefined;
  }

  /** Rejoin the tabs at this tab's position: it may have missed posts. */
  #rejoin() {
    this.#part();
    this.#join();
    const behind = new Map();  // position -> channels
    for (const [channel, since] of this.#have) {
      if (!behind.has(since)) behind.set(since, []);
      behind.get(since).push(channel);
    }
    this.#have.clear();
    for (const [since, channels] of behind) this.subscribe(channels, { since });
  }

  #sayWants() {
    this.#say("wants", Object.fromEntries(this.#have));
  }

  #say(type, value) {
    const said = { type, tab: this.#tab, term: this.#term, value };
    this.#tabs?.post(said);
    this.#hear(said);
  }

  #hear({ type, tab, term, value }) {
    if (type === "wants") return this.#wanted(tab, value);
    if (type === "ask") {
      // By a timer: a frozen tab of Chromium receives posts, but nothing from the network.
      if (this.#leader) setTimeout(() => this.#leader && this.#say("here"), 0);
      return;
    }
    // Everything else is posted by a leader.
    if (term < this.#term) return;
    if (term > this.#term) {
      this.#term = term;
      if (this.#leader) return this.#rejoin();  // another tab took over while this one was frozen
    }
    if (tab !== this.#tab) this.#tabs?.alive();
    if (type === "who") this.#sayWants();
    else if (type === "message") this.#take(value);
    else if (type === "cursor") this.#move(value);
    else if (type === "gap") this.#missed(value);
    else if (type === "refused") this.#refused(new Refused(value.status, value.reason));
    else if (type === "state") this.#enter(value.state, value.transport);
  }

  #wanted(tab, value) {
    if (!this.#leader) return;
    this.#leader.wants(tab, value);
    if (tab === this.#tab) return;
    this.#say("state", { state: this.state, transport: this.transport });
    this.#tabs.watch(tab, () => this.#leader?.wants(tab));
  }

  #lead() {
    const { transport = "auto" } = this.#options;
    const order = ORDER[transport] ?? [transport].flat();
    const means = {
      urls: this.#urls,
      ask: this.#ask,
      token: this.#token,
      patience: this.#options.patience,
      silence: this.#options.silence,
    };
    const link = new Link(order, { sse, websocket, poll }, means, {
      message: (message) => this.#say("message", message),
      cursor: (position) => this.#say("cursor", { position, channels: link.channels }),
      gap: (position) => this.#say("gap", { position, channels: link.channels, since: link.since }),
      state: (state, name) => this.#say("state", { state, transport: name }),
      refused: ({ status, reason }) => this.#say("refused", { status, reason }),
    });
    this.#leader?.close();
    this.#term = Math.max(Date.now() + Math.random(), this.#term + 1);
    this.#link = link;
    this.#leader = new Leader(link, later);
    this.#say("who");
  }

  // Posts of the leader.

  #take(message) {
    const { channel, id } = message;
    const early = this.#catching.get(channel);
    if (early) early.push(message);
    const have = this.#have.get(channel);
    if (have === undefined || !later(id, have)) return;
    this.#have.set(channel, id);
    this.#emit("message", message);
  }

  #move({ position, channels }) {
    for (const channel of channels) {
      const have = this.#have.get(channel);
      if (have !== undefined && later(position, have)) this.#have.set(channel, position);
    }
  }

  #missed({ position, channels, since }) {
    // A tab that is ahead of the leader's start position has missed nothing.
    const hit = channels.filter((channel) => {
      const have = this.#have.get(channel);
      return have !== undefined && (!alike(have, position) || !later(have, since));
    });
    if (hit.length) this.#emit("gap", { position, channels: hit });
  }

  #refused(error) {
    this.#enter("refused", this.transport);
    this.#emit("error", error);
  }

  #enter(state, transport) {
    if (this.state === state && this.transport === transport) return;
    this.state = state;
    this.transport = transport;
    this.#emit("state", { state, transport });
  }

  #emit(type, value) {
    for (const listener of [...(this.#listeners.get(type) ?? [])]) {
      try {
        listener(value);
      } catch (error) {
        reportError(error);  // an error of the page must not end the connection
      }
    }
  }
}

/** Connects to the streams at `url`; realtime.d.ts describes the options. */
export const connect = (url, options = {}) => new Realtime(url, options);
