/** `lowerdata umount`: unmounts, and waits until the daemon has ended. */
import { setTimeout } from 'node:timers/promises';
import type { Command } from 'commander';
import { mounter, unmountFuse } from '../../fuse/mount.ts';
import { isSame, readMounts } from '../../fuse/mountinfo.ts';
import { findMount } from '../../mount/find-mount.ts';
import { isRunning, readState } from '../../mount/state.ts';
import { type ByteString, printable } from '../../sys/bytes.ts';
import { complain, MOUNT_FAILED, reporting, WRONG_CALL } from '../../terminal/report.ts';
import { newCommand, parse } from '../command.ts';

export const define = (): Command =>
  newCommand('lowerdata umount')
    .description('Unmount what `lowerdata mount` has mounted.')
    .usage('[options] MOUNTPOINT')
    .argument('<mountpoint>', 'where it is mounted')
    .option('-l, --lazy', 'detach it now, though it is in use; it ends with its last user');

export async function run(args: readonly ByteString[]): Promise<number> {
  const command = define();
  const ended = parse(command, args);
  if (ended !== undefined) return ended;
  const [path] = command.args as [ByteString];
  const { lazy = false } = command.opts<{ lazy?: boolean }>();
  return reporting(MOUNT_FAILED, () => umount(path, lazy));
}

async function umount(path: ByteString, lazy: boolean): Promise<number> {
  const mount = findMount(path);
  if (!mount) return refuse(path, 'not mounted');
  const state = readState(mount);
  if (mount.type !== 'fuse.lowerdata' && !state) return refuse(path, `no mount of lowerdata, but ${mount.type}`);
  if (!(await unmountFuse(mount, mounter(), lazy))) {
    complain(`${printable(path)}: busy: files are open in it, or it is a current directory; --lazy detaches it`);
    return MOUNT_FAILED;
  }
  if (readMounts().some(other => isSame(other, mount))) return 0; // mounted elsewhere too, so its daemon stays
  if (state && !lazy) await gone(state.pid);
  return 0;
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
