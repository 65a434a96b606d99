/* /dev/fuse: requests, replies, and the ioctls of a session. */
#include "shim.h"

#include <errno.h>
#include <linux/fuse.h>
#include <sys/ioctl.h>
#include <unistd.h>

/* Passthrough came with protocol 7.40; older headers lack it. Source: linux/fuse.h of Linux 6.9. */
struct backing_map {
	int32_t fd;
	uint32_t flags;
	uint64_t padding;
};
#define BACKING_OPEN _IOW(229, 1, struct backing_map)
#define BACKING_CLOSE _IOW(229, 2, uint32_t)

/* fuseReceive(fd, request: Uint8Array) -> bytes of one request, or -errno.
 * Errors are not retried. ENODEV: unmounted. Blocks; safe on any thread. */
SHIM(fuseReceive)
{
	struct args a = args_open(env, info, 2);
	int fd = arg_int(&a);
	struct span request = arg_span(&a);

	if (a.failed)
		return reply(env, -a.failed);
	ssize_t n = read(fd, request.at, request.len);
	return reply(env, n < 0 ? -errno : n);
}

/* fuseReply(fd, reply: Uint8Array, length) -> bytes written, or -errno.
 * ENOENT: the request was interrupted. Safe on any thread. */
SHIM(fuseReply)
{
	struct args a = args_open(env, info, 3);
	int fd = arg_int(&a);
	struct span answer = arg_span(&a);
	uint64_t length = arg_u64(&a);

	need(&a, answer, length);
	if (a.failed)
		return reply(env, -a.failed);
	ssize_t n = write(fd, answer.at, length);
	return reply(env, n < 0 ? -errno : n);
}

/* fuseReplyReceive(fd, reply: Uint8Array, length, request: Uint8Array) -> bytes of the next request, or -errno.
 * If the write fails with an errno other than ENOENT, nothing is read and the result is -errno - 4096, which differs
 * from every errno of the read. One call from JavaScript for each request instead of two. Blocks; safe on any thread. */
SHIM(fuseReplyReceive)
{
	struct args a = args_open(env, info, 4);
	int fd = arg_int(&a);
	struct span answer = arg_span(&a);
	uint64_t length = arg_u64(&a);
	struct span request = arg_span(&a);

	need(&a, answer, length);
	if (a.failed)
		return reply(env, -a.failed);
	if (write(fd, answer.at, length) < 0 && errno != ENOENT)
		return reply(env, -errno - 4096);
	ssize_t n = read(fd, request.at, request.len);
	return reply(env, n < 0 ? -errno : n);
}

/* fuseBackingOpen(fd, file) -> backing id, or -errno: FUSE_DEV_IOC_BACKING_OPEN.
 * The kernel keeps its own reference, so file may be closed. Needs CAP_SYS_ADMIN. */
SHIM(fuseBackingOpen)
{
	struct args a = args_open(env, info, 2);
	int fd = arg_int(&a);
	struct backing_map map = { .fd = arg_int(&a) };

	if (a.failed)
		return reply(env, -a.failed);
	int id = ioctl(fd, BACKING_OPEN, &map);
	return reply(env, id < 0 ? -errno : id);
}

/* fuseBackingClose(fd, backingId) -> 0 or -errno: FUSE_DEV_IOC_BACKING_CLOSE.
 * Files that were opened through the id stay open. */
SHIM(fuseBackingClose)
{
	struct args a = args_open(env, info, 2);
	int fd = arg_int(&a);
	uint32_t id = arg_int(&a);

	if (a.failed)
		return reply(env, -a.failed);
	return reply(env, ioctl(fd, BACKING_CLOSE, &id) < 0 ? -errno : 0);
}
