/** What a daemon leaves in the runtime directory for `umount` and `status`: a JSON file for each mount. */
import { mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Name } from '../sys/bytes.ts';

export interface MountState {
  readonly pid: number;
  /** `major:minor` of the mount, as mountinfo has it. */
  readonly device: string;
  readonly mountpoint: Name;
  readonly source: Name;
  /** Milliseconds since 1970. */
  readonly startedAt: number;
}

/** /run/lowerdata for root, else in $XDG_RUNTIME_DIR; undefined where there is none. */
function directory(): string | undefined {
  if (process.geteuid?.() === 0) return '/run/lowerdata';
  const { XDG_RUNTIME_DIR } = process.env;
  return XDG_RUNTIME_DIR ? join(XDG_RUNTIME_DIR, 'lowerdata') : undefined;
}

/** The path of a mount's file, or '' where there is no place for one. */
export function stateFile(device: string): string {
  const at = directory();
  return at ? join(at, `${device.replace(':', '-')}.json`) : '';
}

/** A mount works without its file, so a failure is no error. */
export function writeState(state: MountState): void {
  const file = stateFile(state.device);
  if (!file) return;
  try {
    mkdirSync(directory() as string, { recursive: true, mode: 0o700 });
    writeFileSync(file, `${JSON.stringify(state)}\n`, { mode: 0o600 });
  } catch {}
}

/** @returns undefined where no daemon has left a file for the mount */
export function readState(device: string): MountState | undefined {
  try {
    return JSON.parse(readFileSync(stateFile(device), 'utf8'));
  } catch {
    return undefined;
  }
}

export function removeState(device: string): void {
  const file = stateFile(device);
  if (file) rmSync(file, { force: true });
}
