/**
 * The objects of a directory layer: finds them by name, and gives descriptors (O_PATH) of them. What a name led to can be another
 * object a moment later, so that every descriptor is compared with the inode before it is used.
 */
import { CONFINED, O_DIRECTORY, O_NOFOLLOW, O_PATH } from '../sys/beneath.ts';
import { type ByteString, byteStringOf } from '../sys/bytes.ts';
import { openSparing, spareDescriptors } from '../sys/descriptors.ts';
import * as errno from '../sys/errno.ts';
import { ErrnoError, must } from '../sys/errno.ts';
import { readHandle } from '../sys/handles.ts';
import { native } from '../sys/native.ts';
import { isDirectory } from '../sys/stat.ts';
import * as sx from '../sys/statx.ts';
import { closeDescriptors, descriptorOf, keepDescriptor } from './descriptors.ts';
import { DirInode } from './dir-inode.ts';
import type { Layer } from './layer.ts';
import { type LayerNumbers, numbersOf } from './numbers.ts';

// linux/fcntl.h, linux/openat2.h, linux/mount.h
const O_CLOEXEC = 0o2000000;
const RESOLVE_NO_XDEV = 0x1;
const OPEN_TREE_CLONE = 1;

/** How everything below a layer's root is resolved. */
export const WITHIN: number = CONFINED | RESOLVE_NO_XDEV;
export const PATH_MAX = 4096;

/** What a lookup of a name gives where there is none. */
const MISSING: readonly number[] = [-errno.ENOENT, -errno.ENAMETOOLONG];
/** What the way to an object gives where it, or a directory on the way, is not there any more. */
const GONE: readonly number[] = [-errno.ENOENT, -errno.ENOTDIR, -errno.ELOOP];

/** openat2(2), which never fails for descriptors that can be spared. */
export const openIn = (directoryFd: number, path: ByteString, flags: number, resolve: number): number =>
  openSparing(() => native.openat2(directoryFd, path, flags, resolve));

/** The layer whose object was opened or asked for last: it may be in use. */
let latest: DirObjects | undefined;

export class DirObjects {
  readonly root: DirInode;
  readonly rootFd: number;
  /** Tells filesystems apart. */
  readonly filesystem: string;
  private readonly layer: Layer;
  private readonly mountId: number;
  /** Whether the root is that of a private clone, in which nothing is mounted. */
  private readonly isClone: boolean;
  /** Whether `findByName` can do without descriptors. */
  private readonly isSeenByName: boolean;
  private readonly device: sx.Device;
  private readonly numbers: LayerNumbers;
  /** The object that was opened last, whose descriptor is the next one to be asked for more often than not. */
  private held: { readonly inode: DirInode; readonly fd: number } | undefined;
  private readonly keepHeld = spareDescriptors(() => {
    if (latest !== this) this.release();
  });

  /** Opens the layer's root. Throws ErrnoError: ENOENT, ENOTDIR, EACCES as open(2) gives them. */
  constructor(layer: Layer, path: ByteString) {
    this.layer = layer;
    const { fd, isClone } = openRoot(path, `layer ${layer.path}`);
    this.rootFd = fd;
    this.isClone = isClone;
    this.isSeenByName = isClone && countsRenames(fd);
    must(sx.statx(fd, ''), `layer ${layer.path}`);
    this.mountId = sx.statxMountId();
    this.device = sx.statxDevice();
    this.filesystem = `device ${this.device.major}:${this.device.minor}`;
    this.numbers = numbersOf(this.filesystem);
    this.root = new DirInode(layer, undefined, '', this.ino(), this.birth(fd));
  }

  /** What a name leads to now. Throws ErrnoError as Layer.lookup. */
  find(parent: DirInode, name: ByteString): DirInode | undefined {
    const found = this.isSeenByName ? this.findByName(parent, name) : 'unsure';
    return found === 'unsure' ? this.findByDescriptor(parent, name) : found;
  }

  /**
   * The same by two questions about a name, in the place of four about a descriptor. Both answers are about one object if it has
   * not changed since before the first one: to be renamed is a change. Another error than a miss leaves it unsure, too.
   */
  private findByName(parent: DirInode, name: ByteString): DirInode | undefined | 'unsure' {
    const directory = this.directory(parent);
    const sinceMs = Date.now();
    const length = native.listxattrat(directory, name, sx.AT_SYMLINK_NOFOLLOW, xattrNames);
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
    const inode = new DirInode(this.layer, parent, name, this.ino(), this.birth(fd));
    this.hold(inode, fd);
    return inode;
  }

  /** Whether the object is what its name leads to. If so, the last answer of statx is about it. */
  isThere(it: DirInode): boolean {
    if (!it.parent) return this.describe(this.rootFd) === 0;
    try {
      if (!this.isClone) return this.reopened(it) >= 0;
      const result = sx.statx(this.directory(it.parent), it.name);
      if (GONE.includes(result)) return false;
      if (result < 0) throw this.failure(result, it.path);
      return sx.statxBirth() === undefined ? this.reopened(it) >= 0 : this.isSeen(it);
    } catch (error) {
      if (error instanceof ErrnoError && error.errno === errno.ESTALE) return false; // the directory that held it is gone
      throw error;
    }
  }

  /** Whether a directory is open, wherever its name leads. If so, the last answer of statx is about it. */
  isOpen(it: DirInode): boolean {
    const fd = isDirectory(it.mode) ? descriptorOf(it) : undefined;
    return fd !== undefined && sx.statx(fd, '') === 0;
  }

  /** Whether an open file is the object. If so, the last answer of statx is about it. */
  isOpenAs(fd: number, it: DirInode): boolean {
    return sx.statx(fd, '') === 0 && this.isSeen(it, fd);
  }

  /** A descriptor of the object, to be used at once. Throws ErrnoError ESTALE where its name leads to another one. */
  descriptor(it: DirInode): number {
    if (this.held?.inode === it) return this.held.fd; // also of a directory: what was only looked up does not stay open
    return isDirectory(it.mode) ? this.directory(it) : this.mustReopen(it);
  }

  /** The same, and the last answer of statx is about it. */
  described(it: DirInode): number {
    if (this.held?.inode !== it) return this.mustReopen(it);
    latest = this;
    must(sx.statx(this.held.fd, ''), `layer ${this.layer.path}`);
    return this.held.fd;
  }

  /** The same of a directory, which stays open while there is room. */
  directory(it: DirInode): number {
    const known = it.parent ? descriptorOf(it) : this.rootFd;
    if (known !== undefined) return known;
    if (this.held?.inode !== it) this.mustReopen(it);
    const { fd } = this.held as { fd: number };
    this.held = undefined;
    keepDescriptor(it, fd);
    return fd;
  }

  /** Notes that the object is not where it was. @returns the error that says so */
  stale(it: DirInode): ErrnoError {
    it.isStale = true;
    it.staleAtMs = performance.now();
    return this.failure(-errno.ESTALE, it.path);
  }

  failure(result: number, path: ByteString): ErrnoError {
    return new ErrnoError(-result, `layer ${this.layer.path}: ${path}: ${errno.errnoName(result)}`);
  }

  close(): void {
    this.keepHeld();
    this.release();
    closeDescriptors(this.layer);
    native.close(this.rootFd);
  }

  private mustReopen(it: DirInode): number {
    const fd = this.reopened(it);
    if (fd < 0) throw this.stale(it);
    return fd;
  }

  /** Opens what the object's name leads to, and holds it. @returns the descriptor; -ESTALE where that is another object */
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

  /** From the nearest directory that is open: of anything but a directory, the one that holds it. */
  private wayTo(it: DirInode): { from: number; path: ByteString } {
    if (!isDirectory(it.mode)) return { from: this.directory(it.parent as DirInode), path: it.name };
    let path = it.name;
    for (let at = it.parent as DirInode; ; path = `${at.name}/${path}`, at = at.parent as DirInode) {
      const from = at.parent ? descriptorOf(at) : this.rootFd;
      if (from !== undefined) return { from, path };
      if (path.length + at.name.length + 2 > PATH_MAX) return { from: this.directory(at), path };
    }
  }

  /** Asks statx; a negative errno, -EXDEV for what is mounted in the layer. */
  private describe(fd: number): number {
    const result = sx.statx(fd, '');
    return result === 0 && sx.statxMountId() !== this.mountId ? -errno.EXDEV : result;
  }

  /** Whether the last answer of statx is about the object. @param fd of what was asked for; not needed where births are known */
  private isSeen(it: DirInode, fd = -1): boolean {
    return this.ino() === it.ino && this.birth(fd) === it.birth;
  }

  /** The number of the object of the last statx. */
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

  private hold(inode: DirInode, fd: number): number {
    this.release();
    this.held = { inode, fd };
    latest = this;
    return fd;
  }

  private release(): void {
    if (this.held) native.close(this.held.fd);
    this.held = undefined;
  }
}

const xattrNames = new Uint8Array(256);

/** Local filesystems where being renamed is a change, by the kernel's own clock. Source: linux/magic.h, their rename functions. */
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

/** A descriptor (O_PATH) of a layer's root: of a private clone of its mount where the process may make one. */
function openRoot(path: ByteString, what: string): { fd: number; isClone: boolean } {
  const clone = native.openTree(sx.AT_FDCWD, `${path}/.`, OPEN_TREE_CLONE | O_CLOEXEC); // the dot: of nothing but a directory
  if (clone >= 0) return { fd: clone, isClone: true };
  const fd = must(openIn(sx.AT_FDCWD, path, O_PATH | O_DIRECTORY, 0), what);
  return { fd, isClone: false };
}
