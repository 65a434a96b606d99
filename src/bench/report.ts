/** The report of a benchmark: its measurements in numbers. */
import { cpus, release } from 'node:os';
import { BUCKET_RATIO, type Histogram, histogramOf } from './histogram.ts';
import type { BenchResult, BenchSample } from './run.ts';
import type { Usage } from './usage.ts';
import type { Workload } from './workloads.ts';

export interface BenchRow {
  readonly workload: string;
  readonly clients: number;
  readonly target: string;
  /** Operations in one round. */
  readonly operations: number;
  readonly rounds: number;
  /** Times of one operation: the medians of the rounds' p50 and p99, and the maximum of all rounds. */
  readonly microseconds: { readonly p50: number; readonly p99: number; readonly max: number };
  /** The p50 of each round, in order; their spread shows how far to trust the median. */
  readonly roundMicroseconds: readonly number[];
  /** Wall-clock time of all operations of a round: the median. */
  readonly seconds: number;
  /**
   * The ratio to the first target in the same round, as a median: of p50 and of the seconds. null if the first target was not
   * measured.
   */
  readonly ratio: Ratio;
  /** The same ratio to the plain file of the object; null if that was not measured. */
  readonly ofObject: Ratio | null;
  /** Throughput by the median of `seconds`; null if no data is read. 1 MB is a million bytes. */
  readonly megabytesPerSecond: number | null;
  /** All operations of all rounds. */
  readonly histogram: Histogram;
}

interface Ratio {
  readonly p50: number | null;
  readonly seconds: number | null;
}

export interface BenchReport {
  readonly bench: 'lookup';
  readonly stack: string;
  readonly options: readonly string[];
  readonly rounds: number;
  readonly seed: number;
  readonly entries: number;
  readonly directories: number;
  readonly machine: {
    readonly processor: string;
    readonly processors: number;
    readonly kernel: string;
    readonly node: string;
  };
  readonly notes: readonly string[];
  /** The large file, the number of bytes read, and the plain file that holds its data. */
  readonly large: { readonly path: string; readonly sizeBytes: number; readonly object: string | null } | null;
  /** The ratio of a bucket's upper bound to its lower bound. */
  readonly histogramBucketRatio: number;
  readonly workloads: readonly Pick<Workload, 'name' | 'what' | 'kind'>[];
  readonly targets: readonly BenchTarget[];
  readonly rows: readonly BenchRow[];
}

interface BenchTarget {
  readonly name: string;
  /** The reason why the target was not measured in every round. */
  readonly error?: string;
  /**
   * Usage of the target's server while it was measured: processor time of all rounds, peak memory. Absent if no server is known.
   */
  readonly server?: Usage;
}

/** The parts of a report that are not measurements. */
export type BenchFacts = Pick<
  BenchReport,
  'stack' | 'options' | 'rounds' | 'seed' | 'entries' | 'directories' | 'notes' | 'large'
>;

/** @param targets in the order of the report; the others are compared with the first one */
export function reportOf(
  facts: BenchFacts,
  workloads: readonly Workload[],
  targets: readonly string[],
  { samples, errors, useless, usage }: BenchResult,
): BenchReport {
  return {
    bench: 'lookup',
    ...facts,
    machine: { processor: cpus()[0]?.model ?? '', processors: cpus().length, kernel: release(), node: process.version },
    notes: [...facts.notes, ...[...useless].map(([program, why]) => `${program} is left out: ${why}.`)],
    histogramBucketRatio: BUCKET_RATIO,
    workloads: workloads.map(({ name, what, kind }) => ({ name, what, kind })),
    targets: targets.map(name => {
      const [error, server] = [errors.get(name), usage.get(name)];
      return { name, ...(error !== undefined && { error }), ...(server && { server }) };
    }),
    rows: rowsOf(workloads, targets, samples),
  };
}

function rowsOf(
  workloads: readonly Workload[],
  targets: readonly string[],
  samples: readonly BenchSample[],
): BenchRow[] {
  const rows: BenchRow[] = [];
  for (const workload of workloads)
    for (const clients of new Set(samples.map(sample => sample.clients))) {
      const here = samples.filter(sample => sample.workload === workload.name && sample.clients === clients);
      const of = (name: string | undefined): BenchSample[] => here.filter(({ target }) => target === name);
      for (const target of targets) {
        const own = of(target);
        if (own.length > 0) rows.push(rowOf(own, workload, of(targets[0]), of('object')));
      }
    }
  return rows;
}

function rowOf(
  own: readonly BenchSample[],
  pass: Workload,
  base: readonly BenchSample[],
  object: readonly BenchSample[],
): BenchRow {
  const { workload, clients, target, operations } = own[0] as BenchSample;
  const microseconds = {
    p50: rounded(median(own.map(({ p50 }) => p50)) / 1000),
    p99: rounded(median(own.map(({ p99 }) => p99)) / 1000),
    max: rounded(Math.max(...own.map(({ max }) => max)) / 1000),
  };
  const seconds = median(own.map(({ seconds }) => seconds));
  return {
    workload,
    clients,
    target,
    operations,
    rounds: own.length,
    microseconds,
    roundMicroseconds: own.map(({ p50 }) => rounded(p50 / 1000)),
    seconds,
    ratio: ratioOf(own, base),
    ofObject: object.length > 0 ? ratioOf(own, object) : null,
    megabytesPerSecond: 'partBytes' in pass ? rounded((operations * pass.partBytes) / seconds / 1e6) : null,
    histogram: histogramOf(own.map(({ counts }) => counts)),
  };
}

/** The medians of the ratios to other samples, each of the same round; null without a common round. */
function ratioOf(own: readonly BenchSample[], base: readonly BenchSample[]): Ratio {
  const ratio = (field: 'p50' | 'seconds'): number | null => {
    const ratios = own.flatMap(sample => {
      const other = base.find(({ round }) => round === sample.round);
      return other && other[field] > 0 ? sample[field] / other[field] : [];
    });
    return ratios.length > 0 ? Number(median(ratios).toPrecision(4)) : null;
  };
  return { p50: ratio('p50'), seconds: ratio('seconds') };
}

const rounded = (number: number): number => Number(number.toFixed(3));

function median(numbers: readonly number[]): number {
  const sorted = [...numbers].sort((a, b) => a - b);
  const middle = sorted.length >> 1;
  const [upper = 0, lower = 0] = [sorted[middle], sorted[middle - 1]];
  return sorted.length % 2 === 1 ? upper : (lower + upper) / 2;
}
