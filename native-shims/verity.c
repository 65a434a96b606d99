/* The kernel's fs-verity. */
#include "shim.h"

#include <errno.h>
#include <linux/fsverity.h>
#include <string.h>
#include <sys/ioctl.h>

#define DIGEST_MAX 64 /* SHA-512 */

/* measureVerity(fd, out: Uint8Array) -> size of the struct fsverity_digest in out, or -errno.
 * ENODATA: no verity on this file. EOVERFLOW: out is too small. ENOTTY, EOPNOTSUPP: the filesystem has none. */
SHIM(measureVerity)
{
	struct args a = args_open(env, info, 2);
	int fd = arg_int(&a);
	struct span out = arg_span(&a);
	union {
		struct fsverity_digest head;
		char bytes[sizeof(struct fsverity_digest) + DIGEST_MAX];
	} found = { .head.digest_size = DIGEST_MAX };

	if (a.failed)
		return reply(env, -a.failed);
	if (ioctl(fd, FS_IOC_MEASURE_VERITY, &found) < 0)
		return reply(env, -errno);
	size_t size = sizeof found.head + found.head.digest_size;
	if (size > out.len)
		return reply(env, -EOVERFLOW);
	memcpy(out.at, &found, size);
	return reply(env, size);
}

/* enableVerity(fd, algorithm, blockBytes) -> 0 or -errno. fd is open for reading alone, and nobody has it open for
 * writing (ETXTBSY). Reads the whole file. */
SHIM(enableVerity)
{
	struct args a = args_open(env, info, 3);
	int fd = arg_int(&a);
	struct fsverity_enable_arg how = { .version = 1 };

	how.hash_algorithm = arg_int(&a);
	how.block_size = arg_int(&a);
	if (a.failed)
		return reply(env, -a.failed);
	return reply(env, ioctl(fd, FS_IOC_ENABLE_VERITY, &how) < 0 ? -errno : 0);
}
