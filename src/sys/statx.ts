/** statx(2): requests an object's attributes and reads them from the reply. */
import { type ByteString, byteStringOf, getI64, getSeconds, getU64, putU64, type Seconds } from './bytes.ts';
import { native } from './native.ts';
import { type Attr, makeRdev } from './stat.ts';

/** struct statx. Source: linux/stat.h; stx_mnt_id since 5.8. */
export const Statx = {
  mask: 0, //          u32 STATX_*: what the filesystem has given
  blksize: 4, //       u32
  attributes: 8, //    u64 STATX_ATTR_*
  nlink: 16, //        u32
  uid: 20, //          u32
  gid: 24, //          u32
  mode: 28, //         u16, then padding
  ino: 32, //          u64
  size: 40, //         u64
  blocks: 48, //       u64 of 512 bytes
  attributes_mask: 56, // u64
  atime: 64, //        statx_timestamp
  btime: 80, //        statx_timestamp
  ctime: 96, //        statx_timestamp
  mtime: 112, //       statx_timestamp
  rdev_major: 128, //  u32
  rdev_minor: 132, //  u32
  dev_major: 136, //   u32
  dev_minor: 140, //   u32
  mnt_id: 144, //      u64
  SIZE: 256,
} as const;
/** struct statx_timestamp. */
const Timestamp = { sec: 0 /* i64 */, nsec: 8 /* u32 */, SIZE: 12 } as const;

export const AT_FDCWD = -100;
export const AT_SYMLINK_NOFOLLOW = 0x100;
export const AT_NO_AUTOMOUNT = 0x800;
export const AT_EMPTY_PATH = 0x1000;
/** STATX_TYPE to STATX_BLOCKS: everything that stat(2) returns. */
export const STATX_BASIC_STATS = 0x7ff;
export const STATX_BTIME = 0x800;
const STATX_MNT_ID = 0x1000;
const AT_STATX_DONT_SYNC = 0x4000;
const STATX_ATTR_IMMUTABLE = 0x10;
const STATX_ATTR_APPEND = 0x20;
const STATX_ATTR_VERITY = 0x100000;

const reply = new Uint8Array(Statx.SIZE);
const view = new DataView(reply.buffer);
const words = new Uint32Array(reply.buffer);

/**
 * Requests the attributes of an object, without following a symlink or triggering an automount. An empty name means `dirfd`
 * itself. The functions below read the reply until the next call on this thread.
 * @returns 0 or -errno
 */
export function statx(dirfd: number, name: ByteString): number {
  const flags = AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT | (name === '' ? AT_EMPTY_PATH : 0);
  return native.statx(dirfd, name, flags, STATX_BASIC_STATS | STATX_BTIME | STATX_MNT_ID, reply);
}

/**
 * The same of an open file, as far as its filesystem has remembered it: a filesystem of another user, who may not answer, is not
 * asked.
 * @returns 0 or -errno
 */
export const statxRemembered = (fd: number): number =>
  native.statx(fd, '', AT_EMPTY_PATH | AT_STATX_DONT_SYNC, STATX_BASIC_STATS, reply);

export const statxMode = (): number => view.getUint16(Statx.mode, true);
export const statxUid = (): number => view.getUint32(Statx.uid, true);
export const statxGid = (): number => view.getUint32(Statx.gid, true);
export const statxSize = (): number => getU64(view, Statx.size);
/** Whether the object has fs-verity. Reported since Linux 5.5, if the filesystem supports it. */
export const statxHasVerity = (): boolean => (view.getUint32(Statx.attributes, true) & STATX_ATTR_VERITY) !== 0;
/** The flags of chattr(1) that forbid changes: STATX_ATTR_IMMUTABLE and STATX_ATTR_APPEND. */
export const statxProtection = (): number =>
  view.getUint32(Statx.attributes, true) & (STATX_ATTR_IMMUTABLE | STATX_ATTR_APPEND);
export const statxInoLow = (): number => view.getUint32(Statx.ino, true);
export const statxInoHigh = (): number => view.getUint32(Statx.ino + 4, true);
export const statxRdev = (): number =>
  makeRdev(view.getUint32(Statx.rdev_major, true), view.getUint32(Statx.rdev_minor, true));
/** A device number of a filesystem. */
export interface DeviceNumber {
  readonly major: number;
  readonly minor: number;
}
export const statxDevice = (): DeviceNumber => ({
  major: view.getUint32(Statx.dev_major, true),
  minor: view.getUint32(Statx.dev_minor, true),
});
export const statxDeviceIs = (device: DeviceNumber): boolean =>
  view.getUint32(Statx.dev_major, true) === device.major && view.getUint32(Statx.dev_minor, true) === device.minor;

/**
 * The birth time as twelve bytes; undefined if the filesystem does not keep it. It distinguishes an object from an earlier one
 * with the same inode number.
 */
export function statxBirth(): ByteString | undefined {
  if ((view.getUint32(Statx.mask, true) & STATX_BTIME) === 0) return undefined;
  return byteStringOf(reply, Statx.btime, Statx.btime + Timestamp.SIZE);
}

/**
 * Whether the change time in the reply is so old that a change after `sinceMs` (by Date.now) must get another one. A filesystem
 * whose inodes have no nanoseconds counts whole seconds, and FAT every second one. Others use the time of the kernel's last tick.
 * If a server's clock is ahead, this returns false.
 */
export function statxIsSettled(sinceMs: number = Date.now()): boolean {
  const nanoseconds = view.getUint32(Statx.ctime + Timestamp.nsec, true);
  const changedMs = getI64(view, Statx.ctime + Timestamp.sec) * 1000 + nanoseconds / 1e6;
  return sinceMs - changedMs > (nanoseconds === 0 ? COARSE_MS : FINE_MS);
}
const COARSE_MS = 3000;
const FINE_MS = 100;

/** The change time of an object. */
export type Changed = Pick<Attr, 'ctime' | 'ctimensec'>;
export const statxChanged = (): Changed => ({
  ctime: getSeconds(view, Statx.ctime + Timestamp.sec),
  ctimensec: view.getUint32(Statx.ctime + Timestamp.nsec, true),
});
export const statxChangedIs = ({ ctime, ctimensec }: Changed): boolean =>
  view.getUint32(Statx.ctime + Timestamp.nsec, true) === ctimensec &&
  getSeconds(view, Statx.ctime + Timestamp.sec) === ctime;

export const statxMountId = (): number => getU64(view, Statx.mnt_id);

/** Word offsets in struct statx of the fields that change when the object's contents may have changed. */
const VERSION_WORDS = [
  ...[Statx.dev_major, Statx.dev_minor, Statx.ino, Statx.ino + 4, Statx.size, Statx.size + 4],
  ...[Statx.mtime, Statx.mtime + 4, Statx.mtime + 8, Statx.ctime, Statx.ctime + 4, Statx.ctime + 8],
].map(offset => offset / 4);

/** Length of a version's identity: its first four words. */
const IDENTITY_BYTES = 16;
const seen = new Uint32Array(VERSION_WORDS.length);
const seenBytes = new Uint8Array(seen.buffer);

/** Device, inode, size, mtime and ctime of the object as bytes, not readable text. */
export function statxVersion(): ByteString {
  for (let i = 0; i < VERSION_WORDS.length; i++) seen[i] = words[VERSION_WORDS[i] as number] as number;
  return byteStringOf(seenBytes);
}

/** The part of a version that stays the same for an object: its device and inode. */
export const identityIn = (version: string): string => version.slice(0, IDENTITY_BYTES);

/** All attributes in the reply, with `ino` as given. */
export function statxAttr(ino: number): Attr {
  const hasBtime = (view.getUint32(Statx.mask, true) & STATX_BTIME) !== 0;
  return {
    ino,
    mode: statxMode(),
    nlink: view.getUint32(Statx.nlink, true),
    uid: statxUid(),
    gid: statxGid(),
    rdev: statxRdev(),
    size: statxSize(),
    blocks: getU64(view, Statx.blocks),
    blksize: view.getUint32(Statx.blksize, true),
    atime: getSeconds(view, Statx.atime + Timestamp.sec),
    atimensec: view.getUint32(Statx.atime + Timestamp.nsec, true),
    mtime: getSeconds(view, Statx.mtime + Timestamp.sec),
    mtimensec: view.getUint32(Statx.mtime + Timestamp.nsec, true),
    ctime: getSeconds(view, Statx.ctime + Timestamp.sec),
    ctimensec: view.getUint32(Statx.ctime + Timestamp.nsec, true),
    btime: hasBtime ? getSeconds(view, Statx.btime + Timestamp.sec) : undefined,
    btimensec: hasBtime ? view.getUint32(Statx.btime + Timestamp.nsec, true) : undefined,
  };
}

/** The times of an object that utimensat(2) sets; nanoseconds may also be UTIME_NOW or UTIME_OMIT. */
export interface Times {
  readonly atime: Seconds;
  readonly atimensec: number;
  readonly mtime: Seconds;
  readonly mtimensec: number;
}
// Source: linux/stat.h
export const UTIME_NOW = 0x3fffffff;
export const UTIME_OMIT = 0x3ffffffe;

/** The argument of utimensat(2): two struct timespec of a 64-bit machine, the time of access first. */
export function timesOf({ atime, atimensec, mtime, mtimensec }: Times): Uint8Array {
  const times = new DataView(new ArrayBuffer(32));
  putU64(times, 0, atime);
  putU64(times, 8, atimensec);
  putU64(times, 16, mtime);
  putU64(times, 24, mtimensec);
  return new Uint8Array(times.buffer);
}
