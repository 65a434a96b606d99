/* Argument access for the shims. A shim reads its arguments in order, makes one system call, and replies with a count
 * or a negative errno. The caller owns every buffer; nothing here allocates memory, keeps state or holds a JavaScript
 * reference. */
#ifndef SHIM_H
#define SHIM_H

#define NAPI_VERSION 8
#include <node_api.h>
#include <stddef.h>
#include <stdint.h>

/* Defines the function that JavaScript calls as native.NAME; addon.c lists all of them. */
#define SHIM(name) napi_value shim_##name(napi_env env, napi_callback_info info)

/* Integers are JavaScript numbers, which are exact up to this one. */
#define SAFE_MAX ((int64_t)1 << 53)

#define ARGS_MAX 6

struct args {
	napi_env env;
	napi_value value[ARGS_MAX];
	size_t next;
	int failed; /* 0, or the errno of the first argument that was not valid */
};

struct span {
	void *at;
	size_t len; /* bytes */
};

/* The arguments of a call that takes `count` of them, at most ARGS_MAX; missing ones are undefined. */
struct args args_open(napi_env env, napi_callback_info info, size_t count);

/* Copies a byte string (U+0000 to U+00FF) and a NUL to out. EINVAL: it is no string, or has a NUL inside.
 * ENAMETOOLONG: it does not fit.
 * Returns the length without the NUL. */
size_t arg_bytes_z(struct args *a, char *out, size_t size);

/* An integer in the given range; EINVAL for any other value, fractions and NaN included. */
int arg_int(struct args *a);
uint64_t arg_u64(struct args *a);   /* 0 to 2^53 */
int64_t arg_offset(struct args *a); /* -2^53 to 2^53 */
uint32_t arg_id(struct args *a);    /* of a user or group: 0 to 2^32 - 1, or -1, which is the same as the last one */

/* The memory of a Uint8Array (a Buffer is one), or with arg_array of another kind of typed array. It may be over a
 * SharedArrayBuffer. */
struct span arg_span(struct args *a);
struct span arg_array(struct args *a, napi_typedarray_type type);

/* Fails with EINVAL if a span is shorter than the bytes that the call will write or read. */
void need(struct args *a, struct span s, uint64_t len);

/* The result as a JavaScript number. */
napi_value reply(napi_env env, int64_t result);

#endif
