// Uploads a file by tus-js-client: node tus_client.mjs ENDPOINT FILE CHUNK [UPLOAD-URL]
// Prints a line of JSON for the URL of the upload, for each chunk, and for the end.

import { createReadStream, statSync } from 'node:fs';
import { basename } from 'node:path';
import { Upload } from 'tus-js-client';

const [endpoint, path, chunk, uploadUrl] = process.argv.slice(2);
const print = (value) => console.log(JSON.stringify(value));
const upload = new Upload(createReadStream(path), {
  endpoint,
  uploadUrl: uploadUrl || null,
  uploadSize: statSync(path).size,
  chunkSize: Number(chunk) || Infinity,
  retryDelays: Array(60).fill(500),
  metadata: { filename: basename(path), filetype: 'application/x-test' },
  onUploadUrlAvailable: () => print({ url: upload.url }),
  onChunkComplete: (size, sent) => print({ sent }),
  onError: (error) => { print({ error: String(error) }); process.exit(1); },
  onSuccess: () => print({ done: true }),
});
upload.start();
