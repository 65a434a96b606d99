/** Who can change what a path leads to. Access control lists are not looked at. */
import { lstatSync, readlinkSync } from 'node:fs';
import { dirname } from 'node:path';
import { type ByteString, bufferOf, byteStringOf, printable } from '../bytes.ts';
import { ELOOP, ErrnoError, errnoText } from '../errno.ts';

const WRITABLE_BY_OTHERS = 0o022;
const STICKY = 0o1000;
/** How many symlinks the kernel follows in one path. Source: path_resolution(7). */
const LINKS_MAX = 40;

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

/**
 * Finds the first file, directory or symlink on the way of an absolute path that users other than `owners` can change. The way goes
 * through every symlink, whose own directory matters, too.
 * @param hosts further owners of what is above, as the users of the host are in a user namespace
 * @returns it with the reason, as in `/home/me belongs to user 1000`; undefined if there is none
 * Throws an error of node:fs if a part cannot be looked at; ErrnoError ELOOP after 40 symlinks.
 */
export function changeableOnTheWay(
  path: ByteString,
  owners: readonly number[],
  hosts: readonly number[],
): string | undefined {
  let at: ByteString = '';
  const rest = path.split('/').filter(part => part !== '' && part !== '.');
  const root = reasonToDistrust('/', [...owners, ...hosts], rest.length > 0);
  if (root !== undefined) return `/ ${root}`;
  for (let links = 0; ; ) {
    const part = rest.shift();
    if (part === undefined) return undefined;
    if (part === '..') {
      at = at.replace(/\/[^/]*$/s, '');
      continue;
    }
    const next = `${at}/${part}`;
    const isLink = lstatSync(bufferOf(next)).isSymbolicLink();
    const isAbove = rest.length > 0 || isLink;
    const reason = reasonToDistrust(next, isAbove ? [...owners, ...hosts] : owners, isAbove);
    if (reason !== undefined) return `${printable(next)} ${reason}`;
    if (!isLink) at = next;
    else if (++links > LINKS_MAX) throw new ErrnoError(ELOOP, `${printable(path)}: ${errnoText(ELOOP)}`);
    else {
      const target = byteStringOf(readlinkSync(bufferOf(next), 'buffer'));
      if (target.startsWith('/')) at = '';
      rest.unshift(...target.split('/').filter(name => name !== '' && name !== '.'));
    }
  }
}
