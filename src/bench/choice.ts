/** Chooses the targets of a benchmark, and explains why some are left out. */
import { spawnSync } from 'node:child_process';
import { createRequire } from 'node:module';
import { isImage, type MountPlan, planHere } from '../mount/plan.ts';
import { type ByteString, printable } from '../sys/bytes.ts';
import { EINVAL, ErrnoError } from '../sys/errno.ts';
import { CAP_SYS_ADMIN, hasCapability, inInitialUserNamespace } from '../sys/security/privileges.ts';
import { fuseOverlayfsTarget, peerTarget } from './peers.ts';
import { driverTarget, kernelTarget, type Target } from './targets.ts';

/** The targets that need only a name. */
export const BUILT_IN = ['lowerdata', 'kernel', 'fuse-overlayfs', 'fuse-native'] as const;
type BuiltIn = (typeof BUILT_IN)[number];
/** fuse-native is not a default, because it takes many times as long as all others. */
export const DEFAULT_TARGETS = 'lowerdata,kernel,fuse-overlayfs';

export interface TargetChoice {
  /** The stack, as for a mount. */
  readonly source: ByteString;
  /** The text of each `-o`. */
  readonly options: readonly ByteString[];
  /** Names of BUILT_IN, separated by commas. */
  readonly targets: ByteString;
  /** Variants of this driver, as `name=options`. */
  readonly with: readonly ByteString[];
  /** Other programs, as `name=command`. */
  readonly peer: readonly ByteString[];
}

export interface Chosen {
  readonly targets: readonly Target[];
  /** One sentence for each target that is left out. */
  readonly notes: readonly string[];
}

/**
 * @param writes whether files will be changed
 * Throws ErrnoError EINVAL for a malformed choice, for a name that occurs twice, and if no target remains.
 */
export async function chosenTargets(choice: TargetChoice, plan: MountPlan, writes: boolean): Promise<Chosen> {
  const notes: string[] = [];
  const targets: Target[] = [];
  for (const name of builtIn(choice.targets)) {
    const why = obstacle(name, plan, writes);
    if (why === undefined) targets.push(builtInTarget(name, choice, plan));
    else notes.push(`${name} is left out: ${why}.`);
  }
  for (const text of choice.with) targets.push(await variant(text, choice));
  for (const text of choice.peer) {
    const peer = peerTarget(text, plan);
    if (!writes || text.includes('{upper}')) targets.push(peer);
    else notes.push(`${peer.name} is left out: its command has no {upper}, and files are changed.`);
  }
  const names = targets.map(({ name }) => name);
  const twice = names.find((name, i) => names.indexOf(name) < i || name === 'object');
  if (twice !== undefined) throw new ErrnoError(EINVAL, `${twice}: two targets of this name`);
  if (targets.length === 0) throw new ErrnoError(EINVAL, `nothing to measure: ${notes.join(' ')}`);
  return { targets, notes };
}

function builtIn(text: ByteString): BuiltIn[] {
  return text
    .split(',')
    .filter(name => name !== '')
    .map(name => {
      const found = BUILT_IN.find(known => known === name);
      if (!found) throw new ErrnoError(EINVAL, `--targets: ${printable(name)}: not one of ${BUILT_IN.join(', ')}`);
      return found;
    });
}

/** The reason why a target cannot be measured; undefined if it can. */
function obstacle(name: BuiltIn, { stack }: MountPlan, writes: boolean): string | undefined {
  const { layers } = stack;
  switch (name) {
    case 'lowerdata':
      return undefined;
    case 'kernel':
      if (!hasCapability(CAP_SYS_ADMIN) || !inInitialUserNamespace()) return 'mounting with it needs root';
      return !writes && layers.length === 1 && !layers.some(({ path }) => isImage(path))
        ? 'its overlayfs needs at least two layers'
        : undefined;
    case 'fuse-overlayfs':
      if (layers.some(({ path }) => isImage(path))) return 'it mounts directories, not images';
      if (layers.some(({ dataOnly }) => dataOnly)) return 'it has no data-only layers';
      return hasProgram(name) ? undefined : 'it is not installed (Debian: fuse-overlayfs)';
    case 'fuse-native':
      return writes ? 'it changes nothing' : withoutFuseNative();
  }
}

const hasProgram = (name: string): boolean => spawnSync(name, ['--version'], { stdio: 'ignore' }).error === undefined;

/** The reason why fuse-native cannot be loaded. It is installed when asked for, and its library may be missing as well. */
function withoutFuseNative(): string | undefined {
  try {
    createRequire(import.meta.url)('fuse-native');
    return undefined;
  } catch (error) {
    const [reason] = (error as Error).message.split('\n');
    return `the npm package fuse-native, or libfuse 2 (Debian: libfuse2), is not installed: ${reason}`;
  }
}

function builtInTarget(name: BuiltIn, { source, options }: TargetChoice, plan: MountPlan): Target {
  switch (name) {
    case 'lowerdata':
      return driverTarget(name, source, options);
    case 'kernel':
      return kernelTarget(plan);
    case 'fuse-overlayfs':
      return fuseOverlayfsTarget(plan);
    case 'fuse-native':
      return driverTarget(name, source, [...options, 'transport=fuse-native']);
  }
}

/** A target for this driver with more options, given as `name=options` or `name=-o options`. */
async function variant(text: ByteString, { source, options }: TargetChoice): Promise<Target> {
  const [, name, more] = /^([^=\s]+)=(?:-o\s*)?(\S.*)$/s.exec(text) ?? [];
  if (name === undefined || more === undefined)
    throw new ErrnoError(EINVAL, `--with ${printable(text)}: not name=options`);
  await planHere(source, [...options, more]); // reports options that cannot be mounted now
  return driverTarget(printable(name), source, [...options, more]);
}
