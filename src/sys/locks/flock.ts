/** Locks of whole files, flock(2), and who holds them. */
import { readFileSync } from 'node:fs';
import { printable } from '../bytes.ts';
import { statx, statxDevice, statxInoHigh, statxInoLow } from '../statx.ts';

// sys/file.h
export const LOCK_SH = 1;
export const LOCK_EX = 2;
export const LOCK_NB = 4;

/** Waits a moment for a lock: the whole thread, because nothing can go on without it. */
export const pauseForLock = (milliseconds: number): void =>
  void Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, milliseconds);

/** The processes that hold a lock on the file of a descriptor, for messages: `process 7 (node)`; one that is not visible has no name. */
export function holdersText(fd: number): string {
  const pids = holdersOf(fd).map(pid => {
    const name = nameOf(pid);
    return `process ${pid}${name === undefined ? '' : ` (${name})`}`;
  });
  return pids.length > 0 ? pids.join(', ') : 'another process';
}

/** Source: proc_locks(5). Some filesystems have other device numbers there, so that nobody is found. */
function holdersOf(fd: number): number[] {
  if (statx(fd, '') !== 0) return [];
  const { major, minor } = statxDevice();
  const hex = (number: number): string => number.toString(16).padStart(2, '0');
  const ino = BigInt(statxInoHigh()) * 2n ** 32n + BigInt(statxInoLow());
  const place = `${hex(major)}:${hex(minor)}:${ino}`;
  const rows = textOf('/proc/locks')
    .split('\n')
    .map(row => row.split(/\s+/));
  const held = rows.filter(([, kind, , , , at]) => kind === 'FLOCK' && at === place);
  return [...new Set(held.map(([, , , , pid]) => Number(pid)))].filter(pid => pid > 0);
}

function nameOf(pid: number): string | undefined {
  const name = textOf(`/proc/${pid}/comm`).trimEnd();
  return name === '' ? undefined : printable(name);
}

function textOf(path: string): string {
  try {
    return readFileSync(path, 'latin1');
  } catch {
    return '';
  }
}
