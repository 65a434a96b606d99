/** System calls that affect a single thread, made on other threads: capabilities and Landlock do not apply to whole processes. */
import { readdirSync } from 'node:fs';
import { ENOSYS, ESRCH } from '../errno.ts';
import { native } from '../native.ts';
import { machineOf, type SystemCall, systemCalls } from '../security/system-calls.ts';

/** The ID of a thread of this process, as in /proc/self/task. */
export type Thread = number;
/** The calling thread. */
export const THIS_THREAD: Thread = 0;

/** Makes a system call on a thread. @returns its result, or -errno; -ENOSYS if the call's number is not known here */
export function onThread(thread: Thread, call: SystemCall, a = 0, b = 0, c = 0): number {
  const machine = machineOf(process.arch);
  const number = machine && systemCalls[call][machine.column];
  return number === undefined ? -ENOSYS : native.callOnThread(thread, number, a, b, c);
}

/**
 * Calls `act` for every thread of the process, including those of Node.js, until no thread is left without it. A thread that ends
 * meanwhile counts as done.
 * @param act returns 0 or -errno
 * @returns 0, or the first -errno
 */
export function onEveryThread(act: (thread: Thread) => number): number {
  const done = new Set<string>();
  for (;;) {
    const threads = readdirSync('/proc/self/task').filter(thread => !done.has(thread));
    if (threads.length === 0) return 0;
    for (const thread of threads) {
      const result = act(Number(thread));
      if (result < 0 && result !== -ESRCH) return result;
      done.add(thread);
    }
  }
}
