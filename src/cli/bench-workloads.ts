/** What a benchmark does with a mount, and how it is timed. */
import { once } from 'node:events';
import { accessSync, constants, writeFileSync } from 'node:fs';
import { setTimeout } from 'node:timers/promises';
import { Worker } from 'node:worker_threads';
import { type Name, nameBytes, printable } from '../sys/bytes.ts';
import { EINVAL, EIO, ErrnoError, errnoName } from '../sys/errno.ts';
import { BenchOperation } from '../sys/native.ts';
import type { ClientAnswer, ClientOrder } from './bench-client.ts';
import type { BenchNames } from './bench-names.ts';

/** A kind of operation with a list of names. */
interface Pass {
  readonly operation: keyof typeof BenchOperation;
  readonly names: 'directories' | 'any' | 'missing' | 'files';
}

export interface Workload extends Pass {
  readonly name: string;
  readonly what: string;
  /** Workloads of one group share a mount, in this order; another group has a fresh one. */
  readonly group: 'names' | 'open' | 'read';
  /** What comes before it, untimed: the kernel forgets names and inodes, or is shown some. */
  readonly before: 'drop' | Pass;
}

const list: Pass = { operation: 'list', names: 'directories' };
const stat: Pass = { operation: 'stat', names: 'any' };
const miss: Pass = { operation: 'miss', names: 'missing' };
const open: Pass = { operation: 'open', names: 'files' };
const read: Pass = { operation: 'read', names: 'files' };
const known: Pass = { operation: 'stat', names: 'files' };

export const WORKLOADS: readonly Workload[] = [
  { name: 'walk', what: 'list a directory with attributes, cold', group: 'names', before: 'drop', ...list },
  { name: 'stat', what: 'stat in random order, cold', group: 'names', before: 'drop', ...stat },
  { name: 'stat-again', what: 'the same, warm', group: 'names', before: stat, ...stat },
  { name: 'miss', what: 'look up what is not there, in known directories', group: 'names', before: stat, ...miss },
  { name: 'miss-again', what: 'the same names again', group: 'names', before: miss, ...miss },
  { name: 'open', what: 'open and close known small files', group: 'open', before: known, ...open },
  { name: 'open-again', what: 'the same files again', group: 'open', before: open, ...open },
  { name: 'read', what: 'open, read and close known small files', group: 'read', before: known, ...read },
  { name: 'read-again', what: 'the same files again', group: 'read', before: read, ...read },
];

/** Makes the data of small files known to the kernel, whoever mounts them: what is measured later is not the disk. */
export const WARM_UP: Pass = read;

/** Those that are named, in the order above. Throws ErrnoError EINVAL for a name that is none. */
export function chosenWorkloads(text: Name | undefined): Workload[] {
  const names = text === undefined ? WORKLOADS.map(({ name }) => name) : text.split(',');
  for (const name of names)
    if (!WORKLOADS.some(workload => workload.name === name)) {
      const all = WORKLOADS.map(workload => workload.name).join(', ');
      throw new ErrnoError(EINVAL, `--workloads: ${printable(name)}: not one of ${all}`);
    }
  return WORKLOADS.filter(({ name }) => names.includes(name));
}

/** What one pass took. */
export interface Timing {
  /** Of each operation. */
  readonly nanoseconds: Float64Array;
  /** From the first client's beginning to the last one's end. */
  readonly seconds: number;
}

/** Threads that ask a filesystem for names. */
export class Clients {
  readonly #workers: readonly Worker[];
  readonly #names: BenchNames;
  readonly #aborted: Promise<never>;

  /** @param signal ends a pass that is under way; the threads go on until their call returns */
  constructor(count: number, names: BenchNames, signal: AbortSignal) {
    this.#names = names;
    const file = new URL('./bench-client.js', import.meta.url);
    this.#workers = Array.from({ length: count }, () => new Worker(file));
    this.#aborted = new Promise((_, reject) => {
      signal.addEventListener('abort', () => reject(signal.reason), { once: true });
    });
    this.#aborted.catch(() => {}); // whoever waits is told
  }

  /** Does a workload with the first `count` clients, each of which has its share of the names. */
  async measure(root: Name, { before, ...pass }: Workload, count: number): Promise<Timing> {
    if (before === 'drop') await dropCaches();
    else await this.pass(root, before, count);
    return this.pass(root, pass, count);
  }

  /** Throws ErrnoError, with the name, for the first operation that fails. */
  async pass(root: Name, pass: Pass, count: number): Promise<Timing> {
    const names = this.#names[pass.names];
    const shares = this.#workers.slice(0, count).map((_, i) => names.filter((_, at) => at % count === i));
    const answers = await Promise.race([
      Promise.all(shares.map((share, i) => this.#ask(i, root, pass, share))),
      this.#aborted,
    ]);
    for (const [i, answer] of answers.entries()) check(answer, pass, shares[i] as Name[]);
    const nanoseconds = Float64Array.from(answers.flatMap(answer => [...answer.nanoseconds]));
    const begin = Math.min(...answers.map(({ beginMs }) => beginMs));
    const end = Math.max(...answers.map(({ endMs }) => endMs));
    return { nanoseconds, seconds: (end - begin) / 1000 };
  }

  async #ask(i: number, root: Name, { operation }: Pass, share: readonly Name[]): Promise<ClientAnswer> {
    const worker = this.#workers[i] as Worker;
    const paths = nameBytes(share.map(name => `${name}\0`).join(''));
    const order: ClientOrder = { root, operation: BenchOperation[operation], paths, count: share.length };
    worker.postMessage(order);
    const [answer] = (await once(worker, 'message')) as [ClientAnswer];
    return answer;
  }

  async stop(): Promise<void> {
    await Promise.all(this.#workers.map(worker => worker.terminate()));
  }
}

function check({ result, nanoseconds }: ClientAnswer, { operation }: Pass, share: readonly Name[]): void {
  if (result === share.length) return;
  const path = share[nanoseconds.indexOf(0)] ?? '.';
  const errno = result < 0 ? -result : EIO;
  throw new ErrnoError(errno, `${operation} ${printable(path)}: ${errnoName(errno)}`);
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
