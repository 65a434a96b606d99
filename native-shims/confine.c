/* What the threads of a process give up: capabilities and files (Landlock), thread by thread; system calls (seccomp), all
 * at once. */
#include "shim.h"

#include <errno.h>
#include <linux/filter.h>
#include <linux/futex.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

/* Source: linux/landlock.h of Linux 5.13; older headers lack it, and asm/unistd.h the numbers, which all machines share. */
#define LANDLOCK_CREATE_RULESET 444
#define LANDLOCK_ADD_RULE 445

/* C libraries keep this signal for themselves, so that no thread ever blocks it: glibc for setuid(2) in all threads. */
#define UNBLOCKED 33
/* struct sigaction as the kernel has it: large enough on every machine. Its mask is 8 bytes. */
struct kernel_action {
	unsigned long words[8];
};
#define MASK_BYTES 8

/* A system call that another thread is to make. */
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
	atomic_store(&o->done, 1); /* whoever waits may return from here on: what is woken may be somebody else's by then */
	syscall(SYS_futex, &o->done, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0);
	errno = before;
}

/* Has a thread run the handler, and waits until it has. The action is made by the C library for another signal, so that
 * the kernel finds the way back from it. */
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
		r = syscall(SYS_tgkill, getpid(), thread, 0); /* ESRCH: it has ended instead */
	}
	r = atomic_load(&o->done) ? o->result : -errno;
	syscall(SYS_rt_sigaction, UNBLOCKED, &before, NULL, MASK_BYTES);
	return r;
}

/* callOnThread(thread, number, a, b, c) -> what the system call gives, or -errno: made by another thread of this process,
 * whatever it is doing, or by this one for 0. -ESRCH: there is no such thread. Not for two threads at a time. */
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

/* landlockCreateRuleset(attributes, flags) -> descriptor (close-on-exec) of a ruleset, the version or errata that flags ask
 * for, or -errno. attributes: struct landlock_ruleset_attr; an empty one is no pointer. */
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

/* landlockAddRule(ruleset, type, attributes) -> 0 or -errno. attributes: what the type wants, struct
 * landlock_path_beneath_attr at least. */
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

/* seccomp(operation, flags, program) -> 0, the id of a thread that can not follow, or -errno: seccomp(2).
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
