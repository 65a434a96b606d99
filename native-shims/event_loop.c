/* The event loop of the calling thread, for a thread that also waits for other events. */
#include "shim.h"

#include <errno.h>
#include <stdlib.h>
#include <uv.h>

/* loopDescriptor() -> descriptor, or -ENOSYS: uv_backend_fd(3) of libuv. It is readable when the event loop has
 * something to do. The loop owns it. */
SHIM(loopDescriptor)
{
	uv_loop_t *loop;

	(void)info;
	return reply(env, napi_get_uv_event_loop(env, &loop) == napi_ok ? uv_backend_fd(loop) : -ENOSYS);
}

/* loopTimeout() -> milliseconds until a timer expires, -1 without a timer: uv_backend_timeout(3) of libuv. 0 if the
 * loop has something to do that its descriptor does not signal. */
SHIM(loopTimeout)
{
	uv_loop_t *loop;

	(void)info;
	return reply(env, napi_get_uv_event_loop(env, &loop) == napi_ok ? uv_backend_timeout(loop) : 0);
}

static void release(uv_handle_t *handle)
{
	free(handle);
}

/* prepareStreams() -> 0, or -errno: makes libuv open /dev/null now. libuv does so with the first stream of a loop, and
 * keeps it open. */
SHIM(prepareStreams)
{
	uv_loop_t *loop;
	uv_pipe_t *stream = malloc(sizeof *stream);

	(void)info;
	if (!stream)
		return reply(env, -ENOMEM);
	if (napi_get_uv_event_loop(env, &loop) != napi_ok || uv_pipe_init(loop, stream, 0) != 0) {
		free(stream);
		return reply(env, -ENOSYS);
	}
	uv_close((uv_handle_t *)stream, release);
	return reply(env, 0);
}
