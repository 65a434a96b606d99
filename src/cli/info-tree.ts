/** A tree as `lowerdata info` shows it. The text is that of composefs-info 1.0.8, byte for byte. */

import { firstNames } from '../builder/dumpfile.ts';
import { escapeField } from '../builder/escape.ts';
import { type TreeInode, walk } from '../builder/tree.ts';
import { type Name, printable } from '../sys/bytes.ts';
import { isDirectory, isRegular, isSymlink, rdevMajor, rdevMinor, S_IFMT } from '../sys/stat.ts';

const TYPES: Record<number, string> = {
  1: 'fifo',
  2: 'character device',
  4: 'directory',
  6: 'block device',
  8: 'file',
  10: 'symlink',
  12: 'socket',
};
export const typeName = (mode: number): string => TYPES[(mode & S_IFMT) >> 12] ?? 'unknown';

/** A line a name: `PATH/<tab>`, `PATH<tab>-> TARGET`, `PATH<tab>@ OBJECT` or `PATH`, as hard links always show. */
export function* listText(root: TreeInode): Generator<Name> {
  for (const [path, { inode, link }] of walk(root)) {
    if (path === '') continue;
    const name = path.split(' ').map(escapeField).join(' ');
    const { mode, payload } = inode;
    if (link) yield name;
    else if (isDirectory(mode)) yield `${name}/\t`;
    else if (isSymlink(mode)) yield `${name}\t-> ${escapeField(payload ?? '')}`;
    else if (isRegular(mode) && payload !== undefined) yield `${name}\t@ ${escapeField(payload)}`;
    else yield name;
  }
}

/** The paths of the files' data below a data layer; a path may come again. */
export function* objectsOf(root: TreeInode): Generator<Name> {
  for (const [, { inode }] of walk(root)) if (isRegular(inode.mode) && inode.payload !== undefined) yield inode.payload;
}

export function listJson(root: TreeInode): unknown[] {
  return [...walk(root)].map(([path, { inode }]) => ({
    path: printable(path || '/'),
    type: typeName(inode.mode),
    ...payloadJson(inode),
  }));
}

export function dumpJson(root: TreeInode): unknown[] {
  const first = firstNames(root);
  return [...walk(root)].map(([path, { inode, link }]) => ({
    path: printable(path || '/'),
    type: typeName(inode.mode),
    ...(link && { hardLinkTo: printable(first.get(inode) ?? '') }),
    size: inode.sizeBytes,
    mode: (inode.mode & 0o7777).toString(8).padStart(4, '0'),
    nlink: inode.nlink,
    uid: inode.uid,
    gid: inode.gid,
    ...(inode.rdev !== 0 && { device: `${rdevMajor(inode.rdev)}:${rdevMinor(inode.rdev)}` }),
    mtime: [inode.mtime, inode.mtimensec],
    ...payloadJson(inode),
    ...(inode.content !== undefined && { content: printable(inode.content) }),
    ...(inode.digest !== undefined && { digest: inode.digest }),
    ...(inode.xattrs.size > 0 && { xattrs: xattrsJson(inode) }),
  }));
}

function payloadJson({ mode, payload }: TreeInode): object {
  if (payload === undefined) return {};
  return isSymlink(mode) ? { target: printable(payload) } : { object: printable(payload) };
}

function xattrsJson({ xattrs }: TreeInode): Record<string, string> {
  return Object.fromEntries([...xattrs].map(([name, value]) => [printable(name), printable(value)]));
}
