// The tabs of one origin: one of them leads, and holds the connection for all.

const COLLECT = 50;  // ms to collect the channels of all tabs before the leader connects

const BEAT = 2000;  // ms between two checks that the leader is alive
const HIDDEN = 4;  // times as long in a hidden tab
const MISSED = 3;  // requests without an answer until another tab takes over

export const canShare = () => globalThis.navigator?.locks && globalThis.BroadcastChannel;

const hold = (name, signal, work) => navigator.locks
  .request(name, { signal }, work)
  .catch(() => {});

/**
 * The channels and start positions of all tabs, for the leader. Its link is reopened when
 * they grow, from the earliest position that a tab needs.
 *
 * `wants(tab, wanted)` sets the channels of a tab; undefined if it is closed.
 */
export function makeLeader(link, later) {
  const members = new Map();  // tab -> channels
  let said = [];  // what tabs have received of channels since the last update
  let timer;
  let begun;  // the position with which the link was opened
  const look = () => {
    timer = undefined;
    const channels = new Set([...members.values()].flat());
    const { channels: known } = link;
    let { since } = link;
    let behind = false;
    for (const [channel, position] of said) {
      // The link delivers these anyway: no earlier position is needed.
      if (!channels.has(channel) || (known.includes(channel) && !later(begun, position))) continue;
      behind = true;
      if (since === undefined || later(since, position)) since = position;
    }
    said = [];
    if (!behind && channels.size === known.length) return;
    begun = since;
    link.open([...channels].sort(), since);
  };
  return {
    wants(tab, wanted) {
      if (wanted) members.set(tab, Object.keys(wanted));
      else members.delete(tab);
      said.push(...Object.entries(wanted ?? {}));
      timer ??= setTimeout(look, COLLECT);
    },
    close() {
      clearTimeout(timer);
      link.close();
    },
  };
}

/**
 * Joins the tabs of `name`. `hear(said)` receives posts of other tabs. `lead()` is called
 * when this tab becomes the leader, `lost()` when it no longer is. `ask()` requests an answer
 * of the leader, at which the caller calls `alive()`. `gone(tab)` reports a closed tab to
 * the leader.
 *
 * A leader that does not run (frozen by the browser, stopped in a debugger) keeps its
 * lock. After three requests without an answer another tab steals it. Requests are
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
  // Each tab holds a lock of its own, which the leader obtains when the tab is closed.
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
      if (granted) lost();  // another tab stole the lock
      else leads();  // locks are not allowed, as in a sandbox: no tab to share with
    });
  };
  const look = () => {
    missed = heard ? 0 : missed + 1;
    heard = false;
    if (missed > MISSED) return contend({ steal: true });
    if (missed) ask();
    // Tabs check at different times, so that only one takes over; visible ones first.
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
