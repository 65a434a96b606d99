/** An EROFS image as a layer: it shows the same tree as the kernel's EROFS mount of the same file. */

import { mayHaveAcl } from '../erofs/acl.ts';
import { checkReadable, isCompressed, readData } from '../erofs/data.ts';
import { findDirent, isInOrder, listDirents, listDirentsFrom } from '../erofs/dirents.ts';
import type { Nid } from '../erofs/format.ts';
import {
  COMPOSEFS_HAS_ACL,
  FT_BLKDEV,
  FT_CHRDEV,
  FT_DIR,
  FT_FIFO,
  FT_REG_FILE,
  FT_SOCK,
  FT_SYMLINK,
  NAME_MAX,
  SLOT_BYTES,
  XATTR_INDEX_POSIX_ACL_ACCESS,
  XATTR_INDEX_POSIX_ACL_DEFAULT,
  XATTR_PREFIXES,
} from '../erofs/format.ts';
import { handleOfNid, nidOfHandle } from '../erofs/handles.ts';
import { openImage, readImageFile } from '../erofs/image.ts';
import { ImageInode } from '../erofs/inode.ts';
import { ReachableInodes } from '../erofs/reachable.ts';
import type { Image } from '../erofs/superblock.ts';
import { findXattr, listXattrs, xattrValue, xattrValueBytes } from '../erofs/xattrs.ts';
import { type ByteString, byteStringOf, printable } from '../sys/bytes.ts';
import { EINVAL, ELOOP, ENAMETOOLONG, ENOENT, ENOTDIR, EOPNOTSUPP, ErrnoError, EUCLEAN, EXDEV } from '../sys/errno.ts';
import type { Origin } from '../sys/handles.ts';
import { native } from '../sys/native.ts';
import {
  type Attr,
  dtypeOf,
  isDirectory,
  isRegular,
  isSymlink,
  S_IFBLK,
  S_IFCHR,
  S_IFDIR,
  S_IFIFO,
  S_IFLNK,
  S_IFREG,
  S_IFSOCK,
  type Statfs,
} from '../sys/stat.ts';
import { ImageData } from './erofs-data.ts';
import { holdImage } from './held-image.ts';
import type { Data, Inode, Layer, VisitFrom } from './layer.ts';

/**
 * Reads the image file at `path` and makes it a layer, which holds the file until it is closed.
 * @param accept receives the bytes before they are interpreted, and throws if they must not be used
 * Throws ErrnoError that names the path.
 */
export function openErofsLayer(path: ByteString, accept: (bytes: Uint8Array) => void = () => {}): ErofsLayer {
  const fd = holdImage(path);
  try {
    const bytes = readImageFile(fd, printable(path));
    accept(bytes);
    return new ErofsLayer(path, bytes, fd);
  } catch (error) {
    native.close(fd);
    throw error;
  }
}

/** An inode of an image, with its layer. Its `ino` is its nid, as in the kernel. */
class ErofsInode extends ImageInode implements Inode {
  readonly layer: ErofsLayer;

  constructor(layer: ErofsLayer, nid: Nid) {
    super(layer.image, nid);
    this.layer = layer;
  }

  get ino(): number {
    return this.nid;
  }
}

/**
 * An image in memory as a layer; `openErofsLayer` makes one from a file.
 * @example
 * const layer = new ErofsLayer('small', readImageFile('small.cfs'));
 * assert.ok(isDirectory(layer.root.mode));
 * assert.equal(layer.lookup(layer.root, 'absent'), undefined);
 */
export class ErofsLayer implements Layer {
  readonly kind = 'image';
  readonly path: string;
  readonly filesystem: string;
  readonly image: Image;
  readonly root: Inode;
  readonly inoLimit: number;
  readonly uuid = undefined;
  /** Whether ACLs of the image count. They do not if a composefs header says that there are none. */
  private readonly showsAcl: boolean;
  private acl: boolean | undefined;
  /** For the nid of a directory: whether its names are in order. */
  private readonly orders = new Map<Nid, boolean>();
  #held: number | undefined;
  /** Computed when a number from outside is first checked. */
  private reachable: ReachableInodes | undefined;

  /**
   * Makes a layer of an image in memory, which several threads may share.
   * @param path names the image in messages
   * @param held a descriptor of `holdImage`, which is closed with the layer
   * Throws ErrnoError that names the path: EINVAL, EOPNOTSUPP, EUCLEAN as `openImage`.
   */
  constructor(path: ByteString, bytes: Uint8Array, held?: number) {
    this.path = printable(path);
    this.#held = held;
    this.filesystem = `image:${path}`;
    try {
      this.image = openImage(bytes);
      this.root = new ErofsInode(this, this.image.rootNid);
      this.inoLimit = Math.ceil((bytes.length - this.image.metaAt) / SLOT_BYTES); // at least the root lies below it
      const { composefs } = this.image;
      this.showsAcl = composefs === undefined || (composefs.flags & COMPOSEFS_HAS_ACL) !== 0;
    } catch (error) {
      if (!(error instanceof ErrnoError)) throw error;
      throw new ErrnoError(error.errno, `${this.path}: ${error.message}`);
    }
  }

  get composefs(): boolean {
    return this.image.composefs !== undefined;
  }

  /** An image without a composefs header does not record this, so its tree is walked at the first call. */
  get hasAcl(): boolean {
    this.acl ??= this.showsAcl && (this.image.composefs !== undefined || mayHaveAcl(this.image));
    return this.acl;
  }

  lookup(directory: Inode, name: ByteString): ErofsInode | undefined {
    const nid = findDirent(this.image, directory as ErofsInode, name);
    return nid === undefined ? undefined : new ErofsInode(this, nid);
  }

  recall(ino: number): ErofsInode {
    return new ErofsInode(this, ino as Nid);
  }

  holds(ino: number): boolean {
    this.reachable ??= new ReachableInodes(this.image);
    return this.reachable.has(ino);
  }

  parent(directory: Inode): ErofsInode | undefined {
    const nid = findDirent(this.image, directory as ErofsInode, '..');
    return nid === undefined ? undefined : new ErofsInode(this, nid);
  }

  /** EROFS stores one time, that of the last change of the data; stat shows it as all three. */
  attr(inode: Inode): Attr {
    const { nid, mode, nlink, uid, gid, rdev, sizeBytes, mtime, mtimensec } = inode as ErofsInode;
    return {
      ino: nid,
      mode,
      nlink,
      uid,
      gid,
      rdev,
      size: sizeBytes,
      blocks: this.sectors(inode as ErofsInode),
      blksize: this.image.blockBytes,
      atime: mtime,
      atimensec: mtimensec,
      mtime,
      mtimensec,
      ctime: mtime,
      ctimensec: mtimensec,
    };
  }

  /** st_blocks: for compressed data, the compressed blocks; for all other data, the size in blocks, holes included. */
  private sectors(inode: ErofsInode): number {
    const { blockBytes } = this.image;
    const blocks = isCompressed(inode) ? inode.u : Math.ceil(inode.sizeBytes / blockBytes);
    return blocks * (blockBytes / SECTOR_BYTES);
  }

  /** Throws ErrnoError: EINVAL for an inode that is no symlink, EUCLEAN for a target too long to be a path. */
  readlink(inode: Inode): ByteString {
    const link = inode as ErofsInode;
    if (!isSymlink(link.mode)) throw new ErrnoError(EINVAL, `${this.path}: nid ${link.nid}: not a symlink`);
    if (link.sizeBytes >= PATH_MAX) {
      throw new ErrnoError(EUCLEAN, `${this.path}: nid ${link.nid}: a link target of ${link.sizeBytes} bytes`);
    }
    const target = new Uint8Array(link.sizeBytes);
    readData(this.image, link, target, 0, link.sizeBytes, 0);
    const end = target.indexOf(0); // the kernel follows the target as a C string
    return byteStringOf(target, 0, end < 0 ? target.length : end);
  }

  readdir(directory: Inode, visit: (name: ByteString, dtype: number, ino: number) => void): boolean {
    listDirents(this.image, directory as ErofsInode, (name, nid, fileType) => {
      if (name !== '.' && name !== '..') visit(name, DTYPES[fileType] ?? 0, nid);
    });
    return this.findsAll(directory as ErofsInode);
  }

  readdirFrom(directory: Inode, position: number, visit: VisitFrom): void {
    const findsAll = this.findsAll(directory as ErofsInode); // also throws if the directory is corrupt after `position`
    listDirentsFrom(this.image, directory as ErofsInode, position, (name, nid, fileType, next) => {
      if (name === '.' || name === '..') return true;
      return visit(name, DTYPES[fileType] ?? 0, findsAll ? nid : undefined, next);
    });
  }

  visitNames(directory: Inode, visit: (name: ByteString, dtype: number) => boolean): void {
    listDirentsFrom(this.image, directory as ErofsInode, 0, (name, _, fileType) =>
      name === '.' || name === '..' ? true : visit(name, DTYPES[fileType] ?? 0),
    );
  }

  /** Whether a lookup finds each name of a directory: it searches by their order, which may be wrong. */
  private findsAll(directory: ErofsInode): boolean {
    const known = this.orders.get(directory.nid);
    if (known !== undefined) return known;
    const inOrder = isInOrder(this.image, directory);
    if (this.orders.size === ORDERS_MAX) this.orders.clear();
    this.orders.set(directory.nid, inOrder);
    return inOrder;
  }

  getxattr(inode: Inode, name: ByteString): Uint8Array | undefined {
    const entry = this.xattrEntry(inode, name);
    return entry < 0 ? undefined : xattrValue(this.image, entry);
  }

  xattrBytes(inode: Inode, name: ByteString): number {
    const entry = this.xattrEntry(inode, name);
    return entry < 0 ? -1 : xattrValueBytes(this.image, entry);
  }

  private xattrEntry(inode: Inode, name: ByteString): number {
    const entry = findXattr(this.image, inode as ErofsInode, name);
    return entry < 0 || this.isShown(name) ? entry : -1;
  }

  listxattr(inode: Inode): ByteString[] {
    const names: ByteString[] = [];
    listXattrs(this.image, inode as ErofsInode, name => {
      if (this.isShown(name)) names.push(name);
    });
    return names;
  }

  /**
   * Whether the kernel has a handler for an xattr of this name. An image may hold others (lustre., or no prefix at all), which
   * the kernel's EROFS never shows.
   */
  private isShown(name: ByteString): boolean {
    if (name.startsWith('trusted.') || name.startsWith('user.') || name.startsWith('security.')) return true;
    return this.showsAcl && (name === ACL_ACCESS || name === ACL_DEFAULT);
  }

  /**
   * Throws ErrnoError: EOPNOTSUPP, with the reason, if the data is compressed or on another device; EINVAL for an inode that is
   * no regular file.
   */
  open(inode: Inode): Data {
    const file = inode as ErofsInode;
    if (!isRegular(file.mode)) throw new ErrnoError(EINVAL, `${this.path}: nid ${file.nid}: not a regular file`);
    checkReadable(this.image, file);
    return new ImageData(this.image, file, `layer ${this.path}: nid ${file.nid}`);
  }

  openPath(path: ByteString): Data | number {
    const found = this.walk(path);
    if (typeof found === 'number') return found;
    return isRegular(found.mode) ? this.open(found) : -ENOENT;
  }

  /**
   * Walks a path as openat2(2) with RESOLVE_BENEATH and RESOLVE_NO_SYMLINKS does; a symlink in the last component is returned
   * itself.
   */
  private walk(path: ByteString): ErofsInode | number {
    if (path.length >= PATH_MAX) return -ENAMETOOLONG;
    const above: ErofsInode[] = [];
    let at = this.root as ErofsInode;
    for (const component of path.split('/')) {
      if (component === '') continue;
      if (!isDirectory(at.mode)) return isSymlink(at.mode) ? -ELOOP : -ENOTDIR;
      if (component === '.') continue;
      if (component === '..') {
        const parent = above.pop();
        if (parent === undefined) return -EXDEV;
        at = parent;
        continue;
      }
      if (component.length > NAME_MAX) return -ENAMETOOLONG;
      const next = this.lookup(at, component);
      if (next === undefined) return -ENOENT;
      above.push(at);
      at = next;
    }
    return at;
  }

  originOf({ ino }: Inode): Origin {
    return { uuid: byteStringOf(this.image.uuid), handle: handleOfNid(ino) };
  }

  inodeOf({ uuid, handle }: Origin): Inode | undefined {
    const nid = uuid === byteStringOf(this.image.uuid) ? nidOfHandle(handle) : undefined;
    return nid !== undefined && this.holds(nid) ? this.recall(nid) : undefined;
  }

  /** The kernel's EROFS opens no file by a handle whose mount is gone. */
  openHandle(): number {
    return -EOPNOTSUPP;
  }

  /** The kernel reports the largest number, -1, as the count of inodes, and as free those that the image does not use. */
  statfs(): Statfs {
    const { blocks, blockBytes, inodes } = this.image;
    const files = -1;
    return {
      blocks,
      bfree: 0,
      bavail: 0,
      files,
      ffree: files - inodes,
      bsize: blockBytes,
      namelen: NAME_MAX,
      frsize: blockBytes,
    };
  }

  /** The bytes are freed when no thread refers to them. */
  close(): void {
    if (this.#held !== undefined) native.close(this.#held);
    this.#held = undefined;
  }
}

/** The maximum number of directories whose order is remembered. */
const ORDERS_MAX = 4096;
const ACL_ACCESS = XATTR_PREFIXES[XATTR_INDEX_POSIX_ACL_ACCESS] as ByteString;
const ACL_DEFAULT = XATTR_PREFIXES[XATTR_INDEX_POSIX_ACL_DEFAULT] as ByteString;

/** d_type by file_type of a dirent. */
const DTYPES = new Uint8Array(8); // FT_UNKNOWN stays DT_UNKNOWN
for (const [fileType, mode] of [
  [FT_REG_FILE, S_IFREG],
  [FT_DIR, S_IFDIR],
  [FT_CHRDEV, S_IFCHR],
  [FT_BLKDEV, S_IFBLK],
  [FT_FIFO, S_IFIFO],
  [FT_SOCK, S_IFSOCK],
  [FT_SYMLINK, S_IFLNK],
] as const) {
  DTYPES[fileType] = dtypeOf(mode);
}
const SECTOR_BYTES = 512;
const PATH_MAX = 4096;
