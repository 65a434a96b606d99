/** What an overlay asks of one layer. An image and a directory answer the same questions; neither knows the other. */
import type { Name } from '../sys/bytes.ts';
import type { Handle } from '../sys/handles.ts';
import type { Attr } from '../sys/stat.ts';

/** One object of a layer: what its layer needs to find it again, and what the rules of lookup look at. */
export interface Inode {
  readonly layer: Layer;
  /** Unique on the layer's filesystem for as long as the mount lives; the names of a hard link share it. Below 2^44. */
  readonly ino: number;
  /** Type and permission bits. */
  readonly mode: number;
  /** Device number as `makeRdev` packs it; 0 for other types. */
  readonly rdev: number;
  readonly sizeBytes: number;
}

/** An open regular file's bytes. */
export interface Data {
  /** A descriptor that passthrough and pread can use, or -1 where the bytes are in an image. */
  readonly fd: number;
  /** Its layer and where it is there, for messages. */
  readonly place: string;
  readonly sizeBytes: number;
  /** Changes when the bytes may have changed; '' where they can not. */
  readonly version: string;
  /** Reads up to `length` bytes at `position` into `out[at..]`; the count, 0 at the end, or -errno. */
  read(out: Uint8Array, at: number, length: number, position: number): number;
  /** The offset of the next data (whence 3) or hole (whence 4) at or after `offset`, or -errno. */
  seek(offset: number, whence: number): number;
  close(): void;
}

/** Filesystem numbers of statfs(2). */
export interface Statfs {
  blocks: number;
  bfree: number;
  bavail: number;
  files: number;
  ffree: number;
  bsize: number;
  namelen: number;
  frsize: number;
}

export interface Layer {
  /** The path it was given by, for messages. */
  readonly path: string;
  readonly kind: 'image' | 'directory';
  /** Tells filesystems apart: layers on one filesystem share it, so that hard links across them are one inode. */
  readonly filesystem: string;
  readonly root: Inode;
  /** Whether objects may have POSIX ACLs. */
  readonly hasAcl: boolean;
  /**
   * Finds `name` (no slash, not "", "." or "..") in a directory.
   * Throws ErrnoError for a corrupt image and for any error of a system call but ENOENT and ENAMETOOLONG, which are a miss.
   */
  lookup(directory: Inode, name: Name): Inode | undefined;
  attr(inode: Inode): Attr;
  readlink(inode: Inode): Name;
  /** Hands each entry to `visit`, `.` and `..` left out, in the layer's order. `inode` where it costs nothing to know. */
  readdir(directory: Inode, visit: (name: Name, dtype: number) => void): void;
  /** The value of an xattr, or undefined where there is none. */
  getxattr(inode: Inode, name: Name): Uint8Array | undefined;
  listxattr(inode: Inode): Name[];
  /** Opens a regular file for reading. */
  open(inode: Inode): Data;
  /**
   * Opens the regular file at a path below the layer's root, as a data-only layer is asked: no symlinks, nothing above
   * the root, no other filesystem; overlay xattrs mean nothing. A negative errno where there is none.
   */
  openPath(path: Name): Data | number;
  /** The 16 bytes of the filesystem's uuid, zeros where it has none; undefined where it knows no file handles. */
  readonly uuid: Name | undefined;
  /**
   * Opens the regular file of a handle, which may be anywhere on the layer's filesystem. A negative errno where there is
   * none: -ENOENT also for anything that is no regular file, -EPERM without CAP_DAC_READ_SEARCH and without an index.
   */
  openHandle(handle: Handle): Data | number;
  statfs(): Statfs;
  close(): void;
}
