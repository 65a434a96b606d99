/* Creating, changing and removing files. Flags and modes reach the kernel as they are given. */
#include "shim.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/fs.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <unistd.h>

/* openat(dirfd, path, flags, mode) -> descriptor (close-on-exec), or -errno.
 * The mode matters only with O_CREAT or O_TMPFILE, and the umask applies to it. */
SHIM(openat)
{
	char path[PATH_MAX];
	struct args a = args_open(env, info, 4);
	int dirfd = arg_int(&a);

	arg_bytes_z(&a, path, sizeof path);
	int flags = arg_int(&a);
	int mode = arg_int(&a);
	if (a.failed)
		return reply(env, -a.failed);
	int fd = openat(dirfd, path, flags | O_CLOEXEC, mode);
	return reply(env, fd < 0 ? -errno : fd);
}

/* mkdirat(dirfd, path, mode) -> 0 or -errno. The umask applies. */
SHIM(mkdirat)
{
	char path[PATH_MAX];
	struct args a = args_open(env, info, 3);
	int dirfd = arg_int(&a);

	arg_bytes_z(&a, path, sizeof path);
	int mode = arg_int(&a);
	if (a.failed)
		return reply(env, -a.failed);
	return reply(env, mkdirat(dirfd, path, mode) < 0 ? -errno : 0);
}

/* mknodat(dirfd, path, mode, major, minor) -> 0 or -errno. The umask applies.
 * EINVAL: a number is too large (12 bits of major, 20 of minor). Called by number: the wrapper needs glibc 2.33. */
SHIM(mknodat)
{
	char path[PATH_MAX];
	struct args a = args_open(env, info, 5);
	int dirfd = arg_int(&a);

	arg_bytes_z(&a, path, sizeof path);
	int mode = arg_int(&a);
	unsigned major = arg_int(&a);
	unsigned minor = arg_int(&a);
	if (a.failed)
		return reply(env, -a.failed);
	dev_t device = makedev(major, minor);
	if (device > UINT32_MAX)
		return reply(env, -EINVAL);
	return reply(env, syscall(SYS_mknodat, dirfd, path, mode, (unsigned)device) < 0 ? -errno : 0);
}

/* symlinkat(target, dirfd, path) -> 0 or -errno. */
SHIM(symlinkat)
{
	char target[PATH_MAX], path[PATH_MAX];
	struct args a = args_open(env, info, 3);

	arg_bytes_z(&a, target, sizeof target);
	int dirfd = arg_int(&a);
	arg_bytes_z(&a, path, sizeof path);
	if (a.failed)
		return reply(env, -a.failed);
	return reply(env, symlinkat(target, dirfd, path) < 0 ? -errno : 0);
}

/* linkat(fromDirfd, from, toDirfd, to, flags) -> 0 or -errno. */
SHIM(linkat)
{
	char from[PATH_MAX], to[PATH_MAX];
	struct args a = args_open(env, info, 5);
	int from_dirfd = arg_int(&a);

	arg_bytes_z(&a, from, sizeof from);
	int to_dirfd = arg_int(&a);
	arg_bytes_z(&a, to, sizeof to);
	int flags = arg_int(&a);
	if (a.failed)
		return reply(env, -a.failed);
	return reply(env, linkat(from_dirfd, from, to_dirfd, to, flags) < 0 ? -errno : 0);
}

/* unlinkat(dirfd, path, flags) -> 0 or -errno. */
SHIM(unlinkat)
{
	char path[PATH_MAX];
	struct args a = args_open(env, info, 3);
	int dirfd = arg_int(&a);

	arg_bytes_z(&a, path, sizeof path);
	int flags = arg_int(&a);
	if (a.failed)
		return reply(env, -a.failed);
	return reply(env, unlinkat(dirfd, path, flags) < 0 ? -errno : 0);
}

/* renameat2(fromDirfd, from, toDirfd, to, flags) -> 0 or -errno.
 * Called by number: not every C library has a wrapper. */
SHIM(renameat2)
{
	char from[PATH_MAX], to[PATH_MAX];
	struct args a = args_open(env, info, 5);
	int from_dirfd = arg_int(&a);

	arg_bytes_z(&a, from, sizeof from);
	int to_dirfd = arg_int(&a);
	arg_bytes_z(&a, to, sizeof to);
	unsigned flags = arg_int(&a);
	if (a.failed)
		return reply(env, -a.failed);
	return reply(env, syscall(SYS_renameat2, from_dirfd, from, to_dirfd, to, flags) < 0 ? -errno : 0);
}

/* fchownat(dirfd, path, uid, gid, flags) -> 0 or -errno. An ID of -1 leaves it unchanged. */
SHIM(fchownat)
{
	char path[PATH_MAX];
	struct args a = args_open(env, info, 5);
	int dirfd = arg_int(&a);

	arg_bytes_z(&a, path, sizeof path);
	uint32_t uid = arg_id(&a);
	uint32_t gid = arg_id(&a);
	int flags = arg_int(&a);
	if (a.failed)
		return reply(env, -a.failed);
	return reply(env, fchownat(dirfd, path, uid, gid, flags) < 0 ? -errno : 0);
}

/* fchmodat(dirfd, path, mode) -> 0 or -errno. Follows symlinks, also those like /proc/self/fd/N. */
SHIM(fchmodat)
{
	char path[PATH_MAX];
	struct args a = args_open(env, info, 3);
	int dirfd = arg_int(&a);

	arg_bytes_z(&a, path, sizeof path);
	int mode = arg_int(&a);
	if (a.failed)
		return reply(env, -a.failed);
	return reply(env, fchmodat(dirfd, path, mode, 0) < 0 ? -errno : 0);
}

/* utimensat(dirfd, path, times: Uint8Array, flags) -> 0 or -errno. times holds two struct timespec, of atime and mtime;
 * it is copied because it may lie at an odd address. */
SHIM(utimensat)
{
	char path[PATH_MAX];
	struct timespec times[2];
	struct args a = args_open(env, info, 4);
	int dirfd = arg_int(&a);

	arg_bytes_z(&a, path, sizeof path);
	struct span in = arg_span(&a);
	int flags = arg_int(&a);

	need(&a, in, sizeof times);
	if (a.failed)
		return reply(env, -a.failed);
	memcpy(times, in.at, sizeof times);
	return reply(env, utimensat(dirfd, path, times, flags) < 0 ? -errno : 0);
}

/* ftruncate(fd, size) -> 0 or -errno. */
SHIM(ftruncate)
{
	struct args a = args_open(env, info, 2);
	int fd = arg_int(&a);
	uint64_t size = arg_u64(&a);

	if (a.failed)
		return reply(env, -a.failed);
	return reply(env, ftruncate(fd, size) < 0 ? -errno : 0);
}

/* fallocate(fd, mode, offset, length) -> 0 or -errno. */
SHIM(fallocate)
{
	struct args a = args_open(env, info, 4);
	int fd = arg_int(&a);
	int mode = arg_int(&a);
	uint64_t offset = arg_u64(&a);
	uint64_t length = arg_u64(&a);

	if (a.failed)
		return reply(env, -a.failed);
	return reply(env, fallocate(fd, mode, offset, length) < 0 ? -errno : 0);
}

/* pwrite(fd, bytes: Uint8Array, at, length, position) -> bytes written from bytes[at..], or -errno.
 * The count is less than length only if an error stopped the write after some bytes: after short writes and EINTR,
 * writing continues. */
SHIM(pwrite)
{
	struct args a = args_open(env, info, 5);
	int fd = arg_int(&a);
	struct span bytes = arg_span(&a);
	uint64_t at = arg_u64(&a);
	uint64_t length = arg_u64(&a);
	uint64_t position = arg_u64(&a);
	uint64_t done = 0;

	need(&a, bytes, at + length);
	if (a.failed)
		return reply(env, -a.failed);
	while (done < length) {
		ssize_t n = pwrite(fd, (char *)bytes.at + at + done, length - done, position + done);
		if (n < 0 && errno != EINTR)
			return reply(env, done ? (int64_t)done : -errno);
		if (n == 0)
			break;
		if (n > 0)
			done += n;
	}
	return reply(env, done);
}

/* fsync(fd) -> 0 or -errno. */
SHIM(fsync)
{
	struct args a = args_open(env, info, 1);
	int fd = arg_int(&a);

	if (a.failed)
		return reply(env, -a.failed);
	return reply(env, fsync(fd) < 0 ? -errno : 0);
}

/* fdatasync(fd) -> 0 or -errno. */
SHIM(fdatasync)
{
	struct args a = args_open(env, info, 1);
	int fd = arg_int(&a);

	if (a.failed)
		return reply(env, -a.failed);
	return reply(env, fdatasync(fd) < 0 ? -errno : 0);
}

/* syncfs(fd) -> 0 or -errno: the whole filesystem of an open file. */
SHIM(syncfs)
{
	struct args a = args_open(env, info, 1);
	int fd = arg_int(&a);

	if (a.failed)
		return reply(env, -a.failed);
	return reply(env, syncfs(fd) < 0 ? -errno : 0);
}

/* copyFileRange(from, fromOffset, to, toOffset, length) -> bytes copied, 0 at the end of the file, or -errno.
 * One call, which may copy less than length. The files' own offsets stay. */
SHIM(copyFileRange)
{
	struct args a = args_open(env, info, 5);
	int from = arg_int(&a);
	off_t from_offset = arg_u64(&a);
	int to = arg_int(&a);
	off_t to_offset = arg_u64(&a);
	uint64_t length = arg_u64(&a);

	if (a.failed)
		return reply(env, -a.failed);
	ssize_t n = copy_file_range(from, &from_offset, to, &to_offset, length, 0);
	return reply(env, n < 0 ? -errno : n);
}

/* clone(to, from) -> 0 or -errno: FICLONE. The file `to` shares all the blocks of `from`.
 * EOPNOTSUPP: the filesystem cannot. EXDEV: they are on different filesystems. */
SHIM(clone)
{
	struct args a = args_open(env, info, 2);
	int to = arg_int(&a);
	int from = arg_int(&a);

	if (a.failed)
		return reply(env, -a.failed);
	return reply(env, ioctl(to, FICLONE, from) < 0 ? -errno : 0);
}

/* setFileFlags(fd, flags: Uint8Array) -> 0 or -errno: FS_IOC_SETFLAGS with a u32 of FS_*_FL flags.
 * The ioctl number encodes a long, but the kernel reads an int. */
SHIM(setFileFlags)
{
	struct args a = args_open(env, info, 2);
	int fd = arg_int(&a);
	struct span in = arg_span(&a);
	union {
		long room;
		unsigned flags;
	} wanted = { 0 };

	need(&a, in, sizeof wanted.flags);
	if (a.failed)
		return reply(env, -a.failed);
	memcpy(&wanted.flags, in.at, sizeof wanted.flags);
	return reply(env, ioctl(fd, FS_IOC_SETFLAGS, &wanted) < 0 ? -errno : 0);
}

/* setFileXattr(fd, value: Uint8Array) -> 0 or -errno: FS_IOC_FSSETXATTR with a struct fsxattr. */
SHIM(setFileXattr)
{
	struct args a = args_open(env, info, 2);
	int fd = arg_int(&a);
	struct span in = arg_span(&a);

	need(&a, in, sizeof(struct fsxattr));
	if (a.failed)
		return reply(env, -a.failed);
	return reply(env, ioctl(fd, FS_IOC_FSSETXATTR, in.at) < 0 ? -errno : 0);
}
