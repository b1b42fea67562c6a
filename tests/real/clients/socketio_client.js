// A Socket.IO client that is told by lines what to do, and says by lines what happens.
//
//   node socketio_client.js 4|2 URL '{"transports": ["polling"]}'
//
// A line is a JSON array. In: ["emit", EVENT, ARGUMENT...], ["ask", NUMBER, EVENT, ARGUMENT...],
// ["close"]. Out: ["connect", TRANSPORT, RECOVERED], ["event", NAME, ARGUMENT...],
// ["ack", NUMBER, ARGUMENT...], ["error", TEXT], ["disconnect", REASON], ["upgrade", TRANSPORT].
// Bytes are {"base64": "..."}. An event "ask" of the server's is acknowledged with its arguments.

const [version, url, options] = process.argv.slice(2);
const io = require(version === "4" ? "socket.io-client" : "socket.io-client-2");

const toLine = (key, value) =>
  value && value.type === "Buffer" ? { base64: Buffer.from(value.data).toString("base64") } : value;
const fromLine = (key, value) =>
  value && value.base64 !== undefined ? Buffer.from(value.base64, "base64") : value;
const say = (...words) => process.stdout.write(JSON.stringify(words, toLine) + "\n");

const socket = io(url, { reconnectionDelay: 50, reconnectionDelayMax: 200, ...JSON.parse(options) });

socket.on("connect", () => {
  const engine = socket.io.engine;
  say("connect", engine.transport.name, socket.recovered === true);
  engine.once("upgrade", (transport) => say("upgrade", transport.name));
});
socket.on("connect_error", (error) => say("error", error.message || String(error)));
socket.on("error", (error) => say("error", error.message || String(error)));
socket.on("disconnect", (reason) => say("disconnect", reason));

const hear = (name, ...args) => {
  const last = args[args.length - 1];
  if (typeof last === "function") last(...args.slice(0, -1));
  say("event", name, ...args.filter((arg) => typeof arg !== "function"));
};
if (socket.onAny) socket.onAny(hear);
else socket.onevent = ((inner) => function (packet) {
  const args = packet.data.slice();
  if (packet.id != null) args.push(this.ack(packet.id));
  hear(...args);
})(socket.onevent);

const does = {
  emit: (...args) => socket.emit(...args),
  ask: (number, ...args) => socket.emit(...args, (...answer) => say("ack", number, ...answer)),
  close: () => { socket.close(); process.stdin.destroy(); },
};
require("readline").createInterface({ input: process.stdin }).on("line", (line) => {
  const [what, ...args] = JSON.parse(line, fromLine);
  does[what](...args);
}).on("close", () => socket.close());
