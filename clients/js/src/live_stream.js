// The bytes of a live stream, by fetch or by websocket.

const OTHER = { mp4: "webm", webm: "mp4" };

/** An error with the HTTP status, or the close code, of a refusal. */
export class Refusal extends Error {
  constructor(status, reason, retry = 2) {
    super(reason);
    this.status = status;
    this.retry = retry; // seconds
  }

  get unsupported() {
    return this.status === 415 || this.status === 1003;
  }
}

/**
 * Open the stream of `path`, in the container that carries its codecs.
 *
 * @returns {Promise<{type: string, chunks: AsyncIterable<Uint8Array>}>} the content type, with
 *   the codecs, and the bytes. It waits while there is no publisher, for some seconds.
 */
export async function openStream(path, { transport, container = "mp4", query = "", signal }) {
  const open = transport === "websocket" ? bySocket : byFetch;
  try {
    return await open(`${path}.${container}`, query, signal);
  } catch (error) {
    if (!error.unsupported) throw error;
    return open(`${path}.${OTHER[container]}`, query, signal);
  }
}

async function byFetch(url, query, signal) {
  const response = await fetch(url + query, { signal, cache: "no-store" });
  if (!response.ok) {
    const retry = Number(response.headers.get("Retry-After")) || 2;
    throw new Refusal(response.status, (await response.text()).trim(), retry);
  }
  const reader = response.body.getReader();
  async function* chunks() {
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      yield value;
    }
  }
  return { type: response.headers.get("Content-Type"), chunks: chunks() };
}

function bySocket(path, query, signal) {
  const url = new URL(`${path}.ws${query}`, location.href);
  url.protocol = url.protocol.replace("http", "ws");
  url.searchParams.set("codecs", "yes"); // a text message with the content type comes first
  const socket = new WebSocket(url);
  socket.binaryType = "arraybuffer";
  const queue = [];
  let wake = () => {};
  let ended = false;
  async function* chunks() {
    while (!ended || queue.length) {
      if (queue.length) yield queue.shift();
      else await new Promise((resolve) => { wake = resolve; });
    }
  }
  return new Promise((resolve, reject) => {
    const end = (error) => {
      ended = true;
      wake();
      reject(error);
    };
    signal.addEventListener("abort", () => {
      socket.close();
      end(signal.reason);
    });
    socket.onclose = ({ code, reason }) => end(new Refusal(code, reason));
    socket.onmessage = ({ data }) => {
      if (typeof data === "string") {
        resolve({ type: data, chunks: chunks() });
      } else {
        queue.push(new Uint8Array(data));
        wake();
      }
    };
  });
}
