// One connection to the server, reconnected when lost: over the first transport that works,
// and from the position where the last connection ended.

import { delay, pause, Refused } from "./wire.js";

/**
 * Args: the names of transports in order; their functions; options of attempts (`urls`,
 * `ask`, `token`, `patience`, `silence`); callbacks: `message(m)`, `gap(position)`,
 * `cursor(position)`, `state(name, transport)`, `refused(error)`.
 */
export class Link {
  channels = [];
  since;  // everything up to this position was received
  publish;  // a function, while the transport can publish
  #order;
  #transports;
  #means;
  #told;
  #at = 0;
  #retry = 1000;  // ms
  #silent = 0;  // connections in a row that opened and received nothing
  #stop;

  constructor(order, transports, means, told) {
    this.#order = order;
    this.#transports = transports;
    this.#means = means;
    this.#told = told;
  }

  /** Connect, or reconnect with other channels. */
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

  /** Returns whether to try another transport, at once. */
  #another(name, open, late) {
    if (open && late) this.#silent += 1;
    // A proxy buffers the response, or passes only its first bytes.
    const blocked = open ? this.#silent > 1 : late || name === "websocket";
    if (blocked && this.#at < this.#order.length - 1) {
      this.#at += 1;
      this.#silent = 0;
      return true;
    }
    // After an outage the client may be in another network.
    if (!open && !late) this.#at = 0;
    return false;
  }

  /** The callbacks of a transport; those of an abandoned one do nothing. */
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
