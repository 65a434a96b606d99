/* Descriptors as such: closing, copying, waiting. */
#include "shim.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

/* Source: asm-generic/unistd.h of Linux 5.9; older headers lack this number, which all machines share. */
#define CLOSE_RANGE 436

/* close(fd) -> 0 or -errno. */
SHIM(close)
{
	struct args a = args_open(env, info, 1);
	int fd = arg_int(&a);

	if (a.failed)
		return reply(env, -a.failed);
	return reply(env, close(fd) < 0 ? -errno : 0);
}

/* setStatusFlags(fd, flags) -> 0, or -errno: fcntl(F_SETFL), for O_NONBLOCK. Safe on any thread. */
SHIM(setStatusFlags)
{
	struct args a = args_open(env, info, 2);
	int fd = arg_int(&a);
	int flags = arg_int(&a);

	if (a.failed)
		return reply(env, -a.failed);
	int r = fcntl(fd, F_SETFL, flags);
	return reply(env, r < 0 ? -errno : 0);
}

/* poll(fds: Int32Array, events, milliseconds) -> number of descriptors (at most 8) that are ready, 0 after the time
 * has passed, or -errno.
 * Negative milliseconds: no limit. Blocks; safe on any thread. */
SHIM(poll)
{
	struct pollfd each[8] = { 0 };
	struct args a = args_open(env, info, 3);
	struct span fds = arg_array(&a, napi_int32_array);
	short events = (short)arg_int(&a);
	int milliseconds = arg_int(&a);
	size_t count = fds.len / sizeof(int32_t);

	if (a.failed)
		return reply(env, -a.failed);
	if (count > sizeof each / sizeof *each)
		return reply(env, -EINVAL);
	for (size_t i = 0; i < count; i++)
		each[i] = (struct pollfd){ .fd = ((int32_t *)fds.at)[i], .events = events };
	int r = poll(each, count, milliseconds);
	return reply(env, r < 0 ? -errno : r);
}

/* closeRange(first, last, flags) -> 0 or -errno: close_range(2). Called by number: glibc before 2.34 has no wrapper. */
SHIM(closeRange)
{
	struct args a = args_open(env, info, 3);
	int first = arg_int(&a);
	int last = arg_int(&a);
	int flags = arg_int(&a);

	if (a.failed)
		return reply(env, -a.failed);
	return reply(env, syscall(CLOSE_RANGE, first, last, flags) < 0 ? -errno : 0);
}

/* flock(fd, operation) -> 0 or -errno. Waits for other holders of the lock unless operation has LOCK_NB; safe on any
 * thread. */
SHIM(flock)
{
	struct args a = args_open(env, info, 2);
	int fd = arg_int(&a);
	int operation = arg_int(&a);

	if (a.failed)
		return reply(env, -a.failed);
	return reply(env, flock(fd, operation) < 0 ? -errno : 0);
}

/* duplicate(fd, least) -> another descriptor (close-on-exec) of the same open file, the lowest free one from least on,
 * or -errno: fcntl(F_DUPFD_CLOEXEC). */
SHIM(duplicate)
{
	struct args a = args_open(env, info, 2);
	int fd = arg_int(&a);
	int least = arg_int(&a);

	if (a.failed)
		return reply(env, -a.failed);
	int copy = fcntl(fd, F_DUPFD_CLOEXEC, least);
	return reply(env, copy < 0 ? -errno : copy);
}

/* memoryFile(name) -> descriptor (close-on-exec) of an empty file in memory, which may be sealed, or -errno:
 * memfd_create(2). */
SHIM(memoryFile)
{
	char name[NAME_MAX];
	struct args a = args_open(env, info, 1);

	arg_bytes_z(&a, name, sizeof name);
	if (a.failed)
		return reply(env, -a.failed);
	int fd = memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING);
	return reply(env, fd < 0 ? -errno : fd);
}

/* addSeals(fd, seals) -> 0 or -errno: fcntl(2) F_ADD_SEALS, with F_SEAL_* bits. */
SHIM(addSeals)
{
	struct args a = args_open(env, info, 2);
	int fd = arg_int(&a);
	int seals = arg_int(&a);

	if (a.failed)
		return reply(env, -a.failed);
	return reply(env, fcntl(fd, F_ADD_SEALS, seals) < 0 ? -errno : 0);
}

struct growth {
	napi_async_work work;
	int fd;
	int count;
};

static void grow(napi_env env, void *data)
{
	struct growth *g = data;
	int copy = fcntl(g->fd, F_DUPFD_CLOEXEC, g->count - 1);

	(void)env;
	if (copy >= 0)
		close(copy);
}

static void grown(napi_env env, napi_status status, void *data)
{
	struct growth *g = data;

	(void)status;
	napi_delete_async_work(env, g->work);
	free(g);
}

/* growTable(fd, count) -> 0 or -errno: F_DUPFD_CLOEXEC to the number count - 1, and close(2) of it, on a thread of
 * libuv's pool. fd must be open until then. Its result is not reported. The kernel's table of descriptors then has
 * count places, and never shrinks. */
SHIM(growTable)
{
	struct args a = args_open(env, info, 2);
	int fd = arg_int(&a);
	int count = arg_int(&a);
	struct growth *g;
	napi_value name;

	if (a.failed)
		return reply(env, -a.failed);
	if (fcntl(fd, F_GETFD) < 0)
		return reply(env, -errno);
	g = malloc(sizeof *g);
	if (!g)
		return reply(env, -ENOMEM);
	*g = (struct growth){ .fd = fd, .count = count };
	if (napi_create_string_latin1(env, "growTable", NAPI_AUTO_LENGTH, &name) == napi_ok &&
	    napi_create_async_work(env, NULL, name, grow, grown, g, &g->work) == napi_ok &&
	    napi_queue_async_work(env, g->work) == napi_ok)
		return reply(env, 0);
	free(g);
	return reply(env, -ENOMEM);
}

/* replace(fd, target) -> target, which then refers to the open file of fd (not close-on-exec), or -errno: dup3(2). */
SHIM(replace)
{
	struct args a = args_open(env, info, 2);
	int fd = arg_int(&a);
	int target = arg_int(&a);

	if (a.failed)
		return reply(env, -a.failed);
	int result = dup3(fd, target, 0);
	return reply(env, result < 0 ? -errno : result);
}
