/**
 * One thread that measures files. It works on several jobs at a time, a slice of each in turn, so that a large file does not
 * delay a small one.
 *
 *     {id, works}  ->  {id, outcomes} in the order of the works
 *     {drop: id}   ->  {id, outcomes: undefined}, unless it is done by then
 */
import { parentPort } from 'node:worker_threads';
import { EIO, ErrnoError, must } from '../sys/errno.ts';
import { native } from '../sys/native.ts';
import { type Algorithm, DEFAULTS } from './algorithms.ts';
import { leavesBytes, Measurement } from './digest.ts';

/** A file to measure: the first `sizeBytes` bytes of an open file, in blocks of 4 KiB without a salt. */
export interface Work {
  readonly fd: number;
  readonly sizeBytes: number;
  readonly algorithm: Algorithm;
  /** Whether the hash of each block is wanted as well. */
  readonly withLeaves: boolean;
}
export interface Digests {
  readonly digest: Uint8Array;
  readonly leaves?: Uint8Array | undefined;
}
export type Outcome = Digests | { readonly errno: number; readonly message: string };

export type Order = { readonly id: number; readonly works: readonly Work[] } | { readonly drop: number };
export interface Answer {
  readonly id: number;
  /** undefined if the order was dropped. */
  readonly outcomes: readonly Outcome[] | undefined;
}

/** Bytes of one job that are measured before the next job has its turn: under a millisecond. */
const SLICE_BYTES = 1 << 20;

const port = parentPort;
if (!port) throw new Error('measure-worker.ts runs in a worker');
const buffer = new Uint8Array(SLICE_BYTES);

/** Files that are measured one after the other. */
class Job {
  readonly id: number;
  readonly outcomes: Outcome[] = [];
  private readonly works: readonly Work[];
  private measurement: Measurement | undefined;
  private leaves: Uint8Array | undefined;
  private position = 0;

  constructor(id: number, works: readonly Work[]) {
    this.id = id;
    this.works = works;
  }

  /** Measures one slice. @returns whether the whole job is done */
  proceed(): boolean {
    for (let budget = SLICE_BYTES; budget > 0; ) {
      const work = this.works[this.outcomes.length];
      if (work === undefined) return true;
      const before = this.position;
      const outcome = this.attempt(work, budget);
      budget -= this.position - before;
      if (outcome === undefined) continue;
      this.outcomes.push(outcome);
      this.measurement = undefined;
      this.position = 0;
      budget -= FILE_COST_BYTES;
    }
    return this.outcomes.length === this.works.length;
  }

  private attempt(work: Work, budget: number): Outcome | undefined {
    try {
      return this.measure(work, budget);
    } catch (error) {
      const { errno, message } = error instanceof ErrnoError ? error : { errno: EIO, message: String(error) };
      return { errno, message };
    }
  }

  /** Reads and measures at most `budget` bytes more. @returns the digests at the end of the data, otherwise undefined */
  private measure(work: Work, budget: number): Digests | undefined {
    const { fd, sizeBytes } = work;
    this.measurement ??= this.begin(work);
    const { position, measurement } = this;
    const wanted = Math.min(budget, sizeBytes - position);
    const count = must(native.pread(fd, buffer, 0, wanted, position), `read at ${position}`);
    measurement.update(buffer.subarray(0, count));
    this.position += count;
    if (count < wanted) throw new ErrnoError(EIO, `the data ends at ${this.position} of ${sizeBytes} bytes`);
    return this.position < sizeBytes ? undefined : { digest: measurement.digest(), leaves: this.leaves };
  }

  private begin({ sizeBytes, algorithm, withLeaves }: Work): Measurement {
    const parameters = { ...DEFAULTS, algorithm };
    const bytes = (): SharedArrayBuffer => new SharedArrayBuffer(leavesBytes(sizeBytes, parameters));
    this.leaves = withLeaves ? new Uint8Array(bytes()) : undefined;
    return new Measurement(parameters, this.leaves);
  }
}
/** Counted for each file in addition to its bytes, because an empty file takes time as well. */
const FILE_COST_BYTES = 8192;

/** All jobs; the next to have its turn comes first. */
const jobs: Job[] = [];

port.on('message', (order: Order) => {
  if ('drop' in order) {
    const at = jobs.findIndex(({ id }) => id === order.drop);
    if (at >= 0) answer({ id: order.drop, outcomes: undefined });
    if (at >= 0) jobs.splice(at, 1);
    return;
  }
  jobs.push(new Job(order.id, order.works));
  if (jobs.length === 1) setImmediate(proceed);
});

function proceed(): void {
  const job = jobs.shift();
  if (job === undefined) return;
  if (job.proceed()) answer(job);
  else jobs.push(job);
  if (jobs.length > 0) setImmediate(proceed);
}

function answer({ id, outcomes }: Answer): void {
  port?.postMessage({ id, outcomes } satisfies Answer);
}
