/* System calls that start, replace and end processes. */
#include "shim.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <spawn.h>
#include <string.h>
#include <unistd.h>

#define WORDS_MAX 4095

/* Splits words, each of which ends with a NUL, into argv. Returns 0 or an errno: EINVAL without a last NUL, E2BIG for
 * more than WORDS_MAX words. */
static int split(struct span words, char *argv[WORDS_MAX + 1])
{
	size_t count = 0;
	char *word = words.at, *end = word + words.len;

	for (char *next; word < end; word = next + 1) {
		next = memchr(word, '\0', end - word);
		if (!next || count == WORDS_MAX)
			return next ? E2BIG : EINVAL;
		argv[count++] = word;
	}
	argv[count] = NULL;
	return 0;
}

/* execute(path, words: Uint8Array) -> -errno, only if it fails: execv(2). Each word ends with a NUL. */
SHIM(execute)
{
	char path[PATH_MAX], *argv[WORDS_MAX + 1];
	struct args a = args_open(env, info, 2);

	arg_bytes_z(&a, path, sizeof path);
	struct span words = arg_span(&a);
	if (!a.failed)
		a.failed = split(words, argv);
	if (a.failed)
		return reply(env, -a.failed);
	execv(path, argv);
	return reply(env, -errno);
}

/* spawn(path, words: Uint8Array, fd, kept: Int32Array) -> process id, or -errno: posix_spawn(3), in a session of its
 * own. fd becomes its standard input and output, /dev/null its standard error, and kept its descriptors from 3 on, in
 * this order; none of them may be below 3 + their number. Its end is not reported. */
SHIM(spawn)
{
	char path[PATH_MAX], *argv[WORDS_MAX + 1];
	posix_spawn_file_actions_t files;
	posix_spawnattr_t attributes;
	struct args a = args_open(env, info, 4);
	pid_t process;

	arg_bytes_z(&a, path, sizeof path);
	struct span words = arg_span(&a);
	int fd = arg_int(&a);
	struct span kept = arg_array(&a, napi_int32_array);
	if (!a.failed)
		a.failed = split(words, argv);
	if (a.failed)
		return reply(env, -a.failed);
	posix_spawnattr_init(&attributes);
	posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSID);
	posix_spawn_file_actions_init(&files);
	posix_spawn_file_actions_adddup2(&files, fd, 0);
	posix_spawn_file_actions_adddup2(&files, fd, 1);
	for (size_t i = 0; i < kept.len / sizeof(int32_t); i++)
		posix_spawn_file_actions_adddup2(&files, ((int32_t *)kept.at)[i], 3 + i);
	posix_spawn_file_actions_addopen(&files, 2, "/dev/null", O_WRONLY, 0);
	int error = posix_spawn(&process, path, &files, &attributes, argv, environ);
	posix_spawn_file_actions_destroy(&files);
	posix_spawnattr_destroy(&attributes);
	return reply(env, error ? -error : process);
}

/* setsid() -> session id, or -errno: setsid(2). EPERM: the process already leads a process group. */
SHIM(setsid)
{
	(void)info;
	pid_t session = setsid();
	return reply(env, session < 0 ? -errno : session);
}

/* exit(status): _exit(2). Ends the process at once, even while a thread blocks in a system call: nothing is flushed,
 * and no handler runs. Returns only if status is no integer. */
SHIM(exit)
{
	struct args a = args_open(env, info, 1);
	int status = arg_int(&a);

	if (a.failed)
		return reply(env, -a.failed);
	_exit(status);
}
