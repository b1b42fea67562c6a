// Requests, and the time they may take.

const LONGEST = 30_000;  // ms between two attempts

/** What stops a transport for good: the server said no. */
export class Refused extends Error {
  constructor(status, reason) {
    super(`${status} ${reason}`.trim());
    this.name = "Refused";
    this.status = status;
  }
}

/**
 * Makes `ask(url, init)`: a fetch with the token, which is asked for anew, once, when
 * the server does not take it.
 *
 * It throws Refused for what another attempt would not change; and other errors, some
 * with `after`, the ms that the server wants to be left alone.
 */
export function asker({ token, credentials }) {
  let known;
  return async (url, init = {}) => {
    for (let fresh = false; ; fresh = true) {
      const own = typeof token === "function";
      if (own && (fresh || known === undefined)) known = await token();
      const bearer = own ? known : token;
      const headers = { ...init.headers, ...(bearer && { Authorization: `Bearer ${bearer}` }) };
      const response = await fetch(url, { cache: "no-store", credentials, ...init, headers });
      if (response.ok) return response;
      const { status } = response;
      const reason = (await response.text()).trim();
      if (own && !fresh && (status === 401 || status === 403)) continue;
      if (status < 500 && status !== 408 && status !== 429) throw new Refused(status, reason);
      const error = new Error(`${status} ${reason}`);
      error.after = 1000 * response.headers.get("Retry-After") || 0;
      throw error;
    }
  };
}

/**
 * A signal that aborts with `outer`, or when nobody has called `touch(ms)` for so long;
 * then `late` is true.
 */
export function watchdog(outer, ms) {
  const inner = new AbortController();
  const stop = () => inner.abort();
  let timer;
  const dog = {
    signal: inner.signal,
    late: false,
    touch(next) {
      clearTimeout(timer);
      timer = setTimeout(() => { dog.late = true; stop(); }, next);
    },
    off() {
      clearTimeout(timer);
      outer.removeEventListener("abort", stop);
    },
  };
  outer.addEventListener("abort", stop);
  if (outer.aborted) stop();
  dog.touch(ms);
  return dog;
}

/** Ms before attempt number `failures`, from 0: never less than the server wants. */
export const delay = (retry, failures, random = Math.random()) =>
  Math.max(retry, Math.min(LONGEST, retry * 2 ** failures)) * (1 + random / 2);

/** Wait; not any longer when `signal` aborts, or when the network is there again. */
export const pause = (ms, signal) => new Promise((done) => {
  const end = () => {
    clearTimeout(timer);
    signal.removeEventListener("abort", end);
    globalThis.removeEventListener?.("online", end);
    done();
  };
  const timer = setTimeout(end, ms);
  signal.addEventListener("abort", end);
  globalThis.addEventListener?.("online", end);
  if (signal.aborted) end();
});
