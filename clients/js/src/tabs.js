// The tabs of one origin: one of them leads, and keeps the connection for all.

const COLLECT = 50;  // ms in which tabs say what they want, before the connection begins

export const canShare = () => Boolean(globalThis.navigator?.locks && globalThis.BroadcastChannel);

const hold = (name, signal, work, otherwise) => navigator.locks
  .request(name, { signal }, work)
  .catch(() => { if (!signal.aborted) otherwise?.(); });

/**
 * What the leader knows: who wants what, from where on. Its link is opened anew when
 * that grows, from the earliest position that somebody still needs.
 */
export class Leader {
  #members = new Map();  // tab -> channels
  #said = [];  // what tabs have had of channels, since the last look
  #link;
  #later;
  #timer;
  #begun;  // the position the link was opened with

  constructor(link, later) {
    this.#link = link;
    this.#later = later;
  }

  /** A tab says what it wants; nothing, if it is gone. */
  wants(tab, wanted) {
    if (wanted) this.#members.set(tab, Object.keys(wanted));
    else this.#members.delete(tab);
    this.#said.push(...Object.entries(wanted ?? {}));
    this.#timer ??= setTimeout(() => this.#look(), COLLECT);
  }

  close() {
    clearTimeout(this.#timer);
    this.#link.close();
  }

  #look() {
    this.#timer = undefined;
    const channels = new Set([...this.#members.values()].flat());
    let since = this.#link.since;
    let behind = false;
    for (const [channel, position] of this.#said.splice(0)) {
      // What the link brings anyway is no reason to go back.
      const known = this.#link.channels.includes(channel);
      if (!channels.has(channel) || (known && !this.#later(this.#begun, position))) continue;
      behind = true;
      if (since === undefined || this.#later(since, position)) since = position;
    }
    if (!behind && channels.size === this.#link.channels.length) return;
    this.#begun = since;
    this.#link.open([...channels].sort(), since);
  }
}

/**
 * Become one of the tabs of `name`. `hear(said)` is what others post; `lead()` begins
 * this tab's turn; `gone(tab)` tells the leader of a tab that ended.
 */
export function joinTabs(name, tab, { hear, lead }) {
  const stop = new AbortController();
  const channel = new BroadcastChannel(name);
  const watched = new Set();
  let release;
  const held = new Promise((done) => { release = done; });
  channel.onmessage = ({ data }) => hear(data);
  // Each tab holds a lock of its own: who gets it knows that the tab is gone.
  hold(`${name} ${tab}`, stop.signal, () => held);
  const leads = () => {
    lead();
    return held;
  };
  // Where locks are not allowed, as in a sandbox, there is nobody to share with.
  hold(name, stop.signal, leads, lead);
  return {
    post: (said) => channel.postMessage(said),
    watch(other, gone) {
      if (watched.has(other)) return;
      watched.add(other);
      hold(`${name} ${other}`, stop.signal, () => {
        watched.delete(other);
        gone();
      });
    },
    leave() {
      stop.abort();
      release();
      channel.close();
    },
  };
}
