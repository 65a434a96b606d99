/** Makes and removes the symlinks of a repository, by descriptors, so that none on the way leads out of it. */
import { randomBytes } from 'node:crypto';
import { openDirectoryBeneath } from '../sys/beneath.ts';
import type { ByteString } from '../sys/bytes.ts';
import { EEXIST, ENOENT, must } from '../sys/errno.ts';
import { native } from '../sys/native.ts';

/** How the names of what is in the making begin. */
export const TEMPORARY = '.tmp-';
export const temporaryName = (): ByteString => `${TEMPORARY}${randomBytes(8).toString('hex')}`;

/**
 * Makes a symlink in place of one that is there, and the directories that it needs; it is on disk then. Throws ErrnoError.
 * @param path from the root of the repository
 * @param shown the path, for messages
 */
export function replaceLink(repository: number, path: ByteString, target: ByteString, shown: string): void {
  const [directories, name] = split(path);
  let at = repository;
  try {
    for (const part of directories) {
      const made = native.mkdirat(at, part, 0o755);
      if (made !== -EEXIST) must(made, shown);
      if (made === 0) must(native.fsync(at), shown);
      const next = must(openDirectoryBeneath(at, part), shown);
      if (at !== repository) native.close(at);
      at = next;
    }
    const temporary = temporaryName();
    must(native.symlinkat(target, at, temporary), shown);
    const renamed = native.renameat2(at, temporary, at, name, 0);
    if (renamed !== 0) native.unlinkat(at, temporary, 0);
    must(renamed, shown);
    must(native.fsync(at), shown);
  } finally {
    if (at !== repository) native.close(at);
  }
}

/** Removes a name; it is gone from the disk then. @returns whether it was there. Throws ErrnoError. */
export function removeName(repository: number, path: ByteString, shown: string): boolean {
  const [directories, name] = split(path);
  const directory = openDirectoryBeneath(repository, directories.join('/'));
  if (directory === -ENOENT) return false;
  must(directory, shown);
  try {
    const removed = native.unlinkat(directory, name, 0);
    if (removed === -ENOENT) return false;
    must(removed, shown);
    must(native.fsync(directory), shown);
    return true;
  } finally {
    native.close(directory);
  }
}

function split(path: ByteString): [directories: ByteString[], name: ByteString] {
  const parts = path.split('/');
  return [parts.slice(0, -1), parts.at(-1) as ByteString];
}
