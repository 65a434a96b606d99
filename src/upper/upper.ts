/** What all changes of a tree share: the stack, its upper layer, the work directory, and the rules of writing. */
import type { Inode } from '../layers/layer.ts';
import type { StoredStat } from '../layers/stored-stat.ts';
import type { UpperLayer } from '../layers/upper.ts';
import type { Overlay } from '../overlay/overlay.ts';
import { isWhiteout, opaqueness } from '../overlay/step.ts';
import { type ByteString, bufferOf, byteStringOf, printable } from '../sys/bytes.ts';
import { EINVAL, ENODATA, EOPNOTSUPP, EPERM, ErrnoError, EXDEV, errnoText } from '../sys/errno.ts';
import { changeMode, removeXattr } from '../sys/found.ts';
import { native } from '../sys/native.ts';
import { CAP_SYS_ADMIN, hasCapability } from '../sys/security/privileges.ts';
import { isDirectory, isRegular, isSymlink, S_IFMT } from '../sys/stat.ts';
import { AT_EMPTY_PATH } from '../sys/statx.ts';
import type { Place, UpperNode } from './node.ts';
import type { WorkDirectory } from './work.ts';

/** Who keeps nodes, and must know when they change. */
export interface NodeChanges {
  /** A node has become an object, or another one, of the upper layer. */
  copiedUp(node: UpperNode): void;
  /** Gives a node another name, or none. */
  settle(node: UpperNode, place: Place | undefined): void;
}

export interface UpperRules {
  /** Whether a change of attributes alone copies no data. */
  readonly metacopy: boolean;
  /** Whether directories of lower layers can be renamed. */
  readonly redirects: boolean;
  /** Whether nothing is synchronized with the disk. */
  readonly volatile: boolean;
  /** Whether an owner who cannot be stored is no error. */
  readonly ownersMayDiffer: boolean;
}

/** Attributes to change; absent ones stay. */
interface OwnerChange {
  readonly uid?: number | undefined;
  readonly gid?: number | undefined;
  readonly mode?: number | undefined;
}

/** uid or gid that stays. */
const KEEP = -1;
const PERMISSIONS = 0o7777;
const S_ISUID = 0o4000;
const S_ISGID = 0o2000;
const S_IXGRP = 0o10;

/**
 * A mode without set-user-ID and set-group-ID. Without group execution, the latter means something else to members of the group.
 * @param isStranger whether who changes the file is none
 */
export const withoutPrivileges = (mode: number, isStranger = false): number =>
  mode & ~(S_ISUID | ((mode & S_IXGRP) !== 0 || isStranger ? S_ISGID : 0));

/** The longest absolute redirect. Source: kernel, module parameter redirect_max. */
const REDIRECT_BYTES_MAX = 256;

export class Upper {
  readonly overlay: Overlay;
  readonly layer: UpperLayer;
  readonly work: WorkDirectory;
  readonly rules: UpperRules;
  /** Follows the changes of nodes. */
  readonly nodes: NodeChanges;
  /** The owner of what this process makes. */
  readonly uid: number = process.geteuid?.() ?? 0;
  readonly gid: number = process.getegid?.() ?? 0;
  /** Whether this process may read and write trusted.* xattrs. */
  readonly isPrivileged: boolean = hasCapability(CAP_SYS_ADMIN);

  constructor(overlay: Overlay, layer: UpperLayer, work: WorkDirectory, rules: UpperRules, nodes: NodeChanges) {
    this.overlay = overlay;
    this.layer = layer;
    this.work = work;
    this.rules = rules;
    this.nodes = nodes;
  }

  /** A descriptor of an object in the upper layer, which must be used at once. */
  descriptor({ top, openFd }: UpperNode): number {
    return openFd >= 0 ? openFd : this.layer.descriptor(top);
  }

  /** A descriptor of a directory in the upper layer, which must be used at once. */
  directory(node: UpperNode): number {
    return this.layer.directory(node.top);
  }

  /** Gives an open object an owner. Returns 0 or -errno. */
  giveTo(fd: number, uid: number, gid: number): number {
    const given = native.fchownat(fd, '', uid, gid, AT_EMPTY_PATH);
    const isRefused = given === -EPERM || given === -EINVAL; // EINVAL: the user namespace has no such id
    return isRefused && this.rules.ownersMayDiffer ? 0 : given;
  }

  /**
   * Gives an object that nobody sees yet its owner and mode, and an empty file that stands for a device its type.
   * @param needsMode false if the object was made with its mode
   * @returns 0 or -errno
   */
  describe(fd: number, stat: StoredStat, needsMode = true): number {
    const { uid, gid, mode } = stat;
    if (this.layer.storesStats) return this.layer.storeStat(fd, stat);
    const given = uid === this.uid && gid === this.gid ? 0 : this.giveTo(fd, uid, gid);
    return given === 0 && needsMode && !isSymlink(mode) ? changeMode(fd, mode & PERMISSIONS) : given;
  }

  /** Changes the owner or the mode of a node. Returns 0 or -errno. */
  changeStat(node: UpperNode, { uid, gid, mode }: OwnerChange): number {
    if (this.layer.storesStats) return this.changeStored(node, { uid, gid, mode });
    const fd = this.descriptor(node);
    const given = (uid ?? gid) === undefined ? 0 : this.giveTo(fd, uid ?? KEEP, gid ?? KEEP);
    if (given < 0 || mode === undefined) return given;
    return isSymlink(node.top.mode) ? -EOPNOTSUPP : changeMode(fd, mode & PERMISSIONS);
  }

  /** The kernel takes set-user-ID and set-group-ID of an inode away that gets another owner. Source: setattr_should_drop_suidgid. */
  private changeStored(node: UpperNode, { uid, gid, mode }: OwnerChange): number {
    const before = this.overlay.attr(node);
    const isGiven = (uid ?? gid) !== undefined && !isDirectory(before.mode);
    const kept = isGiven ? withoutPrivileges(before.mode) : before.mode;
    const bits = mode === undefined ? kept : (before.mode & S_IFMT) | (mode & PERMISSIONS);
    const stat = { uid: uid ?? before.uid, gid: gid ?? before.gid, mode: bits, rdev: before.rdev };
    const stored = this.layer.storeStat(this.descriptor(node), stat);
    if (stored === 0 && !isSymlink(bits)) this.layer.showStat(node.top, stat);
    return stored;
  }

  /** Permission bits of the inode of an object that is made with others: this process must be able to read and write it. */
  ownMode(mode: number): number {
    return this.layer.storesStats ? (mode & 0o777) | 0o755 : mode & 0o777;
  }

  /** Whether an object of a type is an empty file that stands for it. */
  standsFor(mode: number): boolean {
    return this.layer.storesStats && !isRegular(mode) && !isDirectory(mode) && !isSymlink(mode);
  }

  /** Sets an xattr of the overlay on an object of the upper layer. Returns 0 or -errno. */
  mark(node: UpperNode, name: ByteString, value: ByteString): number {
    return this.layer.setXattr(node.top, node.openFd, name, bufferOf(value));
  }

  unmark(node: UpperNode, name: ByteString): number {
    const removed = removeXattr(this.descriptor(node), name);
    return removed === -ENODATA ? 0 : removed;
  }

  /** Marks a directory of the upper layer as one that holds copies of lower objects. Source: kernel ovl_set_impure. */
  markImpure(node: UpperNode): void {
    const { impure } = this.overlay.rules.xattrs;
    if (node.isImpure || this.layer.xattrBytes(node.top, impure) >= 0) node.isImpure = true;
    else node.isImpure = this.mark(node, impure, 'y') === 0;
  }

  isOpaque({ top }: UpperNode): boolean {
    return opaqueness(this.overlay.rules.xattrs, top) === 'y';
  }

  isWhiteout(inode: Inode): boolean {
    return isWhiteout(this.overlay.rules.xattrs, inode);
  }

  /**
   * Whether a layer below has something under a name, so that only a whiteout hides it. What cannot be examined counts.
   * Source: kernel ovl_lower_positive.
   */
  hasBelow(parent: UpperNode, name: ByteString): boolean {
    try {
      return this.lowerAt({ parent, name }) !== undefined;
    } catch (error) {
      if (error instanceof ErrnoError) return true;
      throw error;
    }
  }

  /** The object that the layers below have under a name. */
  lowerAt({ parent, name }: Place): Inode | undefined {
    for (const directory of parent.stack) {
      const found = directory.layer.isUpper ? undefined : directory.layer.lookup(directory, name);
      if (found !== undefined) return this.isWhiteout(found) ? undefined : found;
    }
    return undefined;
  }

  /** The object that the upper directory itself has under a name, which may be a whiteout. */
  objectAt({ parent, name }: Place): Inode | undefined {
    return parent.isUpper ? this.layer.objectAt(parent.top, name) : undefined;
  }

  /** Whether a whiteout hides a name in the upper directory. */
  hasWhiteout(parent: UpperNode, name: ByteString): boolean {
    if (!parent.isUpper || parent.stack.length === 1) return false;
    const found = this.layer.lookup(parent.top, name);
    return found !== undefined && this.isWhiteout(found);
  }

  /** Whether the upper directory has an object under a name that is a whiteout. */
  hasWhiteoutObject(parent: UpperNode, name: ByteString): boolean {
    const found = this.objectAt({ parent, name });
    return found !== undefined && this.isWhiteout(found);
  }

  /** Must be called when a node has another name. A file in the index is found there, whatever its names are. */
  moved({ top, indexed }: UpperNode, { parent, name }: Place): void {
    if (indexed === undefined) this.layer.moved(top, parent.top, name);
  }

  /** Whether a name in the upper layer leads to a node there. */
  leadsTo(place: Place, { top }: UpperNode): boolean {
    try {
      return this.objectAt(place)?.ino === top.ino;
    } catch (error) {
      if (error instanceof ErrnoError) return false; // the directory is gone
      throw error;
    }
  }

  /**
   * Records on an object of the upper layer where its lower objects are, before it gets another name.
   * @param isSameDirectory whether the new name is in the same directory
   * @returns 0 or -errno, -EXDEV if that cannot be recorded
   * Source: kernel ovl_set_redirect.
   */
  markRedirect(node: UpperNode, isSameDirectory: boolean, isLinked: boolean): number {
    const { redirect } = this.overlay.rules.xattrs;
    const known = this.redirectOf(node);
    if (known !== undefined && (isSameDirectory || known.startsWith('/'))) return 0;
    const value = isSameDirectory && !isLinked ? node.place?.name : this.pathBelow(node);
    if (value === undefined || value.length > REDIRECT_BYTES_MAX) return -EXDEV;
    const marked = this.mark(node, redirect, value);
    return marked < 0 ? -EXDEV : 0;
  }

  private redirectOf({ top }: UpperNode): ByteString | undefined {
    const value = this.layer.getxattr(top, this.overlay.rules.xattrs.redirect);
    return value === undefined ? undefined : byteStringOf(value);
  }

  /** The path of a node in the layers below, from their root. Source: kernel ovl_get_redirect. */
  private pathBelow(node: UpperNode): ByteString | undefined {
    let path = '';
    for (let at = node; at.place !== undefined; at = at.place.parent) {
      const name = (at.isUpper ? this.redirectOf(at) : undefined) ?? at.place.name;
      if (name.startsWith('/')) return name + path;
      path = `/${name}${path}`;
    }
    return path === '' ? undefined : path;
  }

  /** Synchronizes an open file or directory with the disk, unless nothing is. Returns 0 or -errno. */
  sync(fd: number, dataOnly: boolean): number {
    if (this.rules.volatile) return 0;
    return dataOnly ? native.fdatasync(fd) : native.fsync(fd);
  }

  /** An error of the upper layer, which names the node. */
  failure(result: number, node: UpperNode, what: string): ErrnoError {
    return new ErrnoError(-result, `${what} ${printable(pathOf(node))}: ${errnoText(result)}`);
  }
}

/** The path of a node in the mount, for messages. */
export function pathOf(node: UpperNode): ByteString {
  let path = '';
  for (let at = node; at.place !== undefined; at = at.place.parent) path = `/${at.place.name}${path}`;
  return path || '/';
}
