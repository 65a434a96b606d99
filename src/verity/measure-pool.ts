/** Threads that measure files. They are started when there is something to measure. */
import { availableParallelism } from 'node:os';
import { Worker } from 'node:worker_threads';
import { EINTR, EIO, ErrnoError } from '../sys/errno.ts';
import type { Answer, Order, Outcome, Work } from './measure-worker.ts';

/** The maximum number of threads. More would only slow each other down, because they read from the same disk. */
const THREADS_MAX = 8;

/** The size of a batch, which a thread gets at once: few messages for small files, even shares for large ones. */
const BATCH_FILES = 32;
const BATCH_BYTES = 1 << 23;
/** The maximum number of batches under way: with it, open descriptors stay far below any limit. */
const BATCHES_MAX = 8;

/** An item with a file to measure. */
export interface WithWork {
  readonly work: Work;
}

interface Pending {
  readonly sizeBytes: number;
  readonly resolve: (outcomes: readonly Outcome[]) => void;
  readonly reject: (error: ErrnoError) => void;
}

/** One thread and its pending batches, by id. */
interface Thread {
  readonly worker: Worker;
  readonly pending: Map<number, Pending>;
}

export class MeasurePool {
  private readonly threadsMax: number;
  private threads: Thread[] = [];
  private nextId = 1;

  constructor(threadsMax: number = Math.min(availableParallelism(), THREADS_MAX)) {
    this.threadsMax = threadsMax;
  }

  /**
   * Measures files, one after the other on one thread. Their descriptors must stay open until the promise settles.
   * @returns an outcome for each file; for one that cannot be read, its own error
   * Rejects with ErrnoError EIO if the thread died, EINTR after `signal`.
   */
  measure(works: readonly Work[], signal?: AbortSignal): Promise<readonly Outcome[]> {
    if (signal?.aborted) return Promise.reject(interrupted());
    const id = this.nextId++;
    const thread = this.leastLoaded();
    thread.worker.ref(); // keeps the process alive until the result is there
    const sizeBytes = works.reduce((sum, work) => sum + work.sizeBytes, 0);
    const drop = (): void => thread.worker.postMessage({ drop: id } satisfies Order);
    const done = new Promise<readonly Outcome[]>((resolve, reject) => {
      thread.pending.set(id, { sizeBytes, resolve, reject });
    });
    thread.worker.postMessage({ id, works } satisfies Order);
    signal?.addEventListener('abort', drop, { once: true });
    return done.finally(() => {
      signal?.removeEventListener('abort', drop);
      if (thread.pending.size === 0) thread.worker.unref();
    });
  }

  /**
   * Measures the files of all items, on all threads. Items are taken from the iterable only when there is room for them, which
   * bounds the number of open descriptors.
   * @param settle is called once for each item, as soon as it is measured; if its thread died, or after `signal`, with that error
   */
  async measureEach<T extends WithWork>(
    items: Iterable<T>,
    settle: (item: T, outcome: Outcome) => void,
    signal?: AbortSignal,
  ): Promise<void> {
    const running = new Set<Promise<void>>();
    const measure = async (batch: readonly T[]): Promise<void> => {
      const works = batch.map(({ work }) => work);
      const outcomes = await this.measure(works, signal).catch((error: ErrnoError) => works.map(() => error));
      for (const [i, item] of batch.entries()) settle(item, outcomes[i] as Outcome);
    };
    for (const batch of batchesOf(items)) {
      const done = measure(batch).finally(() => running.delete(done));
      running.add(done);
      while (running.size >= BATCHES_MAX) await Promise.race(running);
    }
    await Promise.all(running);
  }

  /** Terminates all threads; pending measurements fail. */
  async close(): Promise<void> {
    await Promise.all(this.threads.map(({ worker }) => worker.terminate()));
  }

  /** The thread with the least to do; a new one if all are busy and another one is allowed. */
  private leastLoaded(): Thread {
    const [first, ...others] = this.threads;
    let best = first;
    for (const thread of others) if (best && loadOf(thread) < loadOf(best)) best = thread;
    if (best && (best.pending.size === 0 || this.threads.length >= this.threadsMax)) return best;
    return this.start();
  }

  private start(): Thread {
    const worker = new Worker(new URL('./measure-worker.js', import.meta.url));
    const thread: Thread = { worker, pending: new Map() };
    worker.on('message', ({ id, outcomes }: Answer) => {
      const pending = thread.pending.get(id);
      thread.pending.delete(id);
      if (outcomes) pending?.resolve(outcomes);
      else pending?.reject(interrupted());
    });
    const died = (cause: unknown): void => {
      this.threads = this.threads.filter(other => other !== thread);
      for (const { reject } of thread.pending.values())
        reject(new ErrnoError(EIO, `a thread that measures files died: ${cause}`));
      thread.pending.clear();
    };
    worker.on('error', died);
    worker.on('exit', status => died(`exit status ${status}`));
    this.threads.push(thread);
    return thread;
  }
}

/** Groups items into batches. A large file is a batch of its own, so that no other file waits for it. */
function* batchesOf<T extends WithWork>(items: Iterable<T>): Generator<T[]> {
  let batch: T[] = [];
  let bytes = 0;
  for (const item of items) {
    const { sizeBytes } = item.work;
    if (sizeBytes >= BATCH_BYTES) {
      yield [item];
      continue;
    }
    batch.push(item);
    bytes += sizeBytes;
    if (batch.length < BATCH_FILES && bytes < BATCH_BYTES) continue;
    yield batch;
    [batch, bytes] = [[], 0];
  }
  if (batch.length > 0) yield batch;
}

const interrupted = (): ErrnoError => new ErrnoError(EINTR, 'not waited for any longer');

const loadOf = ({ pending }: Thread): number => {
  let bytes = 0;
  for (const { sizeBytes } of pending.values()) bytes += sizeBytes + 1;
  return bytes;
};
