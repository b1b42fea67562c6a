// An Engine.IO client that reads commands as lines, and writes events as lines.
//
//   node engineio_client.js 3|4|5|6 URL '{"transports": ["polling"]}'
//
// A line is a JSON array. In: ["send", MESSAGE], ["close"]. Out: ["connect", TRANSPORT],
// ["message", MESSAGE], ["upgrade", TRANSPORT], ["error", TEXT], ["disconnect", REASON].
// Bytes are {"base64": "..."}.

const [version, url, options] = process.argv.slice(2);
const { Socket } = require(version === "6" ? "engine.io-client" : `engine.io-client-${version}`);

const toLine = (value) =>
  typeof value === "string" ? value : { base64: Buffer.from(value).toString("base64") };
const fromLine = (value) => (value.base64 === undefined ? value : Buffer.from(value.base64, "base64"));
const write = (...words) => process.stdout.write(JSON.stringify(words) + "\n");

const socket = new Socket(url, JSON.parse(options));

socket.on("open", () => write("connect", socket.transport.name));
socket.on("upgrade", (transport) => write("upgrade", transport.name));
socket.on("message", (data) => write("message", toLine(data)));
socket.on("error", (error) => write("error", error.message || String(error)));
socket.on("close", (reason) => write("disconnect", reason));

require("readline").createInterface({ input: process.stdin }).on("line", (line) => {
  const [command, message] = JSON.parse(line);
  if (command === "send") socket.send(fromLine(message));
  else socket.close();
}).on("close", () => socket.close());
