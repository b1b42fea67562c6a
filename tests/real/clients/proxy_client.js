// A client of node's own HTTP/1.1 and HTTP/2, through the daemon to proxied_node.js.
//
//     node proxy_client.js PORT TLS_PORT CA_FILE hints PATH
//     node proxy_client.js PORT TLS_PORT CA_FILE leave PATH MOMENT COUNT
//
// `hints` prints one line of JSON: what it saw by each protocol. `leave` sends COUNT requests by
// each protocol, and leaves each at MOMENT: sent, head or data. It needs no package.
"use strict";

const fs = require("node:fs");
const http = require("node:http");
const http2 = require("node:http2");

const [port, tlsPort, ca, command, path, moment, count] = process.argv.slice(2);
const session = http2.connect(`https://localhost:${tlsPort}`, { ca: fs.readFileSync(ca) });

function hints1() {
  return new Promise((resolve, reject) => {
    const seen = { interim: [], body: "" };
    const request = http.get({ host: "127.0.0.1", port, path });
    request.on("information", ({ statusCode, headers }) =>
      seen.interim.push([statusCode, headers]),
    );
    request.on("response", (response) => {
      seen.status = response.statusCode;
      seen.headers = response.headers;
      const done = () => {
        resolve({ ...seen, trailers: response.trailers });
        request.destroy();
      };
      response.on("data", (piece) => {
        seen.body += piece;
        if (seen.body.startsWith(":")) done(); // a stream has begun
      });
      response.on("end", done);
    });
    request.on("error", reject);
  });
}

function hints2() {
  return new Promise((resolve, reject) => {
    const seen = { interim: [], body: "", trailers: {} };
    const stream = session.request({ ":path": path });
    const plain = (headers) => Object.fromEntries(Object.entries(headers));
    stream.on("headers", (headers) => seen.interim.push([headers[":status"], plain(headers)]));
    stream.on("response", (headers) => {
      seen.status = headers[":status"];
      seen.headers = plain(headers);
    });
    stream.on("trailers", (headers) => (seen.trailers = plain(headers)));
    stream.on("data", (piece) => {
      seen.body += piece;
      if (seen.body.startsWith(":")) stream.close(http2.constants.NGHTTP2_CANCEL);
    });
    stream.on("close", () => resolve(seen));
    stream.on("error", reject);
  });
}

function leave1(announces) {
  return new Promise((resolve) => {
    // Without an agent it has `Connection: close`.
    const agent = !announces && new http.Agent({ keepAlive: true });
    const request = http.get({ host: "127.0.0.1", port, path, agent });
    const after = announces ? 1500 : 300;
    const leave = () => request.destroy();
    request.on("error", () => {});
    request.on("close", resolve);
    if (moment === "sent") request.on("socket", () => setTimeout(leave, after));
    request.on("response", (response) => {
      response.on("error", () => {});
      if (moment === "head") leave();
      else response.once("data", leave);
    });
  });
}

function leave2() {
  return new Promise((resolve) => {
    const stream = session.request({ ":path": path });
    const leave = () => stream.close(http2.constants.NGHTTP2_CANCEL);
    stream.on("error", () => {});
    stream.on("close", resolve);
    if (moment === "sent") setTimeout(leave, 300);
    else if (moment === "head") stream.on("response", leave);
    else stream.once("data", leave);
  });
}

async function run() {
  if (command === "hints") {
    console.log(JSON.stringify({ http1: await hints1(), http2: await hints2() }));
  } else {
    const all = [];
    for (let number = 0; number < Number(count); number += 1) all.push(leave1(number % 2 === 0), leave2());
    await Promise.all(all);
  }
  session.close();
}

run().catch((error) => {
  console.error(error);
  process.exit(1);
});
