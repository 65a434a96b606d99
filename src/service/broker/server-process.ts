/** A server process, as its broker sees it. */
import { spawn } from 'node:child_process';
import { join } from 'node:path';
import { EAGAIN, ErrnoError, must } from '../../sys/errno.ts';
import { native, packageDirectory } from '../../sys/native.ts';
import { startOf } from '../../sys/processes/process.ts';
import { EPOLLIN, type Readiness } from '../../sys/sockets/readiness.ts';
import { SOCK_SEQPACKET } from '../../sys/sockets/types.ts';
import { type Begin, type Order, receiveReport, type ServerReport, send } from '../server/orders.ts';

const PROGRAM = join(packageDirectory, 'dist', 'bin', 'lowerdata.cjs');
const O_NONBLOCK = 0o4000;

/** How many reports of one server are heard before other processes have their turn. */
const REPORTS_AT_ONCE = 16;

/** Whose images a process serves, and by which rights. */
export interface Domain {
  /** Names it in messages. */
  readonly name: string;
  /** The user as whom it runs. */
  readonly uid: number;
  readonly gid: number;
  /** Whether a process waits for the next mount when there is none. */
  readonly staysWarm: boolean;
  readonly begin: Begin;
  /** Descriptors of the directories of objects. */
  readonly objects: readonly number[];
}

/** A process that runs, for a broker that has not started it. */
export interface RunningServer {
  /** The broker's end of the socket between them. */
  readonly channel: number;
  /** undefined: it could not be started. */
  readonly pid: number | undefined;
  /** When it started, as `startOf` says. */
  readonly startedAt: number | undefined;
}

/** What is known of a process. */
export interface ServerEvents {
  /** Called for each message. */
  readonly onReport: (report: ServerReport) => void;
  /** Called once, when it has ended. */
  readonly onDeath: () => void;
}

export class ServerProcess {
  readonly running: RunningServer;
  private readonly startedMs: number;
  private readonly readiness: Readiness;
  private readonly events: ServerEvents;
  private isAlive = true;

  /** Goes on with a process. @param startedMs when it was started, by the clock of this process */
  constructor(
    readiness: Readiness,
    running: RunningServer,
    events: ServerEvents,
    startedMs = Number.NEGATIVE_INFINITY,
  ) {
    this.readiness = readiness;
    this.running = running;
    this.events = events;
    this.startedMs = startedMs;
    readiness.add(running.channel, EPOLLIN, () => this.hear());
  }

  static start(readiness: Readiness, { uid, gid, begin, objects }: Domain, events: ServerEvents): ServerProcess {
    const pair = new Int32Array(2);
    must(native.socketPair(pair, SOCK_SEQPACKET), 'socketpair');
    const [channel = -1, theirs = -1] = pair;
    native.setStatusFlags(channel, O_NONBLOCK);
    const child = spawn(process.execPath, [PROGRAM, '--called', 'lowerdata', '--server'], {
      ...{ cwd: '/', uid, gid, env: { PATH: process.env.PATH } },
      stdio: ['ignore', 'ignore', 'inherit', theirs],
    });
    native.close(theirs);
    const { pid } = child;
    const startedAt = pid === undefined ? undefined : startOf(pid);
    const server = new ServerProcess(readiness, { channel, pid, startedAt }, events, performance.now());
    child.on('error', () => server.end());
    child.unref(); // it outlives this process
    server.send(begin, objects);
    return server;
  }

  get pid(): number | undefined {
    return this.running.pid;
  }

  /** How long it has run. */
  get ageMs(): number {
    return performance.now() - this.startedMs;
  }

  /** Sends an order. If the process is gone, its end is reported later. */
  send(order: Order, fds: readonly number[]): void {
    try {
      send(this.running.channel, order, fds);
    } catch {
      this.kill(); // gone, or it has not read for so long that the socket is full
    }
  }

  /** Ends the process without a report. */
  stop(): void {
    if (!this.isAlive) return;
    this.isAlive = false;
    this.readiness.remove(this.running.channel);
    native.close(this.running.channel);
  }

  /** Hears some reports; others have their turn then. */
  private hear(): void {
    try {
      for (let count = 0; this.isAlive && count < REPORTS_AT_ONCE; count++) {
        const report = receiveReport(this.running.channel);
        if (report) this.events.onReport(report);
        else this.end();
      }
    } catch (error) {
      if (error instanceof ErrnoError && error.errno === EAGAIN) return;
      this.kill();
      this.end();
    }
  }

  private end(): void {
    if (!this.isAlive) return;
    this.stop();
    this.events.onDeath();
  }

  private kill(): void {
    const { pid, startedAt } = this.running;
    if (pid === undefined || startOf(pid) !== startedAt) return; // it has ended
    try {
      process.kill(pid, 'SIGKILL');
    } catch {} // just now
  }
}
