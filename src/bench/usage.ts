/** Resource usage of a mount's server: finding its process, and reading its processor time and memory. */
import { readdirSync, readFileSync } from 'node:fs';
import { setTimeout } from 'node:timers/promises';

/** The usage of a process with all its threads. */
export interface Usage {
  readonly processorSeconds: number;
  /** Peak resident memory. */
  readonly peakBytes: number;
}

/** Clock ticks per second. Source: time(7), USER_HZ. */
const TICKS = 100;

/** Measures a process from now on; undefined once it has ended. */
export function usageFromNow(pid: number): () => Usage | undefined {
  const before = usageOf(pid);
  return () => {
    const now = usageOf(pid);
    return before && now && { ...now, processorSeconds: now.processorSeconds - before.processorSeconds };
  };
}

/** How often the processor time of a server is read, and how often it must be the same before the server counts as idle. */
const LOOK_MS = 50;
const SAME = 3;
/** The time after which a server is taken as it is. */
const PATIENCE_MS = 5000;

/** Waits until a server uses no more processor time. Without one, that of the kernel is waited for. */
export async function untilIdle(usage: (() => Usage | undefined) | undefined): Promise<void> {
  const start = performance.now();
  for (let same = 0, last = -1; same < SAME && performance.now() - start < PATIENCE_MS; ) {
    await setTimeout(LOOK_MS);
    const { processorSeconds = 0 } = usage?.() ?? {};
    same = processorSeconds === last ? same + 1 : 0;
    last = processorSeconds;
  }
}

/**
 * The usage of a process; undefined if it cannot be read. Source: proc_pid_stat(5), fields 14 and 15 in units of USER_HZ;
 * proc_pid_status(5).
 */
function usageOf(pid: number): Usage | undefined {
  return attempt(() => {
    const stat = readFileSync(`/proc/${pid}/stat`, 'latin1');
    const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' '); // starts with field 3
    const [, peak] = /^VmHWM:\s*(\d+) kB$/m.exec(readFileSync(`/proc/${pid}/status`, 'latin1')) ?? [];
    const ticks = Number(fields[14 - 3]) + Number(fields[15 - 3]);
    return { processorSeconds: ticks / TICKS, peakBytes: Number(peak) * 1024 };
  }, undefined);
}

/**
 * The process that serves a FUSE mount, even if it detached from its parent: the first one with the mount's connection open.
 * undefined if none is visible, as on kernels that do not show the connection of a /dev/fuse descriptor.
 * @param device `0:minor` of the mount; the minor number is that of the connection. Source: linux/fs/fuse/dev.c,
 * fuse_dev_show_fdinfo
 */
export function serverOf(device: string): number | undefined {
  const [, connection] = device.split(':');
  const pids = readdirSync('/proc').filter(name => /^\d+$/.test(name));
  const found = pids.find(pid =>
    descriptors(pid).some(text => new RegExp(`^fuse_connection:\\s*${connection}$`, 'm').test(text)),
  );
  return found === undefined ? undefined : Number(found);
}

function descriptors(pid: string): string[] {
  const folder = `/proc/${pid}/fdinfo`;
  return attempt(() => readdirSync(folder), []).map(name =>
    attempt(() => readFileSync(`${folder}/${name}`, 'latin1'), ''),
  );
}

/** Returns `otherwise` if a file cannot be read: the process ended, closed it, or belongs to another user. */
function attempt<T>(action: () => T, otherwise: T): T {
  try {
    return action();
  } catch {
    return otherwise;
  }
}
