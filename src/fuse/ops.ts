/** The operations of FUSE: a table with one row per opcode. */
import { byteStringOf, getI64, getU64 } from '../sys/bytes.ts';
import { EINVAL, ENOSYS, ENOTTY, ERANGE, EROFS } from '../sys/errno.ts';
import { changeOperations, fsync, fsyncdir, opensToKill } from './changes.ts';
import type { FileAttributes, Filesystem, Nodeid } from './filesystem.ts';
import type { Out } from './reply.ts';
import {
  BODY,
  callerOf,
  checkName,
  isDots,
  type Operation,
  operation,
  type Request,
  silentOperation,
  uniqueAt,
} from './request.ts';
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
  OpenIn,
  ReadIn,
  ReleaseIn,
  StatxIn,
} from './wire/abi.ts';
import { FsyncIn } from './wire/abi-changes.ts';
import { Opcode } from './wire/opcode.ts';

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
    opensToKill(request, OpenIn.open_flags),
  );
}

function interrupt(fs: Filesystem, request: Request): number {
  fs.interrupt?.(uniqueAt(request, BODY + InterruptIn.unique));
  return 0;
}

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

function ioctl(fs: Filesystem, request: Request, out: Out): number {
  const { nodeid, view } = request;
  switch (view.getUint32(BODY + IoctlIn.cmd, true)) {
    case FileAttributesCommand.FS_IOC_GETFLAGS:
    case FileAttributesCommand.FS_IOC32_GETFLAGS:
      return answerIoctl(fs.fileAttributes(nodeid, 'flags'), view, out);
    case FileAttributesCommand.FS_IOC_FSGETXATTR:
      return answerIoctl(fs.fileAttributes(nodeid, 'fsxattr'), view, out);
    case FileAttributesCommand.FS_IOC_SETFLAGS:
    case FileAttributesCommand.FS_IOC32_SETFLAGS:
      return setFileAttributes(fs, request, out, 'flags');
    case FileAttributesCommand.FS_IOC_FSSETXATTR:
      return setFileAttributes(fs, request, out, 'fsxattr');
    default:
      return -ENOTTY;
  }
}

function setFileAttributes(fs: Filesystem, request: Request, out: Out, kind: FileAttributes): number {
  if (!fs.changes) return -EROFS;
  const { bytes, view, nodeid, end } = request;
  const from = BODY + IoctlIn.SIZE;
  const size = view.getUint32(BODY + IoctlIn.in_size, true);
  if (from + size > end || size !== FILE_ATTRIBUTES_BYTES[kind]) return -EINVAL;
  const result = fs.changes.setFileAttributes(nodeid, kind, bytes.slice(from, from + size));
  return result < 0 ? result : answerIoctl(NOTHING, view, out);
}
const FILE_ATTRIBUTES_BYTES = { flags: 4, fsxattr: 28 } as const;
const NOTHING = new Uint8Array(0);

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
/** For most operations, ENOSYS tells the kernel not to ask again on this connection. */
const refuseForever: Operation['run'] = () => -ENOSYS;
const ignore: Operation['run'] = () => 0;

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

  ...changeOperations,

  [Opcode.FLUSH, operation(24, refuseForever)],
  [Opcode.FSYNC, operation(FsyncIn.SIZE, (fs, request) => fsync(fs, request, -ENOSYS))],
  [Opcode.FSYNCDIR, operation(FsyncIn.SIZE, (fs, request) => fsyncdir(fs, request, -ENOSYS))],
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
