/**
 * Copies objects of lower layers into the upper one before they are changed. An object is made in the work directory, complete,
 * and then gets its name, so that a crash leaves either the lower object or the copy.
 * Source: kernel fs/overlayfs/copy_up.c.
 */
import { FileData } from '../layers/file-data.ts';
import type { Inode } from '../layers/layer.ts';
import { isOverridden } from '../layers/stored-stat.ts';
import type { LinkIndex } from '../overlay/hard-links/link-index.ts';
import { hasDigest } from '../overlay/metacopy.ts';
import type { IndexEntry } from '../overlay/node.ts';
import { formatOrigin } from '../overlay/origin.ts';
import { CONFINED, O_NOFOLLOW, O_PATH, openIn } from '../sys/beneath.ts';
import { type ByteString, bufferOf, printable } from '../sys/bytes.ts';
import { EIO, EOPNOTSUPP, EPERM, ErrnoError, ESTALE } from '../sys/errno.ts';
import { setXattr } from '../sys/found.ts';
import { native } from '../sys/native.ts';
import { type Attr, isDirectory, isRegular, isSymlink, rdevMajor, rdevMinor } from '../sys/stat.ts';
import { AT_EMPTY_PATH, timesOf } from '../sys/statx.ts';
import { copyData } from './copy-data.ts';
import { isCounted, linkUp, lowerLink } from './hard-links.ts';
import type { UpperNode } from './node.ts';
import { protattrOf } from './protection.ts';
import { ownsData, TakenData } from './taken-data.ts';
import type { Upper } from './upper.ts';

/**
 * What the caller will change. attributes: the data may stay where it is; data: the file must have its own bytes; nothing: all
 * bytes will be dropped.
 */
export type Wants = 'attributes' | 'data' | 'nothing';

const NO_BYTES = new Uint8Array(0);

/** A file in the work directory with all data of a node, synchronized and checked, and a descriptor of it for writing. */
export interface CopiedData {
  readonly name: ByteString;
  readonly fd: number;
}

/**
 * Makes a node an object of the upper layer, and the directories above it first.
 * @param copied its data, if that was copied before; it is taken over, also if that fails
 * Throws ErrnoError that names the node; nothing has changed then, but for directories above it.
 */
export function copyUp(upper: Upper, node: UpperNode, wants: Wants, copied?: CopiedData): void {
  const { place } = node;
  const isCopied = node.isUpper;
  if (!isCopied) {
    if (place === undefined) throw new ErrnoError(ESTALE, 'an object of a lower layer without a name');
    copyUp(upper, place.parent, 'attributes');
    new CopyUp(upper, node, copied).run(place.parent, place.name, wants);
  }
  const missing = lowerLink(upper, node);
  if (missing) {
    copyUp(upper, missing.place.parent, 'attributes');
    linkUp(upper, node, missing);
  }
  if (isCopied && wants !== 'attributes' && node.data !== undefined) takeData(upper, node, wants);
}

/** Gives a metacopy file of the upper layer its own data. */
function takeData(upper: Upper, node: UpperNode, wants: Wants): void {
  const taken = new TakenData(upper, node);
  const fd = upper.layer.openFile(node.top);
  if (fd < 0) throw upper.failure(fd, node, 'copy-up of');
  try {
    if (wants === 'data') copyVerified(upper, node, fd);
    else cutEmpty(upper, node, fd); // first: without its mark, the file would show zeros
    if (wants === 'data') taken.done();
    else ownsData(upper, node);
  } catch (error) {
    taken.failed(fd);
    throw error;
  } finally {
    native.close(fd);
  }
}

function cutEmpty(upper: Upper, node: UpperNode, fd: number): void {
  const cut = native.ftruncate(fd, 0);
  if (cut < 0) throw upper.failure(cut, node, 'copy-up of');
}

/** Copies the data of a node, and checks the copy, which nobody else can change, by the node's digest. */
function copyVerified(upper: Upper, node: UpperNode, to: number): void {
  const { overlay } = upper;
  const data = overlay.find(node);
  if (typeof data === 'number') throw upper.failure(-EIO, node, 'no data for the copy-up of');
  try {
    copyData(data, to, node.top.sizeBytes);
    const duplicate = native.duplicate(to, 0);
    if (duplicate < 0) throw upper.failure(duplicate, node, 'copy-up of');
    const copy = new FileData(duplicate, data.place, '(copied)');
    try {
      const check = overlay.checkCopy(node, copy, data);
      if (check && !check.known(false)) check.measure(false);
    } finally {
      copy.close();
    }
    const synced = upper.sync(to, false);
    if (synced < 0) throw upper.failure(synced, node, 'copy-up of');
  } finally {
    data.close();
  }
}

/** Whether a copy of a regular file has only its attributes. Source: kernel ovl_need_meta_copy_up. */
export function leavesDataBelow(upper: Upper, node: UpperNode): boolean {
  if (!upper.rules.metacopy || !isRegular(node.top.mode)) return false;
  return upper.overlay.options.verity !== 'require' || hasDigest(metacopyOf(upper, node));
}

/** The xattr metacopy of a file, which may hold a digest. */
function metacopyOf({ overlay }: Upper, { top, data }: UpperNode): Uint8Array | undefined {
  return data === undefined ? undefined : top.layer.getxattr(top, overlay.rules.xattrs.metacopy);
}

/** One copy-up of one object. */
class CopyUp {
  private readonly upper: Upper;
  private readonly node: UpperNode;
  private readonly lower: Inode;
  private readonly attr: Attr;
  private readonly name: ByteString;
  private readonly copied: CopiedData | undefined;
  /** The place of the copy in the index; undefined if it does not go there. */
  private entry: IndexEntry | undefined;

  constructor(upper: Upper, node: UpperNode, copied: CopiedData | undefined) {
    this.upper = upper;
    this.node = node;
    this.lower = node.top;
    this.attr = upper.overlay.attr(node);
    this.name = copied?.name ?? upper.work.name();
    this.copied = copied;
  }

  private entryInIndex(): IndexEntry | undefined {
    const { upper, node, lower, attr } = this;
    if (!isCounted(upper, node)) return undefined;
    const name = upper.overlay.index?.nameOf(lower);
    if (name === undefined) throw upper.failure(-EOPNOTSUPP, node, 'file handle of');
    return { name, otherLinks: attr.nlink - 1 };
  }

  run(parent: UpperNode, name: ByteString, wants: Wants): void {
    const { upper, node } = this;
    const isMetacopy = wants === 'attributes' && this.copied === undefined && leavesDataBelow(upper, node);
    const fd = this.make(isMetacopy, wants);
    try {
      this.entry = this.entryInIndex();
      this.describe(fd, isMetacopy);
      this.settle(this.entry ? this.placeInIndex(this.entry, fd) : this.place(parent, name, fd), isMetacopy);
    } catch (error) {
      native.close(fd);
      upper.work.remove(this.name);
      throw error;
    }
    upper.layer.hold(node.top, fd); // it will be changed next
    upper.nodes.copiedUp(node);
  }

  private place(parent: UpperNode, name: ByteString, fd: number): Inode {
    const { upper } = this;
    upper.markImpure(parent);
    const before = timesOf(upper.overlay.attr(parent));
    this.must(upper.work.place(this.name, upper.directory(parent), name));
    native.utimensat(upper.directory(parent), '', before, AT_EMPTY_PATH); // nothing changed in sight
    return upper.layer.named(parent.top, name, fd);
  }

  /** From now on all names of the file lead to the copy. */
  private placeInIndex({ name }: IndexEntry, fd: number): Inode {
    const { layer, overlay, work } = this.upper;
    const { directory } = overlay.index as LinkIndex;
    this.must(work.place(this.name, layer.directory(directory), name));
    return layer.named(directory, name, fd);
  }

  /** Makes the object in the work directory. Returns a descriptor of it, for a regular file one for writing. */
  private make(isMetacopy: boolean, wants: Wants): number {
    const { upper, attr, name, node } = this;
    const { work } = upper;
    if (isRegular(attr.mode)) return this.makeFile(isMetacopy, wants);
    if (upper.standsFor(attr.mode)) return this.must(work.makeFile(name, upper.ownMode(0)));
    if (isDirectory(attr.mode)) this.must(native.mkdirat(work.fd, name, upper.ownMode(attr.mode)));
    else if (isSymlink(attr.mode)) this.must(native.symlinkat(upper.overlay.readlink(node), work.fd, name));
    else this.must(native.mknodat(work.fd, name, attr.mode & ~0o7777, rdevMajor(attr.rdev), rdevMinor(attr.rdev)));
    const fd = openIn(work.fd, name, O_PATH | O_NOFOLLOW, CONFINED);
    if (fd < 0) work.remove(name);
    return this.must(fd);
  }

  private makeFile(isMetacopy: boolean, wants: Wants): number {
    const { upper, attr, name, node, copied } = this;
    if (copied) return copied.fd;
    const fd = this.must(upper.work.makeFile(name, upper.ownMode(attr.mode)));
    try {
      if (isMetacopy) this.must(native.ftruncate(fd, attr.size));
      else if (wants !== 'nothing') copyVerified(upper, node, fd);
      return fd;
    } catch (error) {
      native.close(fd);
      upper.work.remove(name);
      throw error;
    }
  }

  /** Gives the object the attributes of the lower one: its owner first, because that drops capabilities and mode bits. */
  private describe(fd: number, isMetacopy: boolean): void {
    const { attr, upper, entry } = this;
    const { xattrs } = upper.overlay.rules;
    this.must(upper.describe(fd, attr, this.needsMode));
    this.copyXattrs(fd);
    if (attr.nlink === 1 || isDirectory(attr.mode) || entry) this.set(fd, xattrs.origin, this.originOfLower());
    if (entry) this.must(setXattr(fd, xattrs.nlink, bufferOf(`U+${entry.otherLinks}`), 0));
    if (this.node.protection !== 0) this.set(fd, xattrs.protattr, protattrOf(this.node.protection));
    if (isMetacopy) this.must(setXattr(fd, xattrs.metacopy, metacopyOf(upper, this.node) ?? NO_BYTES, 0));
    this.must(native.utimensat(fd, '', timesOf(attr), AT_EMPTY_PATH));
  }

  /** Whether the object was not made with its mode: with set-user-ID, say, or as a device. */
  private get needsMode(): boolean {
    const { mode } = this.attr;
    return !isSymlink(mode) && ((mode & 0o7000) !== 0 || !(isRegular(mode) || isDirectory(mode)));
  }

  private copyXattrs(fd: number): void {
    const { lower, upper } = this;
    const { xattrs } = upper.overlay.rules;
    for (const name of lower.layer.listxattr(lower)) {
      if (xattrs.isPrivate(name) || (name.startsWith('trusted.') && !upper.isPrivileged)) continue;
      if (upper.layer.storesStats && isOverridden(name)) continue;
      const value = lower.layer.getxattr(lower, name);
      if (value !== undefined) this.set(fd, name, value);
    }
  }

  /** Sets an xattr. A filesystem may lack those that no access depends on. Source: kernel ovl_copy_xattr. */
  private set(fd: number, name: ByteString, value: Uint8Array): void {
    const result = setXattr(fd, name, value, 0);
    if (result === 0) return;
    const mustHave = name.startsWith('security.') || name.startsWith('system.posix_acl_');
    if (result === -EOPNOTSUPP && !mustHave) return;
    if (result === -EPERM && !mustHave && !isRegular(this.attr.mode) && !isDirectory(this.attr.mode)) return; // user.* there
    throw this.upper.failure(result, this.node, `copy-up, xattr ${printable(name)} of`);
  }

  /** The value of the xattr origin; without bytes if the lower filesystem has no file handles. */
  private originOfLower(): Uint8Array {
    const { lower } = this;
    const origin = lower.layer.originOf?.(lower);
    return origin === undefined ? NO_BYTES : formatOrigin(origin);
  }

  /** Makes the node the copy that has its name now. */
  private settle(copy: Inode, isMetacopy: boolean): void {
    const { node, lower } = this;
    node.top = copy;
    if (isDirectory(this.attr.mode)) {
      node.stack = [copy, ...node.stack];
      node.isImpure = false;
      return;
    }
    node.stack = [copy];
    node.indexed = this.entry;
    if (this.attr.nlink > 1 && !this.entry) node.ino = this.upper.overlay.nodeOf(copy).ino; // it is no longer the file of the other names
    if (isMetacopy) node.data ??= lower;
    else node.data = undefined;
    if (!isMetacopy) node.origin = undefined;
  }

  private must(result: number): number {
    if (result < 0) throw this.upper.failure(result, this.node, 'copy-up of');
    return result;
  }
}
