/** The facts that all probes share: the kernel, this process, and the kernel's FUSE features. */
import { spawnSync } from 'node:child_process';
import { release } from 'node:os';
import { fileURLToPath } from 'node:url';
import { flagsOf, InitFlag, type InitFlagName } from '../fuse/init.ts';
import { InHeader, InitIn, MAJOR } from '../fuse/wire/abi.ts';
import { Opcode } from '../fuse/wire/opcode.ts';
import { CAP_SYS_ADMIN, hasCapability, inInitialUserNamespace } from '../sys/security/privileges.ts';

/** The kernel's offer in INIT. */
export interface Offer {
  readonly minor: number;
  readonly flags: ReadonlySet<InitFlagName>;
}

export interface Machine {
  /** The output of `uname -r`; `kernel` is its first two numbers. */
  readonly release: string;
  readonly kernel: KernelVersion;
  /** Whether the process has CAP_SYS_ADMIN in its user namespace, initial or not. */
  readonly isAdmin: boolean;
  readonly inInitialNamespace: boolean;
  /** undefined if no mount could be made to obtain it. */
  readonly offer: Offer | undefined;
}

export type KernelVersion = readonly [major: number, minor: number];

export function lookAtMachine(): Machine {
  const isAdmin = hasCapability(CAP_SYS_ADMIN);
  return {
    release: release(),
    kernel: versionOf(release()),
    isAdmin,
    inInitialNamespace: inInitialUserNamespace(),
    offer: askInit(isAdmin),
  };
}

/** The first two numbers of a release; 0.0 if it has none. */
export function versionOf(release: string): KernelVersion {
  const [, major = '0', minor = '0'] = /^(\d+)\.(\d+)/.exec(release) ?? [];
  return [Number(major), Number(minor)];
}

export const isSince = ([major, minor]: KernelVersion, since: KernelVersion): boolean =>
  major > since[0] || (major === since[0] && minor >= since[1]);

/** A generous limit, because the machine may be busy. */
const PATIENCE_MS = 10_000;

/** The offer in the INIT of a private mount; undefined if unshare(1), /dev/fuse or mount(2) is not available. */
function askInit(isAdmin: boolean): Offer | undefined {
  const child = fileURLToPath(new URL('./init-child.js', import.meta.url));
  const { status, stdout } = spawnSync('unshare', [isAdmin ? '-m' : '-Urm', process.execPath, child], {
    stdio: ['ignore', 'pipe', 'ignore'],
    encoding: 'latin1',
    timeout: PATIENCE_MS,
    killSignal: 'SIGKILL',
  });
  return status === 0 ? offerIn(Buffer.from(stdout, 'hex')) : undefined;
}

/** Parses an INIT request. @returns undefined unless it is an INIT of our major version */
export function offerIn(request: Uint8Array): Offer | undefined {
  if (request.length < InHeader.SIZE + InitIn.flags2) return undefined;
  const view = new DataView(request.buffer, request.byteOffset, request.byteLength);
  const field = (at: number): number => view.getUint32(InHeader.SIZE + at, true);
  if (view.getUint32(InHeader.opcode, true) !== Opcode.INIT || field(InitIn.major) !== MAJOR) return undefined;
  const low = field(InitIn.flags);
  const isExtended = request.length >= InHeader.SIZE + InitIn.SIZE && low & (1 << InitFlag.INIT_EXT);
  return { minor: field(InitIn.minor), flags: flagsOf(low, isExtended ? field(InitIn.flags2) : 0) };
}
