// One connection to the server, kept up: over the first transport that gets through,
// and always from where the last one ended.

import { delay, pause, Refused } from "./wire.js";

/**
 * Args: the names of transports in order; their functions; what attempts need (`urls`,
 * `ask`, `token`, `patience`, `silence`); who is told: `message(m)`, `gap(position)`,
 * `cursor(position)`, `state(name, transport)`, `refused(error)`.
 */
export class Link {
  channels = [];
  since;  // up to here everything came
  publish;  // a function, while a transport can
  #order;
  #transports;
  #means;
  #told;
  #at = 0;
  #retry = 1000;  // ms
  #silent = 0;  // how often in a row it opened, and nothing followed
  #stop;

  constructor(order, transports, means, told) {
    this.#order = order;
    this.#transports = transports;
    this.#means = means;
    this.#told = told;
  }

  /** Begin, or begin anew with other channels. */
  open(channels, since) {
    this.close();
    this.channels = channels;
    this.since = since;
    this.#stop = new AbortController();
    if (channels.length) this.#run(this.#stop.signal);
  }

  close() {
    this.#stop?.abort();
    this.publish = undefined;
  }

  async #run(signal) {
    for (let failures = 0; !signal.aborted; failures += 1) {
      const name = this.#order[this.#at];
      let open = false;
      let after = 0;
      const attempt = this.#attempt(signal, () => {
        if (open) return;
        open = true;
        failures = 0;
        this.#told.state("open", name);
      });
      this.#told.state("connecting", name);
      try {
        await this.#transports[name](attempt, signal);
      } catch (error) {
        if (signal.aborted) return;
        after = error.after ?? 0;
        if (this.#another(name, open, error.late)) continue;
        if (error instanceof Refused) return this.#told.refused(error);
      }
      if (signal.aborted) return;
      this.#told.state("waiting", name);
      await pause(Math.max(after, delay(this.#retry, failures)), signal);
    }
  }

  /** Whether another transport shall be tried, and at once. */
  #another(name, open, late) {
    if (open && late) this.#silent += 1;
    // Something holds the bytes back; or lets the first ones pass, and no more.
    const blocked = open ? this.#silent > 1 : late || name === "websocket";
    if (blocked && this.#at < this.#order.length - 1) {
      this.#at += 1;
      this.#silent = 0;
      return true;
    }
    // The network may be another one when it is there again.
    if (!open && !late) this.#at = 0;
    return false;
  }

  /** What a transport calls; nobody hears one that was given up. */
  #attempt(signal, opened) {
    const link = this;
    const told = this.#told;
    const alive = (call) => (value) => { if (!signal.aborted) call(value); };
    return {
      ...this.#means,
      channels: this.channels,
      get since() { return link.since; },
      set publish(publish) { if (!signal.aborted) link.publish = publish; },
      opened: alive(opened),
      retry: alive((ms) => { this.#retry = ms; }),
      gap: alive((position) => told.gap(position)),
      cursor: alive((position) => {
        this.since = position;
        told.cursor(position);
      }),
      message: alive((message) => {
        this.since = message.id;
        this.#silent = 0;
        told.message(message);
      }),
    };
  }
}
