/**
 * Starts a daemon in the background. bin/lowerdata, a shell script, starts this process and waits for it.
 *
 *     bin/lowerdata  ──  arguments   ──►  daemon
 *                    ◄── exit status ──             over a descriptor, when the mount answers or could not be made
 *
 * Until then, messages go to stderr, which is that of the command. Afterwards they go to the system's log.
 */
import { closeSync, writeSync } from 'node:fs';
import { Socket } from 'node:net';
import { join } from 'node:path';
import { bufferOf, byteStringFromText } from '../sys/bytes.ts';
import { must } from '../sys/errno.ts';
import { runDeferred } from '../sys/event-loop.ts';
import { native, packageDirectory } from '../sys/native.ts';
import { SOCK_STREAM } from '../sys/sockets/types.ts';
import { readCall } from './argv.ts';
import { leave, type Readiness, serveMount } from './daemon.ts';
import type { MountOrder } from './live/order.ts';
import { logToSystem } from './supervisor.ts';

const STDERR = 2;
/** Path of bin/lowerdata. */
export const launcher = join(packageDirectory, 'bin', 'lowerdata');

/**
 * Replaces this process by bin/lowerdata, which starts the daemon and waits for it. Returns if this process is that daemon.
 * @param kept a descriptor that the daemon needs; -1 for none
 */
export function startInBackground(kept: number): void {
  const { called, args, channel } = readCall();
  if (channel !== undefined) return;
  for (const fd of [0, 1, STDERR, kept]) inherit(fd);
  process.env.LOWERDATA_NODE = process.execPath;
  const before = [launcher, '--called', called, '--background'].map(byteStringFromText);
  const words = bufferOf([...before, ...args].map(word => `${word}\0`).join(''));
  must(native.execute(byteStringFromText(launcher), words), launcher);
}

/** Makes a descriptor inheritable: Node.js marks all descriptors close-on-exec, even stdin, stdout and stderr. */
function inherit(fd: number): void {
  const copy = native.duplicate(fd, 0);
  if (copy < 0) return; // it was closed already
  native.replace(copy, fd);
  native.close(copy);
}

/** Leaves the command's terminal, so that its signals do not reach this process. */
export function detach(): void {
  native.setsid();
}

/**
 * Mounts, reports that to the waiting command, and serves in the background until the mount is gone.
 * @param ready as for `serveMount`
 * @returns the exit status
 * Throws ErrnoError if the mount could not be made.
 */
export async function serveInBackground(order: MountOrder, ready: (readiness: Readiness) => void): Promise<number> {
  const answered = (readiness: Readiness): void => {
    ready(readiness);
    answer(0);
    moveStderr();
    process.on('uncaughtExceptionMonitor', tellWhy); // nobody reads what Node.js prints about it any more
  };
  return serveMount(order, answered, logToSystem);
}

function tellWhy(error: Error): void {
  for (const line of (error.stack ?? String(error)).split('\n')) logToSystem(line);
}

let hasAnswered = false;

/** Ends the waiting command with this status. Throws EPIPE if it is gone: then nobody would know of the mount. */
function answer(status: number): void {
  const { channel } = readCall();
  if (hasAnswered || channel === undefined) return;
  hasAnswered = true;
  writeSync(channel, String(status));
  closeSync(channel);
}

/** Ends a daemon, and also the command if it still waits. */
export function leaveAsDaemon(status: number): never {
  try {
    answer(status);
  } catch {} // the command is gone
  return leave(status);
}

/** Redirects stderr to the system's log, and so releases the command's stderr. */
function moveStderr(): void {
  const pair = new Int32Array(2);
  must(native.socketPair(pair, SOCK_STREAM), 'socketpair');
  const [logEnd = -1, stderrEnd = -1] = pair;
  must(native.replace(stderrEnd, STDERR), 'stderr');
  native.close(stderrEnd);
  runDeferred(() => {
    const log = new Socket({ fd: logEnd, readable: true, writable: false });
    log.unref();
    log.on('data', forwardLines(logToSystem));
  });
}

function forwardLines(log: (line: string) => void): (piece: Buffer) => void {
  let rest = '';
  return piece => {
    const lines = (rest + piece.toString('utf8')).split('\n');
    rest = lines.pop() ?? '';
    for (const line of lines) log(line.replace(/^lowerdata: /, ''));
  };
}
