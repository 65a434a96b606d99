/**
 * Makes new objects. One whose owner is this process, and whose name nothing has, is made in its place by one system call. Any
 * other is made in the work directory, where nobody sees it before it is complete.
 * Source: kernel fs/overlayfs/dir.c, ovl_create_upper and ovl_create_over_whiteout.
 */
import { CONFINED, O_NOFOLLOW, O_PATH, openIn } from '../sys/beneath.ts';
import type { ByteString } from '../sys/bytes.ts';
import { EEXIST, EPERM } from '../sys/errno.ts';
import { link, setXattr } from '../sys/found.ts';
import { native } from '../sys/native.ts';
import { isDirectory, isRegular, isSymlink, rdevMajor, rdevMinor } from '../sys/stat.ts';
import { type Acls, inheritedAcls } from './acl.ts';
import { copyUp } from './copy-up.ts';
import { recordLinks } from './hard-links.ts';
import { UpperNode } from './node.ts';
import { mayAdd } from './protection.ts';
import type { Upper } from './upper.ts';

/** A new object as its maker wants it. */
export interface NewObject {
  /** Type and permission bits, before the umask. */
  readonly mode: number;
  readonly umask: number;
  /** Device number, as `makeRdev` packs it. */
  readonly rdev: number;
  /** The target of a symlink. */
  readonly target: ByteString;
  readonly uid: number;
  readonly gid: number;
}

/** A new node, and for a regular file a descriptor for reading and writing, otherwise -1. */
export interface Created {
  readonly node: UpperNode;
  readonly fd: number;
}

const ACCESS: ByteString = 'system.posix_acl_access';
const DEFAULT: ByteString = 'system.posix_acl_default';
// linux/fcntl.h
const O_CREAT = 0o100;
const O_EXCL = 0o200;
const O_RDWR = 2;
const O_TMPFILE = 0o20200000;
const S_ISGID = 0o2000;

/**
 * Makes an object under a name that lookup does not find.
 * @returns the object, or a negative errno, -EEXIST for a name that the upper directory has
 * Throws as copyUp does.
 */
export function create(upper: Upper, parent: UpperNode, name: ByteString, wanted: NewObject): Created | number {
  if (!mayAdd(parent)) return -EPERM;
  copyUp(upper, parent, 'attributes');
  const isHidden = isDirectory(wanted.mode) && upper.hasWhiteout(parent, name);
  const made = new Creation(upper, parent, wanted, isHidden);
  const fd = made.isOwn ? made.inPlace(name) : -EEXIST;
  if (fd !== -EEXIST) return fd < 0 ? fd : made.finish(name, fd);
  const built = made.inWork(name, upper.hasWhiteoutObject(parent, name));
  return built < 0 ? built : made.finish(name, built);
}

/** Makes a regular file without a name, which can be linked later. @returns as `create` */
export function createUnnamed(upper: Upper, parent: UpperNode, wanted: NewObject): Created | number {
  if (!mayAdd(parent)) return -EPERM;
  copyUp(upper, parent, 'attributes');
  return new Creation(upper, parent, wanted, false).unnamed();
}

/** Gives a file another name. @returns 0 or a negative errno. Source: kernel ovl_link. */
export function linkTo(upper: Upper, node: UpperNode, parent: UpperNode, name: ByteString): number {
  if (node.protection !== 0 || !mayAdd(parent)) return -EPERM;
  copyUp(upper, node, 'attributes');
  copyUp(upper, parent, 'attributes');
  if (node.data !== undefined) {
    const marked = upper.markRedirect(node, false, true);
    if (marked < 0 && node.indexed === undefined) return marked;
    if (marked < 0) copyUp(upper, node, 'data'); // the name by which it was found is gone, others are left
  }
  recordLinks(upper, node);
  const { origin } = upper.overlay.rules.xattrs;
  if (upper.layer.xattrBytes(node.top, origin) >= 0) upper.markImpure(parent);
  const directory = upper.directory(parent); // first: it would take the place of the other descriptor
  const linked = link(upper.descriptor(node), directory, name);
  if (linked !== -EEXIST || !upper.hasWhiteoutObject(parent, name)) return linked;
  const { work } = upper;
  const hidden = work.name();
  const made = link(upper.descriptor(node), work.fd, hidden);
  if (made < 0) return made;
  const placed = work.replace(hidden, upper.directory(parent), name);
  if (placed < 0) work.remove(hidden);
  return placed;
}

class Creation {
  private readonly upper: Upper;
  private readonly parent: UpperNode;
  private readonly wanted: NewObject;
  private readonly gid: number;
  private readonly mode: number;
  private readonly acls: Acls;
  private readonly isHidden: boolean;

  /** @param isHidden whether a whiteout hides what is below */
  constructor(upper: Upper, parent: UpperNode, wanted: NewObject, isHidden: boolean) {
    this.isHidden = isHidden;
    this.upper = upper;
    this.parent = parent;
    this.wanted = wanted;
    const above = upper.overlay.attr(parent);
    const inheritsGroup = (above.mode & S_ISGID) !== 0;
    this.gid = inheritsGroup ? above.gid : wanted.gid;
    const mode = wanted.mode | (inheritsGroup && isDirectory(wanted.mode) ? S_ISGID : 0);
    const defaults = isSymlink(mode) ? undefined : upper.layer.getxattr(parent.top, DEFAULT);
    this.acls = inheritedAcls(defaults, mode, wanted.umask);
    this.mode = this.acls.mode;
  }

  /** Whether the object belongs to this process, and has no more than a mode. */
  get isOwn(): boolean {
    const { wanted, gid, acls, upper } = this;
    if (upper.layer.storesStats) return false;
    return wanted.uid === upper.uid && gid === upper.gid && acls.access === undefined && !this.isMarked;
  }

  /**
   * Whether the object is a directory that says itself that nothing is below. It spares later lookups; the layers of a mount that has
   * neither redirects, metacopies nor an index may be changed while it is not mounted. Source: kernel ovl_allow_offline_changes.
   */
  private get isMarked(): boolean {
    const { rules, overlay } = this.upper;
    const isBoundToLayers = rules.metacopy || rules.redirects || overlay.index !== undefined;
    return isDirectory(this.wanted.mode) && this.parent.stack.length > 1 && (isBoundToLayers || this.isHidden);
  }

  /** @returns a descriptor of the object, or a negative errno */
  inPlace(name: ByteString): number {
    return this.make(this.upper.directory(this.parent), name);
  }

  private make(directory: number, name: ByteString): number {
    const { mode, wanted, upper } = this;
    const { rdev } = wanted;
    const own = upper.layer.storesStats ? upper.ownMode(mode) : mode & 0o7777;
    if (isRegular(mode) || upper.standsFor(mode))
      return native.openat(directory, name, O_CREAT | O_EXCL | O_RDWR | O_NOFOLLOW, own);
    const made = isDirectory(mode)
      ? native.mkdirat(directory, name, own)
      : isSymlink(mode)
        ? native.symlinkat(wanted.target, directory, name)
        : native.mknodat(directory, name, mode, rdevMajor(rdev), rdevMinor(rdev));
    return made < 0 ? made : openIn(directory, name, O_PATH | O_NOFOLLOW, CONFINED);
  }

  /**
   * Makes the object out of sight, and then gives it its name.
   * @param replaces whether a whiteout has the name
   * @returns a descriptor of the object, or a negative errno
   */
  inWork(name: ByteString, replaces: boolean): number {
    const { upper, mode } = this;
    const { work } = upper;
    const hidden = work.name();
    const fd = this.make(work.fd, hidden);
    if (fd < 0) return fd;
    const result = this.describe(fd, replaces) || this.reveal(hidden, name, replaces);
    if (result === 0) {
      if (replaces && isDirectory(mode)) work.remove(hidden);
      return fd;
    }
    native.close(fd);
    work.remove(hidden);
    return result;
  }

  private reveal(hidden: ByteString, name: ByteString, replaces: boolean): number {
    const { work } = this.upper;
    const directory = this.upper.directory(this.parent);
    if (!replaces) return work.place(hidden, directory, name);
    return isDirectory(this.mode) ? work.exchange(hidden, directory, name) : work.replace(hidden, directory, name);
  }

  /** Gives the object its owner, mode and ACLs. Returns 0 or -errno. */
  private describe(fd: number, replaces: boolean): number {
    const { upper, wanted, gid, mode, acls } = this;
    const { opaque } = upper.overlay.rules.xattrs;
    let result = upper.describe(fd, { uid: wanted.uid, gid, mode, rdev: wanted.rdev });
    if (result === 0 && acls.access) result = setXattr(fd, ACCESS, acls.access, 0);
    if (result === 0 && acls.defaults) result = setXattr(fd, DEFAULT, acls.defaults, 0);
    return result === 0 && (this.isMarked || (replaces && isDirectory(mode))) ? setXattr(fd, opaque, YES, 0) : result;
  }

  /** @param fd of an object that has its name */
  finish(name: ByteString, fd: number): Created | number {
    const { upper, parent } = this;
    const top = upper.layer.named(parent.top, name, fd);
    const node = new UpperNode(upper.overlay.nodeOf(top), { parent, name });
    if (isRegular(this.mode)) return { node, fd };
    native.close(fd);
    return { node, fd: -1 };
  }

  unnamed(): Created | number {
    const { upper, parent } = this;
    const fd = native.openat(upper.directory(parent), '.', O_TMPFILE | O_RDWR, upper.ownMode(this.mode));
    if (fd < 0) return fd;
    const result = this.describe(fd, false);
    if (result < 0) {
      native.close(fd);
      return result;
    }
    return { node: new UpperNode(upper.overlay.nodeOf(upper.layer.unnamed(parent.top, fd)), undefined), fd };
  }
}

const YES = Uint8Array.of(0x79);
