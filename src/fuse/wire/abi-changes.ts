/**
 * The FUSE wire format of the operations that change something, in the form of abi.ts.
 * Source: Linux include/uapi/linux/fuse.h (6.18). A field newer than 7.23 names the version that added it.
 */

/** struct fuse_setattr_in. */
export const SetattrIn = {
  valid: 0, // u32  SetattrValid bits
  padding: 4, // u32
  fh: 8, // u64
  size: 16, // u64
  lock_owner: 24, // u64
  atime: 32, // u64  seconds, two's complement
  mtime: 40, // u64
  ctime: 48, // u64
  atimensec: 56, // u32
  mtimensec: 60, // u32
  ctimensec: 64, // u32
  mode: 68, // u32
  unused4: 72, // u32
  uid: 76, // u32
  gid: 80, // u32
  unused5: 84, // u32
  SIZE: 88,
} as const;

/** Bits of `valid` in SetattrIn. */
export const SetattrValid = {
  MODE: 1 << 0,
  UID: 1 << 1,
  GID: 1 << 2,
  SIZE: 1 << 3,
  ATIME: 1 << 4,
  MTIME: 1 << 5,
  FH: 1 << 6,
  ATIME_NOW: 1 << 7,
  MTIME_NOW: 1 << 8,
  LOCKOWNER: 1 << 9,
  CTIME: 1 << 10,
  KILL_SUIDGID: 1 << 11,
} as const;

/** struct fuse_mknod_in; the name follows. */
export const MknodIn = {
  mode: 0, // u32
  rdev: 4, // u32  new_encode_dev
  umask: 8, // u32
  padding: 12, // u32
  SIZE: 16,
} as const;

/** struct fuse_mkdir_in; the name follows. */
export const MkdirIn = {
  mode: 0, // u32
  umask: 4, // u32
  SIZE: 8,
} as const;

/** struct fuse_create_in: CREATE and TMPFILE; the name follows. */
export const CreateIn = {
  flags: 0, // u32  O_*
  mode: 4, // u32
  umask: 8, // u32
  open_flags: 12, // u32  FUSE_OPEN_*
  SIZE: 16,
} as const;

/** struct fuse_rename_in; the old and the new name follow. */
export const RenameIn = {
  newdir: 0, // u64
  SIZE: 8,
} as const;

/** struct fuse_rename2_in; the old and the new name follow. 7.23 */
export const Rename2In = {
  newdir: 0, // u64
  flags: 8, // u32  RENAME_*
  padding: 12, // u32
  SIZE: 16,
} as const;

/** struct fuse_link_in; the new name follows. */
export const LinkIn = {
  oldnodeid: 0, // u64
  SIZE: 8,
} as const;

/** struct fuse_write_in; the bytes follow. */
export const WriteIn = {
  fh: 0, // u64
  offset: 8, // u64
  size: 16, // u32
  write_flags: 20, // u32  WriteFlag bits
  lock_owner: 24, // u64
  flags: 32, // u32  O_*
  padding: 36, // u32
  SIZE: 40,
} as const;

/** Bits of `write_flags` in WriteIn. */
export const WriteFlag = {
  CACHE: 1 << 0, // from the page cache, so `fh` may be of another open file of the node
  LOCKOWNER: 1 << 1,
  KILL_SUIDGID: 1 << 2,
} as const;

/** A bit of `open_flags` in OpenIn and CreateIn: an open with O_TRUNC takes set-user-ID and the like away. */
export const OPEN_KILL_SUIDGID = 1 << 0;

/** struct fuse_write_out. */
export const WriteOut = {
  size: 0, // u32
  padding: 4, // u32
  SIZE: 8,
} as const;

/** struct fuse_setxattr_in with SETXATTR_EXT; the name and the value follow. */
export const SetxattrIn = {
  size: 0, // u32  bytes of the value
  flags: 4, // u32  XATTR_CREATE 1, XATTR_REPLACE 2
  setxattr_flags: 8, // u32  1: clear set-group-ID as well; 7.33
  padding: 12, // u32
  SIZE: 16,
} as const;

/** struct fuse_fsync_in: FSYNC and FSYNCDIR. */
export const FsyncIn = {
  fh: 0, // u64
  fsync_flags: 8, // u32  1: only the data
  padding: 12, // u32
  SIZE: 16,
} as const;

/** struct fuse_fallocate_in. */
export const FallocateIn = {
  fh: 0, // u64
  offset: 8, // u64
  length: 16, // u64
  mode: 24, // u32  FALLOC_FL_*
  padding: 28, // u32
  SIZE: 32,
} as const;

/** struct fuse_copy_file_range_in. 7.28 */
export const CopyFileRangeIn = {
  fh_in: 0, // u64
  off_in: 8, // u64
  nodeid_out: 16, // u64
  fh_out: 24, // u64
  off_out: 32, // u64
  len: 40, // u64
  flags: 48, // u64
  SIZE: 56,
} as const;

/** struct fuse_copy_file_range_out: reply to COPY_FILE_RANGE_64. 7.45 */
export const CopyFileRangeOut = {
  bytes_copied: 0, // u64
  SIZE: 8,
} as const;
