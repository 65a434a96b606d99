/* Unix sockets, and waiting for many descriptors. */
#include "shim.h"

#include <errno.h>
#include <stddef.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

/* The largest number of descriptors in one message. Source: linux/net/scm.h, SCM_MAX_FD. */
#define DESCRIPTORS_MAX 253

/* socketPair(pair: Int32Array, type) -> 0 or -errno: two connected sockets of the type SOCK_STREAM (1) or SOCK_SEQPACKET
 * (5), close-on-exec, into pair[0..1]. */
SHIM(socketPair)
{
	struct args a = args_open(env, info, 2);
	struct span pair = arg_array(&a, napi_int32_array);
	int type = arg_int(&a);

	need(&a, pair, 2 * sizeof(int));
	if (a.failed)
		return reply(env, -a.failed);
	return reply(env, socketpair(AF_UNIX, type | SOCK_CLOEXEC, 0, pair.at) < 0 ? -errno : 0);
}

/* connectSocket(socketPath, type) -> descriptor (close-on-exec) that is connected to a Unix socket of the type
 * SOCK_STREAM (1), SOCK_DGRAM (2) or SOCK_SEQPACKET (5), or -errno. A socketPath that begins with @ is an abstract name. */
SHIM(connectSocket)
{
	char path[sizeof((struct sockaddr_un *)0)->sun_path + 1];
	struct args a = args_open(env, info, 2);
	size_t pathLen = arg_bytes_z(&a, path, sizeof path);
	int type = arg_int(&a);
	struct sockaddr_un to = { .sun_family = AF_UNIX };

	if (a.failed)
		return reply(env, -a.failed);
	memcpy(to.sun_path, path, pathLen);
	if (path[0] == '@')
		to.sun_path[0] = '\0';
	int fd = socket(AF_UNIX, type | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return reply(env, -errno);
	if (connect(fd, (struct sockaddr *)&to, offsetof(struct sockaddr_un, sun_path) + pathLen) == 0)
		return reply(env, fd);
	int error = errno;
	close(fd);
	return reply(env, -error);
}

/* listenStream(socketPath) -> descriptor (close-on-exec) of a Unix stream socket that listens at socketPath, or
 * -errno. */
SHIM(listenStream)
{
	struct sockaddr_un at = { .sun_family = AF_UNIX };
	struct args a = args_open(env, info, 1);

	arg_bytes_z(&a, at.sun_path, sizeof at.sun_path);
	if (a.failed)
		return reply(env, -a.failed);
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return reply(env, -errno);
	if (bind(fd, (struct sockaddr *)&at, sizeof at) == 0 && listen(fd, SOMAXCONN) == 0)
		return reply(env, fd);
	int error = errno;
	close(fd);
	return reply(env, -error);
}

/* accept(fd) -> descriptor (close-on-exec, non-blocking) of the next connection, or -errno: accept4(2). */
SHIM(accept)
{
	struct args a = args_open(env, info, 1);
	int fd = arg_int(&a);

	if (a.failed)
		return reply(env, -a.failed);
	int connection = accept4(fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
	return reply(env, connection < 0 ? -errno : connection);
}

/* peerCredentials(fd, out: Int32Array) -> 0 or -errno: SO_PEERCRED of unix(7). Writes the process id, uid and gid that
 * the peer had when it connected to out[0..2]. */
SHIM(peerCredentials)
{
	struct args a = args_open(env, info, 2);
	int fd = arg_int(&a);
	struct span out = arg_array(&a, napi_int32_array);
	socklen_t length = sizeof(struct ucred);

	need(&a, out, sizeof(struct ucred));
	if (a.failed)
		return reply(env, -a.failed);
	return reply(env, getsockopt(fd, SOL_SOCKET, SO_PEERCRED, out.at, &length) < 0 ? -errno : 0);
}

/* peerGroups(fd, out: Int32Array) -> their number, or -errno: SO_PEERGROUPS of the kernel. Writes the supplementary groups
 * that the peer had when it connected to out. ERANGE: there are more than fit. */
SHIM(peerGroups)
{
	struct args a = args_open(env, info, 2);
	int fd = arg_int(&a);
	struct span out = arg_array(&a, napi_int32_array);
	socklen_t length = out.len;

	if (a.failed)
		return reply(env, -a.failed);
	int result = getsockopt(fd, SOL_SOCKET, SO_PEERGROUPS, out.at, &length);
	return reply(env, result < 0 ? -errno : (int)(length / sizeof(gid_t)));
}

union control {
	struct cmsghdr header;
	char bytes[CMSG_SPACE(DESCRIPTORS_MAX * sizeof(int))];
};

/* sendMessage(fd, bytes: Uint8Array, fds: Int32Array) -> bytes sent, or -errno: sendmsg(2) with MSG_NOSIGNAL, and fds
 * by SCM_RIGHTS. E2BIG: more than 253 descriptors. */
SHIM(sendMessage)
{
	struct args a = args_open(env, info, 3);
	int fd = arg_int(&a);
	struct span bytes = arg_span(&a);
	struct span fds = arg_array(&a, napi_int32_array);
	union control control = { 0 };
	struct iovec data = { bytes.at, bytes.len };
	struct msghdr message = { .msg_iov = &data, .msg_iovlen = 1 };

	if (!a.failed && fds.len > DESCRIPTORS_MAX * sizeof(int))
		a.failed = E2BIG;
	if (a.failed)
		return reply(env, -a.failed);
	if (fds.len > 0) {
		message.msg_control = &control;
		message.msg_controllen = CMSG_SPACE(fds.len);
		struct cmsghdr *c = CMSG_FIRSTHDR(&message);
		*c = (struct cmsghdr){ .cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS, .cmsg_len = CMSG_LEN(fds.len) };
		memcpy(CMSG_DATA(c), fds.at, fds.len);
	}
	ssize_t n = sendmsg(fd, &message, MSG_NOSIGNAL);
	return reply(env, n < 0 ? -errno : n);
}

/* receiveMessage(fd, bytes: Uint8Array, fds: Int32Array, flags) -> bytes received, 0 at the end, or -errno: recvmsg(2). The
 * descriptors (close-on-exec) that came by SCM_RIGHTS are written to fds; the rest of fds becomes -1. Those for which
 * there is no room are closed. */
SHIM(receiveMessage)
{
	struct args a = args_open(env, info, 4);
	int fd = arg_int(&a);
	struct span bytes = arg_span(&a);
	struct span fds = arg_array(&a, napi_int32_array);
	int flags = arg_int(&a);
	union control control = { 0 };
	struct iovec data = { bytes.at, bytes.len };
	struct msghdr message = { .msg_iov = &data, .msg_iovlen = 1 };

	if (!a.failed && fds.len > DESCRIPTORS_MAX * sizeof(int))
		a.failed = E2BIG;
	if (a.failed)
		return reply(env, -a.failed);
	if (fds.len > 0) {
		message.msg_control = &control;
		message.msg_controllen = CMSG_LEN(fds.len); /* without the padding, which would have room for one more */
		memset(fds.at, -1, fds.len);
	}
	ssize_t n = recvmsg(fd, &message, flags | MSG_CMSG_CLOEXEC);
	if (n < 0)
		return reply(env, -errno);
	struct cmsghdr *c = CMSG_FIRSTHDR(&message);
	if (c && c->cmsg_level == SOL_SOCKET && c->cmsg_type == SCM_RIGHTS)
		memcpy(fds.at, CMSG_DATA(c), c->cmsg_len - CMSG_LEN(0));
	return reply(env, n);
}

/* epollCreate() -> descriptor (close-on-exec), or -errno. */
SHIM(epollCreate)
{
	(void)info;
	int fd = epoll_create1(EPOLL_CLOEXEC);
	return reply(env, fd < 0 ? -errno : fd);
}

/* epollControl(epoll, operation, fd, events) -> 0 or -errno: epoll_ctl(2), with fd as the data of its events. */
SHIM(epollControl)
{
	struct args a = args_open(env, info, 4);
	int epoll = arg_int(&a);
	int operation = arg_int(&a);
	int fd = arg_int(&a);
	struct epoll_event event = { .events = arg_int(&a), .data.fd = fd };

	if (a.failed)
		return reply(env, -a.failed);
	return reply(env, epoll_ctl(epoll, operation, fd, &event) < 0 ? -errno : 0);
}

/* epollWait(epoll, out: Int32Array, timeout) -> the number of ready descriptors, or -errno: epoll_wait(2). Writes each
 * descriptor and its events to out, two numbers for one; at most 64 of them. A negative timeout waits forever. */
SHIM(epollWait)
{
	struct args a = args_open(env, info, 3);
	int epoll = arg_int(&a);
	struct span out = arg_array(&a, napi_int32_array);
	int timeout = arg_int(&a);
	struct epoll_event events[64];
	size_t room = out.len / (2 * sizeof(int32_t));

	need(&a, out, 2 * sizeof(int32_t));
	if (a.failed)
		return reply(env, -a.failed);
	int n = epoll_wait(epoll, events, room < 64 ? room : 64, timeout);
	for (int i = 0; i < n; i++) {
		((int32_t *)out.at)[2 * i] = events[i].data.fd;
		((int32_t *)out.at)[2 * i + 1] = events[i].events;
	}
	return reply(env, n < 0 ? -errno : n);
}
