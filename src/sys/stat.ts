/** File types and attributes, as spelled by stat(2), getdents(2) and EROFS. */
import type { Seconds } from './bytes.ts';

export const S_IFMT = 0o170000;
export const S_IFSOCK = 0o140000;
export const S_IFLNK = 0o120000;
export const S_IFREG = 0o100000;
export const S_IFBLK = 0o060000;
export const S_IFDIR = 0o040000;
export const S_IFCHR = 0o020000;
export const S_IFIFO = 0o010000;

/**
 * Whether a mode (type and permission bits) is that of a directory.
 * @example
 * assert.ok(isDirectory(statSync('tree').mode));
 * assert.ok(!isDirectory(statSync('tree/poem').mode));
 */
export const isDirectory = (mode: number): boolean => (mode & S_IFMT) === S_IFDIR;
/**
 * Whether a mode is that of a regular file.
 * @example
 * assert.ok(isRegular(statSync('tree/poem').mode));
 * assert.ok(!isRegular(statSync('tree').mode));
 */
export const isRegular = (mode: number): boolean => (mode & S_IFMT) === S_IFREG;
/**
 * Whether a mode is that of a symlink.
 * @example
 * assert.ok(isSymlink(lstatSync('tree/link').mode));
 * assert.ok(!isSymlink(statSync('tree/link').mode)); // it was followed
 */
export const isSymlink = (mode: number): boolean => (mode & S_IFMT) === S_IFLNK;

/**
 * d_type of getdents(2) and fuse_dirent for the type bits of a mode. Source: readdir(3), `IFTODT`.
 * @example
 * assert.equal(dtypeOf(statSync('tree').mode), 4); // DT_DIR
 * assert.equal(dtypeOf(statSync('tree/poem').mode), 8); // DT_REG
 */
export const dtypeOf = (mode: number): number => (mode & S_IFMT) >> 12;
export const DT_UNKNOWN = 0;
export const DT_CHR = 2;
export const DT_DIR = 4;
export const DT_REG = 8;
export const DT_LNK = 10;

/**
 * The attributes of one object, as stat(2) shows them. Times are seconds since 1970 (negative before it) and nanoseconds 0 to
 * 999,999,999; `size` is in bytes, `blocks` in units of 512 bytes. `rdev` is a device number as `makeRdev` packs it.
 */
export interface Attr {
  ino: number;
  mode: number;
  nlink: number;
  uid: number;
  gid: number;
  rdev: number;
  size: number;
  blocks: number;
  blksize: number;
  atime: Seconds;
  atimensec: number;
  mtime: Seconds;
  mtimensec: number;
  ctime: Seconds;
  ctimensec: number;
  /** The birth time; absent if the filesystem does not keep it. */
  btime?: Seconds | undefined;
  btimensec?: number | undefined;
}

/** The numbers of statfs(2) for a filesystem: `blocks`, `bfree` and `bavail` in units of `frsize` bytes. */
export interface Statfs {
  blocks: number;
  bfree: number;
  bavail: number;
  files: number;
  ffree: number;
  bsize: number;
  namelen: number;
  frsize: number;
  /** ST_* bits of the mount through which a directory was opened; absent for an image. */
  flags?: number;
}

/**
 * Packs a device number in 32 bits (major 12, minor 20), as the kernel passes it to filesystems and as EROFS and FUSE store it.
 * Source: linux/kdev_t.h, `new_encode_dev`.
 * @example
 * assert.equal(makeRdev(1, 3), statSync('/dev/null').rdev);
 * assert.equal(makeRdev(0, 0), 0); // that of a whiteout
 */
export function makeRdev(major: number, minor: number): number {
  return ((minor & 0xff) | (major << 8) | ((minor & ~0xff) << 12)) >>> 0;
}
/**
 * The major number, 12 bits, of a device number that `makeRdev` packed.
 * @example
 * assert.equal(rdevMajor(statSync('/dev/null').rdev), 1);
 * assert.equal(rdevMajor(makeRdev(259, 70000)), 259);
 */
export const rdevMajor = (rdev: number): number => (rdev >>> 8) & 0xfff;
/**
 * The minor number, 20 bits, of a device number that `makeRdev` packed.
 * @example
 * assert.equal(rdevMinor(statSync('/dev/null').rdev), 3);
 * assert.equal(rdevMinor(makeRdev(259, 70000)), 70000);
 */
export const rdevMinor = (rdev: number): number => (rdev & 0xff) | ((rdev >>> 12) & 0xfff00);
