/** One thread that measures files: Work[] -> Outcome[] in the same order. */
import { EIO, ErrnoError, must } from '../sys/errno.ts';
import { native } from '../sys/native.ts';
import { type Failure, failureOf, serveJobs } from '../sys/workers/thread.ts';
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
export type Outcome = Digests | Failure;

/** Bytes of one job that are measured before the next job has its turn: under a millisecond. */
const SLICE_BYTES = 1 << 20;

const buffer = new Uint8Array(SLICE_BYTES);

/** Files that are measured one after the other. */
class Job {
  private readonly outcomes: Outcome[] = [];
  private readonly works: readonly Work[];
  private measurement: Measurement | undefined;
  private leaves: Uint8Array | undefined;
  private position = 0;

  constructor(works: readonly Work[]) {
    this.works = works;
  }

  /** Measures one slice. @returns the outcomes once the whole job is done */
  proceed(): Outcome[] | undefined {
    for (let budget = SLICE_BYTES; budget > 0; ) {
      const work = this.works[this.outcomes.length];
      if (work === undefined) return this.outcomes;
      const before = this.position;
      const outcome = this.attempt(work, budget);
      budget -= this.position - before;
      if (outcome === undefined) continue;
      this.outcomes.push(outcome);
      this.measurement = undefined;
      this.position = 0;
      budget -= FILE_COST_BYTES;
    }
    return this.outcomes.length === this.works.length ? this.outcomes : undefined;
  }

  private attempt(work: Work, budget: number): Outcome | undefined {
    try {
      return this.measure(work, budget);
    } catch (error) {
      return failureOf(error);
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

serveJobs((works: readonly Work[]) => {
  const job = new Job(works);
  return () => job.proceed();
});
