/**
 * The rights that the process of a mount gives up after mounting, so that an attacker who controls it gains little. All threads,
 * including those of Node.js, share their memory, so all get the same limits:
 *
 *     seccomp        no new privileges; no system calls that start programs, mount filesystems, make or change files (but with
 *         upperdir), or reach other processes or the kernel
 *     Landlock       nothing is written but upperdir and workdir, and nothing is opened except the layers, the package and /proc
 *     capabilities   only CAP_DAC_READ_SEARCH and CAP_SYS_ADMIN, and with upperdir those that change files; each only if it is
 *         used, see `capabilities`
 *
 * The unmount is left to the watcher, another process. If the kernel lacks one part, the others still apply.
 */
import type { LayerSpec } from '../overlay/options/lowerdir.ts';
import type { StackOptions } from '../overlay/options/rules.ts';
import { type ByteString, byteStringFromText } from '../sys/bytes.ts';
import { moduleDirectories, native } from '../sys/native.ts';
import { leadsToDirectory } from '../sys/real-path.ts';
import { confineProcess } from '../sys/security/confine.ts';
import { knowsHandles, landlockVersion, Ruleset, VERSION_OF_RENAMES } from '../sys/security/landlock.ts';
import {
  boundCapabilities,
  CAP_DAC_READ_SEARCH,
  CAP_SYS_ADMIN,
  hasCapability,
  inInitialUserNamespace,
  WRITING_CAPABILITIES,
} from '../sys/security/privileges.ts';
import { knowsSystemCalls, type SystemCall } from '../sys/security/system-calls.ts';
import { hashPackages } from '../verity/hash.ts';
import type { DriverOptions } from './options.ts';

export interface Confinement {
  readonly capabilities: readonly string[];
  /** layers: nothing else can be opened; reading: all readable files, but nothing can be written; any: no Landlock. */
  readonly files: 'layers' | 'reading' | 'any';
  /** Whether system calls are refused. */
  readonly systemCalls: boolean;
}

const NAMES: Readonly<Record<number, string>> = {
  [CAP_DAC_READ_SEARCH]: 'CAP_DAC_READ_SEARCH',
  [CAP_SYS_ADMIN]: 'CAP_SYS_ADMIN',
  ...Object.fromEntries(Object.entries(WRITING_CAPABILITIES).map(([name, capability]) => [capability, name])),
};
/** Calls that change files, which a mount with an upper layer makes. */
const WRITING_CALLS: readonly SystemCall[] = [
  ...(['mkdirat', 'mknodat', 'symlinkat', 'linkat', 'unlinkat', 'renameat2'] as const),
  ...(['ftruncate', 'fallocate', 'copy_file_range', 'fchmodat', 'fchownat', 'utimensat'] as const),
  ...(['setxattr', 'setxattrat', 'removexattr', 'removexattrat'] as const),
];
/** Whether files are opened by handle: data by its origin, or what a copy in the upper layer was made from. */
const opensHandles = ({ followOrigin, upper }: StackOptions): boolean => followOrigin || upper !== undefined;

/** The reason why this process cannot be confined; undefined if it can. */
export const confinementObstacle = (): string | undefined =>
  knowsSystemCalls() ? undefined : `not on ${process.arch}`;

/** Limits the capabilities of programs started from now on to those that the watcher needs. */
export function boundPrograms(): void {
  if (inInitialUserNamespace()) boundCapabilities([CAP_SYS_ADMIN, CAP_DAC_READ_SEARCH]);
}

/** Whether to register files with the kernel, if it can do that. */
export const wantsPassthrough = ({ passthrough, opens }: DriverOptions): boolean =>
  passthrough !== 'off' && opens !== 'none';

/** The rights that the process of a mount keeps while it serves. Must be constructed before it has given up any. */
export class Limits {
  private readonly stack: StackOptions;
  private readonly directories: readonly LayerSpec[];
  private readonly reading: boolean;
  private readonly rules: Ruleset | undefined;
  private readonly held: readonly number[];
  private readonly isInitial = inInitialUserNamespace();

  /**
   * Relative paths of layers are resolved in the current directory.
   * @param opensOthers whether files of other directories are opened later; then all may be read
   */
  constructor(stack: StackOptions, opensOthers = false) {
    this.stack = stack;
    const { upper } = stack;
    const writing = upper ? Object.values(WRITING_CAPABILITIES) : [];
    this.held = [CAP_DAC_READ_SEARCH, CAP_SYS_ADMIN, ...writing].filter(hasCapability);
    this.directories = stack.layers.filter(({ path }) => leadsToDirectory(path));
    const byHandle = opensHandles(stack) && this.held.includes(CAP_DAC_READ_SEARCH);
    this.reading = !opensOthers && (!byHandle || knowsHandles());
    const others = ['/proc', ...moduleDirectories(hashPackages)].map(byteStringFromText);
    const written = upper ? [upper.upperdir, upper.workdir] : [];
    this.rules = rulesFor([...this.directories.map(({ path }) => path), ...others], written, this.reading);
  }

  /**
   * The capabilities to keep. CAP_DAC_READ_SEARCH reads files of a layer that only root may read, and opens files by handle.
   * CAP_SYS_ADMIN registers files for passthrough, and reads trusted.* xattrs in directory layers. An upper layer takes the
   * WRITING_CAPABILITIES, because the kernel has already decided that the caller may make the change.
   */
  private capabilities(passthrough: boolean): number[] {
    const isWritten = this.stack.upper !== undefined;
    const readsXattrs = isWritten || this.directories.some(({ dataOnly }) => !dataOnly);
    const isAdmin = this.isInitial && (passthrough || readsXattrs);
    return this.held.filter(one => (one === CAP_SYS_ADMIN ? isAdmin : isWritten || this.directories.length > 0));
  }

  /**
   * Confines all threads for good, when nothing is left to be mounted or started. Unavailable parts are left out.
   * @param passthrough whether files are registered with the kernel
   * @returns the limits that took effect
   */
  enter(passthrough: boolean): Confinement {
    const kept = this.capabilities(passthrough);
    const { rules, stack } = this;
    const allowed: SystemCall[] = opensHandles(stack) ? ['open_by_handle_at'] : [];
    if (stack.upper) allowed.push(...WRITING_CALLS);
    const { isRestricted, systemCalls } = confineProcess({ rules, capabilities: kept, allowed });
    if (rules) native.close(rules.fd);
    return {
      capabilities: kept.map(one => NAMES[one] as string),
      files: !isRestricted ? 'any' : this.reading ? 'layers' : 'reading',
      systemCalls,
    };
  }
}

/** Rules that allow reading the directories, and changing those that are written to; undefined without Landlock, or if it refuses one of them. */
function rulesFor(
  directories: readonly ByteString[],
  written: readonly ByteString[],
  reading: boolean,
): Ruleset | undefined {
  if (landlockVersion() < (written.length > 0 ? VERSION_OF_RENAMES : 1)) return undefined;
  try {
    const rules = new Ruleset({ reading });
    if (reading) for (const directory of directories) rules.allowReading(directory);
    for (const directory of written) rules.allowEverything(directory);
    return rules;
  } catch {
    return undefined;
  }
}

/** Describes the limits in a few words. @param confinement the limits, or the reason why there are none */
export function confinementText(confinement: Confinement | string): string {
  if (typeof confinement === 'string') return `not confined (${confinement})`;
  const { files, capabilities } = confinement;
  const kept = capabilities.length === 0 ? 'no capabilities' : capabilities.join(' and ');
  return `the daemon ${FILES[files]}, with ${kept}`;
}
const FILES = {
  layers: 'can open only its layers',
  reading: 'can open files only for reading',
  any: 'is not confined to its layers (no Landlock)',
} as const;

/** Describes all of the limits, for people who asked. */
export function confinementDetails(confinement: Confinement | string): string {
  const text = confinementText(confinement);
  if (typeof confinement === 'string') return text;
  return `${text}; ${confinement.systemCalls ? 'system calls are filtered' : 'system calls are not filtered (no seccomp)'}`;
}
