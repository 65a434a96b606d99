/**
 * The two ends of starting a daemon in the background: the shell that waits, and this process, which it starts.
 *
 *     bin/lowerdata  ──  arguments   ──►  daemon
 *                    ◄── exit status ──             over descriptor 3, when the mount answers or could not be made
 *
 * Messages go to stderr, which is that of the command until then, and the system's log afterwards.
 */
import { closeSync, writeSync } from 'node:fs';
import { Socket } from 'node:net';
import { fileURLToPath } from 'node:url';
import { bufferOf, byteStringFromText } from '../sys/bytes.ts';
import { must } from '../sys/errno.ts';
import { native } from '../sys/native.ts';
import { CHANNEL, readCall } from './argv.ts';
import { leave, type MountOrder, serveMount } from './daemon.ts';
import { runDeferred } from './deferred.ts';
import { logToSystem } from './supervisor.ts';

const STDERR = 2;
/** bin/lowerdata. */
export const launcher = fileURLToPath(new URL('../../../bin/lowerdata', import.meta.url));

/** Where nobody waits for a mount that is to be in the background, this process becomes the one who does, and starts it. */
export function startInBackground(): void {
  const { called, args, isDaemon } = readCall();
  if (isDaemon) return;
  for (const fd of [0, 1, STDERR]) inherit(fd);
  process.env.LOWERDATA_NODE = process.execPath;
  const before = [launcher, '--called', called, '--background'].map(byteStringFromText);
  const words = bufferOf([...before, ...args].map(word => `${word}\0`).join(''));
  must(native.execute(byteStringFromText(launcher), words), launcher);
}

/** Node.js has marked all descriptors, those of stdin, stdout and stderr as well, to be closed when a program is started. */
function inherit(fd: number): void {
  const copy = native.duplicate(fd);
  if (copy < 0) return; // it was closed before
  native.replace(copy, fd);
  native.close(copy);
}

/** Leaves the terminal of the command, whose signals are not for this process. */
export function detach(): void {
  native.setsid();
}

/**
 * Mounts, tells the command so, and serves in the background until the mount is gone. @param ready as for `serveMount`
 * @returns the exit status. Throws ErrnoError where it could not be mounted.
 */
export async function serveInBackground(order: MountOrder, ready: (protection: string) => void): Promise<number> {
  const answered = (protection: string): void => {
    ready(protection);
    answer(0);
    moveStderr();
    process.on('uncaughtExceptionMonitor', tellWhy); // what Node.js prints of it nobody reads any more
  };
  return serveMount(order, answered, logToSystem);
}

function tellWhy(error: Error): void {
  for (const line of (error.stack ?? String(error)).split('\n')) logToSystem(line);
}

let hasAnswered = false;

/** The command ends with this status. Throws EPIPE where it has gone: nobody would know of the mount. */
function answer(status: number): void {
  if (hasAnswered) return;
  hasAnswered = true;
  writeSync(CHANNEL, String(status));
  closeSync(CHANNEL);
}

/** The end of a daemon: the command, if it still waits, ends as well. */
export function leaveAsDaemon(status: number): never {
  try {
    answer(status);
  } catch {} // it has gone
  return leave(status);
}

/** What Node.js writes to stderr goes to the system's log, and nothing holds the command's stderr any longer. */
function moveStderr(): void {
  const pair = new Int32Array(2);
  must(native.socketPair(pair), 'socketpair');
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
