/** Renames objects. Source: kernel fs/overlayfs/dir.c, ovl_rename. */
import { EEXIST, EINVAL, ENOENT, ENOTEMPTY, EPERM, EXDEV } from '../sys/errno.ts';
import { native } from '../sys/native.ts';
import { isDirectory } from '../sys/stat.ts';
import { copyUp } from './copy-up.ts';
import type { Place, UpperNode } from './node.ts';
import { mayAdd, mayRemove } from './protection.ts';
import { clearEmpty, countName, keepWithout, lostName } from './remove.ts';
import type { Upper } from './upper.ts';

// linux/fs.h
const RENAME_NOREPLACE = 1;
const RENAME_EXCHANGE = 2;
const RENAME_WHITEOUT = 4;

/** A name and what it leads to; undefined if it leads to nothing. */
export interface End extends Place {
  readonly node: UpperNode | undefined;
}

/**
 * Gives a node another name. The types of both ends go together, and no directory becomes part of itself: the kernel checks that.
 * @param flags RENAME_NOREPLACE, RENAME_EXCHANGE or 0
 * @returns 0 or a negative errno: -EXDEV for a directory of a lower layer if redirects are off
 * Throws as copyUp does.
 */
export function rename(upper: Upper, from: End, to: End, flags: number): number {
  const { node } = from;
  const refused = refusal(upper, from, to, flags);
  if (node === undefined || refused !== 0) return refused || -ENOENT;
  const isExchange = flags === RENAME_EXCHANGE;
  if (!isExchange && isFull(upper, to.node)) return -ENOTEMPTY;
  copyUp(upper, node, 'attributes');
  copyUp(upper, to.parent, 'attributes');
  if (to.node) isExchange ? copyUp(upper, to.node, 'attributes') : countName(upper, to.node);
  const isHidden = to.node === undefined && upper.hasWhiteoutObject(to.parent, to.name);
  const marked = mark(upper, node, from, to) || (isExchange && to.node ? mark(upper, to.node, to, from) : 0);
  if (marked < 0) return marked;
  const cleared = isExchange ? 0 : clearTarget(upper, to);
  if (cleared < 0) return cleared;
  const result = isExchange
    ? native.renameat2(upper.directory(from.parent), from.name, upper.directory(to.parent), to.name, RENAME_EXCHANGE)
    : move(upper, from, to, isHidden);
  if (result === 0) settle(upper, from, to, isExchange);
  return result;
}

function refusal(upper: Upper, from: End, to: End, flags: number): number {
  if (flags !== 0 && flags !== RENAME_NOREPLACE && flags !== RENAME_EXCHANGE) return -EINVAL;
  const isAllowed =
    (from.node === undefined || mayRemove(from.parent, from.node)) &&
    (to.node ? mayRemove(to.parent, to.node) : mayAdd(to.parent));
  if (!isAllowed) return -EPERM;
  if (flags === RENAME_NOREPLACE && to.node) return -EEXIST;
  if (flags === RENAME_EXCHANGE && !to.node) return -ENOENT;
  const moved = flags === RENAME_EXCHANGE ? [from.node, to.node] : [from.node];
  if (!upper.rules.redirects && moved.some(node => node && isDirectory(node.top.mode) && hasDirectoryBelow(node)))
    return -EXDEV;
  return 0;
}

const hasDirectoryBelow = ({ isUpper, stack }: UpperNode): boolean => !isUpper || stack.length > 1;

const isFull = (upper: Upper, node: UpperNode | undefined): boolean =>
  node !== undefined && isDirectory(node.top.mode) && !upper.overlay.isEmpty(node);

/** Makes the empty directory that is replaced one that has nothing in it, not even whiteouts. */
function clearTarget(upper: Upper, { node, parent, name }: End): number {
  return node?.isUpper && isDirectory(node.top.mode) ? clearEmpty(upper, node, parent, name) : 0;
}

/** Records what is needed to find what is below the node when it has its new name. Returns 0 or -errno. */
function mark(upper: Upper, node: UpperNode, from: Place, to: Place): number {
  const isSame = from.parent === to.parent;
  const { opaque, origin } = upper.overlay.rules.xattrs;
  if (!isSame && upper.layer.xattrBytes(node.top, origin) >= 0) upper.markImpure(to.parent);
  if (!isDirectory(node.top.mode)) {
    if (node.data === undefined) return 0;
    const isLinked = typeof node.data === 'object' && upper.overlay.attrOf(node.data).nlink > 1;
    return upper.markRedirect(node, isSame, isLinked || node.indexed !== undefined);
  }
  if (node.stack.length > 1) return upper.markRedirect(node, isSame, false);
  if (to.parent.stack.length === 1 || upper.isOpaque(node)) return 0;
  return upper.mark(node, opaque, 'y') < 0 ? -EXDEV : 0;
}

/** Renames, and leaves a whiteout where something is below. Each case is one system call, so it happens or not. */
function move(upper: Upper, from: End, to: End, isHidden: boolean): number {
  const isFolder = from.node !== undefined && isDirectory(from.node.top.mode);
  const isBelow = upper.hasBelow(from.parent, from.name);
  if (to.node) keepWithout(upper, to.node, to.parent, to.name);
  const swaps = isHidden && (isBelow || isFolder); // the whiteout goes where the object was
  const flags = swaps ? RENAME_EXCHANGE : isBelow ? RENAME_WHITEOUT : 0;
  const [source, target] = [upper.directory(from.parent), upper.directory(to.parent)];
  const result = native.renameat2(source, from.name, target, to.name, flags);
  if (result === 0 && swaps && !isBelow) native.unlinkat(source, from.name, 0);
  return result;
}

function settle(upper: Upper, from: End, to: End, isExchange: boolean): void {
  const { node } = from;
  if (node === undefined) return;
  if (to.node) lostName(upper, to.node, to.parent, to.name);
  upper.moved(node, to);
  upper.nodes.settle(node, { parent: to.parent, name: to.name });
  if (!isExchange || !to.node) return;
  upper.moved(to.node, from);
  upper.nodes.settle(to.node, { parent: from.parent, name: from.name });
}
