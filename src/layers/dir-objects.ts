/**
 * The objects of a directory layer: finds them by name, and opens descriptors (O_PATH) of them. A name may lead to another object
 * a moment later, so every descriptor is compared with the inode before it is used.
 */
import { CONFINED, O_DIRECTORY, O_NOFOLLOW, O_PATH, openIn } from '../sys/beneath.ts';
import { type ByteString, byteStringOf, printable } from '../sys/bytes.ts';
import { spareDescriptors } from '../sys/descriptors.ts';
import * as errno from '../sys/errno.ts';
import { ErrnoError, must } from '../sys/errno.ts';
import { listXattrsAt } from '../sys/found.ts';
import { readHandle } from '../sys/handles.ts';
import { native } from '../sys/native.ts';
import { isDirectory } from '../sys/stat.ts';
import * as sx from '../sys/statx.ts';
import type { LayerContext } from './context.ts';
import { DirInode } from './dir-inode.ts';
import type { Layer } from './layer.ts';
import type { LayerNumbers } from './numbers.ts';
import { type StatSource, StoredStats } from './stored-stat.ts';

// linux/fcntl.h, linux/openat2.h, linux/mount.h
const O_CLOEXEC = 0o2000000;
const RESOLVE_NO_XDEV = 0x1;
const OPEN_TREE_CLONE = 1;
const MOUNT_ATTR_NODEV = 0x4;
const MOUNT_ATTR_NOATIME = 0x10;
const MOUNT_ATTR__ATIME = 0x70; // all of a field, which is cleared before it is set

/** The resolve flags for every path below a layer's root. */
export const WITHIN: number = CONFINED | RESOLVE_NO_XDEV;
export const PATH_MAX = 4096;

/** The errors of a lookup that mean a miss. */
const MISSING: readonly number[] = [-errno.ENOENT, -errno.ENAMETOOLONG];
/** The errors on the path to an object which mean that the object, or a directory on the path, is gone. */
const GONE: readonly number[] = [-errno.ENOENT, -errno.ENOTDIR, -errno.ELOOP];

export class DirObjects {
  readonly root: DirInode;
  readonly rootFd: number;
  /**
   * The root in a second private clone, in which no device opens and no access time changes. -1 if there is none.
   */
  readonly plainFd: number;
  /** Identifies the filesystem: the device of the root. */
  readonly filesystem: string;
  /** Reads what the layer has stored of its objects; absent if their inodes say all. */
  readonly stats: StoredStats | undefined;
  private readonly layer: Layer;
  private readonly context: LayerContext;
  private readonly mountId: number;
  /** Whether the root belongs to a private clone of its mount, in which nothing is mounted. */
  private readonly isClone: boolean;
  /** Whether `findByName` can be used: the root is a clone, on a filesystem that counts a rename as a change. */
  private readonly isSeenByName: boolean;
  private readonly device: sx.DeviceNumber;
  private readonly numbers: LayerNumbers;
  /** The object that was opened last. Its descriptor is usually the next one to be requested. */
  private held: { readonly inode: DirInode; readonly fd: number } | undefined;
  private readonly keepDescriptors = spareDescriptors(() => {
    this.context.descriptors.giveUp();
    if (this.context.latest !== this) this.release();
  });

  /**
   * Opens the layer's root. Throws ErrnoError: ENOENT, ENOTDIR, EACCES as open(2) does.
   * @param opened the root, if it is open already; it is closed with the layer
   * @param source where owners and modes are stored; undefined: in the inodes
   */
  constructor(layer: Layer, path: ByteString, context: LayerContext, opened?: OpenedRoot, source?: StatSource) {
    this.layer = layer;
    this.context = context;
    const { fd, isClone, plain } = opened ?? openRoot(path, `layer ${layer.path}`);
    this.rootFd = fd;
    this.plainFd = plain;
    this.isClone = isClone;
    this.stats = StoredStats.of(source, fd);
    this.isSeenByName = isClone && this.stats === undefined && countsRenames(fd);
    must(sx.statx(fd, ''), `layer ${layer.path}`);
    this.mountId = sx.statxMountId();
    this.device = sx.statxDevice();
    this.filesystem = `device ${this.device.major}:${this.device.minor}`;
    this.numbers = context.numbersOf(this.filesystem);
    this.root = this.inode(undefined, '', fd);
  }

  /** Looks up a name in a directory; undefined for a miss. Throws ErrnoError as Layer.lookup does. */
  find(parent: DirInode, name: ByteString): DirInode | undefined {
    const found = this.isSeenByName ? this.findByName(parent, name) : 'unsure';
    return found === 'unsure' ? this.findByDescriptor(parent, name) : found;
  }

  /**
   * The same with two system calls on the name, instead of four on a descriptor. Both results are about one object if it has not
   * changed since before the first call, and a rename counts as a change.
   * Errors other than a miss are also `unsure`.
   */
  private findByName(parent: DirInode, name: ByteString): DirInode | undefined | 'unsure' {
    const directory = this.directory(parent);
    const sinceMs = Date.now();
    const length = listXattrsAt(directory, name, xattrNames);
    if (MISSING.includes(length)) return undefined;
    if (length < 0 || sx.statx(directory, name) < 0) return 'unsure';
    const birth = sx.statxBirth();
    if (birth === undefined || sx.statxMountId() !== this.mountId || !sx.statxIsSettled(sinceMs)) return 'unsure';
    const inode = new DirInode(this.layer, parent, name, this.ino(), birth);
    inode.rememberXattrNames(byteStringOf(xattrNames, 0, length));
    return inode;
  }

  private findByDescriptor(parent: DirInode, name: ByteString): DirInode | undefined {
    const fd = openIn(this.directory(parent), name, O_PATH | O_NOFOLLOW, WITHIN);
    if (MISSING.includes(fd)) return undefined;
    if (fd < 0) throw this.failure(fd, parent.pathOf(name));
    const result = this.describe(fd);
    if (result < 0) {
      native.close(fd);
      throw this.failure(result, parent.pathOf(name));
    }
    try {
      const inode = this.inode(parent, name, fd);
      this.hold(inode, fd);
      return inode;
    } catch (error) {
      native.close(fd);
      throw error;
    }
  }

  /** The inode of an open object, which the last statx was of. */
  private inode(parent: DirInode | undefined, name: ByteString, fd: number): DirInode {
    const inode = new DirInode(this.layer, parent, name, this.ino(), this.birth(fd));
    this.readStored(inode, fd);
    return inode;
  }

  /** Reads what the layer has stored of an object. @param fd a descriptor of the object */
  readStored(inode: DirInode, fd: number): void {
    if (this.stats === undefined) return;
    inode.show(this.stats.read(fd, inode.ownMode, () => `layer ${this.layer.path}: ${printable(inode.path)}`));
  }

  /** The inode of an open object that was just given its name. Throws ErrnoError as statx(2) fails. */
  named(parent: DirInode, name: ByteString, fd: number): DirInode {
    const result = sx.statx(fd, '');
    if (result < 0) throw this.failure(result, parent.pathOf(name));
    return this.inode(parent, name, fd);
  }

  /** Keeps a descriptor of an object that is about to lose its name: the object stays usable. */
  keep(it: DirInode): void {
    if (!it.parent || it.keptFd >= 0) return;
    const { from, path } = this.wayTo(it);
    const fd = openIn(from, path, O_PATH | O_NOFOLLOW, WITHIN);
    if (fd < 0) throw this.failure(fd, it.path);
    if (this.describe(fd) === 0 && this.isSeen(it, fd)) it.keptFd = fd;
    else native.close(fd);
    if (it.keptFd < 0) throw this.stale(it);
  }

  /** Whether the name of the object still leads to it. If so, the last statx was of the object. */
  isThere(it: DirInode): boolean {
    if (!it.parent) return this.describe(this.rootFd) === 0;
    if (it.keptFd >= 0) return sx.statx(it.keptFd, '') === 0;
    try {
      if (!this.isClone) return this.reopened(it) >= 0;
      const result = sx.statx(this.directory(it.parent), it.name);
      if (GONE.includes(result)) return false;
      if (result < 0) throw this.failure(result, it.path);
      return sx.statxBirth() === undefined ? this.reopened(it) >= 0 : this.isSeen(it);
    } catch (error) {
      if (error instanceof ErrnoError && error.errno === errno.ESTALE) return false; // the parent directory is gone
      throw error;
    }
  }

  /** Whether a descriptor of the directory is open, regardless of its name. If so, the last statx was of the directory. */
  isOpen(it: DirInode): boolean {
    const fd = isDirectory(it.mode) ? this.context.descriptors.of(it) : undefined;
    return fd !== undefined && sx.statx(fd, '') === 0;
  }

  /** Whether an open file is the object. If so, the last statx was of the object. */
  isOpenAs(fd: number, it: DirInode): boolean {
    return sx.statx(fd, '') === 0 && this.isSeen(it, fd);
  }

  /** A descriptor of the object, which must be used at once. Throws ErrnoError ESTALE if its name leads to another object. */
  descriptor(it: DirInode): number {
    if (!it.parent) return this.rootFd;
    if (it.keptFd >= 0) return it.keptFd;
    if (this.held?.inode === it) return this.held.fd;
    const known = isDirectory(it.mode) ? this.context.descriptors.of(it) : undefined;
    return known ?? this.mustReopen(it); // a directory that is only asked for its attributes does not stay open
  }

  /** The same, and the last statx was of the object. */
  described(it: DirInode): number {
    if (it.keptFd >= 0) {
      must(sx.statx(it.keptFd, ''), `layer ${this.layer.path}`);
      return it.keptFd;
    }
    if (this.held?.inode !== it) return this.mustReopen(it);
    this.context.latest = this;
    must(sx.statx(this.held.fd, ''), `layer ${this.layer.path}`);
    return this.held.fd;
  }

  /** A descriptor of a directory, as `descriptor` gives it. It stays open while there is room. */
  directory(it: DirInode): number {
    const known = it.parent ? this.context.descriptors.of(it) : this.rootFd;
    if (known !== undefined) return known;
    if (it.keptFd >= 0) return it.keptFd;
    if (this.held?.inode !== it) this.mustReopen(it);
    const { fd } = this.held as { fd: number };
    this.held = undefined;
    this.context.descriptors.add(it, fd);
    return fd;
  }

  /** Marks the object as stale: it is not where it was found. @returns the error ESTALE */
  stale(it: DirInode): ErrnoError {
    it.isStale = true;
    it.staleAtMs = performance.now();
    return this.failure(-errno.ESTALE, it.path);
  }

  failure(result: number, path: ByteString): ErrnoError {
    return new ErrnoError(-result, `layer ${this.layer.path}: ${path}: ${errno.errnoText(result)}`);
  }

  close(): void {
    this.keepDescriptors();
    this.release();
    this.context.descriptors.closeOf(this.layer);
    native.close(this.rootFd);
    if (this.plainFd >= 0) native.close(this.plainFd);
  }

  private mustReopen(it: DirInode): number {
    const fd = this.reopened(it);
    if (fd < 0) throw this.stale(it);
    return fd;
  }

  /**
   * Opens the object by its name, and holds the descriptor. @returns the descriptor; -ESTALE if the name is gone or leads to
   * another object
   */
  private reopened(it: DirInode): number {
    const { from, path } = this.wayTo(it);
    const fd = openIn(from, path, O_PATH | O_NOFOLLOW, WITHIN);
    if (GONE.includes(fd)) return -errno.ESTALE;
    if (fd < 0) throw this.failure(fd, it.path);
    const result = this.describe(fd);
    if (result === 0 && this.isSeen(it, fd)) return this.hold(it, fd);
    native.close(fd);
    if (result < 0) throw this.failure(result, it.path);
    return -errno.ESTALE;
  }

  /**
   * The path to the object from an open directory: for a directory, from the nearest open one above; for any other object, from
   * its parent.
   */
  private wayTo(it: DirInode): { from: number; path: ByteString } {
    if (!isDirectory(it.mode)) return { from: this.directory(it.parent as DirInode), path: it.name };
    let path = it.name;
    for (let at = it.parent as DirInode; ; path = `${at.name}/${path}`, at = at.parent as DirInode) {
      const from = at.parent ? this.context.descriptors.of(at) : this.rootFd;
      if (from !== undefined) return { from, path };
      if (path.length + at.name.length + 2 > PATH_MAX) return { from: this.directory(at), path };
    }
  }

  /** Calls statx. @returns 0 or a negative errno, -EXDEV for an object on a mount inside the layer */
  private describe(fd: number): number {
    const result = sx.statx(fd, '');
    return result === 0 && sx.statxMountId() !== this.mountId ? -errno.EXDEV : result;
  }

  /** Whether the last statx was of the object. @param fd the descriptor of that statx; not needed if there are birth times */
  private isSeen(it: DirInode, fd = -1): boolean {
    return this.ino() === it.ino && this.birth(fd) === it.birth;
  }

  /** The inode number for the object of the last statx. */
  private ino(): number {
    const isOwnDevice = sx.statxDeviceIs(this.device);
    const { major, minor } = isOwnDevice ? this.device : sx.statxDevice();
    return this.numbers.of({ major, minor, inoHigh: sx.statxInoHigh(), inoLow: sx.statxInoLow() }, isOwnDevice);
  }

  private birth(fd: number): ByteString {
    const birth = sx.statxBirth();
    if (birth !== undefined) return birth;
    const handle = readHandle(fd, '');
    return typeof handle === 'number' ? '' : byteStringOf(handle.bytes);
  }

  /** Takes over a descriptor of the object that is used next. */
  hold(inode: DirInode, fd: number): number {
    this.release();
    this.held = { inode, fd };
    this.context.latest = this;
    return fd;
  }

  private release(): void {
    if (this.held) native.close(this.held.fd);
    this.held = undefined;
  }
}

const xattrNames = new Uint8Array(256);

/**
 * f_type of the local filesystems on which a rename changes the ctime, by the kernel's own clock. Source: linux/magic.h, their
 * rename functions.
 */
const COUNTING_RENAMES: readonly number[] = [
  0xef53, // ext2, ext3, ext4
  0x58465342, // xfs
  0x9123683e, // btrfs
  0xf2f52010, // f2fs
  0x01021994, // tmpfs
];

function countsRenames(fd: number): boolean {
  const numbers = new Float64Array(10);
  return native.fstatfs(fd, numbers) === 0 && COUNTING_RENAMES.includes(numbers[0] as number);
}

/** Descriptors (O_PATH) of a layer's root; `plain` is -1 if there is no second clone. */
export interface OpenedRoot {
  readonly fd: number;
  /** Whether `fd` is in a private clone of its mount. */
  readonly isClone: boolean;
  readonly plain: number;
}

/** Opens a layer's root: in private clones of its mount if the process may make them. */
function openRoot(path: ByteString, what: string): OpenedRoot {
  const fd = must(openIn(sx.AT_FDCWD, path, O_PATH | O_DIRECTORY, 0), what);
  const clone = cloneOf(fd);
  if (clone < 0) return { fd, isClone: false, plain: -1 };
  const plain = plainOf(cloneOf(fd));
  native.close(fd);
  return { fd: clone, isClone: true, plain };
}

export const cloneOf = (directory: number): number =>
  native.openTree(directory, '', sx.AT_EMPTY_PATH | OPEN_TREE_CLONE | O_CLOEXEC);

/** Has no read through a clone change access times. @returns 0 or -errno, -ENOSYS before Linux 5.12 */
export const withoutAccessTimes = (clone: number): number =>
  native.mountSetattr(clone, MOUNT_ATTR_NOATIME, MOUNT_ATTR__ATIME, 0);

/** @returns the clone without devices and access times, or -1 before Linux 5.12 */
function plainOf(clone: number): number {
  if (clone < 0) return -1;
  if (native.mountSetattr(clone, MOUNT_ATTR_NODEV | MOUNT_ATTR_NOATIME, MOUNT_ATTR__ATIME, 0) === 0) return clone;
  native.close(clone);
  return -1;
}
