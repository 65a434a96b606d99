/** Paths without symlinks. */
import { realpathSync } from 'node:fs';
import { type ByteString, bufferOf, byteStringOf } from './bytes.ts';

/** realpath(3), which takes any bytes: realpathSync itself reads UTF-8. Throws what node:fs throws. */
export const realPath = (path: ByteString): ByteString =>
  byteStringOf(realpathSync.native(bufferOf(path), { encoding: 'buffer' }));
