/** The targets of a benchmark: ways to mount the same stack, each of which can be unmounted in any state. */
import { spawn } from 'node:child_process';
import { mkdirSync, readdirSync, rmdirSync, rmSync, unlinkSync } from 'node:fs';
import { text } from 'node:stream/consumers';
import { setTimeout } from 'node:timers/promises';
import { mounter, unmountFuse } from '../fuse/mount.ts';
import { mountAt, readMounts } from '../fuse/mountinfo.ts';
import { launcher } from '../mount/launch.ts';
import { isImage, type MountPlan } from '../mount/plan.ts';
import { readState } from '../mount/state.ts';
import type { LayerSpec } from '../overlay/options/lowerdir.ts';
import { type ByteString, bufferOf, byteStringFromText, printable } from '../sys/bytes.ts';
import { EIO, ErrnoError, must } from '../sys/errno.ts';
import { native } from '../sys/native.ts';
import { isRunning } from '../sys/processes/process.ts';
import { AT_FDCWD } from '../sys/statx.ts';
import { complain } from '../terminal/report.ts';
import { type Usage, usageFromNow } from './usage.ts';

export interface Target {
  readonly name: string;
  /** Set if the target provides only the large file. */
  readonly dataOnly?: true;
  /**
   * Mounts at `mnt` in a directory. If it throws, no mount is left behind.
   * @param upper the directories that changes go to, if files will be changed
   */
  start(place: ByteString, signal: AbortSignal, upper: UpperPlace | undefined): Promise<Running>;
}

/** Empty directories for an upper layer. */
export interface UpperPlace {
  readonly upper: ByteString;
  readonly work: ByteString;
}

export interface Running {
  /** The path of the large file, if it is not at its path below the mount. */
  readonly large?: ByteString;
  /** Usage of the server so far; absent if there is no known server. */
  readonly usage?: () => Usage | undefined;
  stop(): Promise<void>;
}

const POLL_MS = 5;
/** The time limit for a mount to appear. */
export const PATIENCE_MS = 10_000;
/** The time limit for a mount after an abort, and for a process to end. */
export const HURRY_MS = 2000;
/** The time that a mount may be busy before it is detached. */
const BUSY_MS = 500;
const MS_RDONLY = 1;

export const mountpointIn = (place: ByteString): ByteString => `${place}/mnt`;
export const isMounted = (path: ByteString): boolean => mountAt(readMounts(), path) !== undefined;

export async function until(condition: () => boolean, patience: () => number): Promise<boolean> {
  const start = performance.now();
  while (!condition()) {
    if (performance.now() - start > patience()) return false;
    await setTimeout(POLL_MS);
  }
  return true;
}

/** Unmounts all mounts at a path; a mount that stays busy is detached. */
export async function takeAway(path: ByteString): Promise<void> {
  const start = performance.now();
  for (let mount = mountAt(readMounts(), path); mount; mount = mountAt(readMounts(), path)) {
    const lazy = performance.now() - start > BUSY_MS;
    if (!(await unmountFuse(mount, mounter(), { lazy }))) await setTimeout(POLL_MS);
  }
}

/**
 * Removes a directory and the files that a target made in it. Nothing is removed through a mount, because rmdir refuses a mount
 * point. Files that a program left in its own mount point stay, and the directory with them.
 */
export function removePlace(place: ByteString): void {
  try {
    for (const entry of readdirSync(bufferOf(place), { withFileTypes: true, encoding: 'buffer' })) {
      const path = bufferOf(`${place}/${entry.name.toString('latin1')}`);
      if (entry.isDirectory()) rmdirSync(path);
      else unlinkSync(path);
    }
    rmdirSync(bufferOf(place));
  } catch (error) {
    complain(`${printable(place)} could not be removed: ${(error as Error).message}`);
  }
}

export function makeUpper(place: ByteString): UpperPlace {
  const made = { upper: `${place}/upper`, work: `${place}/work` };
  for (const path of Object.values(made)) makeDirectory(path);
  return made;
}

/** Removes what is in them, too, and waits until the disk has nothing left to do for it. */
export function removeUpper(place: UpperPlace): void {
  for (const path of Object.values(place)) rmSync(bufferOf(path), { recursive: true });
  const above = native.openat(AT_FDCWD, place.upper.slice(0, place.upper.lastIndexOf('/')), 0, 0);
  native.syncfs(above);
  native.close(above);
}

export const makeDirectory = (path: ByteString): void => void mkdirSync(bufferOf(path));

/** Mounts with this driver in the background, as `lowerdata mount` does. @param options the text of each `-o` */
export function driverTarget(name: string, source: ByteString, options: readonly ByteString[]): Target {
  return {
    name,
    start: async (place, _, upper) => {
      const mountpoint = mountpointIn(place);
      makeDirectory(mountpoint);
      const all = [...options, ...upperOptions(upper)];
      await mountInBackground([...all.flatMap(text => ['-o', text]), '--', source, mountpoint]);
      const mount = mountAt(readMounts(), mountpoint);
      const pid = mount && readState(mount)?.pid;
      return {
        ...(pid !== undefined && { usage: usageFromNow(pid) }),
        stop: async () => {
          await takeAway(mountpoint);
          if (pid !== undefined)
            await until(
              () => !isRunning(pid),
              () => HURRY_MS,
            );
        },
      };
    },
  };
}

const upperOptions = (place: UpperPlace | undefined): ByteString[] =>
  place ? [`upperdir=${escaped(place.upper)}`, `workdir=${escaped(place.work)}`] : [];

async function mountInBackground(args: readonly ByteString[]): Promise<void> {
  const words = ['--background', 'mount', ...args].map(arg => Buffer.from(arg, 'latin1').toString());
  const child = spawn(launcher, words, {
    stdio: ['ignore', 'ignore', 'pipe'],
    env: { ...process.env, LOWERDATA_NODE: process.execPath },
  });
  const status = new Promise(resolve => child.on('error', resolve).on('close', resolve));
  const said = (await text(child.stderr)).replace(/^lowerdata: /, '').trim();
  const how = await status;
  if (how !== 0) throw new ErrnoError(EIO, said || `exit status ${how}`);
}

/**
 * Mounts with the kernel: each image as EROFS, and overlayfs over all layers. Digests are not checked, because objects seldom
 * have fs-verity.
 */
export function kernelTarget({ stack }: MountPlan): Target {
  const { layers, metacopy, redirectDir, userxattr } = stack;
  const flags = (writes: boolean): ByteString[] => [
    `metacopy=${metacopy ? 'on' : 'off'}`,
    `redirect_dir=${writes && redirectDir === 'follow' ? 'on' : redirectDir}`, // as with this driver
    ...(userxattr ? ['userxattr'] : []),
  ];
  return {
    name: 'kernel',
    start: async (place, _, upper) => {
      const made: ByteString[] = [];
      const mount = (source: ByteString, target: ByteString, type: ByteString, data: ByteString): void => {
        makeDirectory(target);
        const result = native.mount(source, target, type, type === 'overlay' && upper ? 0 : MS_RDONLY, data);
        must(result, `mount -t ${type} ${printable(source)}`);
        made.unshift(target);
      };
      const stop = async (): Promise<void> => {
        for (const path of made) await takeAway(path);
      };
      try {
        mountStack(place, layers, [...flags(upper !== undefined), ...upperOptions(upper)], mount);
      } catch (error) {
        await stop();
        throw error;
      }
      return { stop };
    },
  };
}

type MountCall = (source: ByteString, target: ByteString, type: ByteString, data: ByteString) => void;

function mountStack(
  place: ByteString,
  layers: readonly LayerSpec[],
  flags: readonly ByteString[],
  mount: MountCall,
): void {
  const [only, ...others] = layers;
  const writes = flags.some(flag => flag.startsWith('upperdir='));
  if (only && others.length === 0 && isImage(only.path) && !writes) {
    mount(only.path, mountpointIn(place), 'erofs', ''); // overlayfs needs at least two layers
    return;
  }
  const lowerdir = layers.map(({ path, dataOnly }, i) => {
    let at = absolute(path);
    if (!dataOnly && isImage(path)) {
      at = `${place}/layer${i}`;
      mount(path, at, 'erofs', '');
    }
    return `${i === 0 ? '' : dataOnly ? '::' : ':'}${escaped(at)}`;
  });
  mount('overlay', mountpointIn(place), 'overlay', [...flags, `lowerdir=${lowerdir.join('')}`].join(','));
}

/**
 * The plain file in its layer with the data of the large file. It is the upper bound of speed for every filesystem on top of it.
 */
export function objectTarget(object: ByteString): Target {
  return { name: 'object', dataOnly: true, start: async () => ({ large: object, stop: async () => {} }) };
}

/** A path with the escapes that `lowerdir=` needs. */
export const escaped = (path: ByteString): ByteString => path.replace(/[\\:,]/g, '\\$&');
export const absolute = (path: ByteString): ByteString =>
  path.startsWith('/') ? path : `${byteStringFromText(process.cwd())}/${path}`;
