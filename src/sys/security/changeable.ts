/** Who can change what a path leads to. Access control lists are not looked at. */
import { lstatSync } from 'node:fs';
import { dirname } from 'node:path';
import { type ByteString, bufferOf } from '../bytes.ts';

const WRITABLE_BY_OTHERS = 0o022;
const STICKY = 0o1000;

/** The directories above a real path, from the root on. */
export function ancestors(path: ByteString): ByteString[] {
  const parent = dirname(path);
  return parent === path ? [] : [...ancestors(parent), parent];
}

/**
 * Why users other than `owners` can write to a file or a directory, as in `belongs to user 1000`; undefined if they cannot.
 * @param isAbove whether only names in the directory matter that are there already: others cannot replace those if it is sticky
 */
export function reasonToDistrust(path: ByteString, owners: readonly number[], isAbove: boolean): string | undefined {
  const stats = lstatSync(bufferOf(path));
  const { uid, gid, mode } = stats;
  if (!owners.includes(uid)) return `belongs to user ${uid}`;
  if (stats.isSymbolicLink() || (mode & WRITABLE_BY_OTHERS) === 0) return undefined;
  if (isAbove && (mode & STICKY) !== 0) return undefined;
  return mode & 0o002 ? 'is writable by everyone' : `is writable by group ${gid}`;
}
