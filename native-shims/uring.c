/* io_uring, and memory from mmap(2). */
#include "shim.h"

#include <errno.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#define PARAMS_BYTES 120

/* uringSetup(entries, params: Uint8Array) -> descriptor (close-on-exec), or -errno: io_uring_setup(2).
 * params is a struct io_uring_params, at least 120 bytes, which the kernel fills in. */
SHIM(uringSetup)
{
	struct args a = args_open(env, info, 2);
	uint32_t entries = arg_int(&a);
	struct span params = arg_span(&a);

	need(&a, params, PARAMS_BYTES);
	if (a.failed)
		return reply(env, -a.failed);
	long fd = syscall(SYS_io_uring_setup, entries, params.at);
	return reply(env, fd < 0 ? -errno : fd);
}

/* uringEnter(fd, submit, flags) -> number of submissions taken, or -errno: io_uring_enter(2). Does not wait for
 * completions. */
SHIM(uringEnter)
{
	struct args a = args_open(env, info, 3);
	int fd = arg_int(&a);
	uint32_t submit = arg_int(&a);
	uint32_t flags = arg_int(&a);

	if (a.failed)
		return reply(env, -a.failed);
	long n = syscall(SYS_io_uring_enter, fd, submit, 0, flags, NULL, 0);
	return reply(env, n < 0 ? -errno : n);
}

static void unmap(napi_env env, void *at, void *length)
{
	(void)env;
	munmap(at, (size_t)length);
}

/* map(fd, offset, length) -> ArrayBuffer, or -errno: mmap(2), readable and writable. It is shared with the file, or
 * anonymous if fd is -1, and is unmapped when the ArrayBuffer is collected. */
SHIM(map)
{
	struct args a = args_open(env, info, 3);
	int fd = arg_int(&a);
	uint64_t offset = arg_u64(&a);
	uint64_t length = arg_u64(&a);
	int flags = MAP_NORESERVE | (fd < 0 ? MAP_PRIVATE | MAP_ANONYMOUS : MAP_SHARED | MAP_POPULATE);
	napi_value buffer;

	if (a.failed)
		return reply(env, -a.failed);
	void *at = mmap(NULL, length, PROT_READ | PROT_WRITE, flags, fd, offset);
	if (at == MAP_FAILED)
		return reply(env, -errno);
	if (napi_create_external_arraybuffer(env, at, length, unmap, (void *)length, &buffer) == napi_ok)
		return buffer;
	munmap(at, length);
	return reply(env, -ENOTSUP);
}

/* advise(memory: Uint8Array, advice) -> 0 or -errno: madvise(2). The memory must begin at a page boundary. */
SHIM(advise)
{
	struct args a = args_open(env, info, 2);
	struct span memory = arg_span(&a);
	int advice = arg_int(&a);

	if (a.failed)
		return reply(env, -a.failed);
	return reply(env, madvise(memory.at, memory.len, advice) < 0 ? -errno : 0);
}

/* addressOf(bytes: Uint8Array) -> address of the first byte, below 2^53, or -errno. The memory must live as long as
 * anything that was given its address. */
SHIM(addressOf)
{
	struct args a = args_open(env, info, 1);
	struct span bytes = arg_span(&a);

	need(&a, bytes, 1);
	return reply(env, a.failed ? -a.failed : (int64_t)(uintptr_t)bytes.at);
}
