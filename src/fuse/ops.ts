/** The Filesystem that a session serves, and one row per opcode. */
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
import type { Connection } from './init.ts';
import { Opcode } from './opcode.ts';
import type { Out } from './reply.ts';

/** The kernel's handle on a node of this mount: root 1, minted by the filesystem, below 2^53. */
export type Nodeid = number & { readonly nodeid: unique symbol };
export const ROOT = 1 as Nodeid;

/** The number of a request, as its eight bytes: it is only ever echoed. */
export type Unique = ByteString & { readonly unique: unique symbol };

/** What a method returns that will answer later: no errno, and no number of bytes. */
export const DEFERRED = -4096;

/** An answer to a request that was left for later. */
export interface Settled {
  readonly unique: Unique;
  /** Writes the body to `out`, as the method would have; its result, or what it throws, is taken likewise. */
  readonly answer: (out: Out) => number;
}

/** Who asks, for the few operations whose answer depends on it. */
export interface Caller {
  uid: number;
  gid: number;
  pid: number;
}

/** What else there is of an inode: the flags of chattr(1), or struct fsxattr. */
export type FileAttributes = 'flags' | 'fsxattr';

/**
 * A read-only filesystem. Every method is synchronous. One with an `out` writes the body of its reply there, with the put
 * functions of abi.ts, and returns the number of bytes; or it returns a negative errno and what it wrote does not count.
 * A method may throw: an ErrnoError is answered with its errno, anything else with EIO.
 */
export interface Filesystem {
  /** Told once, before all other requests, what the kernel agreed to. Another session's dispatcher is not told. */
  init?(connection: Connection): void;
  /** An answer that was left for DEFERRED and is there now; undefined: there is none. Asked after every request. */
  settled?(): Settled | undefined;
  /** Nobody waits any more for a request that was left for DEFERRED. It is still to be answered, soon: -EINTR. */
  interrupt?(unique: Unique): void;
  /** Called once, when the connection has ended and nothing is asked any more. */
  destroy(): void;

  /** An EntryOut. Every one with a nodeid counts as a lookup, for `forget`; a missing name may be one with nodeid 0. */
  lookup(parent: Nodeid, name: ByteString, out: Out): number;
  /**
   * An EntryOut for a file handle (EXPORT_SUPPORT) whose inode the kernel has forgotten: that of a nodeid that may come from
   * anywhere, or of the directory above it. -ESTALE: there is none.
   */
  lookupHandle?(nodeid: Nodeid, isParent: boolean, out: Out): number;
  /** Takes back `count` lookups. */
  forget(nodeid: Nodeid, count: number): void;
  /** An AttrOut. */
  getattr(nodeid: Nodeid, out: Out): number;
  /** A StatxOut. */
  statx(nodeid: Nodeid, out: Out): number;
  /** The target, without a NUL. */
  readlink(nodeid: Nodeid, out: Out): number;
  /** A Kstatfs. */
  statfs(nodeid: Nodeid, out: Out): number;
  /** 0, or -EACCES. Never asked where the kernel checks permissions itself. `mask`: R_OK 4, W_OK 2, X_OK 1. */
  access(nodeid: Nodeid, mask: number): number;

  /**
   * An OpenOut, or DEFERRED. `flags` are O_*. -ENOSYS: files need no open, the kernel asks no more and READ comes with `fh` 0.
   */
  open(nodeid: Nodeid, flags: number, out: Out, unique: Unique): number;
  /** Up to `length` bytes, fewer only at the end of the file, or DEFERRED; `length` is never more than there is room for. */
  read(nodeid: Nodeid, fh: number, position: number, length: number, out: Out, unique: Unique): number;
  /** An LseekOut: the next data (`whence` 3) or hole (4) at or after `offset`. */
  lseek(nodeid: Nodeid, fh: number, offset: number, whence: number, out: Out): number;
  release(nodeid: Nodeid, fh: number): void;

  /** An OpenOut. -ENOSYS: directories need no open, and the kernel caches listings. */
  opendir(nodeid: Nodeid, out: Out): number;
  /** Entries from `position` (0, or what an entry gave as the next one's) in at most `length` bytes; see DirentPacker. */
  readdir(nodeid: Nodeid, fh: number, position: number, length: number, plus: boolean, out: Out): number;
  releasedir(nodeid: Nodeid, fh: number): void;

  /** The value, or -errno. */
  getxattr(nodeid: Nodeid, name: ByteString, caller: Caller): Uint8Array | number;
  /** A u32 of FS_*_FL flags, or a struct fsxattr; or -errno, -ENOTTY where there are none. */
  fileAttributes(nodeid: Nodeid, kind: FileAttributes): Uint8Array | number;
  /** The names, each with a NUL after it, or -errno. */
  listxattr(nodeid: Nodeid, caller: Caller): Uint8Array | number;
}

/** A request whose header has been checked. */
export interface Request {
  /** The whole request, header first; what is past `end` does not belong to it. */
  readonly bytes: Uint8Array;
  readonly view: DataView;
  readonly end: number;
  readonly nodeid: Nodeid;
}

export interface Row {
  /** Shorter bodies are refused before `run` is called. */
  readonly bodyBytesMin: number;
  /** False where the kernel expects no reply, whatever happens. */
  readonly replies: boolean;
  /** Returns the bytes written to `out`, or -errno. */
  readonly run: Run;
}
type Run = (fs: Filesystem, request: Request, out: Out) => number;

/** Where the body of a request starts. */
const BODY = InHeader.SIZE;

/** The kernel looks up "." and ".." only for file handles. Source: linux/fs/fuse/inode.c, fuse_get_dentry, fuse_get_parent. */
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
/** A listing may be cut anywhere. */
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

/** The protocol of sizes that getxattr(2) and listxattr(2) share. */
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
 * Checks the name that ends a request: a NUL at its end and nowhere else, and for the name of a file, one component that
 * is neither "." nor "..". Returns 0 or a negative errno.
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

/** Source: linux/fs.h, as numbered on 64-bit and on 32-bit machines. */
const FileAttributesCommand = {
  FS_IOC_GETFLAGS: 0x80086601,
  FS_IOC32_GETFLAGS: 0x80046601,
  FS_IOC_SETFLAGS: 0x40086602,
  FS_IOC32_SETFLAGS: 0x40046602,
  FS_IOC_FSGETXATTR: 0x801c581f,
  FS_IOC_FSSETXATTR: 0x401c5820,
} as const;
/** More than any of them asks for. */
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

/** The kernel wants as many bytes as it has made room for. */
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

const refuseChange: Run = () => -EROFS;
/** For most operations this tells the kernel not to ask again on this connection. */
const refuseForever: Run = () => -ENOSYS;
const ignore: Run = () => 0;

const row = (bodyBytesMin: number, run: Run): Row => ({ bodyBytesMin, replies: true, run });
const silentRow = (bodyBytesMin: number, run: Run): Row => ({ bodyBytesMin, replies: false, run });

/**
 * A row per opcode but INIT, which is answered by init.ts. Plain sizes are those of fuse_*_in structures that are never
 * looked into; two bytes are the shortest name.
 */
export const rows: ReadonlyMap<number, Row> = new Map([
  [Opcode.LOOKUP, row(2, lookup)],
  [Opcode.FORGET, silentRow(ForgetIn.SIZE, forget)],
  [Opcode.BATCH_FORGET, silentRow(BatchForgetIn.SIZE, batchForget)],
  [Opcode.INTERRUPT, silentRow(InterruptIn.SIZE, interrupt)], // anything but what is left for later is answered by now
  [Opcode.NOTIFY_REPLY, silentRow(0, ignore)], // only comes when asked for
  [Opcode.DESTROY, row(0, ignore)], // only block devices are told; the end of the session is the end of all mounts

  [Opcode.GETATTR, row(GetattrIn.SIZE, (fs, request, out) => fs.getattr(request.nodeid, out))],
  [Opcode.STATX, row(StatxIn.SIZE, (fs, request, out) => fs.statx(request.nodeid, out))],
  [Opcode.READLINK, row(0, (fs, request, out) => fs.readlink(request.nodeid, out))],
  [Opcode.STATFS, row(0, (fs, request, out) => fs.statfs(request.nodeid, out))],
  [
    Opcode.ACCESS,
    row(AccessIn.SIZE, (fs, { nodeid, view }) => fs.access(nodeid, view.getUint32(BODY + AccessIn.mask, true))),
  ],
  [Opcode.GETXATTR, row(GetxattrIn.SIZE + 2, getxattr)],
  [Opcode.LISTXATTR, row(GetxattrIn.SIZE, listxattr)],

  [Opcode.OPEN, row(OpenIn.SIZE, open)],
  [Opcode.READ, row(ReadIn.SIZE, read)],
  [Opcode.LSEEK, row(LseekIn.SIZE, lseek)],
  [Opcode.RELEASE, row(ReleaseIn.SIZE, release)],
  [Opcode.OPENDIR, row(OpenIn.SIZE, (fs, request, out) => fs.opendir(request.nodeid, out))],
  [Opcode.READDIR, row(ReadIn.SIZE, readdir)],
  [Opcode.READDIRPLUS, row(ReadIn.SIZE, readdirplus)],
  [Opcode.RELEASEDIR, row(ReleaseIn.SIZE, releasedir)],

  [Opcode.SETATTR, row(88, refuseChange)],
  [Opcode.SYMLINK, row(4, refuseChange)],
  [Opcode.MKNOD, row(16 + 2, refuseChange)],
  [Opcode.MKDIR, row(8 + 2, refuseChange)],
  [Opcode.UNLINK, row(2, refuseChange)],
  [Opcode.RMDIR, row(2, refuseChange)],
  [Opcode.RENAME, row(8 + 4, refuseChange)],
  [Opcode.RENAME2, row(16 + 4, refuseChange)],
  [Opcode.LINK, row(8 + 2, refuseChange)],
  [Opcode.WRITE, row(40, refuseChange)],
  [Opcode.SETXATTR, row(8 + 2, refuseChange)],
  [Opcode.REMOVEXATTR, row(2, refuseChange)],
  [Opcode.CREATE, row(16 + 2, refuseChange)],
  [Opcode.TMPFILE, row(16, refuseChange)],
  [Opcode.FALLOCATE, row(32, refuseChange)],
  [Opcode.COPY_FILE_RANGE, row(56, refuseChange)],
  [Opcode.COPY_FILE_RANGE_64, row(56, refuseChange)],

  [Opcode.FLUSH, row(24, refuseForever)],
  [Opcode.FSYNC, row(16, refuseForever)],
  [Opcode.FSYNCDIR, row(16, refuseForever)],
  [Opcode.SYNCFS, row(8, refuseForever)],
  [Opcode.BMAP, row(16, refuseForever)],
  [Opcode.POLL, row(24, refuseForever)], // always ready
  [Opcode.GETLK, row(48, refuseForever)], // locks are not accepted at INIT: the kernel keeps them
  [Opcode.SETLK, row(48, refuseForever)],
  [Opcode.SETLKW, row(48, refuseForever)],
  [Opcode.SETUPMAPPING, row(40, refuseForever)],
  [Opcode.REMOVEMAPPING, row(4, refuseForever)],
  [Opcode.IOCTL, row(IoctlIn.SIZE, ioctl)],
] as [number, Row][]);
