/** The clients of a benchmark: threads that operate on a mounted stack, and the timing of a pass. */
import { once } from 'node:events';
import { accessSync, constants, writeFileSync } from 'node:fs';
import { Worker } from 'node:worker_threads';
import { printable } from '../sys/bytes.ts';
import { ECHILD, EIO, ErrnoError, errnoText } from '../sys/errno.ts';
import type { ClientAnswer, ClientOrder, ClientUser } from './client.ts';
import type { BenchNames } from './names.ts';
import { type BenchRoot, type Pass, type Share, sharesOf, type Workload } from './workloads.ts';

/** The times of one pass. */
export interface Timing {
  /** The time of each operation. */
  readonly nanoseconds: Float64Array;
  /** The time from the first client's start to the last one's end. */
  readonly seconds: number;
}

/** Threads that operate on a filesystem. */
export class Clients {
  readonly #workers: readonly Worker[];
  readonly #names: BenchNames;
  readonly #aborted: Promise<never>;

  /**
   * @param user the user that they run as, if not the user of this process
   * @param signal aborts a running pass; the threads continue until their call returns
   */
  constructor(count: number, names: BenchNames, user: ClientUser | undefined, signal: AbortSignal) {
    this.#names = names;
    const file = new URL('./client.js', import.meta.url);
    this.#workers = Array.from({ length: count }, () => new Worker(file, { workerData: user }));
    this.#aborted = new Promise((_, reject) => {
      signal.addEventListener('abort', () => reject(signal.reason), { once: true });
    });
    this.#aborted.catch(() => {}); // callers that wait see the rejection themselves
  }

  /** Runs a workload on the first `count` clients, which share its operations. */
  async measure(place: BenchRoot, workload: Workload, count: number): Promise<Timing> {
    const { before } = workload;
    if (before === 'drop') await dropCaches(place);
    else if (before !== 'nothing') await this.pass(place, before, count);
    return this.pass(place, workload, count);
  }

  /**
   * Runs a pass. Throws ErrnoError with the path for the first operation that fails: ECHILD if a program did not exit with status
   * 0.
   */
  async pass(place: BenchRoot, pass: Pass, count: number): Promise<Timing> {
    const shares = sharesOf(pass, place, this.#names, count);
    const answers = await Promise.race([Promise.all(shares.map(({ order }, i) => this.#ask(i, order))), this.#aborted]);
    for (const [i, answer] of answers.entries()) check(answer, pass, shares[i] as Share);
    const nanoseconds = Float64Array.from(answers.flatMap(answer => [...answer.nanoseconds]));
    const begin = Math.min(...answers.map(({ beginMs }) => beginMs));
    const end = Math.max(...answers.map(({ endMs }) => endMs));
    return { nanoseconds, seconds: (end - begin) / 1000 };
  }

  async #ask(i: number, order: ClientOrder): Promise<ClientAnswer> {
    const worker = this.#workers[i] as Worker;
    worker.postMessage(order);
    const [answer] = (await once(worker, 'message')) as [ClientAnswer];
    return answer;
  }

  async stop(): Promise<void> {
    await Promise.all(this.#workers.map(worker => worker.terminate()));
  }
}

function check({ result, nanoseconds }: ClientAnswer, { operation }: Pass, { nameAt }: Share): void {
  if (result === nanoseconds.length) return;
  const path = nameAt(nanoseconds.indexOf(0));
  const errno = result < 0 ? -result : EIO;
  const why = errno === ECHILD ? 'it did not end with status 0' : errnoText(errno);
  throw new ErrnoError(errno, `${operation} ${printable(path)}: ${why}`);
}

const DROP_FILE = '/proc/sys/vm/drop_caches';

/** Whether this process can drop the kernel's caches; root of a user namespace cannot. */
export function canDropCaches(): boolean {
  try {
    accessSync(DROP_FILE, constants.W_OK);
    return true;
  } catch {
    return false;
  }
}

/**
 * Drops unused dentries and inodes from the kernel's caches; without root nothing happens. Servers receive a FORGET for every
 * dropped name: 72,000 names keep one busy for a while.
 */
async function dropCaches({ settle }: BenchRoot): Promise<void> {
  if (!canDropCaches()) return;
  writeFileSync(DROP_FILE, '2');
  await settle();
}
