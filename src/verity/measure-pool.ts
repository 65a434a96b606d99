/** Threads that measure files. */
import { availableParallelism } from 'node:os';
import { extname, join } from 'node:path';
import type { ErrnoError } from '../sys/errno.ts';
import { type BatchSize, WorkerPool } from '../sys/workers/pool.ts';
import type { Outcome, Work } from './measure-worker.ts';

/** The maximum number of threads. More would only slow each other down, because they read from the same disk. */
const THREADS_MAX = 8;

/** The program of a thread, which lies beside this file and has its ending: that of a module, or of a bundle. */
const PROGRAM = join(import.meta.dirname, `measure-worker${extname(import.meta.filename)}`);

/** With so many files under way, open descriptors stay far below any limit. */
const BATCHES: BatchSize = { files: 32, batchesMax: 8 };

/** An item with a file to measure. */
export interface WithWork {
  readonly work: Work;
}

export class MeasurePool {
  private readonly pool: WorkerPool<readonly Work[], readonly Outcome[]>;

  constructor(threadsMax: number = Math.min(availableParallelism(), THREADS_MAX)) {
    this.pool = new WorkerPool(PROGRAM, 'measures files', threadsMax);
  }

  /**
   * Measures files, one after the other on one thread. Their descriptors must stay open until the promise settles.
   * @returns an outcome for each file; for one that cannot be read, its own error
   * Rejects with ErrnoError EIO if the thread died, EINTR after `signal`.
   */
  measure(works: readonly Work[], signal?: AbortSignal): Promise<readonly Outcome[]> {
    const sizeBytes = works.reduce((sum, work) => sum + work.sizeBytes, 0);
    return this.pool.run(works, sizeBytes, signal);
  }

  /**
   * Measures the files of all items, on all threads. Items are taken from the iterable only when there is room for them, which
   * bounds the number of open descriptors.
   * @param settle is called once for each item, as soon as it is measured; if its thread died, or after `signal`, with that error
   */
  measureEach<T extends WithWork>(
    items: Iterable<T>,
    settle: (item: T, outcome: Outcome) => void,
    signal?: AbortSignal,
  ): Promise<void> {
    const worksOf = (batch: readonly T[]): Work[] => batch.map(({ work }) => work);
    const settleAll = (batch: readonly T[], outcomes: readonly Outcome[] | ErrnoError): void => {
      for (const [i, item] of batch.entries()) settle(item, 'errno' in outcomes ? outcomes : (outcomes[i] as Outcome));
    };
    return this.pool.runEach(items, BATCHES, ({ work }) => work.sizeBytes, worksOf, settleAll, signal);
  }

  /** Terminates all threads; pending measurements fail. */
  close(): Promise<void> {
    return this.pool.close();
  }
}
