/** System calls that are about one thread alone, made for others: capabilities and Landlock know no whole processes. */
import { readdirSync } from 'node:fs';
import { ENOSYS, ESRCH } from './errno.ts';
import { native } from './native.ts';
import { machineOf, type SystemCall, systemCalls } from './security/system-calls.ts';

/** The number of a thread of this process, as in /proc/self/task. */
export type Thread = number;
/** The calling thread. */
export const THIS_THREAD: Thread = 0;

/** Has a thread make a system call. @returns what it gives, or -errno; -ENOSYS where its number is not known here */
export function onThread(thread: Thread, call: SystemCall, a = 0, b = 0, c = 0): number {
  const machine = machineOf(process.arch);
  const number = machine && systemCalls[call][machine.column];
  return number === undefined ? -ENOSYS : native.callOnThread(thread, number, a, b, c);
}

/**
 * Does something to every thread of the process, those of Node.js included, until there is none to which it was not done.
 * A thread that ends meanwhile counts as done. @param act gives 0 or -errno @returns 0, or the first -errno
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
