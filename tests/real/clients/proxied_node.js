// An application behind the daemon: node proxied_node.js PORT. It needs no package.
"use strict";

const http = require("node:http");

const PIECE = Buffer.alloc(65536, "x");
const running = new Map(); // requests that are not over, by path

function pour(response) {
  while (!response.destroyed && response.write(PIECE));
  response.once("drain", () => pour(response));
}

const answers = {
  // An interim response before the response, and trailers behind it.
  "/hints": (response) => {
    response.writeEarlyHints({ link: "</a.css>; rel=preload", "grip-hold": "stream" });
    response.writeHead(200, { trailer: "x-sum" });
    response.write("body");
    response.addTrailers({ "x-sum": "7", "grip-channel": "a" });
    response.end();
  },
  "/hinted-events": (response) => {
    response.writeEarlyHints({ link: "</a.css>; rel=preload" });
    response.writeHead(200, { "x-accel-redirect": "/-/sse/room", "x-own": "1" });
    response.end();
  },
  "/never": () => {},
  "/endless": (response) => {
    response.writeHead(200);
    pour(response);
  },
  // Events that come before those of the daemon, and do not end.
  "/slow-events": (response) => {
    const type = { "content-type": "text/event-stream" };
    response.writeHead(200, { ...type, "x-accel-redirect": "/-/sse/room" });
    response.write("data: first\n\n");
  },
  "/events": (response) => {
    response.writeHead(200, { "x-accel-redirect": "/-/sse/room" });
    response.end();
  },
  "/held": (response) => {
    response.writeHead(200, { "grip-hold": "response", "grip-channel": "room" });
    response.end("late");
  },
  "/running": (response) => response.end(JSON.stringify([...running.values()])),
};

http
  .createServer((request, response) => {
    const path = request.url.split("?")[0];
    running.set(response, path);
    response.on("close", () => running.delete(response));
    answers[path](response);
  })
  .listen(Number(process.argv[2]), "127.0.0.1");
