/** The Filesystem interface that a session serves, and a table with one row per opcode. */
import type { ByteString } from '../sys/bytes.ts';
import { byteStringOf, getI64, getU64 } from '../sys/bytes.ts';
import { EINVAL, ENAMETOOLONG, ENOSYS, ENOTTY, ERANGE, EROFS } from '../sys/errno.ts';
import {
  AccessIn,
  BatchForgetIn,
  ForgetIn,
  ForgetOne,
  GetattrIn,
  GetxattrIn,
  GetxattrOut,
  InHeader,
  InterruptIn,
  IoctlIn,
  IoctlOut,
  LseekIn,
  NAME_MAX,
  OpenIn,
  ReadIn,
  ReleaseIn,
  StatxIn,
} from './abi.ts';
import type { InitResult } from './init.ts';
import { Opcode } from './opcode.ts';
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
 * A read-only filesystem. Every method is synchronous.
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
   */
  open(nodeid: Nodeid, flags: number, out: Out, unique: Unique): number;
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
}

/** A request whose header has been checked. */
export interface Request {
  /** The whole request, starting with its header. The bytes from `end` on do not belong to it. */
  readonly bytes: Uint8Array;
  readonly view: DataView;
  readonly end: number;
  readonly nodeid: Nodeid;
}

/** How a request of one opcode is checked and answered. */
export interface Operation {
  /** Requests with a shorter body are refused before `run` is called. */
  readonly bodyBytesMin: number;
  /** False if the kernel expects no reply, not even an error. */
  readonly replies: boolean;
  /** Returns the bytes written to `out`, or -errno. */
  readonly run: RunOperation;
}
type RunOperation = (fs: Filesystem, request: Request, out: Out) => number;

/** The offset of a request's body. */
const BODY = InHeader.SIZE;

/** A lookup of "." or ".." is only for file handles. Source: linux/fs/fuse/inode.c, fuse_get_dentry, fuse_get_parent. */
function lookup(fs: Filesystem, request: Request, out: Out): number {
  const { bytes, end, nodeid } = request;
  const length = end - BODY - 1;
  if (fs.lookupHandle && isDots(bytes, BODY, length) && bytes[end - 1] === 0)
    return fs.lookupHandle(nodeid, length === 2, out);
  const refused = checkName(request, BODY, true);
  if (refused < 0) return refused;
  return fs.lookup(request.nodeid, byteStringOf(request.bytes, BODY, request.end - 1), out);
}

function forget(fs: Filesystem, request: Request): number {
  fs.forget(request.nodeid, getU64(request.view, BODY + ForgetIn.nlookup));
  return 0;
}

function batchForget(fs: Filesystem, request: Request): number {
  const first = BODY + BatchForgetIn.SIZE;
  const room = Math.floor((request.end - first) / ForgetOne.SIZE);
  const count = Math.min(request.view.getUint32(BODY + BatchForgetIn.count, true), room);
  for (let i = 0, at = first; i < count; i++, at += ForgetOne.SIZE) {
    fs.forget(getU64(request.view, at + ForgetOne.nodeid) as Nodeid, getU64(request.view, at + ForgetOne.nlookup));
  }
  return 0;
}

function open(fs: Filesystem, request: Request, out: Out): number {
  return fs.open(
    request.nodeid,
    request.view.getUint32(BODY + OpenIn.flags, true),
    out,
    uniqueAt(request, InHeader.unique),
  );
}

function interrupt(fs: Filesystem, request: Request): number {
  fs.interrupt?.(uniqueAt(request, BODY + InterruptIn.unique));
  return 0;
}

const uniqueAt = ({ bytes }: Request, at: number): Unique => byteStringOf(bytes, at, at + 8) as Unique;

function read(fs: Filesystem, request: Request, out: Out): number {
  const { nodeid, view } = request;
  const length = view.getUint32(BODY + ReadIn.size, true);
  if (length > out.bytes.length) return -EINVAL; // a shorter reply would mean the end of the file
  return fs.read(nodeid, handleOf(view), positionOf(view), length, out, uniqueAt(request, InHeader.unique));
}

function readdir(fs: Filesystem, request: Request, out: Out): number {
  const { nodeid, view } = request;
  return fs.readdir(nodeid, handleOf(view), positionOf(view), lengthOf(view, out), false, out);
}

function readdirplus(fs: Filesystem, request: Request, out: Out): number {
  const { nodeid, view } = request;
  return fs.readdir(nodeid, handleOf(view), positionOf(view), lengthOf(view, out), true, out);
}

const handleOf = (view: DataView): number => getU64(view, BODY + ReadIn.fh);
const positionOf = (view: DataView): number => getU64(view, BODY + ReadIn.offset);
/** The room for a listing, which may end after any entry. */
const lengthOf = (view: DataView, out: Out): number =>
  Math.min(view.getUint32(BODY + ReadIn.size, true), out.bytes.length);

function lseek(fs: Filesystem, request: Request, out: Out): number {
  const { nodeid, view } = request;
  const offset = getI64(view, BODY + LseekIn.offset);
  return fs.lseek(nodeid, getU64(view, BODY + LseekIn.fh), offset, view.getUint32(BODY + LseekIn.whence, true), out);
}

function release(fs: Filesystem, request: Request): number {
  fs.release(request.nodeid, getU64(request.view, BODY + ReleaseIn.fh));
  return 0;
}

function releasedir(fs: Filesystem, request: Request): number {
  fs.releasedir(request.nodeid, getU64(request.view, BODY + ReleaseIn.fh));
  return 0;
}

function getxattr(fs: Filesystem, request: Request, out: Out): number {
  const nameAt = BODY + GetxattrIn.SIZE;
  const refused = checkName(request, nameAt, false);
  if (refused < 0) return refused;
  const name = byteStringOf(request.bytes, nameAt, request.end - 1);
  return answerValue(fs.getxattr(request.nodeid, name, callerOf(request)), request, out);
}

function listxattr(fs: Filesystem, request: Request, out: Out): number {
  return answerValue(fs.listxattr(request.nodeid, callerOf(request)), request, out);
}

/** Answers by the size protocol of getxattr(2) and listxattr(2): size 0 asks for the length, and too small a size is -ERANGE. */
function answerValue(value: Uint8Array | number, request: Request, out: Out): number {
  if (typeof value === 'number') return value;
  const room = request.view.getUint32(BODY + GetxattrIn.size, true);
  if (room === 0) {
    out.view.setUint32(GetxattrOut.size, value.length, true);
    out.view.setUint32(GetxattrOut.padding, 0, true);
    return GetxattrOut.SIZE;
  }
  if (value.length > Math.min(room, out.bytes.length)) return -ERANGE;
  out.bytes.set(value);
  return value.length;
}

function callerOf({ view }: Request): Caller {
  return {
    uid: view.getUint32(InHeader.uid, true),
    gid: view.getUint32(InHeader.gid, true),
    pid: view.getUint32(InHeader.pid, true),
  };
}

const DOT = 0x2e;
const SLASH = 0x2f;

/**
 * Checks the name at the end of a request: it must end with a NUL and contain no other. A file's name must also be a single
 * component other than "." and "..". Returns 0 or a negative errno.
 */
function checkName({ bytes, end }: Request, from: number, isFile: boolean): number {
  const length = end - from - 1;
  if (length < 1 || bytes[end - 1] !== 0) return -EINVAL;
  if (length > NAME_MAX) return -ENAMETOOLONG;
  for (let i = from; i < end - 1; i++) {
    const byte = bytes[i];
    if (byte === 0 || (isFile && byte === SLASH)) return -EINVAL;
  }
  return isFile && isDots(bytes, from, length) ? -EINVAL : 0;
}

/** The ioctls of FS_IOC flags, as numbered on 64-bit and 32-bit machines. Source: linux/fs.h. */
const FileAttributesCommand = {
  FS_IOC_GETFLAGS: 0x80086601,
  FS_IOC32_GETFLAGS: 0x80046601,
  FS_IOC_SETFLAGS: 0x40086602,
  FS_IOC32_SETFLAGS: 0x40046602,
  FS_IOC_FSGETXATTR: 0x801c581f,
  FS_IOC_FSSETXATTR: 0x401c5820,
} as const;
/** More than any of these ioctls asks for. */
const IOCTL_BYTES_MAX = 64;

function ioctl(fs: Filesystem, { nodeid, view }: Request, out: Out): number {
  switch (view.getUint32(BODY + IoctlIn.cmd, true)) {
    case FileAttributesCommand.FS_IOC_GETFLAGS:
    case FileAttributesCommand.FS_IOC32_GETFLAGS:
      return answerIoctl(fs.fileAttributes(nodeid, 'flags'), view, out);
    case FileAttributesCommand.FS_IOC_FSGETXATTR:
      return answerIoctl(fs.fileAttributes(nodeid, 'fsxattr'), view, out);
    case FileAttributesCommand.FS_IOC_SETFLAGS:
    case FileAttributesCommand.FS_IOC32_SETFLAGS:
    case FileAttributesCommand.FS_IOC_FSSETXATTR:
      return -EROFS;
    default:
      return -ENOTTY;
  }
}

/** The kernel wants exactly as many bytes as it has made room for. */
function answerIoctl(value: Uint8Array | number, view: DataView, out: Out): number {
  if (typeof value === 'number') return value;
  const room = view.getUint32(BODY + IoctlIn.out_size, true);
  if (room < value.length || room > IOCTL_BYTES_MAX) return -EINVAL;
  const { bytes } = out;
  bytes.fill(0, 0, IoctlOut.SIZE + room);
  bytes.set(value, IoctlOut.SIZE);
  return IoctlOut.SIZE + room;
}
const isDots = (bytes: Uint8Array, from: number, length: number): boolean =>
  bytes[from] === DOT && (length === 1 || (length === 2 && bytes[from + 1] === DOT));

const refuseChange: RunOperation = () => -EROFS;
/** For most operations, ENOSYS tells the kernel not to ask again on this connection. */
const refuseForever: RunOperation = () => -ENOSYS;
const ignore: RunOperation = () => 0;

const operation = (bodyBytesMin: number, run: RunOperation): Operation => ({ bodyBytesMin, replies: true, run });
const silentOperation = (bodyBytesMin: number, run: RunOperation): Operation => ({ bodyBytesMin, replies: false, run });

/**
 * One row for every opcode except INIT, which init.ts answers. A literal size is that of a fuse_*_in structure whose fields are
 * never read; 2 bytes are the shortest name.
 */
export const operations: ReadonlyMap<number, Operation> = new Map([
  [Opcode.LOOKUP, operation(2, lookup)],
  [Opcode.FORGET, silentOperation(ForgetIn.SIZE, forget)],
  [Opcode.BATCH_FORGET, silentOperation(BatchForgetIn.SIZE, batchForget)],
  [Opcode.INTERRUPT, silentOperation(InterruptIn.SIZE, interrupt)], // the request was answered already, unless it was deferred
  [Opcode.NOTIFY_REPLY, silentOperation(0, ignore)], // comes only if the filesystem asked for it
  [Opcode.DESTROY, operation(0, ignore)], // sent only for block devices; a session ends when its last mount does

  [Opcode.GETATTR, operation(GetattrIn.SIZE, (fs, request, out) => fs.getattr(request.nodeid, out))],
  [Opcode.STATX, operation(StatxIn.SIZE, (fs, request, out) => fs.statx(request.nodeid, out))],
  [Opcode.READLINK, operation(0, (fs, request, out) => fs.readlink(request.nodeid, out))],
  [Opcode.STATFS, operation(0, (fs, request, out) => fs.statfs(request.nodeid, out))],
  [
    Opcode.ACCESS,
    operation(AccessIn.SIZE, (fs, { nodeid, view }) => fs.access(nodeid, view.getUint32(BODY + AccessIn.mask, true))),
  ],
  [Opcode.GETXATTR, operation(GetxattrIn.SIZE + 2, getxattr)],
  [Opcode.LISTXATTR, operation(GetxattrIn.SIZE, listxattr)],

  [Opcode.OPEN, operation(OpenIn.SIZE, open)],
  [Opcode.READ, operation(ReadIn.SIZE, read)],
  [Opcode.LSEEK, operation(LseekIn.SIZE, lseek)],
  [Opcode.RELEASE, operation(ReleaseIn.SIZE, release)],
  [Opcode.OPENDIR, operation(OpenIn.SIZE, (fs, request, out) => fs.opendir(request.nodeid, out))],
  [Opcode.READDIR, operation(ReadIn.SIZE, readdir)],
  [Opcode.READDIRPLUS, operation(ReadIn.SIZE, readdirplus)],
  [Opcode.RELEASEDIR, operation(ReleaseIn.SIZE, releasedir)],

  [Opcode.SETATTR, operation(88, refuseChange)],
  [Opcode.SYMLINK, operation(4, refuseChange)],
  [Opcode.MKNOD, operation(16 + 2, refuseChange)],
  [Opcode.MKDIR, operation(8 + 2, refuseChange)],
  [Opcode.UNLINK, operation(2, refuseChange)],
  [Opcode.RMDIR, operation(2, refuseChange)],
  [Opcode.RENAME, operation(8 + 4, refuseChange)],
  [Opcode.RENAME2, operation(16 + 4, refuseChange)],
  [Opcode.LINK, operation(8 + 2, refuseChange)],
  [Opcode.WRITE, operation(40, refuseChange)],
  [Opcode.SETXATTR, operation(8 + 2, refuseChange)],
  [Opcode.REMOVEXATTR, operation(2, refuseChange)],
  [Opcode.CREATE, operation(16 + 2, refuseChange)],
  [Opcode.TMPFILE, operation(16, refuseChange)],
  [Opcode.FALLOCATE, operation(32, refuseChange)],
  [Opcode.COPY_FILE_RANGE, operation(56, refuseChange)],
  [Opcode.COPY_FILE_RANGE_64, operation(56, refuseChange)],

  [Opcode.FLUSH, operation(24, refuseForever)],
  [Opcode.FSYNC, operation(16, refuseForever)],
  [Opcode.FSYNCDIR, operation(16, refuseForever)],
  [Opcode.SYNCFS, operation(8, refuseForever)],
  [Opcode.BMAP, operation(16, refuseForever)],
  [Opcode.POLL, operation(24, refuseForever)], // files are always ready
  [Opcode.GETLK, operation(48, refuseForever)], // INIT does not accept locks, so the kernel keeps them itself
  [Opcode.SETLK, operation(48, refuseForever)],
  [Opcode.SETLKW, operation(48, refuseForever)],
  [Opcode.SETUPMAPPING, operation(40, refuseForever)],
  [Opcode.REMOVEMAPPING, operation(4, refuseForever)],
  [Opcode.IOCTL, operation(IoctlIn.SIZE, ioctl)],
] as [number, Operation][]);
