/** Measures files on separate threads, while the thread that serves the kernel continues. */
import type { Unique } from '../fuse/filesystem.ts';
import { EINTR, EIO, ErrnoError, must } from '../sys/errno.ts';
import { native } from '../sys/native.ts';
import type { MeasurePool } from '../verity/measure-pool.ts';
import type { Digests, Outcome, Work } from '../verity/measure-worker.ts';

/**
 * How long a file is still measured after its last waiter was interrupted. A program that a timer interrupts opens the file again
 * at once. If each attempt began anew, it would never get the file.
 */
const GRACE_MS = 1000;

/** Returns the digests of the file; throws ErrnoError if measuring failed. */
export type Result = () => Digests;

/** A request that waits for its data to be measured, and the function that turns the result into its answer. */
export interface Waiter<T> {
  readonly unique: Unique;
  /** The file to measure. The caller keeps its descriptor open until the answer is made. */
  readonly work: Work;
  readonly answer: (result: Result) => T;
}

interface SharedMeasurement<T> {
  readonly key: string;
  readonly waiters: Waiter<T>[];
  readonly controller: AbortController;
  grace: NodeJS.Timeout | undefined;
}

export class Measurer<T> {
  private readonly pool: MeasurePool;
  private readonly jobs = new Map<string, SharedMeasurement<T>>();
  private readonly settledWaiters: { unique: Unique; answer: () => T }[] = [];

  constructor(pool: MeasurePool) {
    this.pool = pool;
  }

  /**
   * Measures an open file, or joins the job that already measures it.
   * @param key the same for the same data and algorithm
   */
  begin(key: string, waiter: Waiter<T>): void {
    const known = this.jobs.get(key);
    if (known === undefined) {
      this.start(key, [waiter]);
      return;
    }
    known.waiters.push(waiter);
    clearTimeout(known.grace);
  }

  private start(key: string, waiters: Waiter<T>[]): void {
    const { work } = waiters[0] as Waiter<T>;
    const fd = must(native.duplicate(work.fd, 0), 'the descriptor of an object'); // stays open until the job ends
    const job: SharedMeasurement<T> = { key, waiters, controller: new AbortController(), grace: undefined };
    this.jobs.set(key, job);
    const ended = (outcome: Outcome): void => {
      native.close(fd);
      this.end(job, outcome);
    };
    this.pool.measure([{ ...work, fd }], job.controller.signal).then(
      ([outcome]) => ended(outcome as Outcome),
      ({ errno = EIO, message }: ErrnoError) => ended({ errno, message }),
    );
  }

  /** Fails a request with EINTR. If its job has no other waiters, the job is aborted after GRACE_MS. */
  interrupt(unique: Unique): void {
    for (const job of this.jobs.values()) {
      const at = job.waiters.findIndex(waiter => waiter.unique === unique);
      if (at < 0) continue;
      const [waiter] = job.waiters.splice(at, 1) as [Waiter<T>];
      this.settle(waiter, failed(EINTR, 'interrupted while its data was measured'));
      if (job.waiters.length === 0) job.grace = setTimeout(() => job.controller.abort(), GRACE_MS);
      return;
    }
  }

  /** Returns a request that can be answered now, or undefined if there is none. */
  settled(): { unique: Unique; answer: () => T } | undefined {
    return this.settledWaiters.shift();
  }

  private end(job: SharedMeasurement<T>, outcome: Outcome): void {
    clearTimeout(job.grace);
    this.jobs.delete(job.key);
    const wasDropped = 'errno' in outcome && outcome.errno === EINTR;
    const result = wasDropped && job.waiters.length > 0 ? this.startAgain(job) : resultOf(outcome);
    if (result) for (const waiter of job.waiters) this.settle(waiter, result);
  }

  /** Starts a job again for a waiter that came while it was being aborted. @returns undefined, or a Result that throws */
  private startAgain({ key, waiters }: SharedMeasurement<T>): Result | undefined {
    try {
      this.start(key, waiters);
      return undefined;
    } catch (error) {
      return () => {
        throw error;
      };
    }
  }

  private settle({ unique, answer }: Waiter<T>, result: Result): void {
    this.settledWaiters.push({ unique, answer: () => answer(result) });
  }
}

function resultOf(outcome: Outcome): Result {
  return 'digest' in outcome ? () => outcome : failed(outcome.errno, outcome.message);
}

function failed(errno: number, message: string): Result {
  return () => {
    throw new ErrnoError(errno, message);
  };
}
