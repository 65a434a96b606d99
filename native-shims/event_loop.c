/* The event loop of the calling thread, for a thread that also waits for something else. */
#include "shim.h"

#include <errno.h>
#include <uv.h>

/* loopDescriptor() -> uv_backend_fd(3) of libuv: can be read when the event loop has something to do. The loop owns it. */
SHIM(loopDescriptor)
{
	uv_loop_t *loop;

	(void)info;
	return reply(env, napi_get_uv_event_loop(env, &loop) == napi_ok ? uv_backend_fd(loop) : -ENOSYS);
}

/* loopTimeout() -> uv_backend_timeout(3) of libuv: in how many milliseconds a timer ends, -1 without one; 0 where the loop
 * has something to do that its descriptor does not tell of. */
SHIM(loopTimeout)
{
	uv_loop_t *loop;

	(void)info;
	return reply(env, napi_get_uv_event_loop(env, &loop) == napi_ok ? uv_backend_timeout(loop) : 0);
}
