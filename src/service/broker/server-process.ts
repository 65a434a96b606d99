/** A server process, as its broker sees it. */
import { type ChildProcess, spawn } from 'node:child_process';
import { join } from 'node:path';
import { EAGAIN, ErrnoError, must } from '../../sys/errno.ts';
import { native, packageDirectory } from '../../sys/native.ts';
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

export class ServerProcess {
  readonly startedAt: number = performance.now();
  private readonly readiness: Readiness;
  private readonly channel: number;
  private readonly child: ChildProcess;
  private readonly onReport: (report: ServerReport) => void;
  private readonly onDeath: () => void;
  private isAlive = true;

  /**
   * @param onReport called for each message of the process
   * @param onDeath called once, when it has ended
   */
  constructor(
    readiness: Readiness,
    { uid, gid, begin, objects }: Domain,
    onReport: (report: ServerReport) => void,
    onDeath: () => void,
  ) {
    this.readiness = readiness;
    this.onReport = onReport;
    this.onDeath = onDeath;
    const pair = new Int32Array(2);
    must(native.socketPair(pair, SOCK_SEQPACKET), 'socketpair');
    const [ours = -1, theirs = -1] = pair;
    this.channel = ours;
    native.setStatusFlags(ours, O_NONBLOCK);
    this.child = spawn(process.execPath, [PROGRAM, '--called', 'lowerdata', '--server'], {
      ...{ cwd: '/', uid, gid, env: { PATH: process.env.PATH } },
      stdio: ['ignore', 'ignore', 'inherit', theirs],
    });
    native.close(theirs);
    this.child.on('error', () => this.end());
    this.child.unref(); // it outlives this process
    readiness.add(ours, EPOLLIN, () => this.hear());
    this.send(begin, objects);
  }

  get pid(): number | undefined {
    return this.child.pid;
  }

  /** Sends an order. If the process is gone, its end is reported later. */
  send(order: Order, fds: readonly number[]): void {
    try {
      send(this.channel, order, fds);
    } catch {
      this.child.kill('SIGKILL'); // gone, or it has not read for so long that the socket is full
    }
  }

  /** Ends the process without a report. */
  stop(): void {
    if (!this.isAlive) return;
    this.isAlive = false;
    this.readiness.remove(this.channel);
    native.close(this.channel);
  }

  /** Hears some reports; others have their turn then. */
  private hear(): void {
    try {
      for (let count = 0; this.isAlive && count < REPORTS_AT_ONCE; count++) {
        const report = receiveReport(this.channel);
        if (report) this.onReport(report);
        else this.end();
      }
    } catch (error) {
      if (error instanceof ErrnoError && error.errno === EAGAIN) return;
      this.child.kill('SIGKILL');
      this.end();
    }
  }

  private end(): void {
    if (!this.isAlive) return;
    this.stop();
    this.onDeath();
  }
}
