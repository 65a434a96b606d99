/** Targets that mount the benchmark's stack with other programs. */
import { type ChildProcess, spawn } from 'node:child_process';
import { closeSync, openSync, readFileSync } from 'node:fs';
import { mountAt, readMounts } from '../fuse/mountinfo.ts';
import type { MountPlan } from '../mount/plan.ts';
import type { LayerSpec } from '../overlay/options/lowerdir.ts';
import { type ByteString, bufferOf, printable } from '../sys/bytes.ts';
import { EINVAL, EIO, ErrnoError, errnoText } from '../sys/errno.ts';
import {
  absolute,
  escaped,
  HURRY_MS,
  isMounted,
  makeDirectory,
  mountpointIn,
  PATIENCE_MS,
  type Running,
  type Target,
  takeAway,
  type UpperPlace,
  until,
} from './targets.ts';
import { serverOf, usageFromNow } from './usage.ts';

/**
 * A target for a program that runs in the foreground or the background. Its command is a line for the shell with placeholders:
 * {image} (the normal layers, joined by colons), {objects} (the data-only layers, likewise), {stack} (all layers as `A:B::C`,
 * escaped), {upper} and {work} (directories for changes) and {mnt}.
 * Throws ErrnoError EINVAL unless the text is `name=command` with {mnt} in it.
 */
export function peerTarget(text: ByteString, { stack }: MountPlan): Target {
  const [, name, command] = /^([^=\s]+)=(.*)$/s.exec(text) ?? [];
  if (name === undefined || !command?.includes('{mnt}'))
    throw new ErrnoError(EINVAL, `--peer ${printable(text)}: not name=command with {mnt} in it`);
  return shellTarget(name, () => command, stack.layers);
}

/** A target for the program fuse-overlayfs, which takes directories and has no data-only layers. */
export const fuseOverlayfsTarget = ({ stack, fuse: { allowOther } }: MountPlan): Target =>
  shellTarget(
    'fuse-overlayfs',
    upper => {
      const options = `${upper ? ',upperdir={upper},workdir={work}' : ''}${allowOther ? ',allow_other' : ''}`;
      return `exec fuse-overlayfs -f -o lowerdir={stack}${options} {mnt}`;
    },
    stack.layers,
  );

/** @param command makes the line for the shell, given the directories for changes if there will be any */
function shellTarget(
  name: ByteString,
  command: (upper: UpperPlace | undefined) => ByteString,
  layers: readonly LayerSpec[],
): Target {
  const paths = (dataOnly: boolean): ByteString =>
    layers
      .filter(layer => layer.dataOnly === dataOnly)
      .map(({ path }) => absolute(path))
      .join(':');
  const words = { image: paths(false), objects: paths(true), stack: lowerdir(layers) };
  return {
    name: printable(name),
    start: (place, signal, upper) => {
      const all: Record<ByteString, ByteString | undefined> = { ...words, ...upper, mnt: mountpointIn(place) };
      const line = command(upper).replace(
        /\{(image|objects|stack|upper|work|mnt)\}/g,
        (placeholder, word: ByteString) => quoted(all[word] ?? placeholder),
      );
      return startPeer(line, place, signal);
    },
  };
}

/** The layers as one text: `:` precedes a normal layer, `::` a data-only one. */
function lowerdir(layers: readonly LayerSpec[]): ByteString {
  const pieces = layers.map(({ path, dataOnly }) => `${dataOnly ? '::' : ':'}${escaped(absolute(path))}`);
  return pieces.join('').slice(1);
}

/** A path as one word of the shell. */
const quoted = (path: ByteString): ByteString =>
  /^[\w/.:@%+=-]+$/.test(path) ? path : `'${path.replaceAll("'", "'\\''")}'`;

async function startPeer(line: ByteString, place: ByteString, signal: AbortSignal): Promise<Running> {
  const mountpoint = mountpointIn(place);
  const log = bufferOf(`${place}/log`);
  makeDirectory(mountpoint);
  const output = openSync(log, 'w'); // a file, as a daemon could outlive the reader of a pipe
  const child = spawn('sh', ['-c', Buffer.from(line, 'latin1').toString()], {
    detached: true,
    stdio: ['ignore', output, output],
  });
  closeSync(output);
  const stop = (): Promise<void> => stopPeer(child, mountpoint);
  const failed = (): boolean => hasEnded(child) && child.exitCode !== 0;
  const settled = await until(
    () => isMounted(mountpoint) || failed(),
    () => (signal.aborted ? HURRY_MS : PATIENCE_MS), // the program may be about to mount
  );
  const mount = settled ? mountAt(readMounts(), mountpoint) : undefined;
  if (mount) {
    const server = serverOf(mount.device);
    return { stop, ...(server !== undefined && { usage: usageFromNow(server) }) };
  }
  await stop();
  const how = failed() ? (child.signalCode ?? `exit status ${child.exitCode}`) : 'no mount appeared';
  throw new ErrnoError(EIO, `${how}: ${readFileSync(log, 'utf8').trim() || errnoText(EIO)}`);
}

const hasEnded = (child: ChildProcess): boolean => child.exitCode !== null || child.signalCode !== null;

async function stopPeer(child: ChildProcess, mountpoint: ByteString): Promise<void> {
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
      process.kill(-(child.pid as number), signal); // the process group: the shell and its children
    } catch {} // it ended meanwhile
  }
  await takeAway(mountpoint);
}
