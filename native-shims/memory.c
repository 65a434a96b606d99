/* How the kernel keeps this process's memory. */
#include "shim.h"

#include <errno.h>
#include <sys/mman.h>
#include <unistd.h>

/* adviseMemory(bytes: Uint8Array, advice) -> 0 or -errno: madvise(2) of the whole pages inside of bytes. */
SHIM(adviseMemory)
{
	struct args a = args_open(env, info, 2);
	struct span bytes = arg_span(&a);
	int advice = arg_int(&a);
	uintptr_t page = sysconf(_SC_PAGESIZE);
	uintptr_t from = ((uintptr_t)bytes.at + page - 1) & ~(page - 1);
	uintptr_t to = ((uintptr_t)bytes.at + bytes.len) & ~(page - 1);

	if (a.failed)
		return reply(env, -a.failed);
	if (from >= to)
		return reply(env, 0);
	int r = madvise((void *)from, to - from, advice);
	return reply(env, r < 0 ? -errno : 0);
}
