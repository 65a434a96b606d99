/* Extended attributes. An empty out asks for the size; an out that is too small gives ERANGE. */
#include "shim.h"

#include <errno.h>
#include <linux/limits.h> /* XATTR_NAME_MAX */
#include <sys/syscall.h>
#include <sys/xattr.h>
#include <unistd.h>

/* Source: linux/xattr.h and asm-generic/unistd.h of Linux 6.13; older headers lack them. */
struct xattr_arguments {
	uint64_t value;
	uint32_t size;
	uint32_t flags;
};
#define NUMBER_SETXATTRAT 463
#define NUMBER_GETXATTRAT 464
#define NUMBER_LISTXATTRAT 465
#define NUMBER_REMOVEXATTRAT 466

/* getxattr(path, name, out: Uint8Array) -> bytes of the value, or -errno. Follows symlinks, also those like
 * /proc/self/fd/N. */
SHIM(getxattr)
{
	char path[PATH_MAX], name[XATTR_NAME_MAX + 1];
	struct args a = args_open(env, info, 3);

	arg_bytes_z(&a, path, sizeof path);
	arg_bytes_z(&a, name, sizeof name);
	struct span out = arg_span(&a);
	if (a.failed)
		return reply(env, -a.failed);
	ssize_t n = getxattr(path, name, out.at, out.len);
	return reply(env, n < 0 ? -errno : n);
}

/* listxattr(path, out: Uint8Array) -> bytes of the names, each ended by a NUL, or -errno. Follows symlinks. */
SHIM(listxattr)
{
	char path[PATH_MAX];
	struct args a = args_open(env, info, 2);

	arg_bytes_z(&a, path, sizeof path);
	struct span out = arg_span(&a);
	if (a.failed)
		return reply(env, -a.failed);
	ssize_t n = listxattr(path, out.at, out.len);
	return reply(env, n < 0 ? -errno : n);
}

/* lgetxattr(path, name, out: Uint8Array) -> bytes of the value, or -errno. Does not follow a symlink in the last
 * component. */
SHIM(lgetxattr)
{
	char path[PATH_MAX], name[XATTR_NAME_MAX + 1];
	struct args a = args_open(env, info, 3);

	arg_bytes_z(&a, path, sizeof path);
	arg_bytes_z(&a, name, sizeof name);
	struct span out = arg_span(&a);
	if (a.failed)
		return reply(env, -a.failed);
	ssize_t n = lgetxattr(path, name, out.at, out.len);
	return reply(env, n < 0 ? -errno : n);
}

/* getxattrat(dirfd, path, flags, name, out: Uint8Array) -> bytes of the value, or -errno; ENOSYS before Linux 6.13. */
SHIM(getxattrat)
{
	char path[PATH_MAX], name[XATTR_NAME_MAX + 1];
	struct args a = args_open(env, info, 5);
	int dirfd = arg_int(&a);

	arg_bytes_z(&a, path, sizeof path);
	int flags = arg_int(&a);
	arg_bytes_z(&a, name, sizeof name);
	struct span out = arg_span(&a);
	struct xattr_arguments value = { .value = (uintptr_t)out.at, .size = out.len };
	if (a.failed)
		return reply(env, -a.failed);
	long n = syscall(NUMBER_GETXATTRAT, dirfd, path, flags, name, &value, sizeof value);
	return reply(env, n < 0 ? -errno : n);
}

/* listxattrat(dirfd, path, flags, out: Uint8Array) -> bytes of the names, each ended by a NUL, or -errno; ENOSYS before
 * Linux 6.13. */
SHIM(listxattrat)
{
	char path[PATH_MAX];
	struct args a = args_open(env, info, 4);
	int dirfd = arg_int(&a);

	arg_bytes_z(&a, path, sizeof path);
	int flags = arg_int(&a);
	struct span out = arg_span(&a);
	if (a.failed)
		return reply(env, -a.failed);
	long n = syscall(NUMBER_LISTXATTRAT, dirfd, path, flags, out.at, out.len);
	return reply(env, n < 0 ? -errno : n);
}

/* fgetxattr(fd, name, out: Uint8Array) -> bytes of the value, or -errno. EBADF for a descriptor opened with O_PATH. */
SHIM(fgetxattr)
{
	char name[XATTR_NAME_MAX + 1];
	struct args a = args_open(env, info, 3);
	int fd = arg_int(&a);

	arg_bytes_z(&a, name, sizeof name);
	struct span out = arg_span(&a);
	if (a.failed)
		return reply(env, -a.failed);
	ssize_t n = fgetxattr(fd, name, out.at, out.len);
	return reply(env, n < 0 ? -errno : n);
}

/* flistxattr(fd, out: Uint8Array) -> bytes of the names, each ended by a NUL, or -errno. */
SHIM(flistxattr)
{
	struct args a = args_open(env, info, 2);
	int fd = arg_int(&a);
	struct span out = arg_span(&a);

	if (a.failed)
		return reply(env, -a.failed);
	ssize_t n = flistxattr(fd, out.at, out.len);
	return reply(env, n < 0 ? -errno : n);
}

/* setxattr(path, name, value: Uint8Array, flags) -> 0 or -errno. Follows symlinks. */
SHIM(setxattr)
{
	char path[PATH_MAX], name[XATTR_NAME_MAX + 1];
	struct args a = args_open(env, info, 4);

	arg_bytes_z(&a, path, sizeof path);
	arg_bytes_z(&a, name, sizeof name);
	struct span value = arg_span(&a);
	int flags = arg_int(&a);
	if (a.failed)
		return reply(env, -a.failed);
	return reply(env, setxattr(path, name, value.at, value.len, flags) < 0 ? -errno : 0);
}

/* removexattr(path, name) -> 0 or -errno. Follows symlinks. */
SHIM(removexattr)
{
	char path[PATH_MAX], name[XATTR_NAME_MAX + 1];
	struct args a = args_open(env, info, 2);

	arg_bytes_z(&a, path, sizeof path);
	arg_bytes_z(&a, name, sizeof name);
	if (a.failed)
		return reply(env, -a.failed);
	return reply(env, removexattr(path, name) < 0 ? -errno : 0);
}

/* setxattrat(dirfd, path, atFlags, name, value: Uint8Array, flags) -> 0 or -errno; ENOSYS before Linux 6.13.
 * A length that does not fit 32 bits is passed as the largest one, so that the kernel answers E2BIG. */
SHIM(setxattrat)
{
	char path[PATH_MAX], name[XATTR_NAME_MAX + 1];
	struct args a = args_open(env, info, 6);
	int dirfd = arg_int(&a);

	arg_bytes_z(&a, path, sizeof path);
	int at_flags = arg_int(&a);
	arg_bytes_z(&a, name, sizeof name);
	struct span in = arg_span(&a);
	int flags = arg_int(&a);
	struct xattr_arguments value = {
		.value = (uintptr_t)in.at, .size = in.len > UINT32_MAX ? UINT32_MAX : in.len, .flags = flags,
	};
	if (a.failed)
		return reply(env, -a.failed);
	long n = syscall(NUMBER_SETXATTRAT, dirfd, path, at_flags, name, &value, sizeof value);
	return reply(env, n < 0 ? -errno : 0);
}

/* removexattrat(dirfd, path, atFlags, name) -> 0 or -errno; ENOSYS before Linux 6.13. */
SHIM(removexattrat)
{
	char path[PATH_MAX], name[XATTR_NAME_MAX + 1];
	struct args a = args_open(env, info, 4);
	int dirfd = arg_int(&a);

	arg_bytes_z(&a, path, sizeof path);
	int at_flags = arg_int(&a);
	arg_bytes_z(&a, name, sizeof name);
	if (a.failed)
		return reply(env, -a.failed);
	return reply(env, syscall(NUMBER_REMOVEXATTRAT, dirfd, path, at_flags, name) < 0 ? -errno : 0);
}
