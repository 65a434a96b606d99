/** The listings of a tree for `lowerdata info`. The text is that of composefs-info 1.0.8, byte for byte. */

import { firstNames } from '../../composefs/dumpfile.ts';
import { escapeField } from '../../composefs/escape.ts';
import { type Place, pathOf, type TreeInode, walk } from '../../composefs/tree.ts';
import { type ByteString, printable } from '../../sys/bytes.ts';
import { isDirectory, isRegular, isSymlink } from '../../sys/stat.ts';
import { deviceNumbers, fileType, octal, secondsText } from '../../terminal/attributes.ts';

/**
 * One line per name: `PATH/<tab>`, `PATH<tab>-> TARGET`, `PATH<tab>@ OBJECT`, or `PATH`. A further hard link is always `PATH`.
 */
export function* listText(root: TreeInode): Generator<ByteString> {
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

/** The paths of the files' objects, relative to a data-only layer; a path may occur several times. */
export function* objectsOf(root: TreeInode): Generator<ByteString> {
  for (const [, { inode }] of walk(root)) if (isRegular(inode.mode) && inode.payload) yield inode.payload;
}

export function* listJson(root: TreeInode): Generator<unknown> {
  for (const [path, { inode }] of walk(root))
    yield { path: printable(path || '/'), type: fileType(inode.mode).name, ...payloadJson(inode) };
}

export function* dumpJson(root: TreeInode): Generator<unknown> {
  const first = firstNames(root);
  for (const [path, { inode, link }] of walk(root)) yield entryJson(path, inode, link ? first.get(inode) : undefined);
}

/** @param target for a further hard link, the first place of its inode; else undefined */
function entryJson(path: ByteString, inode: TreeInode, target: Place): unknown {
  const device = deviceNumbers(inode);
  return {
    path: printable(path || '/'),
    type: fileType(inode.mode).name,
    ...(target && { hardLinkTo: printable(pathOf(target)) }),
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
