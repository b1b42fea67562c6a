// A client of node's own HTTP/1.1 and HTTP/2, which share no code with the daemon's.
//
//     node node_peer.js PORT TLS_PORT CA_FILE
//
// Prints one line of JSON: what it saw. It needs no package.
"use strict";

const fs = require("node:fs");
const http = require("node:http");
const http2 = require("node:http2");

const [port, tlsPort, caFile] = process.argv.slice(2);
const STREAMS = 30;
const MESSAGES = 20;

function http1(agent, method, path, body, headers = {}) {
  return new Promise((resolve, reject) => {
    const request = http.request({ agent, host: "127.0.0.1", port, method, path, headers });
    let informed = false;
    request.on("continue", () => {
      informed = true;
      request.end(body);
    });
    request.on("response", (response) => {
      let text = "";
      response.setEncoding("utf8");
      response.on("data", (piece) => (text += piece));
      response.on("end", () => resolve({ status: response.statusCode, text, informed }));
      response.on("error", reject);
    });
    request.on("error", reject);
    if (headers.expect) request.flushHeaders();
    else if (Array.isArray(body)) {
      for (const piece of body) request.write(piece); // chunked
      request.end();
    } else request.end(body);
  });
}

async function speakHttp1() {
  const sockets = new Set();
  const agent = new http.Agent({ keepAlive: true, maxSockets: 1 });
  agent.on("free", (socket) => sockets.add(socket));
  const form = { "content-type": "application/x-www-form-urlencoded" };
  const seen = {};
  const get = await http1(agent, "GET", "/healthz");
  const head = await http1(agent, "HEAD", "/healthz");
  const chunked = await http1(agent, "POST", "/publish", ["channel=h1&", "message=a"], form);
  const expected = await http1(agent, "POST", "/publish", "channel=h1&message=b", {
    ...form,
    "content-length": 20,
    expect: "100-continue",
  });
  const wrong = await http1(agent, "POST", "/publish", "message=x", form);
  const poll = await http1(agent, "GET", "/poll?channels=h1&history=9&wait=0");
  seen.statuses = [get, head, chunked, expected, wrong, poll].map((one) => one.status);
  seen.continued = expected.informed;
  seen.polled = JSON.parse(poll.text).messages.map((message) => message.data);
  seen.sockets = sockets.size;
  agent.destroy();
  return seen;
}

function speakHttp2() {
  return new Promise((resolve, reject) => {
    const session = http2.connect(`https://localhost:${tlsPort}`, { ca: fs.readFileSync(caFile) });
    const received = [];
    let open = 0;
    let whole = 0;
    session.on("error", reject);
    const publish = (number) => {
      const request = session.request({
        ":method": "POST",
        ":path": "/publish",
        "content-type": "application/x-www-form-urlencoded",
      });
      request.on("response", (headers) => {
        if (headers[":status"] !== 200) reject(new Error(`published: ${headers[":status"]}`));
      });
      request.on("end", () => number + 1 < MESSAGES && publish(number + 1));
      request.resume();
      request.end(`channel=h2&message=${"x".repeat(5000)}${number}`);
    };
    const finish = () => {
      session.ping((error) => {
        if (error) reject(error);
        session.close();
        session.destroy();
        resolve({ alpn: session.alpnProtocol, streams: open, received });
      });
    };
    for (let number = 0; number < STREAMS; number += 1) {
      const stream = session.request({ ":path": "/?channels=h2", accept: "text/event-stream" });
      let text = "";
      stream.setEncoding("utf8");
      stream.on("error", reject);
      stream.on("response", (headers) => {
        if (headers[":status"] !== 200) reject(new Error(`stream: ${headers[":status"]}`));
      });
      stream.on("data", (piece) => {
        if (!text) {
          open += 1;
          if (open === STREAMS) publish(0);
        }
        text += piece;
        const found = [...text.matchAll(/^data: x+(\d+)$/gm)].map((match) => Number(match[1]));
        if (found.length === MESSAGES && received[number] === undefined) {
          received[number] = found;
          whole += 1;
          if (whole === STREAMS) finish();
        }
      });
    }
  });
}

(async () => {
  const seen = { http1: await speakHttp1(), http2: await speakHttp2() };
  process.stdout.write(`${JSON.stringify(seen)}\n`);
})().catch((error) => {
  process.stderr.write(`${error.stack}\n`);
  process.exit(1);
});
