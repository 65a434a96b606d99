/**
 * The FUSE wire format, protocol 7.45: the structures of every operation that is answered here, and their flags.
 * Opcodes are in opcode.ts, and flags of INIT in init.ts. Integers have the byte order of the machine; supported machines are
 * little endian.
 * Each table holds byte offsets from the start of its structure and ends with its SIZE.
 * Source: Linux include/uapi/linux/fuse.h (6.18). A field newer than 7.23 names the version that added it.
 */

export const MAJOR = 7;
/** The newest minor version that is spoken here, and the oldest one that matches the structures below. */
export const MINOR = 45;
export const MINOR_OLDEST = 23;

/** Bits of open_flags in OpenOut. */
export const Fopen = {
  DIRECT_IO: 1 << 0,
  KEEP_CACHE: 1 << 1,
  NONSEEKABLE: 1 << 2,
  CACHE_DIR: 1 << 3, // 7.28
  STREAM: 1 << 4, // 7.31
  NOFLUSH: 1 << 5, // 7.35
  PARALLEL_DIRECT_WRITES: 1 << 6, // 7.36
  PASSTHROUGH: 1 << 7, // 7.40
} as const;

/** The longest name of a file or an xattr that the VFS passes on, in bytes. Source: linux/limits.h. */
export const NAME_MAX = 255;
/** The smallest buffer for a read of /dev/fuse, in bytes. It must also have room for a WRITE of max_write bytes. */
export const MIN_READ_BUFFER = 8192;

/** struct fuse_in_header: starts every request. */
export const InHeader = {
  len: 0, // u32  of the whole request
  opcode: 4, // u32
  unique: 8, // u64  only echoed
  nodeid: 16, // u64
  uid: 24, // u32
  gid: 28, // u32
  pid: 32, // u32  0 if the caller is in a foreign pid namespace
  total_extlen: 36, // u16  extensions at the end, in units of 8 bytes; 7.38
  padding: 38, // u16
  SIZE: 40,
} as const;

/** struct fuse_out_header: starts every reply. */
export const OutHeader = {
  len: 0, // u32  of the whole reply
  error: 4, // i32  0 or a negative errno above -512
  unique: 8, // u64  of the request
  SIZE: 16,
} as const;

/** struct fuse_init_in. */
export const InitIn = {
  major: 0, // u32
  minor: 4, // u32
  max_readahead: 8, // u32  bytes
  flags: 12, // u32  InitFlag bits 0 to 31
  flags2: 16, // u32  InitFlag bits 32 to 63; 7.36, the body ends before it in older versions
  unused: 20, // u32[11]
  SIZE: 64,
} as const;

/** struct fuse_init_out. */
export const InitOut = {
  major: 0, // u32
  minor: 4, // u32
  max_readahead: 8, // u32  bytes; the kernel uses the smaller of its own value and this one
  flags: 12, // u32
  max_background: 16, // u16  background requests (readahead) in flight at one time
  congestion_threshold: 18, // u16  background requests in flight before writeback slows down
  max_write: 20, // u32  bytes, 4,096 or more
  time_gran: 24, // u32  nanoseconds, the granularity of timestamps
  max_pages: 28, // u16  pages of the largest READ and READDIR, with MAX_PAGES; 7.28
  map_alignment: 30, // u16  7.31
  flags2: 32, // u32  7.36
  max_stack_depth: 36, // u32  with PASSTHROUGH, 1 or 2; 7.40
  request_timeout: 40, // u16  seconds; 7.43
  unused: 42, // u16[11]
  SIZE: 64,
} as const;

/** struct fuse_attr. */
export const FuseAttr = {
  ino: 0, // u64
  size: 8, // u64
  blocks: 16, // u64  of 512 bytes
  atime: 24, // u64  seconds, two's complement
  mtime: 32, // u64
  ctime: 40, // u64
  atimensec: 48, // u32
  mtimensec: 52, // u32
  ctimensec: 56, // u32
  mode: 60, // u32
  nlink: 64, // u32
  uid: 68, // u32
  gid: 72, // u32
  rdev: 76, // u32  new_encode_dev
  blksize: 80, // u32
  flags: 84, // u32  FUSE_ATTR_*; 7.32
  SIZE: 88,
} as const;

/** struct fuse_entry_out: reply to LOOKUP, and part of DirentPlus. */
export const EntryOut = {
  nodeid: 0, // u64  0 if there is no such name, which holds for entry_valid
  generation: 8, // u64
  entry_valid: 16, // u64  seconds that the kernel caches the name
  attr_valid: 24, // u64  seconds that the kernel caches the attributes
  entry_valid_nsec: 32, // u32
  attr_valid_nsec: 36, // u32
  attr: 40, // FuseAttr
  SIZE: 128,
} as const;

/** struct fuse_attr_out: reply to GETATTR. */
export const AttrOut = {
  attr_valid: 0, // u64
  attr_valid_nsec: 8, // u32
  dummy: 12, // u32
  attr: 16, // FuseAttr
  SIZE: 104,
} as const;

/** struct fuse_getattr_in. */
export const GetattrIn = {
  getattr_flags: 0, // u32  1: fh is valid
  dummy: 4, // u32
  fh: 8, // u64
  SIZE: 16,
} as const;

/** struct fuse_statx_in; 7.39. */
export const StatxIn = {
  getattr_flags: 0, // u32
  reserved: 4, // u32
  fh: 8, // u64
  sx_flags: 16, // u32  AT_STATX_*
  sx_mask: 20, // u32  STATX_*
  SIZE: 24,
} as const;

/** struct fuse_statx_out: reply to STATX; 7.39. */
export const StatxOut = {
  attr_valid: 0, // u64
  attr_valid_nsec: 8, // u32
  flags: 12, // u32
  spare: 16, // u64[2]
  stat: 32, // struct fuse_statx, laid out as Statx of sys/statx.ts
  SIZE: 288,
} as const;

/** struct fuse_open_in: OPEN and OPENDIR. */
export const OpenIn = {
  flags: 0, // u32  O_*
  open_flags: 4, // u32  FUSE_OPEN_*
  SIZE: 8,
} as const;

/** struct fuse_open_out: reply to OPEN and OPENDIR. */
export const OpenOut = {
  fh: 0, // u64  assigned by the filesystem, below 2^53; returns in READ, READDIR, RELEASE
  open_flags: 8, // u32  Fopen bits
  backing_id: 12, // i32  from FUSE_DEV_IOC_BACKING_OPEN; 0 unless PASSTHROUGH; 7.40
  SIZE: 16,
} as const;

/** struct fuse_read_in: READ, READDIR and READDIRPLUS. */
export const ReadIn = {
  fh: 0, // u64
  offset: 8, // u64
  size: 16, // u32
  read_flags: 20, // u32
  lock_owner: 24, // u64
  flags: 32, // u32  O_*
  padding: 36, // u32
  SIZE: 40,
} as const;

/** struct fuse_release_in: RELEASE and RELEASEDIR. */
export const ReleaseIn = {
  fh: 0, // u64
  flags: 8, // u32
  release_flags: 12, // u32
  lock_owner: 16, // u64
  SIZE: 24,
} as const;

/** struct fuse_getxattr_in: GETXATTR, where the name follows, and LISTXATTR. */
export const GetxattrIn = {
  size: 0, // u32  room for the value; 0 asks for its size
  padding: 4, // u32
  SIZE: 8,
} as const;

/** struct fuse_getxattr_out: the reply if the size was asked for. */
export const GetxattrOut = {
  size: 0, // u32
  padding: 4, // u32
  SIZE: 8,
} as const;

/** struct fuse_access_in. */
export const AccessIn = {
  mask: 0, // u32  R_OK 4, W_OK 2, X_OK 1
  padding: 4, // u32
  SIZE: 8,
} as const;

/** struct fuse_lseek_in; 7.24. */
export const LseekIn = {
  fh: 0, // u64
  offset: 8, // u64  two's complement
  whence: 16, // u32  3 SEEK_DATA, 4 SEEK_HOLE
  padding: 20, // u32
  SIZE: 24,
} as const;

/** struct fuse_lseek_out; 7.24. */
export const LseekOut = {
  offset: 0, // u64
  SIZE: 8,
} as const;

/** struct fuse_ioctl_in; `in_size` bytes follow. */
export const IoctlIn = {
  fh: 0, // u64
  flags: 8, // u32  FUSE_IOCTL_*
  cmd: 12, // u32
  arg: 16, // u64
  in_size: 24, // u32
  out_size: 28, // u32  room for the result
  SIZE: 32,
} as const;

/** struct fuse_ioctl_out; the result follows. */
export const IoctlOut = {
  result: 0, // i32
  flags: 4, // u32  FUSE_IOCTL_RETRY
  in_iovs: 8, // u32
  out_iovs: 12, // u32
  SIZE: 16,
} as const;

/** struct fuse_forget_in. */
export const ForgetIn = {
  nlookup: 0, // u64
  SIZE: 8,
} as const;

/** struct fuse_batch_forget_in; `count` ForgetOne structures follow. */
export const BatchForgetIn = {
  count: 0, // u32
  dummy: 4, // u32
  SIZE: 8,
} as const;

/** struct fuse_forget_one. */
export const ForgetOne = {
  nodeid: 0, // u64
  nlookup: 8, // u64
  SIZE: 16,
} as const;

/** struct fuse_interrupt_in. */
export const InterruptIn = {
  unique: 0, // u64  the request that its caller no longer waits for
  SIZE: 8,
} as const;

/** `error` in the OutHeader of a notification, whose `unique` is 0. */
export const Notify = { INVAL_INODE: 2, RESEND: 7 } as const;

/** struct fuse_notify_inval_inode_out. */
export const NotifyInvalInodeOut = {
  ino: 0, // u64  nodeid
  off: 8, // i64  where cached data is dropped from; -1: only the attributes are
  len: 16, // i64
  SIZE: 24,
} as const;

/** struct fuse_kstatfs: reply to STATFS. */
export const Kstatfs = {
  blocks: 0, // u64  of frsize bytes
  bfree: 8, // u64
  bavail: 16, // u64
  files: 24, // u64
  ffree: 32, // u64
  bsize: 40, // u32
  namelen: 44, // u32
  frsize: 48, // u32
  padding: 52, // u32
  spare: 56, // u32[6]
  SIZE: 80,
} as const;

/** struct fuse_dirent: the name follows, then zeros up to a multiple of 8. */
export const Dirent = {
  ino: 0, // u64
  off: 8, // u64  the offset to continue after this entry, for the next READDIR
  namelen: 16, // u32
  type: 20, // u32  DT_*
  SIZE: 24,
} as const;

/** struct fuse_direntplus. */
export const DirentPlus = {
  entry_out: 0, // EntryOut
  dirent: 128, // Dirent
  SIZE: 152,
} as const;

/** struct fuse_uring_req_header: the headers of a request and then of its reply, without the payload. Since 7.42. */
export const UringHeader = {
  in_out: 0, // InHeader of the request, OutHeader of the reply
  op_in: 128, // the operation's own structure; names and data are in the payload
  flags: 256, // u64  struct fuse_uring_ent_in_out starts here
  commit_id: 264, // u64  identifies the request; returned with the reply
  payload_sz: 272, // u32  bytes of the payload, in either direction
  OP_IN_BYTES: 128,
  SIZE: 288,
} as const;

/** enum fuse_uring_cmd. */
export const UringCommand = { REGISTER: 1, COMMIT_AND_FETCH: 2 } as const;

/** struct fuse_uring_cmd_req. Since 7.42. */
export const UringCommandRequest = {
  flags: 0, // u64
  commit_id: 8, // u64
  qid: 16, // u16  number of the CPU
  SIZE: 24,
} as const;
