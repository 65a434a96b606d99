/** What a daemon leaves in the runtime directory for `umount` and `status`: a JSON file for each mount, named by its process. */
import { mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { DriverOptions } from '../driver/options.ts';
import type { Protection } from '../driver/protection.ts';
import type { LayerSpec } from '../overlay/options.ts';
import type { Name } from '../sys/bytes.ts';

export interface MountState {
  readonly pid: number;
  /** `major:minor` of the mount, as mountinfo has it. */
  readonly device: string;
  readonly mountpoint: Name;
  readonly source: Name;
  /** Milliseconds since 1970. */
  readonly startedAt: number;
  readonly transport: DriverOptions['transport'];
  readonly layers: readonly LayerSpec[];
  readonly protection: Protection;
}

/** /run/lowerdata for root, else in $XDG_RUNTIME_DIR; undefined where there is none. */
function directory(): string | undefined {
  if (process.geteuid?.() === 0) return '/run/lowerdata';
  const { XDG_RUNTIME_DIR } = process.env;
  return XDG_RUNTIME_DIR ? join(XDG_RUNTIME_DIR, 'lowerdata') : undefined;
}

/** The path of this process's file, or '' where there is no place for one. */
export function stateFile(): string {
  const at = directory();
  return at ? join(at, `${process.pid}.json`) : '';
}

/** Where a daemon tells what its mount is doing, or '' where there is no place for that: 107 bytes are what the kernel takes. */
export function statusSocket(pid: number): string {
  const at = directory();
  const path = at ? join(at, `${pid}.sock`) : '';
  return Buffer.byteLength(path) < 108 ? path : '';
}

/** A mount works without its file, so a failure is no error. */
export function writeState(state: MountState): void {
  const at = directory();
  if (!at) return;
  try {
    mkdirSync(at, { recursive: true, mode: 0o700 });
    writeFileSync(stateFile(), `${JSON.stringify(state)}\n`, { mode: 0o600 });
  } catch {}
}

export function removeState(): void {
  for (const file of [stateFile(), statusSocket(process.pid)]) if (file) rmSync(file, { force: true });
}

/** @returns what the running daemon of a mount has left; undefined where there is none */
export function readState(device: string): MountState | undefined {
  return readStates().find(state => state.device === device);
}

/** What all running daemons of this user have left. */
export function readStates(): MountState[] {
  const at = directory();
  return filesIn(at)
    .map(name => parseState(join(at as string, name)))
    .filter(state => state !== undefined && isRunning(state.pid)) as MountState[];
}

function filesIn(at: string | undefined): string[] {
  if (at === undefined) return [];
  try {
    return readdirSync(at);
  } catch {
    return []; // nobody has mounted anything
  }
}

/** @returns undefined where the daemon has gone meanwhile */
function parseState(file: string): MountState | undefined {
  try {
    return JSON.parse(readFileSync(file, 'utf8'));
  } catch {
    return undefined;
  }
}

/** A zombie has released everything, and may wait for its parent for ever. */
export function isRunning(pid: number): boolean {
  try {
    const [, state] = /^\d+ \(.*\) (\S)/s.exec(readFileSync(`/proc/${pid}/stat`, 'latin1')) ?? [];
    return state !== 'Z' && state !== 'X';
  } catch {
    return false;
  }
}
