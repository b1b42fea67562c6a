// Writes dist/, minified, and the copies that the daemon serves. With an argument: there, and
// nothing else.

import { copyFileSync } from "node:fs";
import { build } from "esbuild";

const here = new URL(".", import.meta.url);
const NAMES = ["realtime", "attributes", "jquery.sse", "live"];
// Properties that stay between the modules of the client: neither the page, nor the server, nor
// tabs with another version of the page use them.
const INTERNAL = new RegExp(`^(${[
  "after", "alive", "ask", "dog", "drop", "hear", "late", "lead", "leave", "lost", "off", "opened",
  "post", "rest", "touch", "urls", "wants", "watch",
].join("|")})$`);
const out = new URL(process.argv[2] ?? "dist/", here);

const beside = {  // the client is a file of its own, which pages may share
  name: "beside",
  setup: ({ onResolve }) => onResolve({ filter: /^\.\/realtime\.js$/ }, () => (
    { path: "./realtime.js", external: true }
  )),
};

for (const name of NAMES) {
  await build({
    entryPoints: [new URL(`src/${name}.js`, here).pathname],
    outfile: new URL(`${name}.js`, out).pathname,
    bundle: true,
    minify: true,
    format: name === "jquery.sse" ? "iife" : "esm",  // a plain script
    target: "es2022",
    plugins: name === "attributes" ? [beside] : [],
    mangleProps: name === "realtime" ? INTERNAL : undefined,
    banner: { js: "/* rt_twisted, MIT: clients/js */" },
  });
}
if (!process.argv[2]) {
  for (const name of NAMES) {
    const file = `${name}.js`;
    copyFileSync(new URL(file, out), new URL(`../../rt_twisted/actions/${name}.min.js`, here));
  }
}
