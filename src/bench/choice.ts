/** Which targets a benchmark has: those that were asked for, and why some of them are left out. */
import { spawnSync } from 'node:child_process';
import { createRequire } from 'node:module';
import { isImage, type MountPlan, planHere } from '../mount/plan.ts';
import { type ByteString, printable } from '../sys/bytes.ts';
import { EINVAL, ErrnoError } from '../sys/errno.ts';
import { CAP_SYS_ADMIN, hasCapability, inInitialUserNamespace } from '../sys/security/privileges.ts';
import { fuseOverlayfsTarget, peerTarget } from './peers.ts';
import { driverTarget, kernelTarget, type Target } from './targets.ts';

/** What can be measured without more words. */
export const BUILT_IN = ['lowerdata', 'kernel', 'fuse-overlayfs', 'fuse-native'] as const;
type BuiltIn = (typeof BUILT_IN)[number];
/** fuse-native takes many times as long as all others. */
export const DEFAULT_TARGETS = 'lowerdata,kernel,fuse-overlayfs';

export interface TargetChoice {
  /** The stack, as for a mount. */
  readonly source: ByteString;
  /** The text of each `-o`. */
  readonly options: readonly ByteString[];
  /** Names of BUILT_IN with commas between them. */
  readonly targets: ByteString;
  /** `name=options` of this driver. */
  readonly with: readonly ByteString[];
  /** `name=command` of other programs. */
  readonly peer: readonly ByteString[];
}

export interface Chosen {
  readonly targets: readonly Target[];
  /** A sentence for each one that is left out. */
  readonly notes: readonly string[];
}

/** Throws ErrnoError EINVAL for what can not be understood, names that are taken twice, and where no target is left. */
export function chosenTargets(choice: TargetChoice, plan: MountPlan): Chosen {
  const notes: string[] = [];
  const targets: Target[] = [];
  for (const name of builtIn(choice.targets)) {
    const why = obstacle(name, plan);
    if (why === undefined) targets.push(builtInTarget(name, choice, plan));
    else notes.push(`${name} is left out: ${why}.`);
  }
  targets.push(...choice.with.map(text => variant(text, choice)), ...choice.peer.map(text => peerTarget(text, plan)));
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

/** Why a target can not be measured; undefined where it can. */
function obstacle(name: BuiltIn, { stack }: MountPlan): string | undefined {
  const { layers } = stack;
  switch (name) {
    case 'lowerdata':
      return undefined;
    case 'kernel':
      if (!hasCapability(CAP_SYS_ADMIN) || !inInitialUserNamespace()) return 'mounting with it needs root';
      return layers.length === 1 && !layers.some(({ path }) => isImage(path))
        ? 'its overlayfs takes no fewer than two layers'
        : undefined;
    case 'fuse-overlayfs':
      if (layers.some(({ path }) => isImage(path))) return 'it takes no images, but directories';
      if (layers.some(({ dataOnly }) => dataOnly)) return 'it has no data-only layers';
      return hasProgram(name) ? undefined : 'it is not installed (Debian: fuse-overlayfs)';
    case 'fuse-native':
      return withoutFuseNative();
  }
}

const hasProgram = (name: string): boolean => spawnSync(name, ['--version'], { stdio: 'ignore' }).error === undefined;

/** It is an optional dependency, and needs a library that may be missing, too. */
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

/** This driver with more options: `name=options`, or `name=-o options`. */
function variant(text: ByteString, { source, options }: TargetChoice): Target {
  const [, name, more] = /^([^=\s]+)=(?:-o\s*)?(\S.*)$/s.exec(text) ?? [];
  if (name === undefined || more === undefined)
    throw new ErrnoError(EINVAL, `--with ${printable(text)}: not name=options`);
  planHere(source, [...options, more]); // what can not be mounted is told now
  return driverTarget(printable(name), source, [...options, more]);
}
