// One connection to the server, reconnected when lost: over the first transport that works,
// and from the position where the last connection ended.

import { delay, pause, Refused } from "./wire.js";

/**
 * Args: the names of transports in order; their functions; options of attempts (`urls`,
 * `ask`, `token`, `patience`, `silence`); callbacks: `message(m)`, `gap(position)`,
 * `cursor(position)`, `state(name, transport)`, `refused(error)`.
 *
 * `open(channels, since)` connects, or reconnects with other channels. Everything up to
 * `since` was received. `publish` is a function, while the transport can publish.
 */
export function makeLink(order, transports, means, told) {
  let at = 0;
  let retry = 1000;  // ms
  let silent = 0;  // connections in a row that opened and received nothing
  let stop;

  /** Returns whether to try another transport, at once. */
  const another = (name, open, late) => {
    if (open && late) silent += 1;
    // A proxy buffers the response, or passes only its first bytes.
    const blocked = open ? silent > 1 : late || name === "websocket";
    if (blocked && at < order.length - 1) {
      at += 1;
      silent = 0;
      return true;
    }
    // After an outage the client may be in another network.
    if (!open && !late) at = 0;
    return false;
  };

  /** The callbacks of a transport; those of an abandoned one do nothing. */
  const makeAttempt = (signal, opened) => {
    const alive = (call) => (value) => { if (!signal.aborted) call(value); };
    return {
      ...means,
      channels: link.channels,
      get since() { return link.since; },
      set publish(publish) { if (!signal.aborted) link.publish = publish; },
      opened: alive(opened),
      retry: alive((ms) => { retry = ms; }),
      gap: alive(told.gap),
      cursor: alive((position) => {
        link.since = position;
        told.cursor(position);
      }),
      message: alive((message) => {
        link.since = message.id;
        silent = 0;
        told.message(message);
      }),
    };
  };

  const run = async (signal) => {
    for (let failures = 0; !signal.aborted; failures += 1) {
      const name = order[at];
      let open = false;
      let after = 0;
      const attempt = makeAttempt(signal, () => {
        if (open) return;
        open = true;
        failures = 0;
        told.state("open", name);
      });
      told.state("connecting", name);
      try {
        await transports[name](attempt, signal);
      } catch (error) {
        if (signal.aborted) return;
        after = error.after ?? 0;
        if (another(name, open, error.late)) continue;
        if (error instanceof Refused) return told.refused(error);
      }
      if (signal.aborted) return;
      told.state("waiting", name);
      await pause(Math.max(after, delay(retry, failures)), signal);
    }
  };

  const link = {
    channels: [],
    open(channels, since) {
      link.close();
      link.channels = channels;
      link.since = since;
      stop = new AbortController();
      if (channels.length) run(stop.signal);
    },
    close() {
      stop?.abort();
      link.publish = undefined;
    },
  };
  return link;
}
