/** Makes and removes the symlinks of a repository, by descriptors, so that none on the way leads out of it. */
import { randomBytes } from 'node:crypto';
import { namesIn, openDirectoryBeneath } from '../sys/beneath.ts';
import { type ByteString, printable } from '../sys/bytes.ts';
import { EEXIST, ENOENT, ErrnoError, errnoText, must } from '../sys/errno.ts';
import { native } from '../sys/native.ts';

/** How the names of what is in the making begin. */
export const TEMPORARY = '.tmp-';
/** The end of a directory with the names of layers. */
export const LAYERS = '.layers';
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

/**
 * Removes the names of the images of layers, which stand below the name of an image, from a number on; they are gone from the disk
 * then. Throws ErrnoError with the path. @param path of the repository
 */
export function removeLayerNames(repository: number, image: ByteString, from: number, path: ByteString): void {
  const layers = `images/refs/${image}${LAYERS}`;
  const directory = openDirectoryBeneath(repository, layers);
  if (directory === -ENOENT) return;
  const shown = printable(`${path}/${layers}`);
  must(directory, shown);
  try {
    const names = namesIn(directory);
    if (typeof names === 'number') throw new ErrnoError(-names, `${shown}: ${errnoText(names)}`);
    const others = names.filter(name => /^\d+$/.test(name) && Number(name) >= from);
    for (const name of others) must(native.unlinkat(directory, name, 0), shown);
    if (others.length > 0) must(native.fsync(directory), shown);
  } finally {
    native.close(directory);
  }
}

function split(path: ByteString): [directories: ByteString[], name: ByteString] {
  const parts = path.split('/');
  return [parts.slice(0, -1), parts.at(-1) as ByteString];
}
