/** The interface of one layer to an overlay. An image and a directory both implement it; neither knows the other. */
import type { ByteString } from '../sys/bytes.ts';
import type { Handle, Origin } from '../sys/handles.ts';
import type { Attr, Statfs } from '../sys/stat.ts';

/** One object of a layer: the data by which its layer finds it again, and the attributes that the rules of lookup examine. */
export interface Inode {
  readonly layer: Layer;
  /** Unique on the layer's filesystem as long as the mount lives; hard links share it. Below 2^44. */
  readonly ino: number;
  /** Type and permission bits. */
  readonly mode: number;
  /** Device number as `makeRdev` packs it; 0 for other types. */
  readonly rdev: number;
  readonly sizeBytes: number;
  /** The flags of chattr(1) that forbid changes, if the filesystem has any: bits IMMUTABLE and APPEND_ONLY of upper/protection.ts. */
  readonly protection?: number;
  /** Distinguishes the object from an earlier one with the same number; absent if numbers are not reused. */
  readonly birth?: ByteString;
  /** Whether the object was found to be gone from its place, so that it must be looked up again. */
  readonly isStale?: boolean;
  /** How often the object was found under another name. A name that led to it before may now lead elsewhere. */
  readonly moves?: number;
}

/** The bytes of an open regular file, unchecked unless the function that opened it says otherwise. */
export interface Data {
  /** A descriptor for passthrough and pread, or -1 if the bytes are in an image. */
  readonly fd: number;
  /** The layer and the place in it, for messages. */
  readonly place: string;
  readonly sizeBytes: number;
  /** Changes when the bytes may have changed; '' if they cannot change. */
  readonly version: string;
  /**
   * Size and version at one moment: that of the opening for the first call, if it is known, otherwise now. For data that learns
   * both from one system call.
   */
  look?(): Look;
  /** Reads up to `length` bytes at `position` into `out[at..]`. @returns the count, which is less only at the end, or -errno */
  read(out: Uint8Array, at: number, length: number, position: number): number;
  /** The offset of the next data (whence 3) or hole (whence 4) at or after `offset`, or -errno. */
  seek(offset: number, whence: number): number;
  /** Closes the data. It may be called only once, and nothing may be read afterwards. */
  close(): void;
}

/** The state of an open file at one moment. */
export interface Look {
  readonly sizeBytes: number;
  readonly version: string;
  /** Whether the file has fs-verity, according to its filesystem. */
  readonly hasVerity: boolean;
  /**
   * Whether any later change gives another version. False while the last change is more recent than the resolution of timestamps.
   */
  readonly isSettled: boolean;
}

/** Receives one entry of a listing. @returns whether the listing goes on */
export type VisitFrom = (name: ByteString, dtype: number, ino: number | undefined, next: number) => boolean;

/**
 * One tree of a stack. Names, paths and targets are byte strings. Misses and negative errnos are return values only where that is
 * documented;
 * every other error is thrown as ErrnoError, and ends the lookup with that errno.
 */
export interface Layer {
  /** The path that the layer was opened by, for messages. */
  readonly path: string;
  /** Nothing in an `image` can ever change; answers of a `directory` are asked for again from time to time. */
  readonly kind: 'image' | 'directory';
  /** Whether the mount writes to the layer: it is the upper one. */
  readonly isUpper?: boolean;
  /** Identifies the filesystem. Layers on one filesystem share it, so that hard links across them are one inode. */
  readonly filesystem: string;
  readonly root: Inode;
  /** All inode numbers are below this; absent if no bound is known. */
  readonly inoLimit?: number;
  /** Whether objects may have POSIX ACLs. */
  readonly hasAcl: boolean;
  /** Whether the layer is an image with a composefs header, so that the data of most files is in objects. */
  readonly composefs?: boolean;
  /**
   * Finds `name` (no slash, not "", "." or "..") in a directory. @returns undefined for a miss
   * Throws ErrnoError for a corrupt image and for any error of a system call except ENOENT and ENAMETOOLONG, which are a miss.
   */
  lookup(directory: Inode, name: ByteString): Inode | undefined;
  /**
   * Whether `found`, the result of a new lookup, is the same object as `known`, which has the same number. If so, `known` takes
   * over the place and the attributes of `found`.
   * Absent if a number belongs to one object for good.
   */
  adopt?(known: Inode, found: Inode): boolean;
  /**
   * The attributes that stat(2) shows; `ino` is that of the inode. Like every method below that takes an inode, it throws
   * ErrnoError ESTALE if the name of the object leads to another object, or to none: a new lookup then finds the present object.
   * A caller that asks about a directory again at once has no name to look up; it gets an answer as long as a descriptor of the
   * directory is open.
   * @param openFd an open file that may be the object; if it is, its name does not matter
   * @param isFresh whether the inode was looked up or made just now, while the same request was answered
   */
  attr(inode: Inode, openFd?: number, isFresh?: boolean): Attr;
  /**
   * Checks the object again before an open. Throws ErrnoError ESTALE as `attr` does, and also if mode, owner or ACL differ from
   * those reported last: the kernel granted access by those.
   * Absent if nothing can change.
   * @param fd an open file that may be the object; if it is, and has not changed since, the name is not resolved again
   * @param isInUse whether another open of that file exists. A caller that asks again at once then opens it without its name, for
   *   example by /proc/PID/fd
   */
  recheck?(inode: Inode, fd: number, isInUse: boolean): void;
  /** The target of a symlink. Throws ErrnoError EINVAL for anything else. */
  readlink(inode: Inode): ByteString;
  /**
   * Passes each entry to `visit` in the layer's order, without `.` and `..`. `dtype` is a DT_* number, 0 if not known; `ino` is
   * the number of the inode, if the layer knows it.
   * @returns whether a lookup of each name leads to the inode of that number
   */
  readdir(directory: Inode, visit: (name: ByteString, dtype: number, ino?: number) => void): boolean;
  /**
   * Lists as `readdir` does, in a layer whose listings have positions: from `position` (0, or the `next` of an entry) until
   * `visit` returns false.
   * `ino` is absent if a lookup of the name may lead elsewhere.
   */
  readdirFrom?(directory: Inode, position: number, visit: VisitFrom): void;
  /** Whether a name in a directory is a character device 0:0, in a layer where that is quicker to see than by a lookup. */
  isDevice0?(directory: Inode, name: ByteString): boolean;
  /**
   * Passes names as `readdirFrom` does from the start, but does not check their order first, which reads the whole directory. So a
   * name may be one that no lookup finds. Absent in directories.
   */
  visitNames?(directory: Inode, visit: (name: ByteString, dtype: number) => boolean): void;
  /**
   * The inode of a number, in a layer that need not remember what it found. Throws ErrnoError as a lookup that finds the inode
   * does.
   */
  recall?(ino: number): Inode;
  /**
   * Whether some name leads to the inode of a number. `recall` assumes this, so numbers from outside must be checked here first.
   */
  holds?(ino: number): boolean;
  /**
   * The parent of a directory, in a layer that recalls; undefined if the directory does not record it. Throws ErrnoError as
   * `recall` does.
   */
  parent?(directory: Inode): Inode | undefined;
  /** The value of an xattr; undefined if there is none. It must not be written to, because it may be the layer's own bytes. */
  getxattr(inode: Inode, name: ByteString): Uint8Array | undefined;
  /** The size of the value in bytes, or -1 if there is none. */
  xattrBytes(inode: Inode, name: ByteString): number;
  /** The names of all xattrs. */
  listxattr(inode: Inode): ByteString[];
  /**
   * The result of FS_IOC_GETFLAGS (a u32 of flags) or FS_IOC_FSGETXATTR (a struct fsxattr) for a regular file or a directory, or
   * a negative errno.
   * Absent if the layer has no such attributes.
   */
  fileAttributes?(inode: Inode, kind: 'flags' | 'fsxattr'): Uint8Array | number;
  /** Opens a regular file for reading. */
  open(inode: Inode): Data;
  /**
   * Opens the regular file at a path below the layer's root, by the rules of data-only layers: no symlinks, nothing above the
   * root, no other filesystem; overlay xattrs have no meaning.
   * @returns the data, or a negative errno if there is no such file
   */
  openPath(path: ByteString): Data | number;
  /** The 16 bytes of the filesystem's uuid, zeros if it has none; undefined if the layer has no file handles. */
  readonly uuid: ByteString | undefined;
  /**
   * The filesystem and the file handle by which an object is named as the origin of a copy; undefined if there is none. Absent in
   * layers without handles, as is `inodeOf`.
   */
  originOf?(inode: Inode): Origin | undefined;
  /** The object that `originOf` names so, wherever it is on the layer's filesystem; undefined if it is not there, or not allowed. */
  inodeOf?(origin: Origin): Inode | undefined;
  /**
   * Opens the regular file of a handle, which may be anywhere on the layer's filesystem.
   * @returns the data, or a negative errno: -ENOENT also for an object that is no regular file, -EPERM without
   *   CAP_DAC_READ_SEARCH and without an index
   */
  openHandle(handle: Handle): Data | number;
  /** The statfs(2) numbers of the layer's filesystem. */
  statfs(): Statfs;
  /** Closes the layer: none of its inodes may be used afterwards. */
  close(): void;
}
