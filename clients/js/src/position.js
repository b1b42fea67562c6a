// Positions: "LOG.NUMBER", as the server gives them (docs/sse.md). A number may be
// larger than a double holds, so it is compared as text.

const cut = (id) => {
  const dot = id.lastIndexOf(".");
  return [id.slice(0, dot), id.slice(dot + 1)];
};

/** Whether both are of one log. */
export const alike = (one, other) => cut(one)[0] === cut(other)[0];

/** Whether `one` comes after `other`; of two logs, nobody can tell, and it does. */
export function later(one, other) {
  const [log, number] = cut(one);
  const [otherLog, than] = cut(other);
  return log !== otherLog || number.length > than.length
    || (number.length === than.length && number > than);
}
