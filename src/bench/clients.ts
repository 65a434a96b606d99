/** The clients of a benchmark: who asks a mounted stack, and how a pass is timed. */
import { once } from 'node:events';
import { accessSync, constants, writeFileSync } from 'node:fs';
import { setTimeout } from 'node:timers/promises';
import { Worker } from 'node:worker_threads';
import { printable } from '../sys/bytes.ts';
import { ECHILD, EIO, ErrnoError, errnoName } from '../sys/errno.ts';
import type { ClientAnswer, ClientOrder, ClientUser } from './client.ts';
import type { BenchNames } from './names.ts';
import { type Pass, type Place, type Share, sharesOf, type Workload } from './workloads.ts';

/** What one pass took. */
export interface Timing {
  /** Of each operation. */
  readonly nanoseconds: Float64Array;
  /** From the first client's beginning to the last one's end. */
  readonly seconds: number;
}

/** Threads that ask a filesystem. */
export class Clients {
  readonly #workers: readonly Worker[];
  readonly #names: BenchNames;
  readonly #aborted: Promise<never>;

  /**
   * @param user who they are, if not the user of this process
   * @param signal ends a pass that is under way; the threads go on until their call returns
   */
  constructor(count: number, names: BenchNames, user: ClientUser | undefined, signal: AbortSignal) {
    this.#names = names;
    const file = new URL('./client.js', import.meta.url);
    this.#workers = Array.from({ length: count }, () => new Worker(file, { workerData: user }));
    this.#aborted = new Promise((_, reject) => {
      signal.addEventListener('abort', () => reject(signal.reason), { once: true });
    });
    this.#aborted.catch(() => {}); // whoever waits is told
  }

  /** Does a workload with the first `count` clients, each of which has its share of it. */
  async measure(place: Place, workload: Workload, count: number): Promise<Timing> {
    const { before } = workload;
    if (before === 'drop') await dropCaches();
    else if (before !== 'nothing') await this.pass(place, before, count);
    return this.pass(place, workload, count);
  }

  /** Throws ErrnoError, with the name, for the first operation that fails: ECHILD where a program is no use. */
  async pass(place: Place, pass: Pass, count: number): Promise<Timing> {
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
  const why = errno === ECHILD ? 'it did not end with status 0' : errnoName(errno);
  throw new ErrnoError(errno, `${operation} ${printable(path)}: ${why}`);
}

const DROP_FILE = '/proc/sys/vm/drop_caches';

/** Whether the kernel can be told to forget names and inodes: root of a user namespace can not. */
export function canDropCaches(): boolean {
  try {
    accessSync(DROP_FILE, constants.W_OK);
    return true;
  } catch {
    return false;
  }
}

/** Makes the kernel forget names and inodes that nobody uses; without root nothing happens. */
async function dropCaches(): Promise<void> {
  if (!canDropCaches()) return;
  writeFileSync(DROP_FILE, '2');
  await setTimeout(SETTLE_MS);
}
/** Servers hear of every name that was forgotten: 72,000 names keep one busy for a while. */
const SETTLE_MS = 100;
