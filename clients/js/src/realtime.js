// Messages from a server, in every tab, each once and in order.
//
// A tab knows of each channel up to where it has everything. It asks for what it missed
// by itself, by polls that wait for nothing; then it tells the leader of the tabs from
// where on it wants the rest. So it does not matter which tab leads, over which
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
  #have = new Map();  // channel -> up to where this tab has everything
  #catching = new Map();  // channel -> what came while it is asked what was missed
  #tab = Math.random().toString(36).slice(2);
  #name;
  #tabs;
  #term = 0;  // grows with every tab that begins to lead; what an earlier one posts is ignored
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
      // The number changes with what tabs post: pages of two versions do not share.
      this.#name = `realtime 2 ${base.href} ${rest.transport ?? ""} ${share}`;
      this.#join();
      // Browsers keep pages for who goes back: until then, such a page does not lead.
      const signal = this.#over.signal;
      globalThis.addEventListener?.("pagehide", () => this.#part(), { signal });
      globalThis.addEventListener?.("pageshow", ({ persisted }) => {
        if (persisted) this.#rejoin();
      }, { signal });
    } else this.#lead();
    this.subscribe(channels, { since, history });
  }

  /** Up to where everything came, of all channels; begin there to miss nothing. */
  get position() {
    let first;
    for (const one of this.#have.values()) if (!first || later(first, one)) first = one;
    return first;
  }

  /** The channels that are heard. */
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
        if (!error.lost) throw error;  // else say it again: the key makes it one message
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

  // Asking for what was missed.

  async #catchUp(channels, since, history) {
    const signal = this.#over.signal;
    for (let failures = 0; !signal.aborted; failures += 1) {
      let after = 0;
      try {
        for (let more = true; more && !signal.aborted;) {
          const query = { channels: channels.join(","), since, history, wait: 0, format: "json" };
          const response = await this.#ask(withQuery(this.#urls.poll, query), { signal });
          const { messages, position, gap } = await response.json();
          // Whoever has no position has missed nothing; a history may come in parts.
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
      if (!early) continue;  // unsubscribed meanwhile
      this.#catching.delete(channel);
      this.#have.set(channel, position);
      early.forEach((message) => this.#take(message));
    }
    this.#sayWants();
  }

  // The tabs among each other.

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

  /** Begin anew among the tabs, where this one ended: it may have missed what others posted. */
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
      // By a timer: a frozen tab of Chromium still gets messages, but nothing from the network.
      if (this.#leader) setTimeout(() => this.#leader && this.#say("here"), 0);
      return;
    }
    // The rest is what a leader posts.
    if (term < this.#term) return;
    if (term > this.#term) {
      this.#term = term;
      if (this.#leader) return this.#rejoin();  // it took over while this tab did not run
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

  // What the leader tells.

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
    // Who was further along than what the leader asked for has missed nothing.
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
        reportError(error);  // the page's own mistake is not the connection's
      }
    }
  }
}

/** Connect to the streams at `url`; see realtime.d.ts for what there is. */
export const connect = (url, options = {}) => new Realtime(url, options);
