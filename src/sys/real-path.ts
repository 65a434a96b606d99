/** Paths without symlinks. */
import { realpathSync } from 'node:fs';
import { type Name, nameBytes, nameOf } from './bytes.ts';

/** realpath(3), which takes any bytes: realpathSync itself reads UTF-8. Throws what node:fs throws. */
export const realPath = (path: Name): Name =>
  nameOf(realpathSync.native(nameBytes(path) as Buffer, { encoding: 'buffer' }));
