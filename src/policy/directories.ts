/** Which layers are no images. */
import { statSync } from 'node:fs';
import { type ByteString, bufferOf } from '../sys/bytes.ts';

/** Whether a path leads to a directory. False if nothing is there. Throws as node:fs does if that cannot be known. */
export const isDirectory = (path: ByteString): boolean =>
  statSync(bufferOf(path), { throwIfNoEntry: false })?.isDirectory() ?? false;
