/* Extended attributes. An empty out asks for the size; one that is too small gives ERANGE. */
#include "shim.h"

#include <errno.h>
#include <linux/limits.h> /* XATTR_NAME_MAX */
#include <sys/xattr.h>

/* getxattr(path, name, out: Uint8Array) -> bytes of the value, or -errno. Follows symlinks, /proc/self/fd/N among them. */
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

/* lgetxattr(path, name, out: Uint8Array) -> bytes of the value, or -errno. Does not follow a symlink at the end. */
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

/* llistxattr(path, out: Uint8Array) -> bytes of the names, each ended by a NUL, or -errno.
 * Does not follow a symlink at the end. */
SHIM(llistxattr)
{
	char path[PATH_MAX];
	struct args a = args_open(env, info, 2);

	arg_bytes_z(&a, path, sizeof path);
	struct span out = arg_span(&a);
	if (a.failed)
		return reply(env, -a.failed);
	ssize_t n = llistxattr(path, out.at, out.len);
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
