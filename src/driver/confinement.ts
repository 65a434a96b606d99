/**
 * What the process of a mount gives up when it has mounted, so that whoever gets hold of it gets little. All threads, those
 * of Node.js included, share their memory and therefore their limits:
 *
 *     no new privileges, and no call by which programs are started, filesystems mounted, files made or changed, other
 *         processes or the kernel reached (seccomp)
 *     nothing is written, and nothing opened but the layers, the package, and /proc (Landlock)
 *     no capability but CAP_DAC_READ_SEARCH and CAP_SYS_ADMIN, and these only where they are used, see `capabilities`
 *
 * The unmount is left to the watcher, another process. Where the kernel lacks a part, the others hold.
 */
import { statSync } from 'node:fs';
import type { LayerSpec, StackOptions } from '../overlay/options.ts';
import { type ByteString, bufferOf, byteStringFromText } from '../sys/bytes.ts';
import { ESRCH } from '../sys/errno.ts';
import { moduleDirectories, native } from '../sys/native.ts';
import { knowsHandles, landlockVersion, Ruleset } from '../sys/security/landlock.ts';
import {
  boundCapabilities,
  CAP_DAC_READ_SEARCH,
  CAP_SYS_ADMIN,
  hasCapability,
  inInitialUserNamespace,
  refuseNewPrivileges,
  setCapabilities,
} from '../sys/security/privileges.ts';
import { type ArgumentRule, applyToAllThreads, type Refused, refusal } from '../sys/security/seccomp.ts';
import { knowsSystemCalls, type SystemCall, systemCalls } from '../sys/security/system-calls.ts';
import { onEveryThread, type Thread } from '../sys/threads.ts';
import { hashPackages } from '../verity/hash.ts';
import type { DriverOptions } from './options.ts';

export interface Confinement {
  readonly capabilities: readonly string[];
  /** layers: nothing else can be opened; reading: everything that can be read, but nothing written; any: no Landlock. */
  readonly files: 'layers' | 'reading' | 'any';
  /** Whether system calls are refused. */
  readonly systemCalls: boolean;
}

const NAMES: Readonly<Record<number, string>> = {
  [CAP_DAC_READ_SEARCH]: 'CAP_DAC_READ_SEARCH',
  [CAP_SYS_ADMIN]: 'CAP_SYS_ADMIN',
};
/** Calls that are known for other ends than to be refused. */
const OWN_CALLS: readonly SystemCall[] = ['capset', 'prctl', 'landlock_restrict_self'];

/** Why this process can not be confined; undefined where it can. */
export const confinementObstacle = (): string | undefined =>
  knowsSystemCalls() ? undefined : `not on ${process.arch}`;

/** Programs that are started from here on get what the watcher needs, and no more. */
export function boundPrograms(): void {
  if (inInitialUserNamespace()) boundCapabilities([CAP_SYS_ADMIN, CAP_DAC_READ_SEARCH]);
}

/** Whether files are to be registered with the kernel, if it can do that. */
export const wantsPassthrough = ({ passthrough, opens }: DriverOptions): boolean =>
  passthrough !== 'off' && opens !== 'none';

/** What the process of a mount may do when it serves. To be made before it has given up anything. */
export class Limits {
  private readonly stack: StackOptions;
  private readonly directories: readonly LayerSpec[];
  private readonly reading: boolean;
  private readonly rules: Ruleset | undefined;
  private readonly held = [CAP_DAC_READ_SEARCH, CAP_SYS_ADMIN].filter(hasCapability);
  private readonly isInitial = inInitialUserNamespace();
  private isRestricted = false;

  /** Relative paths of layers count from the current directory. */
  constructor(stack: StackOptions) {
    this.stack = stack;
    this.directories = stack.layers.filter(({ path }) => isDirectory(path));
    const byHandle = stack.followOrigin && this.held.includes(CAP_DAC_READ_SEARCH);
    this.reading = !byHandle || knowsHandles();
    const others = ['/proc', ...moduleDirectories(hashPackages)].map(byteStringFromText);
    this.rules = rulesFor([...this.directories.map(({ path }) => path), ...others], this.reading);
  }

  /**
   * What is kept. CAP_DAC_READ_SEARCH reads what the owner of a layer gave root alone, and opens files by
   * handle; CAP_SYS_ADMIN registers files for passthrough, and reads trusted.* xattrs of directories.
   */
  private capabilities(passthrough: boolean): number[] {
    const isAdmin = this.isInitial && (passthrough || this.directories.some(({ dataOnly }) => !dataOnly));
    return this.held.filter(one => (one === CAP_SYS_ADMIN ? isAdmin : this.directories.length > 0));
  }

  /**
   * Confines all threads for good, when nothing is left to be mounted or started. What can not be had is left out.
   * @param passthrough whether files are registered with the kernel @returns what has become of it
   */
  enter(passthrough: boolean): Confinement {
    const kept = this.capabilities(passthrough);
    this.isRestricted = this.rules !== undefined;
    onEveryThread(thread => this.confine(thread, kept));
    if (this.rules) native.close(this.rules.fd);
    const program = refusal(refusedCalls(this.stack));
    return {
      capabilities: kept.map(one => NAMES[one] as string),
      files: !this.isRestricted ? 'any' : this.reading ? 'layers' : 'reading',
      systemCalls: program !== undefined && applyToAllThreads(program) === 0,
    };
  }

  private confine(thread: Thread, kept: readonly number[]): number {
    const result = refuseNewPrivileges(thread);
    if (result < 0) return result; // it has ended
    const restricted = this.rules?.restrict(thread) ?? 0;
    if (restricted < 0 && restricted !== -ESRCH) this.isRestricted = false;
    return setCapabilities(thread, kept);
  }
}

/** Threads are started, and no processes nor namespaces. Source: linux/sched.h. */
const CLONE_THREAD = 0x10000;
const CLONE_NEW = 0x7e020080;
/** Ioctls by which a terminal takes input that nobody typed. Source: asm-generic/ioctls.h, linux/tiocl.h. */
const TIOCSTI = 0x5412;
const TIOCLINUX = 0x541c;

function refusedCalls({ followOrigin }: StackOptions): Refused {
  const unless: ArgumentRule[] = [
    { call: 'tgkill', argument: 0, equal: [process.pid] },
    { call: 'prlimit64', argument: 0, equal: [0] },
    { call: 'clone', argument: 0, withBits: CLONE_THREAD, withoutBits: CLONE_NEW },
    { call: 'ioctl', argument: 1, notEqual: [TIOCSTI, TIOCLINUX] },
  ];
  const missing: SystemCall[] = ['clone3']; // its flags are out of a filter's sight
  const allowed = [...OWN_CALLS, ...(followOrigin ? ['open_by_handle_at'] : [])];
  const others: string[] = [...allowed, ...missing, ...unless.map(({ call }) => call)];
  return { calls: (Object.keys(systemCalls) as SystemCall[]).filter(name => !others.includes(name)), missing, unless };
}

const isDirectory = (path: ByteString): boolean =>
  statSync(bufferOf(path), { throwIfNoEntry: false })?.isDirectory() === true;

/** Rules by which the directories can be read; undefined where there is no Landlock, or it refuses one of them. */
function rulesFor(directories: readonly ByteString[], reading: boolean): Ruleset | undefined {
  if (landlockVersion() === 0) return undefined;
  try {
    const rules = new Ruleset({ reading });
    if (reading) for (const directory of directories) rules.allowReading(directory);
    return rules;
  } catch {
    return undefined;
  }
}

/** A few words for people. @param confinement why there is none, in place of what there is */
export function confinementText(confinement: Confinement | string): string {
  if (typeof confinement === 'string') return `not confined (${confinement})`;
  const { files, capabilities } = confinement;
  const kept = capabilities.length === 0 ? 'no capabilities' : capabilities.join(' and ');
  return `the daemon ${FILES[files]}, with ${kept}`;
}
const FILES = {
  layers: 'can open its layers alone',
  reading: 'can open files for reading alone',
  any: 'is not confined to its layers (no Landlock)',
} as const;

/** All of it, for people who asked. */
export function confinementDetails(confinement: Confinement | string): string {
  const text = confinementText(confinement);
  if (typeof confinement === 'string') return text;
  return `${text}; ${confinement.systemCalls ? 'system calls are filtered' : 'no seccomp here'}`;
}
