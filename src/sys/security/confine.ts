/** Limits of a process for good, which all of its threads get, those of Node.js and later ones, too. */
import { ESRCH } from '../errno.ts';
import { onEveryThread, type Thread } from '../processes/threads.ts';
import type { Ruleset } from './landlock.ts';
import { refuseNewPrivileges, setCapabilities } from './privileges.ts';
import { type ArgumentRule, applyToAllThreads, type Refused, refusal } from './seccomp.ts';
import { type SystemCall, systemCalls } from './system-calls.ts';

/** What a process keeps. */
export interface KeptRights {
  /** Which files it may open; undefined: all. The caller closes it. */
  readonly rules: Ruleset | undefined;
  /** Of those that it has. */
  readonly capabilities: readonly number[];
  /** System calls of the table that it makes. Those outside the table are allowed. */
  readonly allowed: readonly SystemCall[];
}

/** Which of the limits took effect; the kernel may lack a part. */
export interface Confined {
  /** Whether the rules for files did. */
  readonly isRestricted: boolean;
  /** Whether system calls are refused. */
  readonly systemCalls: boolean;
}

/** Confines all threads for good, when nothing is left to be mounted or started. Unavailable parts are left out. */
export function confineProcess({ rules, capabilities, allowed }: KeptRights): Confined {
  let isRestricted = rules !== undefined;
  onEveryThread((thread: Thread): number => {
    const result = refuseNewPrivileges(thread);
    if (result < 0) return result; // the thread has ended
    const restricted = rules?.restrict(thread) ?? 0;
    if (restricted < 0 && restricted !== -ESRCH) isRestricted = false;
    return setCapabilities(thread, capabilities);
  });
  const program = refusal(refusedCalls(allowed));
  return { isRestricted, systemCalls: program !== undefined && applyToAllThreads(program) === 0 };
}

/** Calls that are in the table for this process's own use, so they are not refused. */
const OWN_CALLS: readonly SystemCall[] = ['capset', 'prctl', 'landlock_restrict_self'];
/** New threads are allowed; new processes and namespaces are not. Source: linux/sched.h. */
const CLONE_THREAD = 0x10000;
const CLONE_NEW = 0x7e020080;
/** Ioctls that insert input into a terminal as if it had been typed. Source: asm-generic/ioctls.h, linux/tiocl.h. */
const TIOCSTI = 0x5412;
const TIOCLINUX = 0x541c;

function refusedCalls(allowed: readonly SystemCall[]): Refused {
  const unless: ArgumentRule[] = [
    { call: 'tgkill', argument: 0, equal: [process.pid] },
    { call: 'prlimit64', argument: 0, equal: [0] },
    { call: 'clone', argument: 0, withBits: CLONE_THREAD, withoutBits: CLONE_NEW },
    { call: 'ioctl', argument: 1, notEqual: [TIOCSTI, TIOCLINUX] },
  ];
  const missing: SystemCall[] = ['clone3']; // a filter cannot see its flags
  const others: string[] = [...OWN_CALLS, ...allowed, ...missing, ...unless.map(({ call }) => call)];
  return { calls: (Object.keys(systemCalls) as SystemCall[]).filter(name => !others.includes(name)), missing, unless };
}
