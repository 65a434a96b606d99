/** What a benchmark measures: ways to mount the same stack, each of which can be taken away whatever happens. */
import { type ChildProcess, spawn } from 'node:child_process';
import { closeSync, mkdirSync, openSync, readdirSync, readFileSync, rmdirSync, unlinkSync } from 'node:fs';
import { text } from 'node:stream/consumers';
import { setTimeout } from 'node:timers/promises';
import { mounter, unmountFuse } from '../fuse/mount.ts';
import { mountAt, readMounts } from '../fuse/mountinfo.ts';
import type { LayerSpec } from '../overlay/options.ts';
import { type Name, nameBytes, nameFromText, printable } from '../sys/bytes.ts';
import { EINVAL, EIO, ErrnoError, errnoName, must } from '../sys/errno.ts';
import { native } from '../sys/native.ts';
import { launcher } from './launch.ts';
import { isImage, type MountPlan } from './mount-options.ts';
import { complain } from './report.ts';
import { isRunning, readState } from './state.ts';

export interface Target {
  readonly name: string;
  /** Mounts at `mnt` in an empty directory. Throws, and leaves no mount behind, where that fails. */
  start(place: Name, signal: AbortSignal): Promise<Running>;
}

export interface Running {
  /** What the server has used until now; absent where it is not ours or not known. */
  readonly usage?: () => Usage | undefined;
  stop(): Promise<void>;
}

export interface Usage {
  readonly processorSeconds: number;
  readonly peakBytes: number;
}

const POLL_MS = 5;
/** How long a mount may take to appear, and its server to end. */
const PATIENCE_MS = 10_000;
/** The same when nobody waits for it any more. */
const HURRY_MS = 2000;
/** How long a mount may be busy before it is detached. */
const BUSY_MS = 500;
const MS_RDONLY = 1;

const mountpointIn = (place: Name): Name => `${place}/mnt`;
const isMounted = (path: Name): boolean => mountAt(readMounts(), path) !== undefined;

async function until(condition: () => boolean, patience: () => number): Promise<boolean> {
  const start = performance.now();
  while (!condition()) {
    if (performance.now() - start > patience()) return false;
    await setTimeout(POLL_MS);
  }
  return true;
}

/** Unmounts whatever is at a path; detaches it where it stays busy. */
async function takeAway(path: Name): Promise<void> {
  const start = performance.now();
  while (isMounted(path)) {
    const lazy = performance.now() - start > BUSY_MS;
    if (!(await unmountFuse(path, mounter(), lazy))) await setTimeout(POLL_MS);
  }
}

/**
 * Removes a directory with what a target has made in it. Nothing is removed through a mount: rmdir refuses one. What a program
 * has left in its own mount point stays, and so does the directory.
 */
export function removePlace(place: Name): void {
  try {
    for (const entry of readdirSync(nameBytes(place) as Buffer, { withFileTypes: true, encoding: 'buffer' })) {
      const path = nameBytes(`${place}/${entry.name.toString('latin1')}`) as Buffer;
      if (entry.isDirectory()) rmdirSync(path);
      else unlinkSync(path);
    }
    rmdirSync(nameBytes(place) as Buffer);
  } catch (error) {
    complain(`${printable(place)} is left: ${(error as Error).message}`);
  }
}

const makeDirectory = (path: Name): void => void mkdirSync(nameBytes(path) as Buffer);

/** This driver, in the background, as `lowerdata mount` starts it. @param options the text of each `-o` */
export function driverTarget(name: string, source: Name, options: readonly Name[]): Target {
  return {
    name,
    start: async place => {
      const mountpoint = mountpointIn(place);
      makeDirectory(mountpoint);
      await mountInBackground([...options.flatMap(text => ['-o', text]), '--', source, mountpoint]);
      const mount = mountAt(readMounts(), mountpoint);
      const pid = mount && readState(mount.device)?.pid;
      const before = pid === undefined ? undefined : usageOf(pid);
      return {
        usage: () => (pid === undefined ? undefined : since(before, usageOf(pid))),
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

async function mountInBackground(args: readonly Name[]): Promise<void> {
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

function since(before: Usage | undefined, now: Usage | undefined): Usage | undefined {
  return before && now && { ...now, processorSeconds: now.processorSeconds - before.processorSeconds };
}

/** Source: proc_pid_stat(5), fields 14 and 15 in units of USER_HZ; proc_pid_status(5). */
function usageOf(pid: number): Usage | undefined {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'latin1');
    const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' '); // the first one is field 3
    const [, peak] = /^VmHWM:\s*(\d+) kB$/m.exec(readFileSync(`/proc/${pid}/status`, 'latin1')) ?? [];
    const ticks = Number(fields[14 - 3]) + Number(fields[15 - 3]);
    return { processorSeconds: ticks / TICKS, peakBytes: Number(peak) * 1024 };
  } catch {
    return undefined; // it has ended
  }
}
const TICKS = 100;

/** The kernel: each image as EROFS, and overlayfs over all layers. It checks no digests: objects seldom have fs-verity. */
export function kernelTarget({ stack }: MountPlan): Target {
  const { layers, metacopy, redirectDir, userxattr } = stack;
  const flags = [
    `metacopy=${metacopy ? 'on' : 'off'}`,
    `redirect_dir=${redirectDir}`,
    ...(userxattr ? ['userxattr'] : []),
  ];
  return {
    name: 'kernel',
    start: async place => {
      const made: Name[] = [];
      const mount = (source: Name, target: Name, type: Name, data: Name): void => {
        makeDirectory(target);
        const result = native.mount(source, target, type, MS_RDONLY, data);
        must(result, `mount -t ${type} ${printable(source)}`);
        made.unshift(target);
      };
      const stop = async (): Promise<void> => {
        for (const path of made) await takeAway(path);
      };
      try {
        mountStack(place, layers, flags, mount);
      } catch (error) {
        await stop();
        throw error;
      }
      return { stop };
    },
  };
}

type Mount = (source: Name, target: Name, type: Name, data: Name) => void;

function mountStack(place: Name, layers: readonly LayerSpec[], flags: readonly Name[], mount: Mount): void {
  const [only, ...others] = layers;
  if (only && others.length === 0 && isImage(only.path)) {
    mount(only.path, mountpointIn(place), 'erofs', ''); // overlayfs takes no fewer than two layers
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

const absolute = (path: Name): Name => (path.startsWith('/') ? path : `${nameFromText(process.cwd())}/${path}`);
const escaped = (path: Name): Name => path.replace(/[\\:,]/g, '\\$&');

/**
 * Another program that can mount the stack, in the foreground or the background: a line for the shell in which {image},
 * {objects} and {mnt} are replaced. Throws ErrnoError EINVAL for a text that is no `name=command`.
 */
export function peerTarget(text: Name, { stack }: MountPlan): Target {
  const [, name, command] = /^([^=\s]+)=(.*)$/s.exec(text) ?? [];
  if (name === undefined || !command?.includes('{mnt}'))
    throw new ErrnoError(EINVAL, `--peer ${printable(text)}: not name=command with {mnt} in it`);
  const paths = (dataOnly: boolean): Name =>
    stack.layers
      .filter(layer => layer.dataOnly === dataOnly)
      .map(({ path }) => absolute(path))
      .join(':');
  const words: Record<Name, Name> = { image: paths(false), objects: paths(true) };
  return {
    name: printable(name),
    start: (place, signal) => {
      const mnt = mountpointIn(place);
      const line = command.replace(/\{(image|objects|mnt)\}/g, (_, word: Name) => quoted(words[word] ?? mnt));
      return startPeer(line, place, signal);
    },
  };
}

/** A path as one word of the shell. */
const quoted = (path: Name): Name => (/^[\w/.:@%+=-]+$/.test(path) ? path : `'${path.replaceAll("'", "'\\''")}'`);

async function startPeer(line: Name, place: Name, signal: AbortSignal): Promise<Running> {
  const mountpoint = mountpointIn(place);
  const log = nameBytes(`${place}/log`) as Buffer;
  makeDirectory(mountpoint);
  const output = openSync(log, 'w'); // no pipe: a program in the background outlives whoever reads
  const child = spawn('sh', ['-c', Buffer.from(line, 'latin1').toString()], {
    detached: true,
    stdio: ['ignore', output, output],
  });
  closeSync(output);
  const stop = (): Promise<void> => stopPeer(child, mountpoint);
  const failed = (): boolean => hasEnded(child) && child.exitCode !== 0;
  const settled = await until(
    () => isMounted(mountpoint) || failed(),
    () => (signal.aborted ? HURRY_MS : PATIENCE_MS), // it may be about to mount
  );
  if (settled && isMounted(mountpoint)) return { stop };
  await stop();
  const how = failed() ? (child.signalCode ?? `exit status ${child.exitCode}`) : 'no mount came';
  throw new ErrnoError(EIO, `${how}: ${readFileSync(log, 'utf8').trim() || errnoName(EIO)}`);
}

const hasEnded = (child: ChildProcess): boolean => child.exitCode !== null || child.signalCode !== null;

async function stopPeer(child: ChildProcess, mountpoint: Name): Promise<void> {
  await takeAway(mountpoint);
  for (const signal of ['SIGTERM', 'SIGKILL'] as const) {
    if (
      await until(
        () => hasEnded(child),
        () => HURRY_MS,
      )
    )
      break;
    try {
      process.kill(-(child.pid as number), signal); // the shell, and what it has started
    } catch {} // it has ended meanwhile
  }
  await takeAway(mountpoint);
}
