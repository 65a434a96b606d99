/** A helper, as the broker sees it. */
import { type ChildProcess, spawn } from 'node:child_process';
import { join } from 'node:path';
import { EAGAIN, ECONNABORTED, EIO, ErrnoError, ETIMEDOUT, must } from '../../sys/errno.ts';
import { native, packageDirectory } from '../../sys/native.ts';
import { EPOLLIN, type Readiness } from '../../sys/sockets/readiness.ts';
import { SOCK_SEQPACKET } from '../../sys/sockets/types.ts';
import { type HelperReport, receiveHelperReport, type SignDigest, type Task } from '../helper/orders.ts';
import { send } from '../server/orders.ts';

const PROGRAM = join(packageDirectory, 'dist', 'bin', 'lowerdata.cjs');
const O_NONBLOCK = 0o4000;
/** How much V8 may allocate: a tree of a million files fits. A process that wants more is ended by V8. */
const HEAP_MIB = 1024;

/** Variables that helpers get, and those that one gets which uses the network. */
const VARIABLES: readonly string[] = ['PATH'];
const PROXIES = ['HTTP_PROXY', 'HTTPS_PROXY', 'NO_PROXY'];
const NETWORK_VARIABLES: readonly string[] = [
  ...[...PROXIES, ...PROXIES.map(name => name.toLowerCase())],
  ...['SSL_CERT_FILE', 'SSL_CERT_DIR', 'REGISTRY_AUTH_FILE', 'CONTAINERS_REGISTRIES_CONF'],
];

export class HelperProcess {
  private readonly readiness: Readiness;
  private readonly channel: number;
  private readonly child: ChildProcess;
  private readonly onReport: (report: HelperReport) => void;
  private readonly onEnd: () => void;
  private isOpen = true;
  private hasEnded = false;

  /**
   * Starts it, with the broker's rights; it takes those of the task before it looks at anything else.
   * @param fds stay open here
   * @param onEnd called once, when it has ended. One that is killed may live on, while a filesystem of its client does not answer.
   * Throws ErrnoError.
   */
  constructor(
    readiness: Readiness,
    task: Task,
    fds: readonly number[],
    { onReport, onEnd }: { onReport: (report: HelperReport) => void; onEnd: () => void },
  ) {
    this.readiness = readiness;
    this.onReport = onReport;
    this.onEnd = onEnd;
    const pair = new Int32Array(2);
    must(native.socketPair(pair, SOCK_SEQPACKET), 'socketpair');
    const [ours = -1, theirs = -1] = pair;
    this.channel = ours;
    native.setStatusFlags(ours, O_NONBLOCK);
    const names = task.kind === 'pull' ? [...VARIABLES, ...NETWORK_VARIABLES] : VARIABLES;
    const variables = names.map(name => [name, process.env[name]]);
    const words = [`--max-old-space-size=${HEAP_MIB}`, PROGRAM, '--called', 'lowerdata', '--helper'];
    this.child = spawn(process.execPath, words, {
      ...{ cwd: '/', env: { ...Object.fromEntries(variables), HOME: '/nonexistent' } }, // nobody's configuration counts
      stdio: ['ignore', 'ignore', 'ignore', theirs], // V8 has many words for the end of memory, which a client can cause
    });
    native.close(theirs);
    this.child.on('error', () => this.end());
    this.child.on('exit', () => this.end());
    this.child.unref();
    readiness.add(ours, EPOLLIN, () => this.hear());
    this.send(task, fds);
  }

  /** Sends a message. If the helper is gone, its end is reported later. */
  send(message: Task | SignDigest, fds: readonly number[] = []): void {
    try {
      send(this.channel, message, fds);
    } catch {
      this.kill();
    }
  }

  kill(): void {
    this.child.kill('SIGKILL');
  }

  private hear(): void {
    try {
      for (let report = receiveHelperReport(this.channel); report; report = receiveHelperReport(this.channel))
        this.onReport(report);
    } catch (error) {
      if (error instanceof ErrnoError && error.errno === EAGAIN) return;
      this.kill();
    }
    this.hangUp();
  }

  private hangUp(): void {
    if (!this.isOpen) return;
    this.isOpen = false;
    this.readiness.remove(this.channel);
    native.close(this.channel);
  }

  private end(): void {
    if (this.hasEnded) return;
    this.hasEnded = true;
    if (this.isOpen) this.hear(); // its last words
    this.hangUp();
    this.onEnd();
  }
}

/** How long a task may take, and who waits for it. */
export interface TaskLife {
  readonly timeoutMs: number;
  /** Aborted when nobody waits any more. */
  readonly signal: AbortSignal;
  /** Called once, when the process has ended, which may be long after the result. */
  readonly onEnd: () => void;
}

/**
 * Has a helper do a task. @param fds stay open here
 * @returns its report, when it has ended
 * Throws ErrnoError: ETIMEDOUT, ECONNABORTED if nobody waits any more, EIO if the helper dies without a report.
 */
export function runTask(
  readiness: Readiness,
  task: Task,
  fds: readonly number[],
  { timeoutMs, signal, onEnd }: TaskLife,
): Promise<HelperReport> {
  return new Promise((resolve, reject) => {
    let report: HelperReport | undefined;
    const onReport = (one: HelperReport): void => {
      report ??= one;
    };
    const stop = (error: ErrnoError): void => {
      reject(error);
      helper.kill();
    };
    const onAbort = (): void => stop(new ErrnoError(ECONNABORTED, 'the client is gone'));
    const late = (): void => stop(new ErrnoError(ETIMEDOUT, `it was not done in ${timeoutMs / 1000} s`));
    const timer = setTimeout(late, timeoutMs);
    const settle = (): void => {
      clearTimeout(timer);
      signal.removeEventListener('abort', onAbort);
      onEnd();
      if (report) resolve(report);
      else reject(new ErrnoError(EIO, 'its process has died: it may have needed too much memory'));
    };
    const helper = startOr(settle, () => new HelperProcess(readiness, task, fds, { onReport, onEnd: settle }));
    signal.addEventListener('abort', onAbort, { once: true });
    if (signal.aborted) onAbort();
  });
}

/** Starts something; calls `settle` if that fails. Throws what `start` throws. */
function startOr<T>(settle: () => void, start: () => T): T {
  try {
    return start();
  } catch (error) {
    settle();
    throw error;
  }
}
