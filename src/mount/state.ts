/** What a daemon leaves in the runtime directory for `umount` and `status`: a JSON file for each mount, named by its process. */
import { closeSync, readFileSync, rmSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import type { Confinement } from '../driver/confinement.ts';
import type { DriverOptions } from '../driver/options.ts';
import type { Protection } from '../driver/protection.ts';
import { type Identity, isSame } from '../fuse/mountinfo.ts';
import type { LayerSpec } from '../overlay/options.ts';
import type { ByteString } from '../sys/bytes.ts';
import { openRuntimeDirectories, type RuntimeDirectory } from './runtime-directory.ts';

export interface MountState {
  readonly pid: number;
  /** When that process began, in clock ticks since the system did. */
  readonly pidStartedAt: number;
  /** `major:minor` of the mount, as mountinfo has it. */
  readonly device: string;
  readonly mountpoint: ByteString;
  /** As mountinfo has it, too. */
  readonly source: ByteString;
  /** Milliseconds since 1970. */
  readonly startedAt: number;
  readonly transport: DriverOptions['transport'];
  readonly layers: readonly LayerSpec[];
  readonly protection: Protection;
  /** Why the daemon is not confined, or how it is. */
  readonly confinement: Confinement | string;
  /** Where its daemon tells what the mount is doing; '' where there is no place for that. */
  readonly socket: string;
}

/** The socket that belongs to a file: 107 bytes of path are what the kernel takes. */
function socketOf(file: string): string {
  const path = file.replace(/json$/, 'sock');
  return Buffer.byteLength(path) < 108 ? path : '';
}

/** The file of a daemon, made while it may make one and filled in when there is something to say. */
export class StateFile {
  /** '' where there is no place for one: root of a user namespace may have none in /run. */
  readonly path: string = '';
  private readonly fd: number = -1;

  /** A mount works without its file, so a failure is no error. */
  constructor() {
    for (const directory of openRuntimeDirectories(true)) {
      const name = `${process.pid}.json`;
      const fd = this.path ? -1 : directory.create(name);
      if (fd >= 0) [this.fd, this.path] = [fd, join(directory.path, name)];
      directory.close();
    }
  }

  /** As in MountState. */
  get socket(): string {
    return socketOf(this.path);
  }

  write(state: Omit<MountState, 'pid' | 'pidStartedAt' | 'socket'>): void {
    if (this.fd < 0) return;
    const { pid } = process;
    const whole: Omit<MountState, 'socket'> = { pid, pidStartedAt: startOf(pid) ?? 0, ...state };
    try {
      writeSync(this.fd, `${JSON.stringify(whole)}\n`);
    } catch {}
    closeSync(this.fd);
  }

  /** Takes it away, and its socket. A confined process can not: its watcher does. */
  remove(): void {
    try {
      for (const path of [this.path, this.socket]) if (path) rmSync(path, { force: true });
    } catch {}
  }
}

/** @returns what the running daemon of a mount has left; undefined where there is none. That of another one may be about to end. */
export function readState(mount: Identity): MountState | undefined {
  const found = readStates().filter(state => isSame(state, mount));
  return found.sort((a, b) => b.startedAt - a.startedAt)[0];
}

/** What all running daemons of this user have left. */
export function readStates(): MountState[] {
  return openRuntimeDirectories(false).flatMap(directory => {
    const names = directory.names().filter(name => name.endsWith('.json'));
    const states = names.map(name => parseState(directory, name)).filter(state => state !== undefined);
    directory.close();
    return states.filter(isItsDaemon);
  });
}

/** Whether the process of a file runs: another one may have its number by now. */
const isItsDaemon = ({ pid, pidStartedAt }: MountState): boolean => isRunning(pid) && startOf(pid) === pidStartedAt;

/** @returns undefined where the daemon has gone meanwhile, or has not written yet */
function parseState(directory: RuntimeDirectory, name: string): MountState | undefined {
  try {
    const state = JSON.parse(directory.read(name) ?? 'null');
    return isState(state) ? { ...state, socket: socketOf(join(directory.path, name)) } : undefined;
  } catch {
    return undefined;
  }
}

/** Whether a file has what is looked for first: that of another version may not. */
function isState(value: Partial<MountState> | null): value is MountState {
  const texts = [value?.device, value?.mountpoint, value?.source];
  return texts.every(text => typeof text === 'string') && typeof value?.pid === 'number' && Array.isArray(value.layers);
}

/** A zombie has released everything, and may wait for its parent for ever. */
export function isRunning(pid: number): boolean {
  const [state = 'X'] = fieldsOf(pid);
  return state !== 'Z' && state !== 'X';
}

/** When a process began, in clock ticks since the system did; undefined where there is none. */
function startOf(pid: number): number | undefined {
  const started = fieldsOf(pid)[STARTTIME];
  return started === undefined ? undefined : Number(started);
}

/** The fields of /proc/PID/stat from the third on. Source: proc_pid_stat(5). */
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
