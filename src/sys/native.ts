/**
 * The system calls that Node.js does not offer, as thin functions over the addon in `native-shims/`.
 *
 * Unless its comment says otherwise, a function returns 0, a count or a descriptor, or a negative errno; none throws for a
 * failing call. Paths, names and strings are byte strings (`ByteString`) and must hold no NUL (-EINVAL). The caller owns every
 * buffer. All functions block and may be called on any thread.
 */
import { existsSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import load from 'node-gyp-build';
import type { ByteString } from './bytes.ts';

export interface Native {
  // ---- fuse_dev.c: /dev/fuse -------------------------------------------------------------------------------------
  /** read(2) of one request into `request`. */
  fuseReceive(fd: number, request: Uint8Array): number;
  /** write(2) of the first `length` bytes of `reply`. */
  fuseReply(fd: number, reply: Uint8Array, length: number): number;
  /**
   * fuseReply, then fuseReceive, in one call. If the write fails with another error than ENOENT (the request was interrupted),
   * returns `-errno - 4096` and reads nothing. Otherwise returns the result of the read.
   */
  fuseReplyReceive(fd: number, reply: Uint8Array, length: number, request: Uint8Array): number;
  /** FUSE_DEV_IOC_BACKING_OPEN: registers an open file for passthrough. Returns the backing id. Needs CAP_SYS_ADMIN. */
  fuseBackingOpen(fd: number, file: number): number;
  /** FUSE_DEV_IOC_BACKING_CLOSE. */
  fuseBackingClose(fd: number, backingId: number): number;

  // ---- mount.c ---------------------------------------------------------------------------------------------------
  mount(source: ByteString, target: ByteString, type: ByteString, flags: number, data: ByteString): number;
  /** umount2(2). */
  umount(target: ByteString, flags: number): number;
  /** open_tree(2). */
  openTree(dirfd: number, path: ByteString, flags: number): number;
  /** mount_setattr(2): sets and clears MOUNT_ATTR_* flags of the mount whose root is `fd`. */
  mountSetattr(fd: number, set: number, clear: number, userns: number): number;
  /** fsopen(2): a filesystem context to configure. */
  fsopen(type: ByteString): number;
  /** fsconfig(2); an empty string is passed as NULL. */
  fsconfig(fd: number, command: number, key: ByteString, value: ByteString, aux: number): number;
  /** fsmount(2): a mount that is attached nowhere yet. It ends with its descriptor unless move_mount(2) attaches it. */
  fsmount(fd: number, attributes: number): number;
  /** NS_GET_OWNER_UID of ioctl_nsfs(2): the owner of a user namespace; -ENOTTY for another file, -EINVAL for another namespace. */
  namespaceOwner(fd: number): number;
  /** move_mount(2). */
  moveMount(fromDirfd: number, from: ByteString, toDirfd: number, to: ByteString, flags: number): number;

  // ---- descriptors.c ---------------------------------------------------------------------------------------------
  close(fd: number): number;
  /** close_range(2); -ENOSYS before Linux 5.9, and -EINVAL for CLOSE_RANGE_CLOEXEC before 5.11. */
  closeRange(first: number, last: number, flags: number): number;
  /** flock(2). */
  flock(fd: number, operation: number): number;
  /** fcntl(2) F_DUPFD_CLOEXEC: another descriptor of the same open file, the lowest free one from `least` on. */
  duplicate(fd: number, least: number): number;
  /** memfd_create(2): an empty file in memory, which ends with its last descriptor, and may be sealed. */
  memoryFile(name: ByteString): number;
  /** fcntl(2) F_ADD_SEALS: F_SEAL_* bits, for a file of `memoryFile`. */
  addSeals(fd: number, seals: number): number;
  /** Gives the kernel's table of this process's descriptors `count` places, later and on another thread. */
  growTable(fd: number, count: number): number;
  /** dup3(2): `target` becomes another descriptor of the open file `fd`, which child processes inherit. */
  replace(fd: number, target: number): number;
  /** fcntl(2) F_SETFL: sets O_NONBLOCK and similar flags. */
  setStatusFlags(fd: number, flags: number): number;
  /** poll(2): the number of ready descriptors among `fds` (8 at most); 0 after `milliseconds` (negative: no limit). */
  poll(fds: Int32Array, events: number, milliseconds: number): number;

  // ---- files.c ---------------------------------------------------------------------------------------------------
  /** openat2(2); `mode` 0. Flags always include O_CLOEXEC. */
  openat2(dirfd: number, path: ByteString, flags: number, resolve: number): number;
  /** statx(2) into `out`, at least 256 bytes: struct statx. */
  statx(dirfd: number, path: ByteString, flags: number, mask: number, out: Uint8Array): number;
  /** getdents64(2): packed struct linux_dirent64; 0 at the end. */
  getdents(fd: number, out: Uint8Array): number;
  readlinkat(dirfd: number, path: ByteString, out: Uint8Array): number;
  /** pread(2) of up to `length` bytes to `out[at..]`, repeated until `length` bytes are read or the file ends. */
  pread(fd: number, out: Uint8Array, at: number, length: number, position: number): number;
  /** lseek(2). */
  lseek(fd: number, offset: number, whence: number): number;
  /** fstatfs(2): writes type, bsize, blocks, bfree, bavail, files, ffree, namelen, frsize and flags to `out[0..9]`. */
  fstatfs(fd: number, out: Float64Array): number;
  /**
   * name_to_handle_at(2): writes a struct file_handle (u32 handle_bytes, i32 handle_type, bytes) to `out` and returns its size.
   */
  nameToHandleAt(dirfd: number, path: ByteString, flags: number, out: Uint8Array): number;
  /** open_by_handle_at(2) with a struct file_handle. */
  openByHandleAt(mountfd: number, handle: Uint8Array, flags: number): number;
  /** ioctl FS_IOC_GETFLAGS of an open file: writes the u32 of flags to `out`. Returns 4. */
  fileFlags(fd: number, out: Uint8Array): number;
  /** ioctl FS_IOC_FSGETXATTR: writes a struct fsxattr to `out`. Returns 28. */
  fileXattr(fd: number, out: Uint8Array): number;
  /** ioctl FS_IOC_GETFSUUID: writes the bytes of the UUID to `out` (16 or more). Returns their number. */
  filesystemUuid(fd: number, out: Uint8Array): number;
  /**
   * ioctl BTRFS_IOC_FS_INFO: writes the 16 bytes of a btrfs UUID, which FS_IOC_GETFSUUID does not support, to `out`. Returns 16.
   */
  btrfsUuid(fd: number, out: Uint8Array): number;

  // ---- changes.c -------------------------------------------------------------------------------------------------
  /** openat(2). Flags always include O_CLOEXEC. */
  openat(dirfd: number, path: ByteString, flags: number, mode: number): number;
  mkdirat(dirfd: number, path: ByteString, mode: number): number;
  /** mknodat(2); `major` and `minor` matter only for devices. */
  mknodat(dirfd: number, path: ByteString, mode: number, major: number, minor: number): number;
  symlinkat(target: ByteString, dirfd: number, path: ByteString): number;
  /** linkat(2); a symlink is followed only with AT_SYMLINK_FOLLOW. */
  linkat(fromDirfd: number, from: ByteString, toDirfd: number, to: ByteString, flags: number): number;
  unlinkat(dirfd: number, path: ByteString, flags: number): number;
  renameat2(fromDirfd: number, from: ByteString, toDirfd: number, to: ByteString, flags: number): number;
  /** fchownat(2); a `uid` or `gid` of -1 leaves it unchanged. */
  fchownat(dirfd: number, path: ByteString, uid: number, gid: number, flags: number): number;
  /** fchmodat(2) without flags: follows symlinks, also those like /proc/self/fd/N. */
  fchmodat(dirfd: number, path: ByteString, mode: number): number;
  /** utimensat(2); `times` has at least 32 bytes: struct timespec of atime and of mtime. */
  utimensat(dirfd: number, path: ByteString, times: Uint8Array, flags: number): number;
  ftruncate(fd: number, size: number): number;
  fallocate(fd: number, mode: number, offset: number, length: number): number;
  /**
   * pwrite(2) of the `length` bytes at `bytes[at..]`, repeated until all are written or an error stops it. Returns the number of
   * bytes written, or the -errno if there were none.
   */
  pwrite(fd: number, bytes: Uint8Array, at: number, length: number, position: number): number;
  fsync(fd: number): number;
  fdatasync(fd: number): number;
  /** syncfs(2): writes the whole filesystem of `fd`. */
  syncfs(fd: number): number;
  /** copy_file_range(2), once: returns the number of bytes copied, which may be less than `length`; 0 at the end of the file. */
  copyFileRange(from: number, fromOffset: number, to: number, toOffset: number, length: number): number;
  /** ioctl FICLONE: `to` shares all the blocks of `from`. */
  clone(to: number, from: number): number;
  /** ioctl FS_IOC_SETFLAGS; `flags` has at least 4 bytes: the u32 of flags. */
  setFileFlags(fd: number, flags: Uint8Array): number;
  /** ioctl FS_IOC_FSSETXATTR; `value` has at least 28 bytes: struct fsxattr. */
  setFileXattr(fd: number, value: Uint8Array): number;

  // ---- xattr.c: an empty `out` asks for the size -----------------------------------------------------------------
  lgetxattr(path: ByteString, name: ByteString, out: Uint8Array): number;
  /** Like listxattr, follows symlinks. */
  getxattr(path: ByteString, name: ByteString, out: Uint8Array): number;
  listxattr(path: ByteString, out: Uint8Array): number;
  /** getxattrat(2); `flags` may hold AT_SYMLINK_NOFOLLOW. -ENOSYS before Linux 6.13. */
  getxattrat(dirfd: number, path: ByteString, flags: number, name: ByteString, out: Uint8Array): number;
  /** listxattrat(2), with the same flags and since the same version. */
  listxattrat(dirfd: number, path: ByteString, flags: number, out: Uint8Array): number;
  fgetxattr(fd: number, name: ByteString, out: Uint8Array): number;
  flistxattr(fd: number, out: Uint8Array): number;
  /** setxattr(2): follows symlinks. `flags` may hold XATTR_CREATE or XATTR_REPLACE. */
  setxattr(path: ByteString, name: ByteString, value: Uint8Array, flags: number): number;
  /** removexattr(2): follows symlinks. */
  removexattr(path: ByteString, name: ByteString): number;
  /**
   * setxattrat(2); `atFlags` may hold AT_SYMLINK_NOFOLLOW, and AT_EMPTY_PATH, which gives -EBADF for a descriptor opened with
   * O_PATH. -ENOSYS before Linux 6.13.
   */
  setxattrat(
    dirfd: number,
    path: ByteString,
    atFlags: number,
    name: ByteString,
    value: Uint8Array,
    flags: number,
  ): number;
  /** removexattrat(2), with the same `atFlags` and since the same version. */
  removexattrat(dirfd: number, path: ByteString, atFlags: number, name: ByteString): number;

  // ---- verity.c --------------------------------------------------------------------------------------------------
  /**
   * ioctl FS_IOC_MEASURE_VERITY: writes a struct fsverity_digest (u16 algorithm, u16 size, digest) to `out`. Returns its size.
   */
  measureVerity(fd: number, out: Uint8Array): number;
  /** ioctl FS_IOC_ENABLE_VERITY without a salt or signature; `algorithm` is 1 for SHA-256, 2 for SHA-512. */
  enableVerity(fd: number, algorithm: number, blockBytes: number): number;
  /**
   * Hashes each block of `blockBytes` (1 to 65,536) of `blocks`, prefixed with `salt`, and writes the hashes to `out`. The last
   * block is padded with zeros. `out` holds 32 bytes for each block with `algorithm` 1, SHA-256, and 64 with 2, SHA-512. Returns
   * the number of blocks; -ENOSYS if Node.js has no OpenSSL; -EIO if OpenSSL refuses the algorithm.
   */
  hashBlocks(algorithm: number, salt: Uint8Array, blocks: Uint8Array, blockBytes: number, out: Uint8Array): number;

  // ---- uring.c ---------------------------------------------------------------------------------------------------
  /** io_uring_setup(2); `params` has at least 120 bytes: struct io_uring_params. Returns a descriptor. */
  uringSetup(entries: number, params: Uint8Array): number;
  /** io_uring_enter(2). Returns the number of submissions that the kernel took. Does not wait for completions. */
  uringEnter(fd: number, submit: number, flags: number): number;
  /** mmap(2) for reading and writing; shared, or anonymous if `fd` is -1. Unmapped when the ArrayBuffer is garbage-collected. */
  map(fd: number, offset: number, length: number): ArrayBuffer | number;
  /** madvise(2) for memory that begins at a page boundary. */
  advise(memory: Uint8Array, advice: number): number;
  /** The address of the memory of `bytes`, for structures that hold addresses. The caller must keep `bytes` alive. */
  addressOf(bytes: Uint8Array): number;

  // ---- event_loop.c: of the calling thread -------------------------------------------------------------------------
  /** uv_backend_fd of libuv: readable when the event loop has work. The loop owns the descriptor. */
  loopDescriptor(): number;
  /** uv_backend_timeout of libuv: milliseconds until the next timer; -1: there is none; 0: the loop has work now. */
  loopTimeout(): number;
  /** Makes libuv open /dev/null now, which it keeps for all streams and would otherwise open for the first one. */
  prepareStreams(): number;

  // ---- process.c -------------------------------------------------------------------------------------------------
  /**
   * execv(2): replaces this process by the program. `words` holds the arguments from argv[0] on, each ended by a NUL; -E2BIG for
   * more than 4,095.
   */
  execute(path: ByteString, words: Uint8Array): number;
  /**
   * posix_spawn(3): starts a program in a session of its own. `fd` becomes its standard input and output, and `kept` its
   * descriptors from 3 on, none of which may be below 3 + their number; its standard error is /dev/null. Returns its process ID.
   * Its exit is not reported.
   */
  spawn(path: ByteString, words: Uint8Array, fd: number, kept: Int32Array): number;
  /** setsid(2): a terminal sends no more signals to this process. */
  setsid(): number;
  /** _exit(2): ends the process at once, even while a thread blocks in a system call. */
  exit(status: number): never;

  // ---- sockets.c ---------------------------------------------------------------------------------------------------
  /** socketpair(2) of Unix sockets: writes both descriptors to `pair`. The type is a SOCK_* of `sockets/types.ts`. */
  socketPair(pair: Int32Array, type: number): number;
  /** Returns a socket that is connected to a Unix socket of the type. A path that starts with `@` is an abstract name. */
  connectSocket(socketPath: ByteString, type: number): number;
  /** Returns a Unix stream socket that accepts connections at a path. */
  listenStream(socketPath: ByteString): number;
  /** accept4(2): the next connection, which does not block; -EAGAIN if there is none and the listening socket does not block. */
  accept(fd: number): number;
  /** SO_PEERCRED of unix(7): writes the process ID, user and group of the peer at its connect(2) to `out`. */
  peerCredentials(fd: number, out: Int32Array): number;
  /** SO_PEERGROUPS: writes the supplementary groups of the peer at its connect(2) to `out`. Returns their number; -ERANGE if they are more. */
  peerGroups(fd: number, out: Int32Array): number;
  /** sendmsg(2), with at most 253 descriptors (SCM_RIGHTS). Returns the number of bytes sent. */
  sendMessage(fd: number, bytes: Uint8Array, fds: Int32Array): number;
  /**
   * recvmsg(2): writes the descriptors that came (SCM_RIGHTS, close-on-exec) to `fds`, and -1 to the rest of it. Descriptors for which
   * there is no room are closed. Returns the number of bytes; 0 at the end. Flags are MSG_* bits.
   */
  receiveMessage(fd: number, bytes: Uint8Array, fds: Int32Array, flags: number): number;
  /** epoll_create1(2). */
  epollCreate(): number;
  /** epoll_ctl(2): 1 adds, 2 removes, 3 changes; the events of `fd` come with its number. */
  epollControl(epoll: number, operation: number, fd: number, events: number): number;
  /** epoll_wait(2), for at most 64 descriptors: writes each, and its events, to `out`. Returns how many; -EINTR for a signal. */
  epollWait(epoll: number, out: Int32Array, timeout: number): number;

  // ---- confine.c: what threads give up -----------------------------------------------------------------------------
  /** Makes a system call with three numbers on another thread of the process, which is interrupted, or on this one for 0. */
  callOnThread(thread: number, call: number, a: number, b: number, c: number): number;
  /**
   * Makes a ruleset from a struct landlock_ruleset_attr. With flags and empty attributes, returns what the kernel supports.
   * -ENOSYS, -EOPNOTSUPP.
   */
  landlockCreateRuleset(attributes: Uint8Array, flags: number): number;
  /** `attributes` has 12 bytes or more: struct landlock_path_beneath_attr. */
  landlockAddRule(ruleset: number, type: number, attributes: Uint8Array): number;
  /**
   * seccomp(2) with packed struct sock_filter. With SECCOMP_FILTER_FLAG_TSYNC it applies to all threads; returns 0, or the ID of
   * a thread to which it cannot.
   */
  seccomp(operation: number, flags: number, program: Uint8Array): number;

  // ---- bench.c: timed in C -----------------------------------------------------------------------------------------
  /**
   * Performs a BenchOperation on each of `paths`, which end with a NUL and are relative to `dirfd`. Writes the duration of each
   * in nanoseconds. Returns the number of paths, or the -errno of the first failure, where it stops. `buffer` receives the
   * bytes that are read or listed, and has those that are written.
   */
  benchPaths(
    dirfd: number,
    operation: number,
    paths: Uint8Array,
    buffer: Uint8Array,
    nanoseconds: Float64Array,
  ): number;
  /**
   * Fills `buffer` from each offset of a file, and writes the nanoseconds of each read. Returns the number of offsets; -ENODATA
   * past the end of the file.
   */
  benchReads(fd: number, offsets: Float64Array, buffer: Uint8Array, nanoseconds: Float64Array): number;
  /** Writes `buffer` at each offset of a file, and the nanoseconds of each write. Returns the number of offsets. */
  benchWrites(fd: number, offsets: Float64Array, buffer: Uint8Array, nanoseconds: Float64Array): number;
  /**
   * Maps a file, touches the byte at each offset, and writes the nanoseconds of each touch. Returns the number of offsets;
   * -EINVAL past the end of the file. A page that cannot be read causes SIGBUS, so read the file before.
   */
  benchTouches(fd: number, offsets: Float64Array, nanoseconds: Float64Array): number;
  /**
   * Runs `path option value` once for each element of `nanoseconds`, with /dev/null as its input and outputs, and writes the
   * duration of each run. Returns the number of runs; -ECHILD if one did not exit with status 0.
   */
  benchRuns(path: ByteString, option: ByteString, value: ByteString, nanoseconds: Float64Array): number;
  /**
   * setgroups(2) to none, setresgid(2), setresuid(2): changes the user of only the calling thread, and of programs that it
   * starts.
   */
  benchUser(uid: number, gid: number): number;
}

/** The operations of benchPaths. Symlinks are not followed. */
export const BenchOperation = {
  stat: 0,
  miss: 1, // stat of a missing name: ENOENT counts as success, and an existing name as -EEXIST
  open: 2, // open and close
  read: 3, // open, read once, close
  list: 4, // open a directory, list it, stat each entry, close
  create: 5, // make a file, write once, close
  chmod: 6, // chmod to 0640
  append: 7, // open, write once at the end, close
  remove: 8, // unlink
} as const;

/** The directory that holds package.json and native-shims/. */
export const packageDirectory = packageRoot(import.meta.dirname);
const shims = join(packageDirectory, 'native-shims');

/** The directories of the modules that a thread loads when it starts: the package, the addon, and these packages. */
export function moduleDirectories(packages: readonly string[]): string[] {
  const { resolve } = createRequire(import.meta.filename);
  return [
    packageDirectory,
    dirname(load.resolve(shims)),
    ...['node-gyp-build', ...packages].map(name => dirname(resolve(name))),
  ];
}

/** The addon, loaded once. */
export const native = load(shims) as Native;

/** The package's directory: the closest one, from `directory` upwards, that holds native-shims/binding.gyp. */
function packageRoot(directory: string): string {
  let at = directory;
  while (!existsSync(join(at, 'native-shims', 'binding.gyp'))) {
    const above = dirname(at);
    if (above === at) throw new Error(`native-shims not found above ${directory}`);
    at = above;
  }
  return at;
}
