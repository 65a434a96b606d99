/** Where paths lead to. */
import { realpathSync, statSync } from 'node:fs';
import { type ByteString, bufferOf, byteStringOf } from './bytes.ts';

/** realpath(3) for any bytes; realpathSync alone assumes UTF-8. Throws as node:fs does. */
export const realPath = (path: ByteString): ByteString =>
  byteStringOf(realpathSync.native(bufferOf(path), { encoding: 'buffer' }));

/** Whether a path leads to a directory. False if nothing is there. Throws as node:fs does if that cannot be known. */
export const leadsToDirectory = (path: ByteString): boolean =>
  statSync(bufferOf(path), { throwIfNoEntry: false })?.isDirectory() === true;
