/** Removes names: of objects in the upper layer, and of those below, which a whiteout then hides. Source: kernel ovl_do_remove. */

import type { Inode } from '../layers/layer.ts';
import { CONFINED, O_DIRECTORY, O_NOFOLLOW, O_PATH, openIn } from '../sys/beneath.ts';
import type { ByteString } from '../sys/bytes.ts';
import { ENOTEMPTY, EPERM } from '../sys/errno.ts';
import { setXattr } from '../sys/found.ts';
import { native } from '../sys/native.ts';
import { isDirectory } from '../sys/stat.ts';
import { AT_EMPTY_PATH, timesOf } from '../sys/statx.ts';
import { copyUp } from './copy-up.ts';
import { isCounted, leaveIndex, recordLinks } from './hard-links.ts';
import type { UpperNode } from './node.ts';
import { mayRemove } from './protection.ts';
import type { Upper } from './upper.ts';

/**
 * Removes the name of a node; an open file or directory stays usable.
 * @returns 0 or a negative errno, -ENOTEMPTY for a directory with names
 * Throws as copyUp does.
 */
export function remove(upper: Upper, parent: UpperNode, name: ByteString, node: UpperNode): number {
  if (!mayRemove(parent, node)) return -EPERM;
  const isFolder = isDirectory(node.top.mode);
  if (isFolder && !upper.overlay.isEmpty(node)) return -ENOTEMPTY;
  copyUp(upper, parent, 'attributes');
  countName(upper, node);
  const result = removeName(upper, parent, name, node, isFolder);
  if (result === 0) lostName(upper, node, parent, name);
  return result;
}

/**
 * Must be called before the name by which a node was found is taken away: if the index counts its names, the upper layer must have
 * them. Throws as copyUp does. Source: kernel ovl_nlink_start.
 */
export function countName(upper: Upper, node: UpperNode): void {
  if (!isCounted(upper, node)) return;
  copyUp(upper, node, 'attributes');
  recordLinks(upper, node);
}

/** Must be called when a node no longer has a name. */
export function lostName(upper: Upper, node: UpperNode, parent: UpperNode, name: ByteString): void {
  leaveIndex(upper, node);
  if (!isNamed(node, parent, name)) return;
  const { otherPlace: other } = node;
  const isLeft = other !== undefined && node.isUpper && upper.leadsTo(other, node);
  if (isLeft) upper.moved(node, other); // no descriptor has to be kept
  upper.nodes.settle(node, isLeft ? other : undefined);
}

const isNamed = ({ place }: UpperNode, parent: UpperNode, name: ByteString): boolean =>
  place?.parent === parent && place.name === name;

/** Keeps the object of a node usable that is about to lose a name, if it was found by that name. */
export function keepWithout(upper: Upper, node: UpperNode, parent: UpperNode, name: ByteString): void {
  if (node.indexed) return;
  if (node.isUpper && (node.place === undefined || isNamed(node, parent, name))) upper.layer.keep(node.top);
}

function removeName(upper: Upper, parent: UpperNode, name: ByteString, node: UpperNode, isFolder: boolean): number {
  const { work } = upper;
  if (!node.isUpper) return work.makeWhiteout(upper.directory(parent), name);
  keepWithout(upper, node, parent, name);
  const directory = upper.directory(parent);
  if (upper.hasBelow(parent, name)) return work.whiteOut(directory, name, isFolder);
  if (!isFolder) return native.unlinkat(directory, name, 0);
  const taken = work.take(directory, name); // it may hold whiteouts
  if (typeof taken === 'number') return taken;
  work.remove(taken);
  return 0;
}

/**
 * Replaces a directory that has no names by an empty one that hides what is below, so that another can be renamed over it.
 * @returns 0 or a negative errno. Source: kernel ovl_clear_empty.
 */
export function clearEmpty(upper: Upper, node: UpperNode, parent: UpperNode, name: ByteString): number {
  const { work, layer, overlay } = upper;
  const attr = overlay.attr(node);
  const empty = work.name();
  const made = native.mkdirat(work.fd, empty, upper.ownMode(0o700));
  if (made < 0) return made;
  const fd = openIn(work.fd, empty, O_PATH | O_DIRECTORY | O_NOFOLLOW, CONFINED);
  let result = fd < 0 ? fd : upper.describe(fd, attr);
  if (result === 0) result = copyXattrs(upper, node, fd);
  if (result === 0) result = setXattr(fd, overlay.rules.xattrs.opaque, Uint8Array.of(0x79), 0);
  if (result === 0) result = native.utimensat(fd, '', timesOf(attr), AT_EMPTY_PATH);
  if (result === 0) result = work.exchange(empty, upper.directory(parent), name);
  if (result === 0) becomeEmpty(upper, node, layer.named(parent.top, name, fd));
  if (fd >= 0) native.close(fd);
  work.remove(empty); // now the old directory, unless something failed
  return result;
}

/** Gives a directory the xattrs that users see on another one. Returns 0 or -errno. */
function copyXattrs({ layer, overlay }: Upper, { top }: UpperNode, fd: number): number {
  for (const name of layer.listxattr(top)) {
    const value = overlay.rules.xattrs.isPrivate(name) ? undefined : layer.getxattr(top, name);
    const result = value ? setXattr(fd, name, value, 0) : 0;
    if (result < 0) return result;
  }
  return 0;
}

/** Makes a directory's node the empty one that has its name now, and keeps it unless the rename succeeds. */
function becomeEmpty(upper: Upper, node: UpperNode, top: Inode): void {
  upper.layer.release(node.top);
  node.top = top;
  node.stack = [top];
  upper.nodes.copiedUp(node);
}
