/* Mounts. */
#include "shim.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/nsfs.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/syscall.h>
#include <unistd.h>

/* mount(source, target, type, flags, data) -> 0 or -errno.
 * data is one string, shorter than a page: the kernel takes no more. */
SHIM(mount)
{
	char source[PATH_MAX], target[PATH_MAX], type[NAME_MAX + 1], data[4096];
	struct args a = args_open(env, info, 5);

	arg_bytes_z(&a, source, sizeof source);
	arg_bytes_z(&a, target, sizeof target);
	arg_bytes_z(&a, type, sizeof type);
	uint64_t flags = arg_u64(&a);
	arg_bytes_z(&a, data, sizeof data);
	if (a.failed)
		return reply(env, -a.failed);
	return reply(env, mount(source, target, type, flags, data) < 0 ? -errno : 0);
}

/* umount(target, flags) -> 0 or -errno: umount2(2). */
SHIM(umount)
{
	char target[PATH_MAX];
	struct args a = args_open(env, info, 2);

	arg_bytes_z(&a, target, sizeof target);
	int flags = arg_int(&a);
	if (a.failed)
		return reply(env, -a.failed);
	return reply(env, umount2(target, flags) < 0 ? -errno : 0);
}

/* openTree(dirfd, path, flags) -> descriptor (O_PATH, close-on-exec), or -errno: open_tree(2).
 * Called by number: glibc before 2.36 has no wrapper. OPEN_TREE_CLOEXEC is O_CLOEXEC. */
SHIM(openTree)
{
	char path[PATH_MAX];
	struct args a = args_open(env, info, 3);
	int dirfd = arg_int(&a);

	arg_bytes_z(&a, path, sizeof path);
	unsigned flags = arg_int(&a);
	if (a.failed)
		return reply(env, -a.failed);
	long fd = syscall(SYS_open_tree, dirfd, path, flags | O_CLOEXEC);
	return reply(env, fd < 0 ? -errno : fd);
}

/* mountSetattr(fd, set, clear, userns) -> 0 or -errno: mount_setattr(2). MOUNT_ATTR_* flags of the mount whose root fd is; userns
 * is a descriptor for MOUNT_ATTR_IDMAP, 0 without.
 * ENOSYS before Linux 5.12. Called by number: glibc before 2.36 has no wrapper. */
SHIM(mountSetattr)
{
	struct args a = args_open(env, info, 4);
	int fd = arg_int(&a);
	struct { /* struct mount_attr: its header clashes with sys/mount.h */
		uint64_t set, clear, propagation, userns_fd;
	} attr = { 0 };

	attr.set = arg_u64(&a);
	attr.clear = arg_u64(&a);
	attr.userns_fd = arg_u64(&a);

	if (a.failed)
		return reply(env, -a.failed);
	long n = syscall(SYS_mount_setattr, fd, "", AT_EMPTY_PATH, &attr, sizeof attr);
	return reply(env, n < 0 ? -errno : 0);
}

/* fsopen(type) -> descriptor (close-on-exec) of a filesystem context, or -errno: fsopen(2).
 * These four are called by number, as open_tree(2) is. */
SHIM(fsopen)
{
	char type[NAME_MAX + 1];
	struct args a = args_open(env, info, 1);

	arg_bytes_z(&a, type, sizeof type);
	if (a.failed)
		return reply(env, -a.failed);
	long fd = syscall(SYS_fsopen, type, 1u /* FSOPEN_CLOEXEC */);
	return reply(env, fd < 0 ? -errno : fd);
}

/* fsconfig(fd, command, key, value, aux) -> 0 or -errno: fsconfig(2). An empty string is passed as NULL. */
SHIM(fsconfig)
{
	char key[NAME_MAX + 1], value[PATH_MAX];
	struct args a = args_open(env, info, 5);
	int fd = arg_int(&a);
	unsigned command = arg_int(&a);

	arg_bytes_z(&a, key, sizeof key);
	arg_bytes_z(&a, value, sizeof value);
	int aux = arg_int(&a);
	if (a.failed)
		return reply(env, -a.failed);
	long result = syscall(SYS_fsconfig, fd, command, *key ? key : NULL, *value ? value : NULL, aux);
	return reply(env, result < 0 ? -errno : 0);
}

/* fsmount(fd, attributes) -> descriptor (O_PATH, close-on-exec) of a mount that is not attached yet, or -errno:
 * fsmount(2). */
SHIM(fsmount)
{
	struct args a = args_open(env, info, 2);
	int fd = arg_int(&a);
	unsigned attributes = arg_int(&a);

	if (a.failed)
		return reply(env, -a.failed);
	long mount = syscall(SYS_fsmount, fd, 1u /* FSMOUNT_CLOEXEC */, attributes);
	return reply(env, mount < 0 ? -errno : mount);
}

/* namespaceOwner(fd) -> uid of the owner of a user namespace, or -errno: NS_GET_OWNER_UID of ioctl_nsfs(2). */
SHIM(namespaceOwner)
{
	struct args a = args_open(env, info, 1);
	int fd = arg_int(&a);
	uid_t owner;

	if (a.failed)
		return reply(env, -a.failed);
	return reply(env, ioctl(fd, NS_GET_OWNER_UID, &owner) < 0 ? -errno : (int64_t)owner);
}

/* moveMount(fromDirfd, from, toDirfd, to, flags) -> 0 or -errno: move_mount(2). */
SHIM(moveMount)
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
	return reply(env, syscall(SYS_move_mount, from_dirfd, from, to_dirfd, to, flags) < 0 ? -errno : 0);
}
