/** The interface of a filesystem that a session serves: the operations of FUSE as methods. */
import type { ByteString, Seconds } from '../sys/bytes.ts';
import type { InitResult } from './init.ts';
import type { Out } from './reply.ts';

/** The kernel's handle on a node of this mount. The root is 1; the filesystem assigns the others, all below 2^53. */
export type Nodeid = number & { readonly nodeid: unique symbol };
export const ROOT = 1 as Nodeid;

/** The number of a request, kept as its eight bytes because it is only echoed. */
export type Unique = ByteString & { readonly unique: unique symbol };

/** The result of a method that will answer later. It is neither an errno (-1 to -511) nor a number of bytes. */
export const DEFERRED = -4096;

/** The answer to a request that a method deferred with DEFERRED. */
export interface Settled {
  readonly unique: Unique;
  /** Writes the body to `out` as the method would have. Its result or its exception is treated as the method's would be. */
  readonly answer: (out: Out) => number;
}

/** The process that made a request, for the few operations whose answer depends on it. */
export interface Caller {
  uid: number;
  gid: number;
  pid: number;
}

/** The inode attributes that an ioctl asks for: the flags of chattr(1), or struct fsxattr. */
export type FileAttributes = 'flags' | 'fsxattr';

/**
 * A filesystem. Every method is synchronous.
 * A method with an `out` writes the body of its reply there, with the put functions of reply.ts, and returns the number of bytes.
 * If it returns a negative errno instead, the bytes that it wrote do not count.
 * A method may throw: an ErrnoError is answered with its errno, anything else with EIO.
 */
export interface Filesystem {
  /** Called once before all other requests, with the result of INIT. Only the dispatcher whose session received INIT calls it. */
  init?(connection: InitResult): void;
  /** Returns an answer that was DEFERRED and is now ready, or undefined if there is none. Called after every request. */
  settled?(): Settled | undefined;
  /** The caller no longer waits for a request that was DEFERRED. The request must still be answered soon, with -EINTR. */
  interrupt?(unique: Unique): void;
  /** Called once when the connection has ended and no more requests come. */
  destroy(): void;

  /**
   * Writes an EntryOut. Each one with a nodeid counts as a lookup, for `forget`. A missing name may be an EntryOut with nodeid 0.
   */
  lookup(parent: Nodeid, name: ByteString, out: Out): number;
  /**
   * Writes an EntryOut for a file handle (EXPORT_SUPPORT) whose inode the kernel has forgotten. The entry is that of `nodeid`, or
   * of the directory above it if `isParent`. `nodeid` is not trusted: it may come from anywhere. Returns -ESTALE if there is no
   * such node.
   */
  lookupHandle?(nodeid: Nodeid, isParent: boolean, out: Out): number;
  /** Takes back `count` lookups of the node. */
  forget(nodeid: Nodeid, count: number): void;
  /** Writes an AttrOut. */
  getattr(nodeid: Nodeid, out: Out): number;
  /** Writes a StatxOut. */
  statx(nodeid: Nodeid, out: Out): number;
  /** Writes the symlink's target, without a NUL. */
  readlink(nodeid: Nodeid, out: Out): number;
  /** Writes a Kstatfs. */
  statfs(nodeid: Nodeid, out: Out): number;
  /** Returns 0 or -EACCES. Not called if the kernel checks permissions itself. `mask` combines R_OK 4, W_OK 2 and X_OK 1. */
  access(nodeid: Nodeid, mask: number): number;

  /**
   * Writes an OpenOut, or returns DEFERRED. `flags` are O_*. -ENOSYS means that files need no open: the kernel sends no more
   * OPEN, and READ comes with `fh` 0.
   * @param killsPrivileges whether an open with O_TRUNC takes set-user-ID, set-group-ID and capabilities away
   */
  open(nodeid: Nodeid, flags: number, out: Out, unique: Unique, killsPrivileges: boolean): number;
  /**
   * Writes `length` bytes, or fewer only at the end of the file; or returns DEFERRED. `length` never exceeds the room in `out`.
   */
  read(nodeid: Nodeid, fh: number, position: number, length: number, out: Out, unique: Unique): number;
  /** Writes an LseekOut: the next data (`whence` 3) or hole (4) at or after `offset`. */
  lseek(nodeid: Nodeid, fh: number, offset: number, whence: number, out: Out): number;
  release(nodeid: Nodeid, fh: number): void;

  /** Writes an OpenOut. -ENOSYS means that directories need no open, and that the kernel caches listings. */
  opendir(nodeid: Nodeid, out: Out): number;
  /** Writes entries in at most `length` bytes; see DirentPacker. `position` is 0 or the `nextOffset` of an entry sent before. */
  readdir(nodeid: Nodeid, fh: number, position: number, length: number, plus: boolean, out: Out): number;
  releasedir(nodeid: Nodeid, fh: number): void;

  /** Returns the value, or -errno. */
  getxattr(nodeid: Nodeid, name: ByteString, caller: Caller): Uint8Array | number;
  /** Returns a u32 of FS_*_FL flags or a struct fsxattr, or -errno; -ENOTTY if the inode has no such attributes. */
  fileAttributes(nodeid: Nodeid, kind: FileAttributes): Uint8Array | number;
  /** Returns the names, each followed by a NUL, or -errno. */
  listxattr(nodeid: Nodeid, caller: Caller): Uint8Array | number;

  /** The operations that change something; absent in a read-only filesystem. */
  readonly changes?: Changes | undefined;
}

/** A new time of an object. */
export type NewTime = 'now' | { readonly seconds: Seconds; readonly nanoseconds: number } | undefined;

/** The attributes to change; undefined stays as it is. */
export interface Setattr {
  /** The open file by which the caller asks. */
  readonly fh: number | undefined;
  readonly mode: number | undefined;
  readonly uid: number | undefined;
  readonly gid: number | undefined;
  readonly size: number | undefined;
  readonly atime: NewTime;
  readonly mtime: NewTime;
  /**
   * Whether set-user-ID, set-group-ID and capabilities go, because the data changes. unless root: capabilities go, and the others
   * if the caller is not root.
   */
  readonly killsPrivileges: boolean | 'unless root';
}

/** An object to make. `mode` has its type, and `umask` is not applied yet. */
export interface NewNode {
  readonly mode: number;
  readonly umask: number;
  readonly rdev: number;
  readonly target: ByteString;
}

/** A range of a file that is copied. */
export interface FileRange {
  readonly nodeid: Nodeid;
  readonly fh: number;
  readonly offset: number;
}

/** The changes that a writable filesystem makes. The methods return as those of Filesystem do, and may be DEFERRED where `unique` is given. */
export interface Changes {
  /** Whether SETXATTR has the longer header: INIT agreed on SETXATTR_EXT. */
  readonly hasLongSetxattr: boolean;
  /** Writes an AttrOut. */
  setattr(nodeid: Nodeid, change: Setattr, caller: Caller, out: Out, unique: Unique): number;
  /** Makes a file, directory, symlink, device, socket or fifo. Writes an EntryOut. */
  make(parent: Nodeid, name: ByteString, wanted: NewNode, caller: Caller, out: Out): number;
  /** Makes and opens a regular file. Writes an EntryOut and an OpenOut. */
  create(parent: Nodeid, name: ByteString, wanted: NewNode, caller: Caller, flags: number, out: Out): number;
  /** The same for a file without a name. */
  createUnnamed(parent: Nodeid, wanted: NewNode, caller: Caller, flags: number, out: Out): number;
  /** Writes an EntryOut. */
  link(nodeid: Nodeid, parent: Nodeid, name: ByteString, out: Out, unique: Unique): number;
  remove(parent: Nodeid, name: ByteString, isDirectory: boolean, unique: Unique): number;
  rename(
    parent: Nodeid,
    name: ByteString,
    newParent: Nodeid,
    newName: ByteString,
    flags: number,
    unique: Unique,
  ): number;
  /** Returns the number of bytes written. */
  write(nodeid: Nodeid, fh: number, position: number, bytes: Uint8Array, killsPrivileges: boolean): number;
  fallocate(nodeid: Nodeid, fh: number, mode: number, offset: number, length: number): number;
  /** Returns the number of bytes copied. */
  copyFileRange(from: FileRange, to: FileRange, length: number): number;
  fsync(nodeid: Nodeid, fh: number, dataOnly: boolean): number;
  fsyncdir(nodeid: Nodeid, dataOnly: boolean): number;
  setxattr(nodeid: Nodeid, name: ByteString, value: Uint8Array, flags: number, killsSetgid: boolean): number;
  removexattr(nodeid: Nodeid, name: ByteString): number;
  setFileAttributes(nodeid: Nodeid, kind: FileAttributes, value: Uint8Array): number;
}
