/** What an overlay asks of one layer. An image and a directory answer the same questions; neither knows the other. */
import type { ByteString } from '../sys/bytes.ts';
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
  /** What tells the object from one that had its number before; absent where there was none. */
  readonly birth?: ByteString;
  /** Whether it was found not to be where it was: it is to be looked up again. */
  readonly isStale?: boolean;
  /** How often it was found under another name: what a name led to before may be elsewhere now. */
  readonly moves?: number;
}

/** An open regular file's bytes, unchecked unless whoever opened it says otherwise. */
export interface Data {
  /** A descriptor that passthrough and pread can use, or -1 where the bytes are in an image. */
  readonly fd: number;
  /** Its layer and where it is there, for messages. */
  readonly place: string;
  readonly sizeBytes: number;
  /** Changes when the bytes may have changed; '' where they can not. */
  readonly version: string;
  /** Both at one moment, now or, the first time, when it was opened: for data where one question answers both. */
  look?(): Look;
  /** Reads up to `length` bytes at `position` into `out[at..]`: the count, which is less only at the end, or -errno. */
  read(out: Uint8Array, at: number, length: number, position: number): number;
  /** The offset of the next data (whence 3) or hole (whence 4) at or after `offset`, or -errno. */
  seek(offset: number, whence: number): number;
  /** To be called once; nothing may be read afterwards. */
  close(): void;
}

/** What an open file is at one moment. */
export interface Look {
  readonly sizeBytes: number;
  readonly version: string;
  /** Whether it has fs-verity, as its filesystem says. */
  readonly hasVerity: boolean;
  /** Whether a change from now on must give another version: not, while the last one is younger than timestamps are fine. */
  readonly isSettled: boolean;
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
  /** ST_* bits of the mount by which a directory was reached; absent where there is none. */
  flags?: number;
}

/** @returns whether the listing goes on */
export type VisitFrom = (name: ByteString, dtype: number, ino: number | undefined, next: number) => boolean;

/**
 * One tree of a stack. Names, paths and targets are byte strings. What is not documented to be a value (a miss, a negative
 * errno) is thrown as ErrnoError, and ends the lookup with that errno.
 */
export interface Layer {
  /** The path it was given by, for messages. */
  readonly path: string;
  /** Nothing in an `image` can ever change; answers of a `directory` are asked for again now and then. */
  readonly kind: 'image' | 'directory';
  /** Tells filesystems apart: layers on one filesystem share it, so that hard links across them are one inode. */
  readonly filesystem: string;
  readonly root: Inode;
  /** Every number of an inode is below this; absent where nobody knows. */
  readonly inoLimit?: number;
  /** Whether objects may have POSIX ACLs. */
  readonly hasAcl: boolean;
  /**
   * Finds `name` (no slash, not "", "." or "..") in a directory.
   * Throws ErrnoError for a corrupt image and for any error of a system call but ENOENT and ENAMETOOLONG, which are a miss.
   */
  lookup(directory: Inode, name: ByteString): Inode | undefined;
  /**
   * Whether a lookup that found `found` found the object of `known` again, which has the same number. If so, what `known` remembers
   * of its place and its attributes is that of `found` from now on. Absent where a number is one object's for good.
   */
  adopt?(known: Inode, found: Inode): boolean;
  /**
   * What stat(2) shows of the object; `ino` is that of the inode. Like everything below that is asked about an inode, it throws
   * ErrnoError ESTALE where the name of the object leads to another one, or to nothing: a lookup then finds what is there. Who
   * asks about a directory again at once has no name to look up, and gets an answer while a descriptor of it is open.
   * @param openFd an open file that may be the object; if it is, its name does not matter
   */
  attr(inode: Inode, openFd?: number): Attr;
  /**
   * Throws ErrnoError ESTALE likewise, and where mode, owner or ACL are not what was told last: whoever opens the object was let in
   * by those. Absent where nothing can change.
   * @param fd an open file that may be the object; if it is, and has not changed since, its name need not be asked for
   * @param isInUse whether somebody has that file open. Who asks again at once opens it by /proc/PID/fd, say, without its name
   */
  recheck?(inode: Inode, fd: number, isInUse: boolean): void;
  /** The target of a symlink. Throws ErrnoError EINVAL for anything else. */
  readlink(inode: Inode): ByteString;
  /**
   * Hands each entry to `visit`, `.` and `..` left out, in the layer's order; `dtype` is a DT_* number, 0 if not known, and
   * `ino` the number of the inode, where the layer can say it.
   * @returns whether a lookup of each name leads to the inode of that number
   */
  readdir(directory: Inode, visit: (name: ByteString, dtype: number, ino?: number) => void): boolean;
  /**
   * Lists as `readdir`, in a layer whose listings have positions: from `position` (0, or an entry's `next`) on, until `visit`
   * returns false. `ino` is absent where a lookup of the name may lead elsewhere.
   */
  readdirFrom?(directory: Inode, position: number, visit: VisitFrom): void;
  /** The inode of a number, in a layer that needs not remember what it found. Throws ErrnoError as a lookup that finds it. */
  recall?(ino: number): Inode;
  /** Whether some name leads to the inode of a number: what `recall` takes for granted, for numbers that come from outside. */
  holds?(ino: number): boolean;
  /** The directory above one, in a layer that recalls; undefined where it does not say. Throws ErrnoError as `recall`. */
  parent?(directory: Inode): Inode | undefined;
  /** The value of an xattr, not to be written to: it may be the layer's own bytes. undefined where there is none. */
  getxattr(inode: Inode, name: ByteString): Uint8Array | undefined;
  /** The size of that value, or -1 where there is none. */
  xattrBytes(inode: Inode, name: ByteString): number;
  /** The names of all xattrs. */
  listxattr(inode: Inode): ByteString[];
  /**
   * What FS_IOC_GETFLAGS (a u32 of flags) or FS_IOC_FSGETXATTR (a struct fsxattr) gives of a regular file or a directory, or a
   * negative errno. Absent: the layer has nothing of the kind.
   */
  fileAttributes?(inode: Inode, kind: 'flags' | 'fsxattr'): Uint8Array | number;
  /** Opens a regular file for reading. */
  open(inode: Inode): Data;
  /**
   * Opens the regular file at a path below the layer's root, as a data-only layer is asked: no symlinks, nothing above
   * the root, no other filesystem; overlay xattrs mean nothing. A negative errno where there is none.
   */
  openPath(path: ByteString): Data | number;
  /** The 16 bytes of the filesystem's uuid, zeros where it has none; undefined where it knows no file handles. */
  readonly uuid: ByteString | undefined;
  /**
   * Opens the regular file of a handle, which may be anywhere on the layer's filesystem. A negative errno where there is
   * none: -ENOENT also for anything that is no regular file, -EPERM without CAP_DAC_READ_SEARCH and without an index.
   */
  openHandle(handle: Handle): Data | number;
  /** The numbers of its filesystem. */
  statfs(): Statfs;
  /** Ends the layer: no inode of it may be used afterwards. */
  close(): void;
}
