/**
 * INIT: which flags the kernel offers, which of them are accepted, and why.
 * Source: Linux include/uapi/linux/fuse.h, "Version negotiation"; fs/fuse/inode.c, process_init_reply (6.18).
 */
import { EPROTO, ErrnoError } from '../sys/errno.ts';
import { InitIn, InitOut, MAJOR, MINOR, MINOR_OLDEST } from './wire/abi.ts';

/** Flags of INIT as bit numbers: 0 to 31 in `flags`, 32 to 63 in `flags2` (with INIT_EXT). */
export const InitFlag = {
  ASYNC_READ: 0,
  POSIX_LOCKS: 1,
  FILE_OPS: 2,
  ATOMIC_O_TRUNC: 3,
  EXPORT_SUPPORT: 4,
  BIG_WRITES: 5,
  DONT_MASK: 6,
  SPLICE_WRITE: 7,
  SPLICE_MOVE: 8,
  SPLICE_READ: 9,
  FLOCK_LOCKS: 10,
  HAS_IOCTL_DIR: 11,
  AUTO_INVAL_DATA: 12,
  DO_READDIRPLUS: 13,
  READDIRPLUS_AUTO: 14,
  ASYNC_DIO: 15,
  WRITEBACK_CACHE: 16,
  NO_OPEN_SUPPORT: 17,
  PARALLEL_DIROPS: 18, // 7.25
  HANDLE_KILLPRIV: 19, // 7.26
  POSIX_ACL: 20, // 7.26
  ABORT_ERROR: 21, // 7.27
  MAX_PAGES: 22, // 7.28
  CACHE_SYMLINKS: 23, // 7.28
  NO_OPENDIR_SUPPORT: 24, // 7.29
  EXPLICIT_INVAL_DATA: 25, // 7.30
  MAP_ALIGNMENT: 26, // 7.31
  SUBMOUNTS: 27, // 7.32
  HANDLE_KILLPRIV_V2: 28, // 7.33
  SETXATTR_EXT: 29, // 7.33
  INIT_EXT: 30, // 7.36
  SECURITY_CTX: 32, // 7.36
  HAS_INODE_DAX: 33, // 7.36
  CREATE_SUPP_GROUP: 34, // 7.38
  HAS_EXPIRE_ONLY: 35, // 7.38
  DIRECT_IO_ALLOW_MMAP: 36, // 7.39
  PASSTHROUGH: 37, // 7.40
  NO_EXPORT_SUPPORT: 38, // 7.40
  HAS_RESEND: 39, // 7.40
  ALLOW_IDMAP: 40, // 7.41
  OVER_IO_URING: 41, // 7.42
  REQUEST_TIMEOUT: 42, // 7.43
} as const;
export type InitFlagName = keyof typeof InitFlag;

/** The features that the filesystem asks of the kernel. */
export interface Wanted {
  /**
   * Lets the kernel read the backing file without this process. 0: not wanted. 1: the backing file is not on a stacked
   * filesystem, and one may be mounted over this mount. 2: the backing file may be on one (overlayfs), and none can be mounted
   * over this mount.
   */
  readonly passthroughDepth: 0 | 1 | 2;
  /** The kernel checks permissions by mode and by POSIX ACLs, which it reads with GETXATTR. */
  readonly posixAcl: boolean;
  /** Requests come through io_uring. Its ring is ready, and a queue will be registered for every CPU. */
  readonly ioUring?: boolean;
  /** The tree may change: cached data and listings are valid only until an inode's mtime or size changes. */
  readonly changes?: boolean;
  /** The tree is written to, and changes by no other way. */
  readonly writes?: boolean;
  /** File handles stay valid after the kernel has forgotten their inodes: LOOKUP of "." and ".." is answered. */
  readonly handles?: boolean;
  /** Another process may go on with the connection when this one ends. */
  readonly outlives?: boolean;
  /** The mount may show other owners than the filesystem has: the kernel no longer says who asks. */
  readonly mapsIds?: boolean;
}

/** The result of INIT. */
export interface InitResult {
  readonly minor: number;
  /** Flags that were offered by the kernel and accepted here. */
  readonly flags: ReadonlySet<InitFlagName>;
}

/** The largest READ that is answered. If pages exceed 4 KiB, the mount option `max_read` keeps the kernel within it. */
export const READ_BYTES_MAX = 1 << 20;
const PAGE_BYTES = 4096;
/** The largest WRITE that is answered, and the smallest max_write that the kernel accepts, for a read-only filesystem. */
export const WRITE_BYTES_MAX = 1 << 20;
const WRITE_BYTES_MIN = 4096;
/** Background requests (readahead) that may be in flight at one time; the kernel's default is 12. */
const BACKGROUND_MAX = 64;

type When = (wanted: Wanted) => boolean;
const always: When = () => true;

/** Flags that are accepted if the kernel offers them, each with its condition. Flags about locking are left out. */
const accepted: ReadonlyMap<InitFlagName, When> = new Map<InitFlagName, When>([
  ['ASYNC_READ', always], // readahead sends several reads at a time
  ['AUTO_INVAL_DATA', wanted => wanted.changes === true], // a new mtime or size invalidates cached data and listings
  ['DO_READDIRPLUS', always], // listings include attributes; READDIRPLUS_AUTO guesses when, and is no faster
  ['ASYNC_DIO', always], // O_DIRECT reads of one caller overlap
  ['NO_OPEN_SUPPORT', wanted => wanted.writes !== true], // says that OPEN may be answered ENOSYS, once and for all
  ['PARALLEL_DIROPS', always], // two lookups in one directory may run at once
  ['POSIX_ACL', wanted => wanted.posixAcl], // the kernel checks permissions itself
  ['ABORT_ERROR', always], // distinguishes an aborted connection from an unmounted one
  ['MAX_PAGES', always], // reads of 1 MiB, not 128 KiB
  ['CACHE_SYMLINKS', always], // targets never change
  ['ATOMIC_O_TRUNC', wanted => wanted.writes === true], // an open that drops all data need not copy it first
  ['BIG_WRITES', wanted => wanted.writes === true],
  ['DONT_MASK', wanted => wanted.writes === true], // the umask comes with the request: a default ACL replaces it
  ['HANDLE_KILLPRIV_V2', wanted => wanted.writes === true], // else each write asks for security.capability first
  ['SETXATTR_EXT', wanted => wanted.writes === true],
  ['WRITEBACK_CACHE', wanted => wanted.writes === true && wanted.passthroughDepth === 0], // the kernel allows one of the two
  ['NO_OPENDIR_SUPPORT', always], // says that OPENDIR may be answered ENOSYS, once and for all
  ['INIT_EXT', always], // flags2 is valid
  ['DIRECT_IO_ALLOW_MMAP', always], // files opened with DIRECT_IO can be executed and mapped
  ['PASSTHROUGH', wanted => wanted.passthroughDepth > 0],
  ['OVER_IO_URING', wanted => wanted.ioUring === true],
  ['ALLOW_IDMAP', wanted => wanted.mapsIds === true],
  ['HAS_RESEND', wanted => wanted.outlives === true], // sends requests again that were read and not answered
  ['EXPORT_SUPPORT', wanted => wanted.handles === true],
  ['NO_EXPORT_SUPPORT', wanted => wanted.handles !== true], // else handles become stale when the kernel forgets the inode
]);

/** All flags that may be accepted, in any configuration. */
export const acceptedFlags: readonly InitFlagName[] = [...accepted.keys()];

/**
 * Answers INIT into `reply`, which has at least InitOut.SIZE bytes; that many are written.
 * @param request the body of INIT, 16 bytes or more
 * @returns undefined if the kernel must ask again with this major version
 * @throws ErrnoError EPROTO for a kernel that is too old
 */
export function negotiate(request: DataView, reply: DataView, wanted: Wanted): InitResult | undefined {
  const major = request.getUint32(InitIn.major, true);
  const minor = request.getUint32(InitIn.minor, true);
  if (major < MAJOR || (major === MAJOR && minor < MINOR_OLDEST)) {
    const oldest = `${MAJOR}.${MINOR_OLDEST}`;
    throw new ErrnoError(EPROTO, `the kernel speaks FUSE ${major}.${minor}, which is older than ${oldest}`);
  }
  for (let at = 0; at < InitOut.SIZE; at += 4) reply.setUint32(at, 0, true);
  reply.setUint32(InitOut.major, MAJOR, true);
  reply.setUint32(InitOut.minor, MINOR, true);
  if (major > MAJOR) return undefined;

  const connection = agree(request, Math.min(minor, MINOR), wanted);
  reply.setUint32(InitOut.minor, connection.minor, true);
  reply.setUint32(InitOut.max_readahead, request.getUint32(InitIn.max_readahead, true), true);
  reply.setUint32(InitOut.flags, bitsOf(connection.flags, 0), true);
  reply.setUint16(InitOut.max_background, BACKGROUND_MAX, true);
  reply.setUint16(InitOut.congestion_threshold, (BACKGROUND_MAX * 3) / 4, true);
  reply.setUint32(InitOut.max_write, wanted.writes ? WRITE_BYTES_MAX : WRITE_BYTES_MIN, true);
  reply.setUint32(InitOut.time_gran, 1, true);
  if (connection.flags.has('MAX_PAGES')) reply.setUint16(InitOut.max_pages, READ_BYTES_MAX / PAGE_BYTES, true);
  reply.setUint32(InitOut.flags2, bitsOf(connection.flags, 32), true);
  if (connection.flags.has('PASSTHROUGH')) reply.setUint32(InitOut.max_stack_depth, wanted.passthroughDepth, true);
  return connection;
}

function agree(request: DataView, minor: number, wanted: Wanted): InitResult {
  const offered = offeredFlags(request);
  const flags = new Set<InitFlagName>();
  for (const [flag, when] of accepted) if (offered.has(flag) && when(wanted)) flags.add(flag);
  return { minor, flags };
}

/** The flags in the body of an INIT request. Unknown bits are left out. */
function offeredFlags(request: DataView): Set<InitFlagName> {
  const low = request.getUint32(InitIn.flags, true);
  const isExtended = request.byteLength >= InitIn.flags2 + 4 && low & (1 << InitFlag.INIT_EXT);
  const high = isExtended ? request.getUint32(InitIn.flags2, true) : 0;
  return flagsOf(low, high);
}

/** The flags in two words of an INIT request or reply. Unknown bits are left out. */
export function flagsOf(low: number, high: number): Set<InitFlagName> {
  const flags = new Set<InitFlagName>();
  for (const [name, bit] of Object.entries(InitFlag) as [InitFlagName, number][]) {
    if ((bit < 32 ? low : high) & (1 << (bit % 32))) flags.add(name);
  }
  return flags;
}

/** The bits `from` to `from + 31` of a set of flags. */
function bitsOf(flags: ReadonlySet<InitFlagName>, from: number): number {
  let bits = 0;
  for (const flag of flags) {
    const bit = InitFlag[flag] - from;
    if (bit >= 0 && bit < 32) bits |= 1 << bit;
  }
  return bits >>> 0;
}
