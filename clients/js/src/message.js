// Messages and URLs of the server.

/** Makes a message of `id`, `channel`, `event`, and `data` or `base64`. */
export function toMessage({ id, channel, event = "message", data, base64 }) {
  const bytes = base64 !== undefined
    && Uint8Array.from(atob(base64), (one) => one.charCodeAt(0));
  return { id, channel, event, data: bytes || data };
}

/** Makes an idempotency key. Pages by plain http have no randomUUID. */
export const newKey = () => [...crypto.getRandomValues(new Uint32Array(4))]
  .map((one) => one.toString(36)).join("-");

/** Adds the fields of `query` to `url`; undefined ones are left out. */
export function withQuery(url, query) {
  const made = new URL(url);
  for (const [name, value] of Object.entries(query)) {
    if (value !== undefined) made.searchParams.set(name, value);
  }
  return made.href;
}
