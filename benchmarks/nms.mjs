// node-media-server for the comparison: nms.mjs HTTP_PORT RTMP_PORT MODULES
import { createRequire } from "node:module";
import { pathToFileURL } from "node:url";

const [, , http, rtmp, modules] = process.argv;
const require = createRequire(pathToFileURL(`${modules}/`));
const loaded = require("node-media-server");
const NodeMediaServer = loaded.default ?? loaded;
new NodeMediaServer({
  bind: "127.0.0.1",
  logType: 0,
  auth: { play: false, publish: false, secret: "bench" },
  rtmp: { port: Number(rtmp), chunk_size: 60000, gop_cache: true },
  http: { port: Number(http), allow_origin: "*" },
}).run();
