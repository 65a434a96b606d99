/** What a benchmark has found: numbers for programs, and a table for people. */
import { cpus, release } from 'node:os';
import type { Measured, Sample } from './bench-run.ts';
import type { Workload } from './bench-workloads.ts';

export interface BenchRow {
  readonly workload: string;
  readonly clients: number;
  readonly target: string;
  /** Of one round. */
  readonly operations: number;
  readonly rounds: number;
  /** One operation: the medians of the rounds' p50 and p99, and the longest of all. */
  readonly microseconds: { readonly p50: number; readonly p99: number; readonly max: number };
  /** The p50 of each round, in their order: how far apart they are says how far to trust their median. */
  readonly roundMicroseconds: readonly number[];
  /** All operations of a round, as the clock on the wall has it: the median. */
  readonly seconds: number;
  /** To the first target in the same round, the median: of p50, and of the seconds. null without a first target. */
  readonly ratio: { readonly p50: number | null; readonly seconds: number | null };
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
  readonly workloads: readonly { readonly name: string; readonly what: string }[];
  readonly targets: readonly BenchTarget[];
  readonly rows: readonly BenchRow[];
}

interface BenchTarget {
  readonly name: string;
  /** Why it was not, or not always, measured. */
  readonly error?: string;
  /** What our server has used while it was measured: all rounds together, and at most. */
  readonly server?: { readonly processorSeconds: number; readonly peakBytes: number };
}

/** What there is to say besides the measurements. */
export type BenchFacts = Pick<
  BenchReport,
  'stack' | 'options' | 'rounds' | 'seed' | 'entries' | 'directories' | 'notes'
>;

export function reportOf(
  facts: BenchFacts,
  workloads: readonly Workload[],
  targets: readonly string[],
  { samples, errors, usage }: Measured,
): BenchReport {
  const [first = ''] = targets;
  const rows: BenchRow[] = [];
  for (const { name } of workloads)
    for (const clients of new Set(samples.map(sample => sample.clients))) {
      const here = samples.filter(sample => sample.workload === name && sample.clients === clients);
      const base = here.filter(({ target }) => target === first);
      for (const target of targets) {
        const own = here.filter(sample => sample.target === target);
        if (own.length > 0) rows.push(rowOf(own, base));
      }
    }
  return {
    bench: 'lookup',
    ...facts,
    machine: { processor: cpus()[0]?.model ?? '', processors: cpus().length, kernel: release(), node: process.version },
    workloads: workloads.map(({ name, what }) => ({ name, what })),
    targets: targets.map(name => {
      const [error, server] = [errors.get(name), usage.get(name)];
      return { name, ...(error !== undefined && { error }), ...(server && { server }) };
    }),
    rows,
  };
}

function rowOf(own: readonly Sample[], base: readonly Sample[]): BenchRow {
  const { workload, clients, target, operations } = own[0] as Sample;
  const ratio = (field: 'p50' | 'seconds'): number | null => {
    const ratios = own.flatMap(sample => {
      const other = base.find(({ round }) => round === sample.round);
      return other ? sample[field] / other[field] : [];
    });
    return ratios.length > 0 ? rounded(median(ratios)) : null;
  };
  const microseconds = {
    p50: rounded(median(own.map(({ p50 }) => p50)) / 1000),
    p99: rounded(median(own.map(({ p99 }) => p99)) / 1000),
    max: rounded(Math.max(...own.map(({ max }) => max)) / 1000),
  };
  return {
    workload,
    clients,
    target,
    operations,
    rounds: own.length,
    microseconds,
    roundMicroseconds: own.map(({ p50 }) => rounded(p50 / 1000)),
    seconds: median(own.map(({ seconds }) => seconds)),
    ratio: { p50: ratio('p50'), seconds: ratio('seconds') },
  };
}

const rounded = (number: number): number => Number(number.toFixed(3));

function median(numbers: readonly number[]): number {
  const sorted = [...numbers].sort((a, b) => a - b);
  const middle = sorted.length >> 1;
  const [upper = 0, lower = 0] = [sorted[middle], sorted[middle - 1]];
  return sorted.length % 2 === 1 ? upper : (lower + upper) / 2;
}

const HEAD = ['workload', 'clients', 'target', 'p50 µs', 'p99 µs', 'max µs', 'all ms', 'p50 ratio', 'all ratio'];
const WIDTHS = [11, 8, 16, 10, 10, 11, 10, 11, 11] as const;
/** Columns that hold text begin at the left. */
const TEXTS = [0, 2];

/** At most 100 columns wide. */
export function* table(report: BenchReport): Generator<string> {
  yield line(HEAD);
  let before = '';
  for (const { workload, clients, target, microseconds, seconds, ratio } of report.rows) {
    const { p50, p99, max } = microseconds;
    const times = [p50.toFixed(2), p99.toFixed(2), max.toFixed(0), (seconds * 1000).toFixed(1)];
    const ratios = [ratio.p50, ratio.seconds].map(number => number?.toFixed(2) ?? '-');
    const group = `${workload} ${clients}`;
    yield line([...(group === before ? ['', ''] : [workload, String(clients)]), target, ...times, ...ratios]);
    before = group;
  }
  yield '';
  for (const { name, what } of report.workloads) {
    const operations = report.rows.find(({ workload }) => workload === name)?.operations ?? 0;
    yield `${name.padEnd(WIDTHS[0])} ${what}: ${operations} operations a round`;
  }
  for (const { name, error, server } of report.targets) {
    if (server)
      yield `${name}: ${server.processorSeconds.toFixed(1)} s of processor time, ${megabytes(server.peakBytes)} MB at most`;
    if (error !== undefined) yield `${name}: failed: ${error}`;
  }
  yield* report.notes;
}

const megabytes = (bytes: number): string => (bytes / 1e6).toFixed(0);

function line(cells: readonly string[]): string {
  const padded = cells.map((cell, i) => {
    const width = WIDTHS[i] as number;
    return TEXTS.includes(i) ? ` ${cell}`.slice(0, width).padEnd(width) : cell.padStart(width);
  });
  return padded.join('').trimEnd().replace(/^ /, '');
}
