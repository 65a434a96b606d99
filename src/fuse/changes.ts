/** The operations that change a filesystem: a table with one row per opcode. */
import { type ByteString, byteStringOf, getSeconds, getU64 } from '../sys/bytes.ts';
import { EINVAL, EROFS } from '../sys/errno.ts';
import type { Changes, FileRange, Filesystem, NewNode, NewTime, Nodeid, Setattr } from './filesystem.ts';
import { type Out, putCopyFileRangeOut, putWriteOut } from './reply.ts';
import { BODY, callerOf, checkName, type Operation, operation, type Request, uniqueAt } from './request.ts';
import { InHeader } from './wire/abi.ts';
import {
  CopyFileRangeIn,
  CreateIn,
  FallocateIn,
  FsyncIn,
  LinkIn,
  MkdirIn,
  MknodIn,
  OPEN_KILL_SUIDGID,
  Rename2In,
  RenameIn,
  SetattrIn,
  SetattrValid,
  SetxattrIn,
  WriteFlag,
  WriteIn,
} from './wire/abi-changes.ts';
import { Opcode } from './wire/opcode.ts';

type RunChange = (changes: Changes, request: Request, out: Out) => number;

/** A row of the table. Without a filesystem that changes, the answer is EROFS. */
const change = (bodyBytesMin: number, run: RunChange): Operation =>
  operation(bodyBytesMin, (fs, request, out) => (fs.changes ? run(fs.changes, request, out) : -EROFS));

/** A row for an operation on a name at the end of the request. */
function named(
  size: number,
  run: (changes: Changes, request: Request, name: ByteString, out: Out) => number,
): Operation {
  return change(size + 2, (changes, request, out) => {
    const refused = checkName(request, BODY + size, true);
    return refused < 0 ? refused : run(changes, request, nameAt(request, size), out);
  });
}

const nameAt = ({ bytes, end }: Request, at: number): ByteString => byteStringOf(bytes, BODY + at, end - 1);

/** The two names at the end of a request, each ended by a NUL; undefined if they are malformed. */
function twoNames(request: Request, at: number, isSecondFile: boolean): [ByteString, ByteString] | number {
  const { bytes, end } = request;
  const middle = bytes.indexOf(0, BODY + at);
  if (middle < 0 || middle >= end - 1) return -EINVAL;
  const refused =
    checkName({ ...request, end: middle + 1 }, BODY + at, true) || checkSecond(request, middle, isSecondFile);
  if (refused < 0) return refused;
  return [byteStringOf(bytes, BODY + at, middle), byteStringOf(bytes, middle + 1, end - 1)];
}

/** The target of a symlink may be anything that is not empty. */
function checkSecond(request: Request, middle: number, isFile: boolean): number {
  if (isFile) return checkName(request, middle + 1, true);
  const { bytes, end } = request;
  const isWhole = bytes[end - 1] === 0 && bytes.indexOf(0, middle + 1) === end - 1;
  return isWhole && end - middle > 2 ? 0 : -EINVAL;
}

function setattr(changes: Changes, request: Request, out: Out): number {
  const { view, nodeid } = request;
  const u32 = (at: number): number => view.getUint32(BODY + at, true);
  const valid = u32(SetattrIn.valid);
  const has = (bit: number): boolean => (valid & bit) !== 0;
  const time = (bit: number, now: number, at: number, nanosecondsAt: number): NewTime => {
    if (has(now)) return 'now';
    if (!has(bit)) return undefined;
    return { seconds: getSeconds(view, BODY + at), nanoseconds: u32(nanosecondsAt) };
  };
  const wanted: Setattr = {
    fh: has(SetattrValid.FH) ? getU64(view, BODY + SetattrIn.fh) : undefined,
    mode: has(SetattrValid.MODE) ? u32(SetattrIn.mode) : undefined,
    uid: has(SetattrValid.UID) ? u32(SetattrIn.uid) : undefined,
    gid: has(SetattrValid.GID) ? u32(SetattrIn.gid) : undefined,
    size: has(SetattrValid.SIZE) ? getU64(view, BODY + SetattrIn.size) : undefined,
    atime: time(SetattrValid.ATIME, SetattrValid.ATIME_NOW, SetattrIn.atime, SetattrIn.atimensec),
    mtime: time(SetattrValid.MTIME, SetattrValid.MTIME_NOW, SetattrIn.mtime, SetattrIn.mtimensec),
    // a write that passes this process by changes nothing else
    killsPrivileges: has(SetattrValid.KILL_SUIDGID) || (valid === 0 && 'unless root'),
  };
  return changes.setattr(nodeid, wanted, callerOf(request), out, uniqueAt(request, InHeader.unique));
}

const S_IFREG = 0o100000;
const S_IFDIR = 0o040000;
const S_IFLNK = 0o120000;
const PERMISSIONS = 0o7777;

function mknod(changes: Changes, request: Request, name: ByteString, out: Out): number {
  const { view, nodeid } = request;
  const wanted: NewNode = {
    mode: view.getUint32(BODY + MknodIn.mode, true),
    umask: view.getUint32(BODY + MknodIn.umask, true),
    rdev: view.getUint32(BODY + MknodIn.rdev, true),
    target: '',
  };
  return changes.make(nodeid, name, wanted, callerOf(request), out);
}

function mkdir(changes: Changes, request: Request, name: ByteString, out: Out): number {
  const { view, nodeid } = request;
  const mode = S_IFDIR | (view.getUint32(BODY + MkdirIn.mode, true) & PERMISSIONS);
  const umask = view.getUint32(BODY + MkdirIn.umask, true);
  return changes.make(nodeid, name, { mode, umask, rdev: 0, target: '' }, callerOf(request), out);
}

function symlink(changes: Changes, request: Request, out: Out): number {
  const names = twoNames(request, 0, false);
  if (typeof names === 'number') return names;
  const [name, target] = names;
  return changes.make(
    request.nodeid,
    name,
    { mode: S_IFLNK | 0o777, umask: 0, rdev: 0, target },
    callerOf(request),
    out,
  );
}

/** The regular file that CREATE and TMPFILE ask for. */
const fileOf = ({ view }: Request): NewNode => ({
  mode: S_IFREG | (view.getUint32(BODY + CreateIn.mode, true) & PERMISSIONS),
  umask: view.getUint32(BODY + CreateIn.umask, true),
  rdev: 0,
  target: '',
});
const flagsOf = ({ view }: Request): number => view.getUint32(BODY + CreateIn.flags, true);

const remove = (changes: Changes, request: Request, name: ByteString, isDirectory: boolean): number =>
  changes.remove(request.nodeid, name, isDirectory, uniqueAt(request, InHeader.unique));

function rename(changes: Changes, request: Request, size: number, flags: number): number {
  const names = twoNames(request, size, true);
  if (typeof names === 'number') return names;
  const newParent = getU64(request.view, BODY + RenameIn.newdir) as Nodeid;
  return changes.rename(request.nodeid, names[0], newParent, names[1], flags, uniqueAt(request, InHeader.unique));
}

function write(changes: Changes, { bytes, view, nodeid, end }: Request, out: Out): number {
  const size = view.getUint32(BODY + WriteIn.size, true);
  const from = BODY + WriteIn.SIZE;
  if (from + size > end) return -EINVAL;
  const kills = (view.getUint32(BODY + WriteIn.write_flags, true) & WriteFlag.KILL_SUIDGID) !== 0;
  const fh = getU64(view, BODY + WriteIn.fh);
  const position = getU64(view, BODY + WriteIn.offset);
  const written = changes.write(nodeid, fh, position, bytes.subarray(from, from + size), kills);
  return written < 0 ? written : putWriteOut(out.view, 0, written);
}

function copyFileRange(changes: Changes, { view, nodeid }: Request, out: Out, isWide: boolean): number {
  const u64 = (at: number): number => getU64(view, BODY + at);
  const from: FileRange = { nodeid, fh: u64(CopyFileRangeIn.fh_in), offset: u64(CopyFileRangeIn.off_in) };
  const to: FileRange = {
    nodeid: u64(CopyFileRangeIn.nodeid_out) as Nodeid,
    fh: u64(CopyFileRangeIn.fh_out),
    offset: u64(CopyFileRangeIn.off_out),
  };
  const copied = changes.copyFileRange(from, to, u64(CopyFileRangeIn.len));
  if (copied < 0) return copied;
  return isWide ? putCopyFileRangeOut(out.view, 0, copied) : putWriteOut(out.view, 0, copied);
}

function setxattr(changes: Changes, request: Request): number {
  const { bytes, view, nodeid, end } = request;
  const nameAt = BODY + (changes.hasLongSetxattr ? SetxattrIn.SIZE : SetxattrIn.setxattr_flags);
  const nameEnd = bytes.indexOf(0, nameAt);
  const size = view.getUint32(BODY + SetxattrIn.size, true);
  if (nameEnd < 0 || nameEnd + 1 + size > end) return -EINVAL;
  const refused = checkName({ ...request, end: nameEnd + 1 }, nameAt, false);
  if (refused < 0) return refused;
  const flags = view.getUint32(BODY + SetxattrIn.flags, true);
  const kills = changes.hasLongSetxattr && (view.getUint32(BODY + SetxattrIn.setxattr_flags, true) & 1) !== 0;
  const name = byteStringOf(bytes, nameAt, nameEnd);
  return changes.setxattr(nodeid, name, bytes.subarray(nameEnd + 1, nameEnd + 1 + size), flags, kills);
}

function removexattr(changes: Changes, request: Request): number {
  const refused = checkName(request, BODY, false);
  return refused < 0 ? refused : changes.removexattr(request.nodeid, nameAt(request, 0));
}

const isDataOnly = ({ view }: Request): boolean => (view.getUint32(BODY + FsyncIn.fsync_flags, true) & 1) !== 0;
const fhOf = ({ view }: Request): number => getU64(view, BODY + FsyncIn.fh);

/** Whether an open takes set-user-ID and the like away. @param at the offset of its open_flags */
export const opensToKill = ({ view }: Request, at: number): boolean =>
  (view.getUint32(BODY + at, true) & OPEN_KILL_SUIDGID) !== 0;

/** The rows of the operations that change something. */
export const changeOperations: readonly (readonly [opcode: number, Operation])[] = [
  [Opcode.SETATTR, change(SetattrIn.SIZE, setattr)],
  [Opcode.SYMLINK, change(4, symlink)],
  [Opcode.MKNOD, named(MknodIn.SIZE, mknod)],
  [Opcode.MKDIR, named(MkdirIn.SIZE, mkdir)],
  [Opcode.UNLINK, named(0, (changes, request, name) => remove(changes, request, name, false))],
  [Opcode.RMDIR, named(0, (changes, request, name) => remove(changes, request, name, true))],
  [Opcode.RENAME, change(RenameIn.SIZE + 4, (changes, request) => rename(changes, request, RenameIn.SIZE, 0))],
  [
    Opcode.RENAME2,
    change(Rename2In.SIZE + 4, (changes, request) =>
      rename(changes, request, Rename2In.SIZE, request.view.getUint32(BODY + Rename2In.flags, true)),
    ),
  ],
  [
    Opcode.LINK,
    named(LinkIn.SIZE, (changes, request, name, out) => {
      const node = getU64(request.view, BODY + LinkIn.oldnodeid) as Nodeid;
      return changes.link(node, request.nodeid, name, out, uniqueAt(request, InHeader.unique));
    }),
  ],
  [Opcode.WRITE, change(WriteIn.SIZE, write)],
  [Opcode.SETXATTR, change(SetxattrIn.setxattr_flags + 2, setxattr)],
  [Opcode.REMOVEXATTR, change(2, removexattr)],
  [
    Opcode.CREATE,
    named(CreateIn.SIZE, (changes, request, name, out) =>
      changes.create(request.nodeid, name, fileOf(request), callerOf(request), flagsOf(request), out),
    ),
  ],
  [
    Opcode.TMPFILE,
    change(CreateIn.SIZE, (changes, request, out) =>
      changes.createUnnamed(request.nodeid, fileOf(request), callerOf(request), flagsOf(request), out),
    ),
  ],
  [
    Opcode.FALLOCATE,
    change(FallocateIn.SIZE, (changes, { view, nodeid }) =>
      changes.fallocate(
        nodeid,
        getU64(view, BODY + FallocateIn.fh),
        view.getUint32(BODY + FallocateIn.mode, true),
        getU64(view, BODY + FallocateIn.offset),
        getU64(view, BODY + FallocateIn.length),
      ),
    ),
  ],
  [
    Opcode.COPY_FILE_RANGE,
    change(CopyFileRangeIn.SIZE, (changes, request, out) => copyFileRange(changes, request, out, false)),
  ],
  [
    Opcode.COPY_FILE_RANGE_64,
    change(CopyFileRangeIn.SIZE, (changes, request, out) => copyFileRange(changes, request, out, true)),
  ],
];

/** FSYNC and FSYNCDIR. A filesystem that never changes answers ENOSYS, so that the kernel asks no more. */
export const fsync = ({ changes }: Filesystem, request: Request, absent: number): number =>
  changes ? changes.fsync(request.nodeid, fhOf(request), isDataOnly(request)) : absent;
export const fsyncdir = ({ changes }: Filesystem, request: Request, absent: number): number =>
  changes ? changes.fsyncdir(request.nodeid, isDataOnly(request)) : absent;
