// Sign a token, and print it: make_token.js LIBRARY ALGORITHM KEY-FILE CLAIMS
const fs = require("fs");
const { createPrivateKey, createSecretKey } = require("crypto");
const [library, algorithm, path, claims] = process.argv.slice(2);
const text = fs.readFileSync(path, "utf8");
const key = text.startsWith("-----") ? createPrivateKey(text) : createSecretKey(Buffer.from(text));

if (library === "jsonwebtoken") {
  console.log(require("jsonwebtoken").sign(JSON.parse(claims), key, { algorithm, noTimestamp: true }));
} else {
  import("jose").then(({ SignJWT }) =>
    new SignJWT(JSON.parse(claims)).setProtectedHeader({ alg: algorithm }).sign(key).then(console.log)
  );
}
