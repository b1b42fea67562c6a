/*
 * npm's ws and socket.io, as their documentation has a broadcast, behind the doors that the load knocks at.
 *
 *     node --expose-gc npm.mjs PORT FOLDER ws|socket.io
 *
 * FOLDER has the node_modules. `POST /publish/NAME` sends its body to all on channel NAME,
 * `POST /settle` collects garbage, so that memory is measured at its least. A websocket to
 * `/ws/NAME` reads, one to `/say/NAME` publishes; a Socket.IO client says ?channel=NAME.
 */

import { createServer } from "node:http";
import { createRequire } from "node:module";

const [port, folder, library] = process.argv.slice(2);
const require = createRequire(`${folder}/`);
const broadcast = library === "ws" ? withWs() : withSocketIo();

function withWs() {
  const { WebSocketServer } = require("ws");
  const readers = new Map();
  const send = (channel, data) => {
    for (const reader of readers.get(channel) ?? []) reader.send(data, { binary: false });
  };
  const attach = (server) => {
    new WebSocketServer({ server }).on("connection", (socket, request) => {
      const [, word, channel] = request.url.split("/");
      if (word === "say") {
        socket.on("message", (data) => send(channel, data));
        return;
      }
      if (!readers.has(channel)) readers.set(channel, new Set());
      readers.get(channel).add(socket);
      socket.on("close", () => readers.get(channel).delete(socket));
    });
  };
  return { attach, send };
}

function withSocketIo() {
  const { Server } = require("socket.io");
  const io = new Server();
  io.on("connection", (socket) => socket.join(socket.handshake.query.channel));
  return {
    attach: (server) => io.attach(server),
    send: (channel, data) => io.to(channel).emit("message", data.toString()),
  };
}

const server = createServer((request, response) => {
  const [, word, channel] = request.url.split("/");
  const pieces = [];
  request.on("data", (piece) => pieces.push(piece));
  request.on("end", () => {
    if (word === "publish") broadcast.send(channel, Buffer.concat(pieces));
    else if (word === "settle") globalThis.gc();
    else response.statusCode = 404;
    response.end();
  });
});
server.keepAliveTimeout = 0;
broadcast.attach(server);
server.listen({ port: Number(port), host: "127.0.0.1", backlog: 512 });
