// The tabs of one origin: one of them leads, and keeps the connection for all.

const COLLECT = 50;  // ms in which tabs say what they want, before the connection begins

const BEAT = 2000;  // ms between two looks for a sign of the leader
const HIDDEN = 4;  // times as long in a tab that nobody sees
const MISSED = 3;  // requests that a leader may leave unanswered

export const canShare = () => Boolean(globalThis.navigator?.locks && globalThis.BroadcastChannel);

const hold = (name, signal, work) => navigator.locks
  .request(name, { signal }, work)
  .catch(() => {});

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
 * this tab's turn, `lost()` ends it; `ask()` requests a sign of life from the leader,
 * for which the caller calls `alive()`; `gone(tab)` tells the leader of a tab that ended.
 *
 * A leader that exists but does not run (frozen by the browser, stopped in a debugger)
 * keeps its lock. After three requests without an answer another tab steals it. Requests are
 * messages, which are not throttled in hidden tabs as timers are.
 */
export function joinTabs(name, tab, { hear, lead, lost, ask }) {
  const stop = new AbortController();
  const channel = new BroadcastChannel(name);
  const watched = new Set();
  let heard = false;
  let missed = 0;
  let timer;
  let release;
  const held = new Promise((done) => { release = done; });
  channel.onmessage = ({ data }) => hear(data);
  // Each tab holds a lock of its own: who gets it knows that the tab is gone.
  hold(`${name} ${tab}`, stop.signal, () => held);
  const leads = () => {
    clearTimeout(timer);
    lead();
  };
  const contend = (options) => {
    let granted = false;
    navigator.locks.request(name, options, () => {
      if (stop.signal.aborted) return undefined;
      granted = true;
      leads();
      return held;
    }).catch(() => {
      if (stop.signal.aborted) return;
      if (granted) lost();  // another tab stole it
      else leads();  // locks are not allowed, as in a sandbox: nobody to share with
    });
  };
  const look = () => {
    missed = heard ? 0 : missed + 1;
    heard = false;
    if (missed > MISSED) return contend({ steal: true });
    if (missed) ask();
    // Tabs look at different moments, so that one of them takes over; a visible one first.
    const pace = globalThis.document?.hidden ? HIDDEN : 1;
    timer = setTimeout(look, BEAT * pace * (1 + Math.random() / 2));
  };
  timer = setTimeout(look, BEAT);
  contend({ signal: stop.signal });
  return {
    post: (said) => channel.postMessage(said),
    alive: () => { heard = true; },
    watch(other, gone) {
      if (watched.has(other)) return;
      watched.add(other);
      hold(`${name} ${other}`, stop.signal, () => {
        watched.delete(other);
        gone();
      });
    },
    leave() {
      clearTimeout(timer);
      stop.abort();
      release();
      channel.close();
    },
  };
}
