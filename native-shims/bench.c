/* System calls timed in C: a client that measures the filesystem, not JavaScript. */
#include "shim.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <spawn.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

extern char **environ;

/* The operation numbers of src/sys/native.ts, BenchOperation. */
enum { STAT, MISS, OPEN, READ, LIST, CREATE, CHMOD, APPEND, REMOVE, OPERATIONS };

static int stat_one(int dirfd, const char *path)
{
	struct stat s;

	/* Called by number: glibc before 2.33 does not have this function. */
	return syscall(SYS_newfstatat, dirfd, path, &s, AT_SYMLINK_NOFOLLOW) < 0 ? -errno : 0;
}

static int miss_one(int dirfd, const char *path)
{
	int r = stat_one(dirfd, path);

	return r == 0 ? -EEXIST : r == -ENOENT ? 0 : r;
}

/* Opens and closes a file; reads once in between if the buffer has room. */
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

/* Lists a directory and reads the attributes of each entry, `.` and `..` included. */
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

/* Opens a file, writes the buffer, and closes it. */
static int write_one(int dirfd, const char *path, int flags, struct span buffer)
{
	int fd = openat(dirfd, path, O_WRONLY | O_CLOEXEC | O_NOFOLLOW | flags, 0644);
	ssize_t n;

	if (fd < 0)
		return -errno;
	n = write(fd, buffer.at, buffer.len);
	int r = n < 0 ? -errno : (size_t)n < buffer.len ? -ENOSPC : 0;
	close(fd);
	return r;
}

/* Gives a file permissions that it seldom has. */
static int chmod_one(int dirfd, const char *path)
{
	return fchmodat(dirfd, path, 0640, 0) < 0 ? -errno : 0;
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
	case CREATE:
		return write_one(dirfd, path, O_CREAT | O_EXCL, buffer);
	case CHMOD:
		return chmod_one(dirfd, path);
	case APPEND:
		return write_one(dirfd, path, O_APPEND, buffer);
	case REMOVE:
		return unlinkat(dirfd, path, 0) < 0 ? -errno : 0;
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

/* benchPaths(dirfd, operation, paths, buffer, nanoseconds: Float64Array) -> number of paths, or -errno of the first
 * failure.
 * Each path ends with a NUL. The time of each operation is written to nanoseconds, unless it failed. Blocks; safe on
 * any thread. */
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

/* benchReads(fd, offsets: Float64Array, buffer, nanoseconds: Float64Array) -> number of offsets, or -errno of the
 * first failure.
 * Fills the buffer from each offset, and writes the time of each read to nanoseconds. -ENODATA: the file ends before
 * the buffer is full. Blocks; safe on any thread. */
SHIM(benchReads)
{
	struct args a = args_open(env, info, 4);
	int fd = arg_int(&a);
	struct span offsets = arg_array(&a, napi_float64_array);
	struct span buffer = arg_span(&a);
	struct span out = arg_array(&a, napi_float64_array);
	size_t count = offsets.len / sizeof(double);

	need(&a, out, offsets.len);
	if (a.failed)
		return reply(env, -a.failed);
	for (size_t i = 0; i < count; i++) {
		double before = nanoseconds();
		ssize_t n = pread(fd, buffer.at, buffer.len, ((double *)offsets.at)[i]);
		if (n < 0)
			return reply(env, -errno);
		if ((size_t)n < buffer.len)
			return reply(env, -ENODATA);
		((double *)out.at)[i] = nanoseconds() - before;
	}
	return reply(env, count);
}

/* benchWrites(fd, offsets: Float64Array, buffer, nanoseconds: Float64Array) -> number of offsets, or -errno of the
 * first failure.
 * Writes the buffer at each offset, and the time of each write to nanoseconds. -ENOSPC: a write was cut short. Blocks;
 * safe on any thread. */
SHIM(benchWrites)
{
	struct args a = args_open(env, info, 4);
	int fd = arg_int(&a);
	struct span offsets = arg_array(&a, napi_float64_array);
	struct span buffer = arg_span(&a);
	struct span out = arg_array(&a, napi_float64_array);
	size_t count = offsets.len / sizeof(double);

	need(&a, out, offsets.len);
	if (a.failed)
		return reply(env, -a.failed);
	for (size_t i = 0; i < count; i++) {
		double before = nanoseconds();
		ssize_t n = pwrite(fd, buffer.at, buffer.len, ((double *)offsets.at)[i]);
		if (n < 0)
			return reply(env, -errno);
		if ((size_t)n < buffer.len)
			return reply(env, -ENOSPC);
		((double *)out.at)[i] = nanoseconds() - before;
	}
	return reply(env, count);
}

/* benchTouches(fd, offsets: Float64Array, nanoseconds: Float64Array) -> number of offsets, or -errno.
 * Maps the file, reads the byte at each offset, and unmaps it; the time of each read is written to nanoseconds.
 * -EINVAL: an offset is past the end. Blocks; safe on any thread. */
SHIM(benchTouches)
{
	struct args a = args_open(env, info, 3);
	int fd = arg_int(&a);
	struct span offsets = arg_array(&a, napi_float64_array);
	struct span out = arg_array(&a, napi_float64_array);
	size_t count = offsets.len / sizeof(double), i;
	struct stat s;

	need(&a, out, offsets.len);
	if (a.failed)
		return reply(env, -a.failed);
	if (syscall(SYS_fstat, fd, &s) < 0)
		return reply(env, -errno);
	const volatile char *map = mmap(NULL, s.st_size, PROT_READ, MAP_SHARED, fd, 0);
	if (map == MAP_FAILED)
		return reply(env, -errno);
	for (i = 0; i < count; i++) {
		double offset = ((double *)offsets.at)[i];
		if (!(offset >= 0 && offset < s.st_size))
			break;
		double before = nanoseconds();
		(void)map[(off_t)offset];
		((double *)out.at)[i] = nanoseconds() - before;
	}
	munmap((void *)map, s.st_size);
	return reply(env, i < count ? -EINVAL : (int64_t)count);
}

/* Runs a program with the given arguments, and waits until it has ended. -ECHILD: its status is not 0. */
static int run_one(char *const argv[], const posix_spawn_file_actions_t *actions)
{
	pid_t pid;
	int status;
	int r = posix_spawn(&pid, argv[0], actions, NULL, argv, environ);

	if (r != 0)
		return -r;
	while (waitpid(pid, &status, 0) < 0)
		if (errno != EINTR)
			return -errno;
	return status == 0 ? 0 : -ECHILD;
}

/* benchRuns(path, option, value, nanoseconds: Float64Array) -> number of runs, or -errno of the first failure.
 * Runs `path option value` once for each element of nanoseconds, with /dev/null as its input and outputs. The time of
 * each run, from its start to its end, is written there. -ECHILD: a run did not end with status 0. Blocks; safe on any
 * thread. */
SHIM(benchRuns)
{
	char path[PATH_MAX], option[NAME_MAX + 1], value[NAME_MAX + 1];
	struct args a = args_open(env, info, 4);

	arg_bytes_z(&a, path, sizeof path);
	arg_bytes_z(&a, option, sizeof option);
	arg_bytes_z(&a, value, sizeof value);
	struct span out = arg_array(&a, napi_float64_array);
	if (a.failed)
		return reply(env, -a.failed);

	char *const argv[] = { path, option, value, NULL };
	posix_spawn_file_actions_t actions;
	size_t count = out.len / sizeof(double), i;
	int r = 0;

	posix_spawn_file_actions_init(&actions);
	for (int fd = 0; fd <= 2; fd++)
		posix_spawn_file_actions_addopen(&actions, fd, "/dev/null", O_RDWR, 0);
	for (i = 0; i < count; i++) {
		double before = nanoseconds();
		if ((r = run_one(argv, &actions)) < 0)
			break;
		((double *)out.at)[i] = nanoseconds() - before;
	}
	posix_spawn_file_actions_destroy(&actions);
	return reply(env, r < 0 ? r : (int64_t)count);
}

/* benchUser(uid, gid) -> 0 or -errno: only the calling thread becomes another user, without supplementary groups.
 * Called by number: the functions of the C library change all threads of the process. */
SHIM(benchUser)
{
	struct args a = args_open(env, info, 2);
	int uid = arg_int(&a);
	int gid = arg_int(&a);

	if (a.failed)
		return reply(env, -a.failed);
	if (uid < 0 || gid < 0) /* -1 would leave the id unchanged */
		return reply(env, -EINVAL);
	int failed = syscall(SYS_setgroups, 0, NULL) < 0 || syscall(SYS_setresgid, gid, gid, gid) < 0 ||
	             syscall(SYS_setresuid, uid, uid, uid) < 0;
	return reply(env, failed ? -errno : 0);
}
