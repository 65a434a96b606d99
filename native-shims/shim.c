#include "shim.h"

#include <errno.h>
#include <limits.h>
#include <string.h>

static void fail(struct args *a, int error)
{
	if (!a->failed)
		a->failed = error;
}

struct args args_open(napi_env env, napi_callback_info info, size_t count)
{
	struct args a = { .env = env };

	if (napi_get_cb_info(env, info, &count, a.value, NULL, NULL) != napi_ok)
		fail(&a, EINVAL);
	return a;
}

size_t arg_bytes_z(struct args *a, char *out, size_t size)
{
	napi_value text = a->value[a->next++];
	size_t len, whole;

	if (napi_get_value_string_latin1(a->env, text, out, size, &len) != napi_ok) {
		fail(a, EINVAL);
		return 0;
	}
	if (memchr(out, '\0', len))
		fail(a, EINVAL);
	if (len == size - 1) { /* out is full: was the string cut? */
		napi_get_value_string_latin1(a->env, text, NULL, 0, &whole);
		if (whole > len)
			fail(a, ENAMETOOLONG);
	}
	return len;
}

/* napi_get_value_int32 is not used: it turns NaN into 0 and drops high bits, so a mistake would reach a real
 * descriptor. */
static double arg_number(struct args *a, double min, double max)
{
	double d;

	if (napi_get_value_double(a->env, a->value[a->next++], &d) == napi_ok &&
	    d >= min && d <= max && d == (double)(int64_t)d)
		return d;
	fail(a, EINVAL);
	return 0;
}

int arg_int(struct args *a)
{
	return arg_number(a, INT_MIN, INT_MAX);
}

uint64_t arg_u64(struct args *a)
{
	return arg_number(a, 0, SAFE_MAX);
}

int64_t arg_offset(struct args *a)
{
	return arg_number(a, -SAFE_MAX, SAFE_MAX);
}

uint32_t arg_id(struct args *a)
{
	return (int64_t)arg_number(a, -1, UINT32_MAX);
}

struct span arg_array(struct args *a, napi_typedarray_type type)
{
	static char none; /* a valid address for zero bytes, because C library functions require one */
	struct span s = { 0 };
	napi_typedarray_type is;

	if (napi_get_typedarray_info(a->env, a->value[a->next++], &is, &s.len, &s.at, NULL, NULL) != napi_ok ||
	    is != type) {
		fail(a, EINVAL);
		return (struct span){ 0 };
	}
	if (type == napi_float64_array)
		s.len *= sizeof(double);
	else if (type == napi_int32_array)
		s.len *= sizeof(int32_t);
	if (!s.at)
		s.at = &none;
	return s;
}

struct span arg_span(struct args *a)
{
	return arg_array(a, napi_uint8_array);
}

void need(struct args *a, struct span s, uint64_t len)
{
	if (len > s.len)
		fail(a, EINVAL);
}

napi_value reply(napi_env env, int64_t result)
{
	napi_value number = NULL;

	napi_create_int64(env, result, &number);
	return number;
}
