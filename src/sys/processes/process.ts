/** Other processes, as /proc shows them. Source: proc_pid_stat(5). */
import { readFileSync } from 'node:fs';

/** Whether a process runs. A zombie does not count: it has released everything, and may wait for its parent forever. */
export function isRunning(pid: number): boolean {
  const [state = 'X'] = fieldsOf(pid);
  return state !== 'Z' && state !== 'X';
}

/**
 * When a process started, in clock ticks after the system's boot; undefined if there is no such process. Another process that gets its ID
 * has started later.
 */
export function startOf(pid: number): number | undefined {
  const started = fieldsOf(pid)[STARTTIME];
  return started === undefined ? undefined : Number(started);
}

/** The fields of /proc/PID/stat from the third on; empty if there is no such process. */
function fieldsOf(pid: number): string[] {
  try {
    return readFileSync(`/proc/${pid}/stat`, 'latin1')
      .replace(/^.*\) /s, '')
      .split(' ');
  } catch {
    return [];
  }
}
const STARTTIME = 22 - 3;
