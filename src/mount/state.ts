/** The state of a mount, for `umount` and `status`: a JSON file in the runtime directory, named by the daemon's process ID. */
import { closeSync, rmSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import type { Confinement } from '../driver/confinement.ts';
import type { DriverOptions } from '../driver/options.ts';
import type { Protection } from '../driver/protection.ts';
import { type Identity, isSame } from '../fuse/mountinfo.ts';
import type { LayerSpec } from '../overlay/options/lowerdir.ts';
import type { StackOptions, StoredName } from '../overlay/options/rules.ts';
import type { ByteString } from '../sys/bytes.ts';
import { isRunning, startOf } from '../sys/processes/process.ts';
import { realPath } from '../sys/real-path.ts';
import type { Finding } from './finding.ts';
import { openRuntimeDirectories, type RuntimeDirectory } from './runtime-directory.ts';

/** The directories of a writable mount. */
export interface WrittenDirectories {
  readonly upperdir: ByteString;
  readonly workdir: ByteString;
}

export interface MountState {
  readonly pid: number;
  /** When that process started, in clock ticks after the system's boot. */
  readonly pidStartedAt: number;
  /** `major:minor` of the mount, as in mountinfo. */
  readonly device: string;
  readonly mountpoint: ByteString;
  /** The source of the mount, as in mountinfo. */
  readonly source: ByteString;
  /** When the mount was made, in milliseconds since 1970. */
  readonly startedAt: number;
  readonly transport: DriverOptions['transport'];
  readonly layers: readonly LayerSpec[];
  /** How the image was named in a repository, which has an absolute path. Absent if it was named by its path. */
  readonly stored?: Pick<StoredName, 'store' | 'name'>;
  /** The absolute paths of the directories that are written to. Absent if none are. */
  readonly upper?: WrittenDirectories;
  readonly protection: Protection;
  /** The limits of the daemon, or the reason why it is not confined. */
  readonly confinement: Confinement | string;
  /** What people should know about the stack; null if there is nothing. Absent in files of earlier versions. */
  readonly finding?: Finding | null;
  /** The socket on which the daemon sends its live numbers; '' if there is none. */
  readonly socket: string;
}

/** A layer by its absolute path; symlinks stay as they are. */
const absolute = ({ path, dataOnly }: LayerSpec): LayerSpec => ({ path: absolutePath(path), dataOnly });

const absolutePath = (path: ByteString): ByteString =>
  path.startsWith('/') ? path : `${realPath('.').replace(/\/$/, '')}/${path}`;

/** The layers of a stack as a state has them. Paths are relative to the working directory until now. */
export function recordedLayers({
  layers,
  upper,
  stored,
}: StackOptions): Pick<MountState, 'layers' | 'upper' | 'stored'> {
  const written = upper && { upperdir: absolutePath(upper.upperdir), workdir: absolutePath(upper.workdir) };
  const found = stored && { store: absolutePath(stored.store), name: stored.name };
  return { layers: layers.map(absolute), ...(found && { stored: found }), ...(written && { upper: written }) };
}

/** The socket that belongs to a state file; '' if its path exceeds the kernel's limit of 107 bytes. */
function socketOf(file: string): string {
  const path = file.replace(/json$/, 'sock');
  return Buffer.byteLength(path) < 108 ? path : '';
}

/** The state file of a daemon. It is created while the daemon still may create files, and written once the mount is made. */
export class StateFile {
  /** '' if the file could not be created: root of a user namespace may have no place in /run. */
  readonly path: string = '';
  private readonly fd: number = -1;

  /** Creates the file. A mount works without it, so a failure is no error. */
  constructor() {
    for (const directory of openRuntimeDirectories(true)) {
      const name = `${process.pid}.json`;
      const fd = this.path ? -1 : directory.create(name);
      if (fd >= 0) [this.fd, this.path] = [fd, join(directory.path, name)];
      directory.close();
    }
  }

  /** The path of the socket, as in MountState. */
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

  /** Removes the file and its socket. A confined process cannot do that; its watcher does it instead. */
  remove(): void {
    try {
      for (const path of [this.path, this.socket]) if (path) rmSync(path, { force: true });
    } catch {}
  }
}

/**
 * The state that the running daemon of a mount has written; undefined if there is none. If several match, the newest is taken,
 * because the others are about to end.
 */
export function readState(mount: Identity): MountState | undefined {
  const found = readStates().filter(state => isSame(state, mount));
  return found.sort((a, b) => b.startedAt - a.startedAt)[0];
}

/** The states of all running daemons of this user. */
export function readStates(): MountState[] {
  return openRuntimeDirectories(false).flatMap(directory => {
    const names = directory.names().filter(name => name.endsWith('.json'));
    const states = names.map(name => parseState(directory, name)).filter(state => state !== undefined);
    directory.close();
    return states.filter(isItsDaemon);
  });
}

/** Whether the process of a state file still runs. Its ID may have been reused by another process. */
const isItsDaemon = ({ pid, pidStartedAt }: MountState): boolean => isRunning(pid) && startOf(pid) === pidStartedAt;

/** Reads a state file. @returns undefined if the daemon has removed it or has not written it yet */
function parseState(directory: RuntimeDirectory, name: string): MountState | undefined {
  try {
    const state = JSON.parse(directory.read(name) ?? 'null');
    return isState(state) ? { ...state, socket: socketOf(join(directory.path, name)) } : undefined;
  } catch {
    return undefined;
  }
}

/** Whether a file has the fields that are used first. The file of another version may not. */
function isState(value: Partial<MountState> | null): value is MountState {
  const texts = [value?.device, value?.mountpoint, value?.source];
  return texts.every(text => typeof text === 'string') && typeof value?.pid === 'number' && Array.isArray(value.layers);
}
