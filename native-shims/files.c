/* Opening, describing, listing and reading files. */
#include "shim.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/btrfs.h>
#include <linux/fs.h>
#include <linux/openat2.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/vfs.h>
#include <unistd.h>

/* Source: linux/fs.h of Linux 6.9; older headers lack it. */
struct filesystem_uuid {
	uint8_t len;
	uint8_t uuid[16];
};
#define GET_FILESYSTEM_UUID _IOR(0x15, 0, struct filesystem_uuid)

/* openat2(dirfd, path, flags, resolve) -> descriptor (close-on-exec), or -errno.
 * Called by number: glibc has no wrapper. */
SHIM(openat2)
{
	char path[PATH_MAX];
	struct args a = args_open(env, info, 4);
	int dirfd = arg_int(&a);

	arg_bytes_z(&a, path, sizeof path);
	struct open_how how = { .flags = arg_u64(&a) | O_CLOEXEC };
	how.resolve = arg_u64(&a);
	if (a.failed)
		return reply(env, -a.failed);
	long fd = syscall(SYS_openat2, dirfd, path, &how, sizeof how);
	return reply(env, fd < 0 ? -errno : fd);
}

/* statx(dirfd, path, flags, mask, out: Uint8Array) -> 0 or -errno. Writes struct statx to out, which has at least 256
 * bytes. */
SHIM(statx)
{
	char path[PATH_MAX];
	struct args a = args_open(env, info, 5);
	int dirfd = arg_int(&a);

	arg_bytes_z(&a, path, sizeof path);
	int flags = arg_int(&a);
	unsigned mask = arg_int(&a);
	struct span out = arg_span(&a);

	need(&a, out, sizeof(struct statx));
	if (a.failed)
		return reply(env, -a.failed);
	return reply(env, statx(dirfd, path, flags, mask, out.at) < 0 ? -errno : 0);
}

/* getdents(fd, out: Uint8Array) -> bytes of packed struct linux_dirent64, 0 at the end, or -errno.
 * Called by number: the wrapper's name differs between C libraries. */
SHIM(getdents)
{
	struct args a = args_open(env, info, 2);
	int fd = arg_int(&a);
	struct span out = arg_span(&a);

	if (a.failed)
		return reply(env, -a.failed);
	long n = syscall(SYS_getdents64, fd, out.at, out.len > INT_MAX ? INT_MAX : out.len);
	return reply(env, n < 0 ? -errno : n);
}

/* readlinkat(dirfd, path, out: Uint8Array) -> bytes written to out, without a NUL, or -errno.
 * A target that fills out completely may have been cut. An empty path means dirfd itself, a symlink opened with
 * O_PATH. */
SHIM(readlinkat)
{
	char path[PATH_MAX];
	struct args a = args_open(env, info, 3);
	int dirfd = arg_int(&a);

	arg_bytes_z(&a, path, sizeof path);
	struct span out = arg_span(&a);
	if (a.failed)
		return reply(env, -a.failed);
	ssize_t n = readlinkat(dirfd, path, out.at, out.len);
	return reply(env, n < 0 ? -errno : n);
}

/* pread(fd, out: Uint8Array, at, length, position) -> bytes read into out[at..], or -errno.
 * The count is less than length only at the end of the file: after short reads and EINTR, reading continues. Blocks;
 * safe on any thread. */
SHIM(pread)
{
	struct args a = args_open(env, info, 5);
	int fd = arg_int(&a);
	struct span out = arg_span(&a);
	uint64_t at = arg_u64(&a);
	uint64_t length = arg_u64(&a);
	uint64_t position = arg_u64(&a);
	uint64_t done = 0;

	need(&a, out, at + length);
	if (a.failed)
		return reply(env, -a.failed);
	while (done < length) {
		ssize_t n = pread(fd, (char *)out.at + at + done, length - done, position + done);
		if (n < 0 && errno != EINTR)
			return reply(env, -errno);
		if (n == 0)
			break;
		if (n > 0)
			done += n;
	}
	return reply(env, done);
}

/* lseek(fd, offset, whence) -> the new offset, or -errno.
 * EOVERFLOW: the new offset is one that no JavaScript number holds exactly, as directories have; the file stays at it. */
SHIM(lseek)
{
	struct args a = args_open(env, info, 3);
	int fd = arg_int(&a);
	int64_t offset = arg_offset(&a);
	int whence = arg_int(&a);

	if (a.failed)
		return reply(env, -a.failed);
	off_t now = lseek(fd, offset, whence);
	return reply(env, now < 0 ? -errno : now > SAFE_MAX ? -EOVERFLOW : now);
}

/* fstatfs(fd, out: Float64Array) -> 0 or -errno. Writes the ten numbers that native.ts names to out. */
SHIM(fstatfs)
{
	struct args a = args_open(env, info, 2);
	int fd = arg_int(&a);
	struct span out = arg_array(&a, napi_float64_array);
	struct statfs s;

	need(&a, out, 10 * sizeof(double));
	if (a.failed)
		return reply(env, -a.failed);
	if (fstatfs(fd, &s) < 0)
		return reply(env, -errno);
	double numbers[10] = {
		s.f_type, s.f_bsize, s.f_blocks, s.f_bfree, s.f_bavail, s.f_files, s.f_ffree, s.f_namelen, s.f_frsize,
		s.f_flags,
	};
	memcpy(out.at, numbers, sizeof numbers);
	return reply(env, 0);
}

/* A struct file_handle with room for the longest handle. It is a copy of the caller's bytes, which may lie at an odd
 * address; also, another thread could change their length after the check. */
union handle {
	struct file_handle head;
	char bytes[sizeof(struct file_handle) + MAX_HANDLE_SZ];
};

/* nameToHandleAt(dirfd, path, flags, out: Uint8Array) -> size of the struct file_handle in out, or -errno.
 * EOVERFLOW: out is too small. */
SHIM(nameToHandleAt)
{
	char path[PATH_MAX];
	struct args a = args_open(env, info, 4);
	int dirfd = arg_int(&a);

	arg_bytes_z(&a, path, sizeof path);
	int flags = arg_int(&a);
	struct span out = arg_span(&a);
	union handle handle = { .head.handle_bytes = MAX_HANDLE_SZ };
	union {
		int id;
		uint64_t unique; /* what AT_HANDLE_MNT_ID_UNIQUE writes */
	} mount;

	if (a.failed)
		return reply(env, -a.failed);
	if (name_to_handle_at(dirfd, path, &handle.head, &mount.id, flags) < 0)
		return reply(env, -errno);
	size_t size = sizeof handle.head + handle.head.handle_bytes;
	if (size > out.len)
		return reply(env, -EOVERFLOW);
	memcpy(out.at, &handle, size);
	return reply(env, size);
}

/* openByHandleAt(mountfd, handle: Uint8Array, flags) -> descriptor (close-on-exec), or -errno.
 * handle is a struct file_handle; bytes after it are ignored. Needs CAP_DAC_READ_SEARCH. */
SHIM(openByHandleAt)
{
	struct args a = args_open(env, info, 3);
	int mountfd = arg_int(&a);
	struct span in = arg_span(&a);
	int flags = arg_int(&a);
	union handle handle = { 0 };

	need(&a, in, sizeof handle.head);
	if (a.failed)
		return reply(env, -a.failed);
	memcpy(&handle, in.at, in.len < sizeof handle ? in.len : sizeof handle);
	if (handle.head.handle_bytes > MAX_HANDLE_SZ || handle.head.handle_bytes > in.len - sizeof handle.head)
		return reply(env, -EINVAL);
	int fd = open_by_handle_at(mountfd, &handle.head, flags | O_CLOEXEC);
	return reply(env, fd < 0 ? -errno : fd);
}

/* fileFlags(fd, out: Uint8Array) -> 4, with the u32 of FS_*_FL flags in out, or -errno: FS_IOC_GETFLAGS.
 * ENOTTY: the filesystem has no flags. The ioctl number encodes a long, but the kernel writes an int. */
SHIM(fileFlags)
{
	struct args a = args_open(env, info, 2);
	int fd = arg_int(&a);
	struct span out = arg_span(&a);
	union {
		long room;
		unsigned flags;
	} found = { 0 };

	need(&a, out, sizeof found.flags);
	if (a.failed)
		return reply(env, -a.failed);
	if (ioctl(fd, FS_IOC_GETFLAGS, &found) < 0)
		return reply(env, -errno);
	memcpy(out.at, &found.flags, sizeof found.flags);
	return reply(env, sizeof found.flags);
}

/* fileXattr(fd, out: Uint8Array) -> 28, with struct fsxattr in out, or -errno: FS_IOC_FSGETXATTR. */
SHIM(fileXattr)
{
	struct args a = args_open(env, info, 2);
	int fd = arg_int(&a);
	struct span out = arg_span(&a);

	need(&a, out, sizeof(struct fsxattr));
	if (a.failed)
		return reply(env, -a.failed);
	return reply(env, ioctl(fd, FS_IOC_FSGETXATTR, out.at) < 0 ? -errno : (int)sizeof(struct fsxattr));
}

/* filesystemUuid(fd, out: Uint8Array) -> bytes of the uuid (at most 16) in out, or -errno: FS_IOC_GETFSUUID.
 * ENOTTY: the kernel is older than 6.9, or the filesystem has none. */
SHIM(filesystemUuid)
{
	struct args a = args_open(env, info, 2);
	int fd = arg_int(&a);
	struct span out = arg_span(&a);
	struct filesystem_uuid found;

	need(&a, out, sizeof found.uuid);
	if (a.failed)
		return reply(env, -a.failed);
	if (ioctl(fd, GET_FILESYSTEM_UUID, &found) < 0)
		return reply(env, -errno);
	if (found.len > sizeof found.uuid)
		return reply(env, -EOVERFLOW);
	memcpy(out.at, found.uuid, found.len);
	return reply(env, found.len);
}

/* btrfsUuid(fd, out: Uint8Array) -> 16, the bytes of the uuid in out, or -errno: BTRFS_IOC_FS_INFO.
 * ENOTTY: the filesystem is not btrfs. File handles go with this uuid, but FS_IOC_GETFSUUID does not report it
 * (Linux 6.18). */
SHIM(btrfsUuid)
{
	struct args a = args_open(env, info, 2);
	int fd = arg_int(&a);
	struct span out = arg_span(&a);
	struct btrfs_ioctl_fs_info_args found = { 0 };

	need(&a, out, sizeof found.fsid);
	if (a.failed)
		return reply(env, -a.failed);
	if (ioctl(fd, BTRFS_IOC_FS_INFO, &found) < 0)
		return reply(env, -errno);
	memcpy(out.at, found.fsid, sizeof found.fsid);
	return reply(env, sizeof found.fsid);
}
