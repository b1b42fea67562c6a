// The page of Uppy for a test, to be bundled: uploads one generated file by tus, another as a form.

import Uppy from '@uppy/core';
import Tus from '@uppy/tus';
import XHRUpload from '@uppy/xhr-upload';

window.uploadBy = async (kind, endpoint, key, name, size) => {
  const uppy = new Uppy();
  const headers = { 'X-Publish-Key': key, Accept: 'application/json' };
  uppy.use(kind === 'tus' ? Tus : XHRUpload, { endpoint, headers, chunkSize: 300000 });
  uppy.addFile({ name, type: 'image/png', data: new Blob([new Uint8Array(size).fill(7)]) });
  const result = await uppy.upload();
  return { done: result.successful.length, failed: result.failed.map((file) => file.error) };
};
