// Parser for event streams (WHATWG HTML, 9.2.6). It reports cursors too, which EventSource
// does not.

/**
 * Returns a function that parses the next text of the stream, and calls
 * `take({ id, type, data, retry })` for each block; missing fields are undefined.
 */
export function eventReader(take) {
  let rest = "";
  let block = {};
  return (text) => {
    const lines = (rest + text).split("\n");
    rest = lines.pop();
    for (const ended of lines) {
      const line = ended.replace(/\r$/, "");
      if (!line) {
        const whole = block;
        block = {};
        take(whole);
        continue;
      }
      const [, name, value] = /^([^:]*)(?:: ?)?(.*)/s.exec(line);
      if (name === "data") block.data = block.data === undefined ? value : block.data + "\n" + value;
      else if (name === "event") block.type = value;
      else if (name === "id") block.id = value;
      else if (name === "retry" && /^\d+$/.test(value)) block.retry = +value;
    }
  };
}
