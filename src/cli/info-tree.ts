/** The names of an image for `lowerdata info`. The text is that of composefs-info 1.0.8, byte for byte. */

import { escapeField } from '../composefs/escape.ts';
import { dumpLine } from '../composefs/print-dump.ts';
import type { TreeInode } from '../composefs/tree.ts';
import type { ImageName } from '../composefs/walk-image.ts';
import { type ByteString, printable } from '../sys/bytes.ts';
import { isDirectory, isRegular, isSymlink } from '../sys/stat.ts';
import { deviceNumbers, fileType, octal, secondsText } from '../terminal/attributes.ts';

/**
 * One line per name: `PATH/<tab>`, `PATH<tab>-> TARGET`, `PATH<tab>@ OBJECT`, or `PATH`. A further hard link is always `PATH`.
 */
export function* listText(names: Iterable<ImageName>): Generator<ByteString> {
  for (const { path, inode, linkTo } of names) {
    if (path === '') continue;
    const name = path.includes(' ') ? path.split(' ').map(escapeField).join(' ') : escapeField(path);
    const { mode, payload } = inode;
    if (linkTo !== undefined) yield name;
    else if (isDirectory(mode)) yield `${name}/\t`;
    else if (isSymlink(mode)) yield `${name}\t-> ${escapeField(payload ?? '')}`;
    else if (isRegular(mode) && payload !== undefined) yield `${name}\t@ ${escapeField(payload)}`;
    else yield name;
  }
}

export function* dumpText(names: Iterable<ImageName>): Generator<ByteString> {
  for (const name of names) yield dumpLine(name);
}

/** The paths of the files' objects, relative to a data-only layer; a path may occur several times. */
export function* objectsOf(names: Iterable<ImageName>): Generator<ByteString> {
  for (const { inode } of names) if (isRegular(inode.mode) && inode.payload) yield inode.payload;
}

export const listJson = ({ path, inode }: ImageName): object => ({
  path: printable(path || '/'),
  type: fileType(inode.mode).name,
  ...payloadJson(inode),
});

export function dumpJson({ path, inode, linkTo }: ImageName): object {
  const device = deviceNumbers(inode);
  return {
    path: printable(path || '/'),
    type: fileType(inode.mode).name,
    ...(linkTo !== undefined && { hardLinkTo: printable(linkTo) }),
    size: inode.sizeBytes,
    mode: octal(inode.mode),
    nlink: inode.nlink,
    uid: inode.uid,
    gid: inode.gid,
    ...(device && { device: device.join(':') }),
    mtime: secondsText(inode.mtime, inode.mtimensec),
    ...payloadJson(inode),
    ...(inode.content !== undefined && { content: printable(inode.content) }),
    ...(inode.digest !== undefined && { digest: inode.digest }),
    ...(inode.origin !== undefined && { origin: Buffer.from(inode.origin, 'latin1').toString('hex') }),
    ...(inode.xattrs.size > 0 && { xattrs: xattrsJson(inode) }),
  };
}

function payloadJson({ mode, payload }: TreeInode): object {
  if (payload === undefined) return {};
  return isSymlink(mode) ? { target: printable(payload) } : { object: printable(payload) };
}

function xattrsJson({ xattrs }: TreeInode): Record<string, string> {
  return Object.fromEntries([...xattrs].map(([name, value]) => [printable(name), printable(value)]));
}
