/**
 * The system calls that Node does not offer, as thin functions over the addon in `native-shims/`.
 *
 * Every function returns a count or a descriptor, zero or more, or a negative errno; none throws for a failing call.
 * Paths, names and strings are byte strings (`ByteString`) and must hold no NUL (-EINVAL). The caller owns every buffer.
 * All of them block and may be called on any thread.
 */
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { ByteString } from './bytes.ts';

export interface Native {
  // ---- fuse_dev.c: /dev/fuse -------------------------------------------------------------------------------------
  /** read(2) of one request into `request`. */
  fuseReceive(fd: number, request: Uint8Array): number;
  /** write(2) of the first `length` bytes of `reply`. */
  fuseReply(fd: number, reply: Uint8Array, length: number): number;
  /**
   * fuseReply, then fuseReceive, in one call. A failed write other than ENOENT (the request was interrupted) gives
   * `-errno - 4096` and nothing is read; else the result of the read.
   */
  fuseReplyReceive(fd: number, reply: Uint8Array, length: number, request: Uint8Array): number;
  /** FUSE_DEV_IOC_BACKING_OPEN: registers an open file for passthrough; the backing id. Needs CAP_SYS_ADMIN. */
  fuseBackingOpen(fd: number, file: number): number;
  /** FUSE_DEV_IOC_BACKING_CLOSE. */
  fuseBackingClose(fd: number, backingId: number): number;

  // ---- mount.c ---------------------------------------------------------------------------------------------------
  mount(source: ByteString, target: ByteString, type: ByteString, flags: number, data: ByteString): number;
  /** umount2(2). */
  umount(target: ByteString, flags: number): number;
  /** open_tree(2). */
  openTree(dirfd: number, path: ByteString, flags: number): number;
  /** fsopen(2): a filesystem that is to be configured. */
  fsopen(type: ByteString): number;
  /** fsconfig(2); an empty string stands for none. */
  fsconfig(fd: number, command: number, key: ByteString, value: ByteString, aux: number): number;
  /** fsmount(2): a mount that is not in any directory yet, and ends with its descriptor unless it is moved into one. */
  fsmount(fd: number, attributes: number): number;
  /** move_mount(2). */
  moveMount(fromDirfd: number, from: ByteString, toDirfd: number, to: ByteString, flags: number): number;
  /** socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC): both descriptors into `pair`. */
  socketPair(pair: Int32Array): number;
  /** recvmsg(2) of one byte with one descriptor (SCM_RIGHTS, close-on-exec); -EPROTO where none came. */
  receiveDescriptor(socket: number): number;

  // ---- files.c ---------------------------------------------------------------------------------------------------
  /** openat2(2); `mode` 0. Flags always include O_CLOEXEC. */
  openat2(dirfd: number, path: ByteString, flags: number, resolve: number): number;
  close(fd: number): number;
  /** close_range(2); -ENOSYS before Linux 5.9, and -EINVAL for CLOSE_RANGE_CLOEXEC before 5.11. */
  closeRange(first: number, last: number, flags: number): number;
  /** flock(2). */
  flock(fd: number, operation: number): number;
  /** fcntl(2) F_DUPFD_CLOEXEC: another descriptor of the same open file. */
  duplicate(fd: number): number;
  /** dup3(2): `target` becomes another descriptor of the open file `fd`, and is inherited by programs. */
  replace(fd: number, target: number): number;
  /** fcntl(2) F_SETFL: O_NONBLOCK and its like. */
  setStatusFlags(fd: number, flags: number): number;
  /** poll(2): how many of the descriptors (8 at most) are ready, 0 after `milliseconds` (negative: no limit). */
  poll(fds: Int32Array, events: number, milliseconds: number): number;
  /** statx(2) into `out`, at least 256 bytes: struct statx. */
  statx(dirfd: number, path: ByteString, flags: number, mask: number, out: Uint8Array): number;
  /** getdents64(2): packed struct linux_dirent64; 0 at the end. */
  getdents(fd: number, out: Uint8Array): number;
  readlinkat(dirfd: number, path: ByteString, out: Uint8Array): number;
  /** pread(2) of up to `length` bytes to `out[at..]`, again and again until `length` or the end of the file. */
  pread(fd: number, out: Uint8Array, at: number, length: number, position: number): number;
  /** lseek(2). */
  lseek(fd: number, offset: number, whence: number): number;
  /** fstatfs(2): type, bsize, blocks, bfree, bavail, files, ffree, namelen, frsize, flags into `out[0..9]`. */
  fstatfs(fd: number, out: Float64Array): number;
  /** name_to_handle_at(2) into `out`: struct file_handle (u32 handle_bytes, i32 handle_type, bytes). Returns its size. */
  nameToHandleAt(dirfd: number, path: ByteString, flags: number, out: Uint8Array): number;
  /** open_by_handle_at(2) of a struct file_handle. */
  openByHandleAt(mountfd: number, handle: Uint8Array, flags: number): number;
  /** ioctl FS_IOC_GETFLAGS of an open file: the u32 of flags into `out`; 4. */
  fileFlags(fd: number, out: Uint8Array): number;
  /** ioctl FS_IOC_FSGETXATTR: struct fsxattr into `out`; 28. */
  fileXattr(fd: number, out: Uint8Array): number;
  /** ioctl FS_IOC_GETFSUUID: the bytes of the uuid into `out` (16 or more); their number. */
  filesystemUuid(fd: number, out: Uint8Array): number;
  /** ioctl BTRFS_IOC_FS_INFO: the 16 bytes of the uuid of a btrfs, which the other call does not know, into `out`; 16. */
  btrfsUuid(fd: number, out: Uint8Array): number;

  // ---- xattr.c: an empty `out` asks for the size -----------------------------------------------------------------
  lgetxattr(path: ByteString, name: ByteString, out: Uint8Array): number;
  /** These follow symlinks. */
  getxattr(path: ByteString, name: ByteString, out: Uint8Array): number;
  listxattr(path: ByteString, out: Uint8Array): number;
  /** getxattrat(2); `flags` may hold AT_SYMLINK_NOFOLLOW. -ENOSYS before Linux 6.13. */
  getxattrat(dirfd: number, path: ByteString, flags: number, name: ByteString, out: Uint8Array): number;
  /** listxattrat(2), likewise. */
  listxattrat(dirfd: number, path: ByteString, flags: number, out: Uint8Array): number;
  fgetxattr(fd: number, name: ByteString, out: Uint8Array): number;
  flistxattr(fd: number, out: Uint8Array): number;

  // ---- verity.c --------------------------------------------------------------------------------------------------
  /** ioctl FS_IOC_MEASURE_VERITY into `out`: struct fsverity_digest (u16 algorithm, u16 size, digest). Its size. */
  measureVerity(fd: number, out: Uint8Array): number;
  /** ioctl FS_IOC_ENABLE_VERITY without a salt or signature; `algorithm` 1 SHA-256, 2 SHA-512. */
  enableVerity(fd: number, algorithm: number, blockBytes: number): number;
  /**
   * Hashes each block of `blockBytes` (1 to 65,536) of `blocks`, the last one filled up with zeros, after `salt` into `out`,
   * which holds 32 bytes a block for `algorithm` 1, SHA-256, and 64 for 2, SHA-512. The number of blocks; -ENOSYS where Node
   * has no OpenSSL; -EIO where OpenSSL refuses the algorithm.
   */
  hashBlocks(algorithm: number, salt: Uint8Array, blocks: Uint8Array, blockBytes: number, out: Uint8Array): number;

  // ---- uring.c ---------------------------------------------------------------------------------------------------
  /** io_uring_setup(2); `params`, at least 120 bytes: struct io_uring_params. A descriptor. */
  uringSetup(entries: number, params: Uint8Array): number;
  /** io_uring_enter(2): how many submissions were taken. Waits for no completion. */
  uringEnter(fd: number, submit: number, flags: number): number;
  /** mmap(2), to read and write; shared, or anonymous where `fd` is -1. Unmapped when nothing refers to it any more. */
  map(fd: number, offset: number, length: number): ArrayBuffer | number;
  /** madvise(2) about memory that begins at a page. */
  advise(memory: Uint8Array, advice: number): number;
  /** Where the memory of `bytes` is, for structures that hold addresses; its owner keeps it. */
  addressOf(bytes: Uint8Array): number;

  // ---- event_loop.c: of the calling thread -------------------------------------------------------------------------
  /** uv_backend_fd of libuv: can be read when the event loop has something to do. The loop owns it. */
  loopDescriptor(): number;
  /** uv_backend_timeout of libuv: milliseconds until a timer ends, -1: none; 0: something is to be done at once. */
  loopTimeout(): number;
  /** Has libuv open what it keeps for streams, /dev/null, before the first of them is made. */
  prepareStreams(): number;

  // ---- process.c -------------------------------------------------------------------------------------------------
  /** A socket, connected to a Unix datagram socket (`@` first: an abstract name), for write(2). */
  connectDatagram(socketPath: ByteString): number;
  /** A Unix stream socket that takes connections at a path. */
  listenStream(socketPath: ByteString): number;
  /** execv(2): becomes the program; `words`, its name first, each end with a NUL. -E2BIG for more than 4,095. */
  execute(path: ByteString, words: Uint8Array): number;
  /**
   * posix_spawn(3): starts a program in a session of its own, with `fd` as its standard input and output, no standard error, and
   * `directory` as its descriptor 3.
   * Its process; nobody is told when it ends.
   */
  spawn(path: ByteString, words: Uint8Array, fd: number, directory: number): number;
  /** setsid(2): no terminal sends signals from here on. */
  setsid(): number;
  /** _exit(2): ends the process at once, also while a thread blocks in a system call. */
  exit(status: number): never;

  // ---- confine.c: what threads give up -----------------------------------------------------------------------------
  /** A system call of three numbers, made by another thread of the process, which is interrupted, or by this one for 0. */
  callOnThread(thread: number, call: number, a: number, b: number, c: number): number;
  /** A ruleset of struct landlock_ruleset_attr; with flags and no attributes, what the kernel knows. -ENOSYS, -EOPNOTSUPP. */
  landlockCreateRuleset(attributes: Uint8Array, flags: number): number;
  /** `attributes` of 12 bytes or more: struct landlock_path_beneath_attr. */
  landlockAddRule(ruleset: number, type: number, attributes: Uint8Array): number;
  /** seccomp(2) with packed struct sock_filter. With SECCOMP_FILTER_FLAG_TSYNC, for all threads: 0, or who can not follow. */
  seccomp(operation: number, flags: number, program: Uint8Array): number;

  // ---- bench.c: timed in C -----------------------------------------------------------------------------------------
  /**
   * Does a BenchOperation with each of `paths`, which end with a NUL, relative to `dirfd`, and writes the nanoseconds of each
   * one to `nanoseconds`. The number of paths; at the first one that fails it stops, and leaves that number as it was.
   * `buffer` is what is read or listed into.
   */
  benchPaths(
    dirfd: number,
    operation: number,
    paths: Uint8Array,
    buffer: Uint8Array,
    nanoseconds: Float64Array,
  ): number;
  /** Fills `buffer` from each offset of a file, and writes the nanoseconds of each read. The number of offsets; -ENODATA past its end. */
  benchReads(fd: number, offsets: Float64Array, buffer: Uint8Array, nanoseconds: Float64Array): number;
  /**
   * Looks at the byte at each offset of a file that it maps, and writes the nanoseconds of each look. The number of offsets;
   * -EINVAL past its end. A page that can not be read is SIGBUS: read the file before.
   */
  benchTouches(fd: number, offsets: Float64Array, nanoseconds: Float64Array): number;
  /**
   * Runs `path option value` with /dev/null for its input and outputs, as often as `nanoseconds` has room, and writes what each
   * run took from its start until it had ended. The number of runs; -ECHILD where one did not end with status 0.
   */
  benchRuns(path: ByteString, option: ByteString, value: ByteString, nanoseconds: Float64Array): number;
  /** setgroups(2) of none, setresgid(2), setresuid(2): the calling thread alone becomes a user, and so do programs it starts. */
  benchUser(uid: number, gid: number): number;
}

/** What benchPaths does with a path; symlinks are not followed. */
export const BenchOperation = {
  stat: 0,
  miss: 1, // the same; ENOENT is what must come, -EEXIST tells that it did not
  open: 2, // and close
  read: 3, // open, read once, close
  list: 4, // open a directory, read all of it, ask for the attributes of each entry, close
} as const;

interface Loader {
  (directory: string): Native;
  /** The file that it would load. */
  resolve(directory: string): string;
}

/** Where package.json and native-shims/ are. */
export const packageDirectory = packageRoot(dirname(fileURLToPath(import.meta.url)));
const shims = join(packageDirectory, 'native-shims');
const modules = createRequire(import.meta.url);
const load = modules('node-gyp-build') as Loader;

/** Where the modules are that a thread loads when it starts: the package, the addon, and these packages. */
export const moduleDirectories = (packages: readonly string[]): string[] => [
  packageDirectory,
  dirname(load.resolve(shims)),
  ...['node-gyp-build', ...packages].map(name => dirname(modules.resolve(name))),
];

/** The addon, loaded once. */
export const native: Native = load(shims);

/** The package's directory: the first one above `directory` that holds native-shims/binding.gyp. */
function packageRoot(directory: string): string {
  const { existsSync } = createRequire(import.meta.url)('node:fs') as typeof import('node:fs');
  let at = directory;
  while (!existsSync(join(at, 'native-shims', 'binding.gyp'))) {
    const above = dirname(at);
    if (above === at) throw new Error(`native-shims not found above ${directory}`);
    at = above;
  }
  return at;
}
