/**
 * A directory of the host as a layer. An object is reached by its parent's descriptor and its name, one component at a
 * time, so that nothing that happens in the layer can lead out of it.
 */
import { type Name, nameOf, printable } from '../sys/bytes.ts';
import { openSparing } from '../sys/descriptors.ts';
import * as errno from '../sys/errno.ts';
import { ErrnoError, must } from '../sys/errno.ts';
import { type Handle, openHandle, readHandle, readUuid } from '../sys/handles.ts';
import { native } from '../sys/native.ts';
import { type Attr, isRegular } from '../sys/stat.ts';
import * as sx from '../sys/statx.ts';
import { closeDescriptors, descriptorOf, keepDescriptor } from './descriptors.ts';
import { FileData } from './file-data.ts';
import { HANDLE_INDEX, HandleIndex, handleText, INDEX_BYTES_MAX } from './handle-index.ts';
import type { Data, Inode, Layer, Statfs } from './layer.ts';
import { type LayerNumbers, numbersOf } from './numbers.ts';

// linux/fcntl.h, linux/openat2.h, linux/mount.h
const O_NONBLOCK = 0o4000;
const O_DIRECTORY = 0o200000;
const O_NOFOLLOW = 0o400000;
const O_NOATIME = 0o1000000;
const O_PATH = 0o10000000;
const RESOLVE_NO_XDEV = 0x1;
const RESOLVE_NO_MAGICLINKS = 0x2;
const RESOLVE_NO_SYMLINKS = 0x4;
const RESOLVE_BENEATH = 0x8;
const CONFINED = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS | RESOLVE_NO_XDEV;
const OPEN_TREE_CLONE = 1;
const O_CLOEXEC = 0o2000000;

const LISTING_BYTES = 64 * 1024;
const XATTR_BYTES = 64 * 1024;
const PATH_MAX = 4096;

/** struct linux_dirent64. Source: getdents64(2). */
const Dirent = { ino: 0 /* u64 */, off: 8 /* u64 */, reclen: 16 /* u16 */, type: 18 /* u8 */, name: 19 } as const;

class DirInode implements Inode {
  readonly layer: DirLayer;
  readonly parent: DirInode | undefined;
  readonly name: Name;
  readonly ino: number;
  readonly mode: number;
  readonly rdev: number;
  readonly sizeBytes: number;
  /** What stat showed, and when, by performance.now. */
  attr: Attr;
  attrAtMs: number;
  /** The names of its xattrs, each ended by a NUL, and when; undefined: not asked, or not to be had. */
  xattrNames: Name | undefined;
  xattrNamesAtMs = 0;

  /** Takes what the last statx has told. */
  constructor(layer: DirLayer, parent: DirInode | undefined, name: Name, ino: number) {
    this.layer = layer;
    this.parent = parent;
    this.name = name;
    this.ino = ino;
    this.mode = sx.statxMode();
    this.rdev = sx.statxRdev();
    this.sizeBytes = sx.statxSize();
    this.attr = sx.statxAttr(ino);
    this.attrAtMs = performance.now();
    this.xattrNames = undefined;
  }
}

export class DirLayer implements Layer {
  readonly kind = 'directory';
  readonly hasAcl = true;
  readonly path: string;
  readonly filesystem: string;
  readonly root: DirInode;
  private readonly rootFd: number;
  private readonly mountId: number;
  /** Whether the root is that of a private clone, in which nothing is mounted. */
  private readonly isClone: boolean;
  private readonly device: { readonly major: number; readonly minor: number };
  private readonly numbers: LayerNumbers;
  private readonly memoryMs: number;
  /** Read when the first file is to be opened by its handle, and may not be. */
  private handleIndex: HandleIndex | 'none' | undefined;
  private readonly listing = new Uint8Array(LISTING_BYTES);
  private readonly value = new Uint8Array(XATTR_BYTES);

  /**
   * Opens a directory as a layer. What is mounted inside it is not seen, as far as this process may clone a mount;
   * otherwise a mount point gives EXDEV.
   * @param attrSeconds how long attributes, and which trusted xattrs there are, may be out of date; 0: all are asked for
   *   each time
   * Throws ErrnoError: ENOENT, ENOTDIR, EACCES as open(2) gives them.
   */
  constructor(path: Name, attrSeconds = 0) {
    this.path = printable(path);
    this.memoryMs = attrSeconds * 1000;
    const { fd, isClone } = openRoot(path);
    this.rootFd = fd;
    this.isClone = isClone;
    must(sx.statx(fd, ''), `layer ${this.path}`);
    this.mountId = sx.statxMountId();
    this.device = sx.statxDevice();
    this.filesystem = `device ${this.device.major}:${this.device.minor}`;
    this.numbers = numbersOf(this.filesystem);
    this.root = new DirInode(this, undefined, '', this.ino());
  }

  lookup(directory: Inode, name: Name): Inode | undefined {
    const parent = directory as DirInode;
    const fd = this.directoryFd(parent);
    const result = this.isClone ? sx.statx(fd, name) : statxConfined(fd, name);
    if (result === -errno.ENOENT || result === -errno.ENAMETOOLONG) return undefined;
    if (result < 0) throw this.failure(result, parent, name);
    if (sx.statxMountId() !== this.mountId) throw this.failure(-errno.EXDEV, parent, name);
    return new DirInode(this, parent, name, this.ino());
  }

  attr(inode: Inode): Attr {
    const it = inode as DirInode;
    if (!this.isFresh(it.attrAtMs)) {
      const result = sx.statx(this.parentFd(it), it.name);
      if (result < 0) throw this.failure(result, it.parent, it.name);
      it.attr = sx.statxAttr(it.ino);
      it.attrAtMs = performance.now();
    }
    return { ...it.attr }; // the caller may change it
  }

  private isFresh(sinceMs: number): boolean {
    return performance.now() - sinceMs < this.memoryMs;
  }

  readlink(inode: Inode): Name {
    const { parent, name } = inode as DirInode;
    const length = native.readlinkat(this.parentFd(inode as DirInode), name, this.value);
    if (length < 0) throw this.failure(length, parent, name);
    return nameOf(this.value, 0, length);
  }

  readdir(directory: Inode, visit: (name: Name, dtype: number) => void): boolean {
    const at = directory as DirInode;
    const fd = openIn(this.directoryFd(at), '.', O_DIRECTORY, CONFINED);
    if (fd < 0) throw this.failure(fd, at.parent, at.name);
    try {
      for (const [name, dtype] of this.entries(fd)) visit(name, dtype);
      return false;
    } finally {
      native.close(fd);
    }
  }

  /** All entries of an open directory, read before the first is handed out: a visitor may ask this layer again. */
  private entries(fd: number): [Name, number][] {
    const entries: [Name, number][] = [];
    const view = new DataView(this.listing.buffer);
    for (;;) {
      const bytes = must(native.getdents(fd, this.listing), `listing of layer ${this.path}`);
      if (bytes === 0) return entries;
      for (let at = 0; at < bytes; at += view.getUint16(at + Dirent.reclen, true)) {
        const from = at + Dirent.name;
        const name = nameOf(this.listing, from, this.listing.indexOf(0, from));
        if (name !== '.' && name !== '..') entries.push([name, this.listing[at + Dirent.type] as number]);
      }
    }
  }

  getxattr(inode: Inode, name: Name): Uint8Array | undefined {
    const length = this.xattrBytes(inode, name);
    return length < 0 ? undefined : this.value.slice(0, length);
  }

  /** Leaves the value in `value`. */
  xattrBytes(inode: Inode, name: Name): number {
    const it = inode as DirInode;
    if (name.startsWith(TRUSTED) && this.lacksXattr(it, name)) return -1;
    const length = getXattr(this.parentFd(it), it.name || '.', name, this.value);
    if (length >= 0) return length;
    if (length === -errno.ENODATA || length === -errno.EOPNOTSUPP) return -1;
    throw this.failure(length, it.parent, it.name);
  }

  /**
   * Whether a list of the object's xattrs does without this one, so that one question answers those for all that an overlay
   * looks at. Where the list fails the value is to be asked for.
   */
  private lacksXattr(it: DirInode, name: Name): boolean {
    if (it.xattrNames === undefined || !this.isFresh(it.xattrNamesAtMs)) {
      const length = listXattrs(this.parentFd(it), it.name || '.', this.value);
      it.xattrNames = length < 0 ? undefined : nameOf(this.value, 0, length);
      it.xattrNamesAtMs = performance.now();
    }
    return it.xattrNames === '' || (it.xattrNames !== undefined && !`\0${it.xattrNames}`.includes(`\0${name}\0`));
  }

  listxattr(inode: Inode): Name[] {
    const { parent, name } = inode as DirInode;
    const length = listXattrs(this.parentFd(inode as DirInode), name || '.', this.value);
    if (length === -errno.EOPNOTSUPP) return [];
    if (length < 0) throw this.failure(length, parent, name);
    return nameOf(this.value, 0, length).split('\0').slice(0, -1);
  }

  open(inode: Inode): Data {
    const { parent, name } = inode as DirInode;
    if (!parent) throw this.failure(-errno.EISDIR, parent, name);
    const data = this.openConfined(this.directoryFd(parent), name, pathOf(parent, name));
    if (typeof data === 'number') throw this.failure(data, parent, name);
    return data;
  }

  openPath(path: Name): Data | number {
    if (path.length >= PATH_MAX) return -errno.ENAMETOOLONG; // the kernel counts the leading slash
    return this.openConfined(this.rootFd, path.replace(/^\/+/, ''), path);
  }

  /**
   * Opens a regular file below a directory, or gives a negative errno; -ENOENT for anything that is no regular file.
   * Like all files in two steps, because opening a device or a fifo has effects.
   */
  private openConfined(directoryFd: number, path: Name, shown: Name): Data | number {
    return this.openFound(openIn(directoryFd, path, O_PATH | O_NOFOLLOW, CONFINED), shown);
  }

  openHandle(handle: Handle): Data | number {
    const filesystem = must(this.openRootForReading(), `layer ${this.path}`);
    const found = openHandle(filesystem, handle, O_PATH | O_NOFOLLOW);
    native.close(filesystem);
    if (found === -errno.EPERM) return this.openIndexed(handle);
    return this.openFound(found, `a file by its handle ${Buffer.from(handle.bytes).toString('hex')}`);
  }

  /** Opens the file that the layer's index has for a handle, if it is that file. -EPERM: there is no index. */
  private openIndexed(handle: Handle): Data | number {
    this.handleIndex ??= this.readHandleIndex();
    if (this.handleIndex === 'none') return -errno.EPERM;
    const path = this.handleIndex.find(handle);
    if (path === undefined) return -errno.ENOENT;
    const data = this.openConfined(this.rootFd, path, path);
    if (typeof data === 'number') return data;
    const its = readHandle(data.fd, '');
    if (typeof its !== 'number' && handleText(its) === handleText(handle)) return data;
    data.close();
    return -errno.ESTALE;
  }

  private readHandleIndex(): HandleIndex | 'none' {
    const file = this.openConfined(this.rootFd, HANDLE_INDEX, HANDLE_INDEX);
    if (typeof file === 'number') return 'none';
    const size = Math.min(file.sizeBytes, INDEX_BYTES_MAX);
    const bytes = Buffer.alloc(size);
    const read = file.read(bytes, 0, size, 0);
    file.close();
    return HandleIndex.parse(bytes.subarray(0, Math.max(read, 0)), this.uuid) ?? 'none';
  }

  /** Opens the object of a descriptor (O_PATH), which is closed, for reading. Passes a negative errno on. */
  private openFound(found: number, shown: Name): Data | number {
    if (found < 0) return found;
    try {
      must(sx.statx(found, ''), `layer ${this.path}`);
      if (!isRegular(sx.statxMode())) return -errno.ENOENT;
      const link = `/proc/self/fd/${found}`;
      const flags = O_NONBLOCK | O_NOATIME;
      let fd = openIn(sx.AT_FDCWD, link, flags, 0);
      if (fd === -errno.EPERM) fd = openIn(sx.AT_FDCWD, link, O_NONBLOCK, 0); // not the owner: no O_NOATIME
      return fd < 0 ? fd : new FileData(fd, this.path, shown, true);
    } finally {
      native.close(found);
    }
  }

  get uuid(): Name {
    const root = must(this.openRootForReading(), `layer ${this.path}`);
    const uuid = readUuid(root);
    native.close(root);
    return uuid;
  }

  private openRootForReading(): number {
    return openIn(this.rootFd, '.', O_DIRECTORY, 0);
  }

  statfs(): Statfs {
    const out = new Float64Array(10);
    must(native.fstatfs(this.rootFd, out), `statfs of layer ${this.path}`);
    const [, bsize = 0, blocks = 0, bfree = 0, bavail = 0, files = 0, ffree = 0, namelen = 0, frsize = 0, flags = 0] =
      out;
    return { bsize, blocks, bfree, bavail, files, ffree, namelen, frsize, flags };
  }

  close(): void {
    closeDescriptors(this);
    native.close(this.rootFd);
  }

  /** A descriptor of the directory that holds an object, which is there by its name; of the root itself, whose name is ''. */
  private parentFd({ parent }: DirInode): number {
    return parent ? this.directoryFd(parent) : this.rootFd;
  }

  /** A descriptor of a directory, opened from its nearest open ancestor where it is not open, to be used at once. */
  private directoryFd(directory: DirInode): number {
    let path: Name = '';
    let fd: number | undefined;
    for (let at = directory; ; at = at.parent) {
      fd = at.parent ? descriptorOf(at) : this.rootFd;
      if (fd !== undefined && path === '') return fd;
      if (fd !== undefined || !at.parent) break;
      if (path.length + at.name.length + 2 > PATH_MAX) {
        fd = this.directoryFd(at);
        break;
      }
      path = path === '' ? at.name : `${at.name}/${path}`;
    }
    const opened = openIn(fd as number, path, O_PATH | O_DIRECTORY | O_NOFOLLOW, CONFINED);
    if (opened < 0) throw this.failure(opened, directory.parent, directory.name);
    keepDescriptor(directory, opened);
    return opened;
  }

  /** The number of the object of the last statx. */
  private ino(): number {
    const { major, minor } = sx.statxDevice();
    const isOwnDevice = major === this.device.major && minor === this.device.minor;
    return this.numbers.of({ major, minor, inoHigh: sx.statxInoHigh(), inoLow: sx.statxInoLow() }, isOwnDevice);
  }

  private failure(result: number, parent: DirInode | undefined, name: Name): ErrnoError {
    return new ErrnoError(-result, `layer ${this.path}: ${pathOf(parent, name)}: ${errno.errnoName(result)}`);
  }
}

/** The path of an object from the layer's root. */
function pathOf(parent: DirInode | undefined, name: Name): Name {
  const path: Name[] = [name];
  for (let at = parent; at; at = at.parent) path.push(at.name);
  return path.reverse().join('/') || '/';
}

const TRUSTED = 'trusted.';

/** Whether the kernel knows getxattrat(2) and listxattrat(2), which spare it the way through /proc: since Linux 6.13. */
let hasXattrAt = true;

/** getxattr(2) of a name in a directory, symlinks not followed: bytes of the value, or a negative errno. */
function getXattr(dirfd: number, path: Name, name: Name, out: Uint8Array): number {
  if (hasXattrAt) {
    const length = native.getxattrat(dirfd, path, sx.AT_SYMLINK_NOFOLLOW, name, out);
    if (length !== -errno.ENOSYS) return length;
    hasXattrAt = false;
  }
  return native.lgetxattr(`/proc/self/fd/${dirfd}/${path}`, name, out);
}

/** listxattr(2), likewise: bytes of the names, each ended by a NUL, or a negative errno. */
function listXattrs(dirfd: number, path: Name, out: Uint8Array): number {
  if (hasXattrAt) {
    const length = native.listxattrat(dirfd, path, sx.AT_SYMLINK_NOFOLLOW, out);
    if (length !== -errno.ENOSYS) return length;
    hasXattrAt = false;
  }
  return native.llistxattr(`/proc/self/fd/${dirfd}/${path}`, out);
}

/** openat2(2), which never fails for descriptors that can be spared. */
const openIn = (directoryFd: number, path: Name, flags: number, resolve: number): number =>
  openSparing(() => native.openat2(directoryFd, path, flags, resolve));

/** A descriptor (O_PATH) of a layer's root: of a private clone of its mount where the process may make one. */
function openRoot(path: Name): { fd: number; isClone: boolean } {
  const clone = native.openTree(sx.AT_FDCWD, `${path}/.`, OPEN_TREE_CLONE | O_CLOEXEC); // the dot: of nothing but a directory
  if (clone >= 0) return { fd: clone, isClone: true };
  const fd = must(openIn(sx.AT_FDCWD, path, O_PATH | O_DIRECTORY, 0), `layer ${printable(path)}`);
  return { fd, isClone: false };
}

/**
 * Asks for an object, but not for what is mounted there, which is -EXDEV: it may be our own mount, and a thread that asks that
 * would wait for its own answer.
 */
function statxConfined(directoryFd: number, name: Name): number {
  const found = openIn(directoryFd, name, O_PATH | O_NOFOLLOW, CONFINED);
  if (found < 0) return found;
  const result = sx.statx(found, '');
  native.close(found);
  return result;
}
