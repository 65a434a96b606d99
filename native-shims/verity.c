/* The kernel's fs-verity, and the hashes that its digests consist of. */
#include "shim.h"

#include <errno.h>
#include <linux/fsverity.h>
#include <string.h>
#include <sys/ioctl.h>

#define DIGEST_MAX 64 /* SHA-512 */
#define BLOCK_MAX 65536

/* measureVerity(fd, out: Uint8Array) -> size of the struct fsverity_digest in out, or -errno.
 * ENODATA: the file has no fs-verity. EOVERFLOW: out is too small. ENOTTY, EOPNOTSUPP: the filesystem has no
 * fs-verity. */
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

/* enableVerity(fd, algorithm, blockBytes) -> 0 or -errno. fd must be open only for reading, and the file must not be
 * open for writing anywhere (ETXTBSY). Reads the whole file. */
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

/* The bytes of a digest, by the number of the algorithm; 0 for an unknown one. */
static size_t digest_bytes(int algorithm)
{
	return algorithm == FS_VERITY_HASH_ALG_SHA256 ? 32 : algorithm == FS_VERITY_HASH_ALG_SHA512 ? 64 : 0;
}

/* Node exports its OpenSSL functions. They are declared weak, so that the addon also loads if Node has none: their
 * addresses are then null. */
#if __has_include(<openssl/evp.h>)
#include <openssl/evp.h>
#pragma weak EVP_MD_CTX_new
#pragma weak EVP_MD_CTX_free
#pragma weak EVP_DigestInit_ex
#pragma weak EVP_DigestUpdate
#pragma weak EVP_DigestFinal_ex
#pragma weak EVP_sha256
#pragma weak EVP_sha512

static int has_openssl(void)
{
	return EVP_MD_CTX_new && EVP_MD_CTX_free && EVP_DigestInit_ex && EVP_DigestUpdate && EVP_DigestFinal_ex &&
	       EVP_sha256 && EVP_sha512;
}

/* The hash of the salt, `len` bytes of a block, and `missing` zeros. */
static int hash_block(EVP_MD_CTX *hash, struct span salt, const char *block, size_t len, size_t missing, char *out)
{
	static char zeros[BLOCK_MAX]; /* never written to */

	return EVP_DigestInit_ex(hash, NULL, NULL) && EVP_DigestUpdate(hash, salt.at, salt.len) &&
	       EVP_DigestUpdate(hash, block, len) && EVP_DigestUpdate(hash, zeros, missing) &&
	       EVP_DigestFinal_ex(hash, (unsigned char *)out, NULL);
}

/* OpenSSL looks up a hash function by its name, which takes 270 ns. So this is done once for all blocks. */
static int hash_blocks(int algorithm, struct span salt, struct span blocks, size_t block_bytes, char *out)
{
	if (!has_openssl())
		return -ENOSYS;
	EVP_MD_CTX *hash = EVP_MD_CTX_new();
	int ok = hash && EVP_DigestInit_ex(hash, algorithm == FS_VERITY_HASH_ALG_SHA256 ? EVP_sha256() : EVP_sha512(), NULL);

	for (size_t at = 0; ok && at < blocks.len; at += block_bytes, out += digest_bytes(algorithm)) {
		size_t len = blocks.len - at < block_bytes ? blocks.len - at : block_bytes;
		ok = hash_block(hash, salt, (char *)blocks.at + at, len, block_bytes - len, out);
	}
	EVP_MD_CTX_free(hash);
	return ok ? 0 : -EIO;
}
#else
static int hash_blocks(int algorithm, struct span salt, struct span blocks, size_t block_bytes, char *out)
{
	(void)algorithm, (void)salt, (void)blocks, (void)block_bytes, (void)out;
	return -ENOSYS;
}
#endif

/* hashBlocks(algorithm, salt: Uint8Array, blocks: Uint8Array, blockBytes, out: Uint8Array) -> number of hashes in out,
 * or -errno.
 * Each is the hash of the salt and one block; the last block is padded with zeros. ENOSYS: Node has no OpenSSL. */
SHIM(hashBlocks)
{
	struct args a = args_open(env, info, 5);
	int algorithm = arg_int(&a);
	struct span salt = arg_span(&a);
	struct span blocks = arg_span(&a);
	uint64_t block_bytes = arg_u64(&a);
	struct span out = arg_span(&a);

	if (a.failed || digest_bytes(algorithm) == 0 || block_bytes == 0 || block_bytes > BLOCK_MAX)
		return reply(env, -EINVAL);
	size_t count = blocks.len / block_bytes + (blocks.len % block_bytes != 0);
	need(&a, out, count * digest_bytes(algorithm));
	if (a.failed)
		return reply(env, -a.failed);
	int result = hash_blocks(algorithm, salt, blocks, block_bytes, out.at);
	return reply(env, result < 0 ? result : (int64_t)count);
}
