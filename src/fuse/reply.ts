/** Writes the bodies of replies by the tables of abi.ts. Every exported function but putZeros returns the size in bytes. */
import { putU64, type Seconds } from '../sys/bytes.ts';
import { type Attr, rdevMajor, rdevMinor, type Statfs } from '../sys/stat.ts';
import { STATX_BASIC_STATS, STATX_BTIME, Statx } from '../sys/statx.ts';
import { AttrOut, EntryOut, FuseAttr, Kstatfs, LseekOut, OpenOut, StatxOut } from './wire/abi.ts';
import { CopyFileRangeOut, WriteOut } from './wire/abi-changes.ts';

/** The place for a reply's body. Both start right after the OutHeader and end where the room ends. */
export interface Out {
  readonly bytes: Uint8Array;
  readonly view: DataView;
}

/** Writes a timeout of `seconds`, which is not negative; Infinity means the longest that the kernel accepts. */
function putTimeout(v: DataView, secondsAt: number, nanosecondsAt: number, seconds: number): void {
  if (seconds === Infinity) {
    v.setUint32(secondsAt, 0xffffffff, true);
    v.setUint32(secondsAt + 4, 0x7fffffff, true);
    v.setUint32(nanosecondsAt, 0, true);
    return;
  }
  const whole = Math.floor(seconds);
  putU64(v, secondsAt, whole);
  v.setUint32(nanosecondsAt, Math.floor((seconds - whole) * 1e9), true);
}

/** Writes a FuseAttr; returns its size. */
export function putAttr(v: DataView, at: number, attr: Attr): number {
  putU64(v, at + FuseAttr.ino, attr.ino);
  putU64(v, at + FuseAttr.size, attr.size);
  putU64(v, at + FuseAttr.blocks, attr.blocks);
  putU64(v, at + FuseAttr.atime, attr.atime);
  putU64(v, at + FuseAttr.mtime, attr.mtime);
  putU64(v, at + FuseAttr.ctime, attr.ctime);
  v.setUint32(at + FuseAttr.atimensec, attr.atimensec, true);
  v.setUint32(at + FuseAttr.mtimensec, attr.mtimensec, true);
  v.setUint32(at + FuseAttr.ctimensec, attr.ctimensec, true);
  v.setUint32(at + FuseAttr.mode, attr.mode, true);
  v.setUint32(at + FuseAttr.nlink, attr.nlink, true);
  v.setUint32(at + FuseAttr.uid, attr.uid, true);
  v.setUint32(at + FuseAttr.gid, attr.gid, true);
  v.setUint32(at + FuseAttr.rdev, attr.rdev, true);
  v.setUint32(at + FuseAttr.blksize, attr.blksize, true);
  v.setUint32(at + FuseAttr.flags, 0, true);
  return FuseAttr.SIZE;
}

/** Writes `sizeBytes` zeros, a multiple of 4. */
export function putZeros(v: DataView, at: number, sizeBytes: number): void {
  for (let i = at; i < at + sizeBytes; i += 4) v.setUint32(i, 0, true);
}

/** Writes an EntryOut and returns its size. The timeouts are in seconds; Infinity means forever. */
export function putEntryOut(
  v: DataView,
  at: number,
  nodeid: number,
  generation: number,
  entryValid: number,
  attrValid: number,
  attr: Attr,
): number {
  putU64(v, at + EntryOut.nodeid, nodeid);
  putU64(v, at + EntryOut.generation, generation);
  putTimeout(v, at + EntryOut.entry_valid, at + EntryOut.entry_valid_nsec, entryValid);
  putTimeout(v, at + EntryOut.attr_valid, at + EntryOut.attr_valid_nsec, attrValid);
  putAttr(v, at + EntryOut.attr, attr);
  return EntryOut.SIZE;
}

/** Writes an EntryOut that denies the name for the next `entryValid` seconds, and returns its size. */
export function putNegativeEntryOut(v: DataView, at: number, entryValid: number): number {
  putZeros(v, at, EntryOut.SIZE);
  putTimeout(v, at + EntryOut.entry_valid, at + EntryOut.entry_valid_nsec, entryValid);
  return EntryOut.SIZE;
}

/** Writes an AttrOut; returns its size. */
export function putAttrOut(v: DataView, at: number, attrValid: number, attr: Attr): number {
  putTimeout(v, at + AttrOut.attr_valid, at + AttrOut.attr_valid_nsec, attrValid);
  v.setUint32(at + AttrOut.dummy, 0, true);
  putAttr(v, at + AttrOut.attr, attr);
  return AttrOut.SIZE;
}

/** Writes a StatxOut with all fields of stat(2), and with the birth time if it is known; returns its size. */
export function putStatxOut(v: DataView, at: number, attrValid: number, attr: Attr): number {
  putZeros(v, at, StatxOut.SIZE);
  putTimeout(v, at + StatxOut.attr_valid, at + StatxOut.attr_valid_nsec, attrValid);
  const stat = at + StatxOut.stat;
  const { btime, btimensec = 0 } = attr;
  v.setUint32(stat + Statx.mask, STATX_BASIC_STATS | (btime === undefined ? 0 : STATX_BTIME), true);
  v.setUint32(stat + Statx.blksize, attr.blksize, true);
  v.setUint32(stat + Statx.nlink, attr.nlink, true);
  v.setUint32(stat + Statx.uid, attr.uid, true);
  v.setUint32(stat + Statx.gid, attr.gid, true);
  v.setUint16(stat + Statx.mode, attr.mode, true);
  putU64(v, stat + Statx.ino, attr.ino);
  putU64(v, stat + Statx.size, attr.size);
  putU64(v, stat + Statx.blocks, attr.blocks);
  putStatxTime(v, stat + Statx.atime, attr.atime, attr.atimensec);
  if (btime !== undefined) putStatxTime(v, stat + Statx.btime, btime, btimensec);
  putStatxTime(v, stat + Statx.ctime, attr.ctime, attr.ctimensec);
  putStatxTime(v, stat + Statx.mtime, attr.mtime, attr.mtimensec);
  v.setUint32(stat + Statx.rdev_major, rdevMajor(attr.rdev), true);
  v.setUint32(stat + Statx.rdev_minor, rdevMinor(attr.rdev), true);
  return StatxOut.SIZE;
}

function putStatxTime(v: DataView, at: number, seconds: Seconds, nanoseconds: number): void {
  putU64(v, at, seconds);
  v.setUint32(at + 8, nanoseconds, true);
}

/** Writes an OpenOut; returns its size. */
export function putOpenOut(v: DataView, at: number, fh: number, flags: number, backingId = 0): number {
  putU64(v, at + OpenOut.fh, fh);
  v.setUint32(at + OpenOut.open_flags, flags, true);
  v.setInt32(at + OpenOut.backing_id, backingId, true);
  return OpenOut.SIZE;
}

/** Writes a Kstatfs; returns its size. */
export function putStatfsOut(v: DataView, at: number, numbers: Statfs): number {
  putZeros(v, at, Kstatfs.SIZE);
  putU64(v, at + Kstatfs.blocks, numbers.blocks);
  putU64(v, at + Kstatfs.bfree, numbers.bfree);
  putU64(v, at + Kstatfs.bavail, numbers.bavail);
  putU64(v, at + Kstatfs.files, numbers.files);
  putU64(v, at + Kstatfs.ffree, numbers.ffree);
  v.setUint32(at + Kstatfs.bsize, numbers.bsize, true);
  v.setUint32(at + Kstatfs.namelen, numbers.namelen, true);
  v.setUint32(at + Kstatfs.frsize, numbers.frsize, true);
  return Kstatfs.SIZE;
}

/** Writes an LseekOut; returns its size. */
export function putLseekOut(v: DataView, at: number, offset: number): number {
  putU64(v, at + LseekOut.offset, offset);
  return LseekOut.SIZE;
}

/** Writes a WriteOut; returns its size. */
export function putWriteOut(v: DataView, at: number, sizeBytes: number): number {
  v.setUint32(at + WriteOut.size, sizeBytes, true);
  v.setUint32(at + WriteOut.padding, 0, true);
  return WriteOut.SIZE;
}

/** Writes a CopyFileRangeOut; returns its size. */
export function putCopyFileRangeOut(v: DataView, at: number, sizeBytes: number): number {
  putU64(v, at + CopyFileRangeOut.bytes_copied, sizeBytes);
  return CopyFileRangeOut.SIZE;
}
