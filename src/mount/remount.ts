/** `mount -o remount,…`, as mount(8) and systemd call it: changes the flags of one mount, but neither its daemon nor its tree. */

import { mountFlags } from '../fuse/mount.ts';
import { MountPlace } from '../fuse/mount-point.ts';
import type { Mount } from '../fuse/mountinfo.ts';
import { type ByteString, printable } from '../sys/bytes.ts';
import { EINVAL, EROFS, ErrnoError, ESTALE, errnoText } from '../sys/errno.ts';
import { native } from '../sys/native.ts';
import { findMount } from './find-mount.ts';

const MS_REMOUNT = 32;
const MS_BIND = 4096;

/** The flags that each option removes, and the flag that it sets. */
const CHANGES: Readonly<Record<string, readonly [without: readonly string[], flag?: keyof typeof mountFlags]>> = {
  nosuid: [[], 'nosuid'],
  suid: [['nosuid']],
  nodev: [[], 'nodev'],
  dev: [['nodev']],
  noexec: [[], 'noexec'],
  exec: [['noexec']],
  noatime: [['relatime', 'strictatime'], 'noatime'],
  atime: [['noatime']],
  relatime: [['noatime', 'strictatime'], 'relatime'],
  strictatime: [['noatime', 'relatime'], 'strictatime'],
  nodiratime: [[], 'nodiratime'],
  diratime: [['nodiratime']],
  ro: [['rw'], 'ro'],
  rw: [['ro']],
};

export const isRemount = (texts: readonly ByteString[]): boolean => wordsOf(texts).includes('remount');

const wordsOf = (texts: readonly ByteString[]): string[] => texts.flatMap(text => text.split(','));

/**
 * Changes the flags that `texts` name; the options of the tree stay as they were.
 * @returns the options that had no effect
 * Throws ErrnoError: EROFS for `rw` of a tree that is not written to, EINVAL if the path is no mount of this program, ESTALE if another mount is there now.
 */
export function remount(path: ByteString, texts: readonly ByteString[]): string[] {
  const words = wordsOf(texts).filter(word => word !== '' && word !== 'remount');
  const shown = printable(path);
  const mount = findMount(path);
  if (mount?.type !== 'fuse.lowerdata') throw new ErrnoError(EINVAL, `${shown}: not a mount of lowerdata`);
  if (mount.isReadOnly && words.includes('rw') && !words.includes('ro'))
    throw new ErrnoError(EROFS, `${shown}: it cannot be made writable; give ro with remount`);
  const place = MountPlace.at(mount.path);
  try {
    if (place.mountId !== mount.id) throw new ErrnoError(ESTALE, `${shown}: another mount is there now`);
    const flags = MS_REMOUNT | MS_BIND | changed(mount, words);
    const result = native.mount('none', place.path, 'none', flags, '');
    if (result < 0) throw new ErrnoError(-result, `remount ${shown}: ${errnoText(result)}`);
  } finally {
    place.close();
  }
  return words.filter(word => !Object.hasOwn(CHANGES, word));
}

/** All flags of a mount, because mount(2) clears the flags that it does not get. */
function changed({ flags, isReadOnly }: Mount, words: readonly string[]): number {
  const names = new Set<string>(flags);
  for (const word of words) {
    const [without, flag] = (Object.hasOwn(CHANGES, word) && CHANGES[word]) || [[]];
    for (const name of without) names.delete(name);
    if (flag) names.add(flag);
  }
  const known = Object.entries(mountFlags).filter(([name]) => names.has(name) || (name === 'ro' && isReadOnly));
  return known.reduce((sum, [, flag]) => sum | flag, 0);
}
