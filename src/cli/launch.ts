/**
 * The two ends of starting a daemon in the background: the command that waits, and the process that it starts.
 *
 *     command  ── {plan, mountpoint} ──►  daemon     one line of JSON each way, over descriptor 3
 *              ◄── {errno?, message} ──
 */
import { spawn } from 'node:child_process';
import { closeSync, readSync, writeSync } from 'node:fs';
import { Socket } from 'node:net';
import { printable } from '../sys/bytes.ts';
import { EIO, ErrnoError, must } from '../sys/errno.ts';
import { native } from '../sys/native.ts';
import { DAEMON_WORD } from './argv.ts';
import { leave, type MountOrder, serveMount } from './daemon.ts';
import { logToSystem } from './supervisor.ts';

const CHANNEL = 3;
/** The other end of the daemon's own stderr. */
const LOG = 4;

/** What is protected by what, or what went wrong. */
interface Outcome {
  readonly errno?: number;
  readonly message: string;
}

/**
 * Starts a daemon and waits until its mount answers. @returns what is protected by what
 * Throws ErrnoError with the daemon's message where it does not answer.
 */
export async function launchDaemon(order: MountOrder): Promise<string> {
  const pair = new Int32Array(2);
  must(native.socketPair(pair), 'socketpair');
  const [logEnd = -1, stderrEnd = -1] = pair;
  const { plan, mountpoint } = order;
  const shown = [printable(plan.fuse.fsname), printable(mountpoint)]; // for those who read the list of processes
  const child = spawn(process.execPath, [process.argv[1] as string, DAEMON_WORD, ...shown], {
    detached: true,
    stdio: ['ignore', 'ignore', stderrEnd, 'pipe', logEnd],
  });
  native.close(stderrEnd);
  const death = new Promise<string>(resolve => {
    child.on('error', error => resolve(error.message));
    child.on('exit', (status, signal) => resolve(signal ?? `exit status ${status}`));
  });
  const channel = child.stdio[CHANNEL] as Socket;
  channel.on('error', () => {}); // a daemon that died; its answer is missing then
  channel.write(`${JSON.stringify(order)}\n`);
  const answer = await text(channel);
  if (!answer) {
    const why = await death;
    throw new ErrnoError(EIO, `the daemon died before the mount answered: ${why}\n${await leftIn(logEnd)}`.trim());
  }
  child.unref();
  native.close(logEnd);
  const { errno, message } = JSON.parse(answer) as Outcome;
  if (errno !== undefined) throw new ErrnoError(errno, message);
  return message;
}

/** What a dead process has written to its log. */
async function leftIn(logEnd: number): Promise<string> {
  return text(new Socket({ fd: logEnd, readable: true, writable: false }));
}

async function text(stream: AsyncIterable<Buffer>): Promise<string> {
  const pieces: Buffer[] = [];
  try {
    for await (const piece of stream) pieces.push(piece);
  } catch {} // reset by a dead peer: what came before counts
  return Buffer.concat(pieces).toString('utf8');
}

/** The daemon in the background. Its messages go to the system's log. */
export async function runDaemon(): Promise<never> {
  const order = JSON.parse(readLine()) as MountOrder;
  const log = new Socket({ fd: LOG, readable: true, writable: false });
  log.unref();
  let answered = false;
  const answer = (outcome: Outcome): void => {
    if (answered) return;
    answered = true;
    writeSync(CHANNEL, JSON.stringify(outcome));
    closeSync(CHANNEL);
  };
  try {
    const ready = (protection: string): void => {
      answer({ message: protection });
      log.on('data', forwardLines(logToSystem)); // before that, the command shows them
    };
    leave(await serveMount(order, ready, logToSystem));
  } catch (error) {
    const { errno = EIO } = error as ErrnoError;
    answer({ errno, message: (error as Error).message });
    leave(1);
  }
}

/** The order. Blocks; the daemon has nothing else to do. */
function readLine(): string {
  const pieces: Buffer[] = [];
  const buffer = Buffer.alloc(65_536);
  for (;;) {
    const count = readSync(CHANNEL, buffer);
    if (count === 0) leave(1); // the command is gone
    pieces.push(Buffer.from(buffer.subarray(0, count)));
    if (buffer[count - 1] === 0x0a) return Buffer.concat(pieces).toString('utf8');
  }
}

function forwardLines(log: (line: string) => void): (piece: Buffer) => void {
  let rest = '';
  return piece => {
    const lines = (rest + piece.toString('utf8')).split('\n');
    rest = lines.pop() ?? '';
    for (const line of lines) log(line.replace(/^lowerdata: /, ''));
  };
}
