/* System calls timed in C: a client that measures the filesystem and not JavaScript. */
#include "shim.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

/* The numbers of src/sys/native.ts, BenchOperation. */
enum { STAT, MISS, OPEN, READ, LIST, OPERATIONS };

static int stat_one(int dirfd, const char *path)
{
	struct stat s;

	/* Not by its name in the C library, which glibc before 2.33 does not have. */
	return syscall(SYS_newfstatat, dirfd, path, &s, AT_SYMLINK_NOFOLLOW) < 0 ? -errno : 0;
}

static int miss_one(int dirfd, const char *path)
{
	int r = stat_one(dirfd, path);

	return r == 0 ? -EEXIST : r == -ENOENT ? 0 : r;
}

/* Opens and closes; reads once in between where the buffer has room. */
static int read_one(int dirfd, const char *path, struct span buffer)
{
	int fd = openat(dirfd, path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);

	if (fd < 0)
		return -errno;
	int r = buffer.len > 0 && read(fd, buffer.at, buffer.len) < 0 ? -errno : 0;
	close(fd);
	return r;
}

static int stat_entries(int fd, const char *entries, long len)
{
	for (long at = 0; at < len;) {
		const struct dirent64 *entry = (const void *)(entries + at);
		int r = stat_one(fd, entry->d_name);

		if (r < 0)
			return r;
		at += entry->d_reclen;
	}
	return 0;
}

/* Lists a directory and asks for the attributes of each entry, `.` and `..` included. */
static int list_one(int dirfd, const char *path, struct span buffer)
{
	int fd = openat(dirfd, path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	int r = 0;
	long n = 0;

	if (fd < 0)
		return -errno;
	while (r == 0 && (n = syscall(SYS_getdents64, fd, buffer.at, buffer.len)) > 0)
		r = stat_entries(fd, buffer.at, n);
	if (n < 0)
		r = -errno;
	close(fd);
	return r;
}

static int do_one(int operation, int dirfd, const char *path, struct span buffer)
{
	switch (operation) {
	case STAT:
		return stat_one(dirfd, path);
	case MISS:
		return miss_one(dirfd, path);
	case OPEN:
		return read_one(dirfd, path, (struct span){ 0 });
	case READ:
		return read_one(dirfd, path, buffer);
	default:
		return list_one(dirfd, path, buffer);
	}
}

static double nanoseconds(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * 1e9 + now.tv_nsec;
}

/* benchPaths(dirfd, operation, paths, buffer, nanoseconds: Float64Array) -> how many paths, or -errno of the first failure.
 * Each path ends with a NUL. What each one took goes to nanoseconds; nothing where it failed. Blocks; safe on any thread. */
SHIM(benchPaths)
{
	struct args a = args_open(env, info, 5);
	int dirfd = arg_int(&a);
	int operation = arg_int(&a);
	struct span paths = arg_span(&a);
	struct span buffer = arg_span(&a);
	struct span out = arg_array(&a, napi_float64_array);
	const char *path = paths.at, *end = path + paths.len;
	size_t done = 0;

	if (a.failed)
		return reply(env, -a.failed);
	if (operation < 0 || operation >= OPERATIONS)
		return reply(env, -EINVAL);
	for (const char *next; path < end; path = next + 1, done++) {
		next = memchr(path, '\0', end - path);
		if (!next || done == out.len / sizeof(double))
			return reply(env, -EINVAL);
		double before = nanoseconds();
		int r = do_one(operation, dirfd, path, buffer);
		if (r < 0)
			return reply(env, r);
		((double *)out.at)[done] = nanoseconds() - before;
	}
	return reply(env, done);
}
