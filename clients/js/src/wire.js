// HTTP requests with time limits and tokens.

const LONGEST = 30_000;  // ms between two attempts

/** The server refused the request for good. */
export class Refused extends Error {
  constructor(status, reason) {
    super(`${status} ${reason}`.trim());
    this.name = "Refused";
    this.status = status;
    this.reason = reason;
  }
}

/**
 * The page's `token`: text, or a function that is called again when a token is refused.
 *
 * `get()` returns a promise of it. `drop(promise)` drops the refused one of `get`, and returns
 * whether there may be another.
 */
export function makeToken(source) {
  const renewable = typeof source === "function";
  let known;  // a promise, so that concurrent requests wait for the same token
  const drop = (refused) => {
    if (known === refused) known = undefined;
    return renewable;
  };
  return {
    drop,
    get() {
      if (!known) {
        const made = known = (async () => (renewable ? source() : source))();
        made.catch(() => drop(made));
      }
      return known;
    },
  };
}

/** An error with further fields. */
export const fault = (text, more) => Object.assign(new Error(text), more);

export const unauthorized = (status) => status === 401 || status === 403;

/**
 * Makes `ask(url, init)`: a fetch with the token, which is renewed once if the server
 * refuses it. `init.dog` is a watchdog for the response.
 *
 * It throws Refused if another attempt would not help; and other errors, some with
 * `after`, the ms to wait that the server requests.
 */
export function asker(token, credentials) {
  return async (url, { dog, ...init } = {}) => {
    for (let fresh = false; ; fresh = true) {
      const known = token.get();
      const bearer = await (dog ? dog.rest(known) : known);
      const headers = { ...init.headers, ...(bearer && { Authorization: `Bearer ${bearer}` }) };
      const response = await fetch(url, {
        cache: "no-store", credentials, signal: dog?.signal, ...init, headers,
      });
      if (response.ok) return response;
      const { status } = response;
      const reason = (await response.text()).trim();
      if (unauthorized(status) && !fresh && token.drop(known)) continue;
      if (status < 500 && status !== 408 && status !== 429) throw new Refused(status, reason);
      throw fault(`${status} ${reason}`, { after: 1000 * response.headers.get("Retry-After") || 0 });
    }
  };
}

/**
 * A signal that aborts with `outer`, or when `touch(ms)` has not been called for so long;
 * then `late` is true. `rest(promise)` awaits a promise without a time limit.
 */
export function watchdog(outer, ms) {
  const inner = new AbortController();
  const stop = () => inner.abort();
  let timer;
  let bound;
  const dog = {
    signal: inner.signal,
    late: false,
    touch(next) {
      clearTimeout(timer);
      bound = next;
      timer = setTimeout(() => { dog.late = true; stop(); }, next);
    },
    rest(promise) {
      clearTimeout(timer);
      return promise.finally(() => dog.touch(bound));
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

/** Returns the ms before attempt `failures`, from 0: not less than the server requests. */
export const delay = (retry, failures, random = Math.random()) =>
  Math.max(retry, Math.min(LONGEST, retry * 2 ** failures)) * (1 + random / 2);

/** Waits, at most until `signal` aborts or the network is back. */
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
