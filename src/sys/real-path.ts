/** Paths without symlinks. */
import { realpathSync } from 'node:fs';
import { type ByteString, bufferOf, byteStringOf } from './bytes.ts';

/** realpath(3) for any bytes; realpathSync alone assumes UTF-8. Throws as node:fs does. */
export const realPath = (path: ByteString): ByteString =>
  byteStringOf(realpathSync.native(bufferOf(path), { encoding: 'buffer' }));
