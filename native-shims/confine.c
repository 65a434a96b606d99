/* Reduces the rights of the threads of a process: capabilities and access to files (Landlock) thread by thread, system
 * calls (seccomp) for all threads at once. */
#include "shim.h"

#include <errno.h>
#include <linux/filter.h>
#include <linux/futex.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

/* Source: linux/landlock.h of Linux 5.13. Older headers lack it, and their asm/unistd.h lacks the numbers, which all
 * machines share. */
#define LANDLOCK_CREATE_RULESET 444
#define LANDLOCK_ADD_RULE 445

/* C libraries reserve this signal, so that no thread ever blocks it: glibc uses it to apply setuid(2) to all threads. */
#define UNBLOCKED 33
/* struct sigaction of the kernel; this is large enough on every machine. Its mask is 8 bytes. */
struct kernel_action {
	unsigned long words[8];
};
#define MASK_BYTES 8

/* A system call that another thread has to make. */
struct order {
	long number, argument[3];
	long result;
	atomic_int done; /* a futex */
};

static long obey(const struct order *o)
{
	long r = syscall(o->number, o->argument[0], o->argument[1], o->argument[2], 0L, 0L);

	return r < 0 ? -errno : r;
}

static void onSignal(int signal, siginfo_t *info, void *context)
{
	(void)signal;
	(void)context;
	if (info->si_code != SI_QUEUE || info->si_pid != getpid())
		return;
	struct order *o = info->si_value.sival_ptr;
	int before = errno;

	o->result = obey(o);
	atomic_store(&o->done, 1); /* the waiting thread may now return, and the futex's memory may then be reused */
	syscall(SYS_futex, &o->done, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0);
	errno = before;
}

/* Makes a thread run the handler, and waits until it has. The C library installs the action for another signal first:
 * its copy contains the return from the handler that the kernel needs. */
static long send(pid_t thread, struct order *o)
{
	struct sigaction ours = { .sa_sigaction = onSignal, .sa_flags = SA_SIGINFO | SA_RESTART }, other;
	struct kernel_action action, before;
	siginfo_t info = { .si_signo = UNBLOCKED, .si_code = SI_QUEUE };
	const struct timespec pause = { .tv_nsec = 10000000 };

	info.si_pid = getpid();
	info.si_value.sival_ptr = o;
	sigfillset(&ours.sa_mask);
	sigaction(SIGRTMAX, &ours, &other);
	syscall(SYS_rt_sigaction, SIGRTMAX, NULL, &action, MASK_BYTES);
	sigaction(SIGRTMAX, &other, NULL);
	syscall(SYS_rt_sigaction, UNBLOCKED, &action, &before, MASK_BYTES);
	long r = syscall(SYS_rt_tgsigqueueinfo, getpid(), thread, UNBLOCKED, &info);
	while (r == 0 && !atomic_load(&o->done)) {
		syscall(SYS_futex, &o->done, FUTEX_WAIT_PRIVATE, 0, &pause, NULL, 0);
		r = syscall(SYS_tgkill, getpid(), thread, 0); /* ESRCH: the thread has ended instead */
	}
	r = atomic_load(&o->done) ? o->result : -errno;
	syscall(SYS_rt_sigaction, UNBLOCKED, &before, NULL, MASK_BYTES);
	return r;
}

/* callOnThread(thread, number, a, b, c) -> result of the system call, or -errno. Another thread of this process makes
 * the call, whatever it is doing; this thread makes it if thread is 0. -ESRCH: there is no such thread. Only one call
 * at a time is allowed. */
SHIM(callOnThread)
{
	struct args a = args_open(env, info, 5);
	int thread = arg_int(&a);
	struct order o = { .number = arg_int(&a) };

	for (int i = 0; i < 3; i++)
		o.argument[i] = arg_u64(&a);
	if (a.failed)
		return reply(env, -a.failed);
	return reply(env, thread == 0 ? obey(&o) : send(thread, &o));
}

/* landlockCreateRuleset(attributes, flags) -> descriptor (close-on-exec) of a ruleset, or -errno; with flags that ask
 * for it, the version or the errata.
 * attributes: struct landlock_ruleset_attr; an empty one is passed as NULL. */
SHIM(landlockCreateRuleset)
{
	struct args a = args_open(env, info, 2);
	struct span attributes = arg_span(&a);
	uint32_t flags = arg_int(&a);

	if (a.failed)
		return reply(env, -a.failed);
	void *at = attributes.len ? attributes.at : NULL;
	long r = syscall(LANDLOCK_CREATE_RULESET, at, attributes.len, flags);
	return reply(env, r < 0 ? -errno : r);
}

/* landlockAddRule(ruleset, type, attributes) -> 0 or -errno. attributes: the struct for the type, at least the size of
 * struct landlock_path_beneath_attr. */
SHIM(landlockAddRule)
{
	struct args a = args_open(env, info, 3);
	int ruleset = arg_int(&a);
	int type = arg_int(&a);
	struct span attributes = arg_span(&a);

	need(&a, attributes, sizeof(uint64_t) + sizeof(int32_t));
	if (a.failed)
		return reply(env, -a.failed);
	return reply(env, syscall(LANDLOCK_ADD_RULE, ruleset, type, attributes.at, 0) < 0 ? -errno : 0);
}

/* seccomp(operation, flags, program) -> 0, the id of a thread that cannot be synchronized, or -errno: seccomp(2).
 * program: packed struct sock_filter, at most 4,096; the kernel copies them. */
SHIM(seccomp)
{
	struct args a = args_open(env, info, 3);
	int operation = arg_int(&a);
	int flags = arg_int(&a);
	struct span program = arg_span(&a);
	struct sock_fprog filter = { .len = program.len / sizeof(struct sock_filter), .filter = program.at };

	if (!a.failed && program.len > BPF_MAXINSNS * sizeof(struct sock_filter))
		a.failed = EINVAL;
	if (a.failed)
		return reply(env, -a.failed);
	long r = syscall(SYS_seccomp, operation, flags, &filter);
	return reply(env, r < 0 ? -errno : r);
}
