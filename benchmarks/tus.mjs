/*
 * npm's @tus/server, as its documentation has it.
 *
 *     node tus.mjs PORT MODULES FOLDER
 *
 * MODULES has the node_modules; uploads are stored in FOLDER.
 */

import { createRequire } from "node:module";

const [port, modules, directory] = process.argv.slice(2);
const require = createRequire(`${modules}/`);
const { Server } = require("@tus/server");
const { FileStore } = require("@tus/file-store");

const server = new Server({ path: "/upload", datastore: new FileStore({ directory }) });
server.listen({ host: "127.0.0.1", port: Number(port) });
