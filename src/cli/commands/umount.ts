/** `lowerdata umount`: unmounts, and waits until the daemon has ended. */
import { setTimeout } from 'node:timers/promises';
import type { Command } from 'commander';
import { mounter, type UnmountChoices, unmountFuse } from '../../fuse/mount.ts';
import { isSame, type Mount, readMounts } from '../../fuse/mountinfo.ts';
import { findMount } from '../../mount/find-mount.ts';
import { type MountState, readState } from '../../mount/state.ts';
import { type ByteString, printable } from '../../sys/bytes.ts';
import { EPERM, ErrnoError } from '../../sys/errno.ts';
import { isRunning } from '../../sys/processes/process.ts';
import { complain, MOUNT_FAILED, reporting, WRONG_CALL } from '../../terminal/report.ts';
import { newCommand, parse } from '../command.ts';

export const define = (): Command =>
  newCommand('lowerdata umount')
    .description('Unmount what `lowerdata mount` has mounted.')
    .usage('[options] MOUNTPOINT')
    .argument('<mountpoint>', 'where it is mounted')
    .option('-l, --lazy', 'detach it now, even if it is in use; it ends with its last user')
    .option('-f, --force', 'end it now, even if its daemon hangs; programs that wait for it get errors');

export async function run(args: readonly ByteString[]): Promise<number> {
  const command = define();
  const ended = parse(command, args);
  if (ended !== undefined) return ended;
  const [path] = command.args as [ByteString];
  return reporting(MOUNT_FAILED, () => umount(path, command.opts<UnmountChoices>()));
}

async function umount(path: ByteString, { lazy = false, force = false }: UnmountChoices): Promise<number> {
  const mount = findMount(path);
  if (!mount) return refuse(path, 'not mounted');
  const state = readState(mount);
  if (mount.type !== 'fuse.lowerdata' && !state) return refuse(path, `no mount of lowerdata, but ${mount.type}`);
  const isUnmounted = force ? await end(mount, state) : await unmountFuse(mount, mounter(), { lazy });
  if (!isUnmounted) {
    complain(`${printable(path)}: busy: files are open in it, or it is a current directory; --lazy detaches it`);
    return MOUNT_FAILED;
  }
  if (readMounts().some(other => isSame(other, mount))) return 0; // mounted elsewhere too, so its daemon stays
  if (state && !lazy) await gone(state.pid);
  return 0;
}

/**
 * Ends a mount whose daemon may hang, and detaches it: it is dead. A user without CAP_SYS_ADMIN may not abort the connection, but
 * may kill the daemon, which does the same; its watcher then unmounts. fusermount3 cannot: it asks the daemon first.
 */
async function end(mount: Mount, state: MountState | undefined): Promise<boolean> {
  const by = mounter();
  if (by === 'mount') return (await unmountFuse(mount, by, { force: true })) || unmountFuse(mount, by, { lazy: true });
  if (!state) {
    const why = 'its daemon is not known here, because no $XDG_RUNTIME_DIR has its record; end it with kill -9';
    throw new ErrnoError(EPERM, `${printable(mount.path)}: ${why}`);
  }
  process.kill(state.pid, 'SIGKILL');
  const isThere = (): boolean => readMounts().some(other => isSame(other, mount));
  for (let waited = 0; waited < PATIENCE_MS && isThere(); waited += POLL_MS) await setTimeout(POLL_MS);
  return !isThere();
}

function refuse(path: ByteString, why: string): number {
  complain(`${printable(path)}: ${why}`);
  return WRONG_CALL;
}

const POLL_MS = 5;
const PATIENCE_MS = 10_000;

async function gone(pid: number): Promise<void> {
  for (let waited = 0; waited < PATIENCE_MS && isRunning(pid); waited += POLL_MS) await setTimeout(POLL_MS);
}
