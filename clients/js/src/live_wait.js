// Promises for times and events, whose listeners are removed when they have fired: a page may
// stay open for days.

/** Wait for `ms` milliseconds, or until `signal` aborts. */
export const pause = (ms, signal) => new Promise((resolve) => {
  const end = () => {
    clearTimeout(timer);
    signal.removeEventListener("abort", end);
    resolve();
  };
  const timer = setTimeout(end, ms);
  signal.addEventListener("abort", end);
});

/** Wait for an event of `target`; an event `error` rejects with `message`. */
export const once = (target, name, message) => new Promise((resolve, reject) => {
  const listeners = new AbortController();
  const on = (type, act) => target.addEventListener(type, () => {
    listeners.abort();
    act();
  }, { signal: listeners.signal });
  on(name, resolve);
  on("error", () => reject(new Error(message)));
});
