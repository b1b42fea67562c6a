// Positions of the server: "LOG.NUMBER" (docs/sse.md). Numbers are compared as text, as they
// may be larger than a double represents exactly. A log has letters and digits only.

const cut = (id) => id.split(".");

/** Returns whether both are of one log. */
export const alike = (one, other) => cut(one)[0] === cut(other)[0];

/** Returns whether `one` comes after `other`; true for positions of different logs. */
export function later(one, other) {
  const [log, number] = cut(one);
  const [otherLog, than] = cut(other);
  return log !== otherLog || number.length > than.length
    || (number.length === than.length && number > than);
}
