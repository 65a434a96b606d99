/** Prints the report of a benchmark as tables, at most 100 columns wide: one table for each kind of workload. */
import type { BenchReport, BenchRow } from './report.ts';

type Kind = BenchReport['workloads'][number]['kind'];

interface Column {
  readonly head: string;
  readonly width: number;
  readonly cell: (row: BenchRow) => string;
}

const number = (value: number | null, digits: number): string => value?.toFixed(digits) ?? '-';
const times = (unit: string, perMicrosecond: number, digits: readonly [p50: number, max: number]): Column[] => [
  { head: `p50 ${unit}`, width: 9, cell: ({ microseconds: { p50 } }) => number(p50 * perMicrosecond, digits[0]) },
  { head: `p99 ${unit}`, width: 9, cell: ({ microseconds: { p99 } }) => number(p99 * perMicrosecond, digits[0]) },
  { head: `max ${unit}`, width: 10, cell: ({ microseconds: { max } }) => number(max * perMicrosecond, digits[1]) },
];
const all: Column = { head: 'all ms', width: 9, cell: ({ seconds }) => number(seconds * 1000, 1) };
const p50Ratio: Column = { head: 'p50 ratio', width: 10, cell: ({ ratio }) => number(ratio.p50, 2) };
const allRatio: Column = { head: 'all ratio', width: 10, cell: ({ ratio }) => number(ratio.seconds, 2) };
const speed: Column = { head: 'MB/s', width: 9, cell: row => number(row.megabytesPerSecond, 0) };
const ofObject: Column = { head: 'of object', width: 10, cell: row => number(row.ofObject?.seconds ?? null, 2) };

/** The columns after workload, clients and target. */
const COLUMNS: Readonly<Record<Kind, readonly Column[]>> = {
  names: [...times('µs', 1, [2, 0]), all, p50Ratio, allRatio],
  data: [speed, ...times('µs', 1, [2, 0]), allRatio, ofObject],
  start: [...times('ms', 1e-3, [2, 1]), all, p50Ratio, allRatio],
};
const [WORKLOAD, CLIENTS, TARGET] = [17, 8, 15] as const;

export function* table(report: BenchReport): Generator<string> {
  for (const kind of ['names', 'data', 'start'] as const) yield* tableOf(kind, report);
  for (const { name, what } of report.workloads) {
    const operations = report.rows.find(({ workload }) => workload === name)?.operations ?? 0;
    yield `${name.padEnd(WORKLOAD)} ${what}: ${operations} operations a round`;
  }
  const { large } = report;
  if (large) yield `large file: ${large.path}, ${(large.sizeBytes / 1e6).toFixed(1)} MB of it`;
  if (large?.object) yield `object: ${large.object}`;
  for (const { name, error, server } of report.targets) {
    if (server)
      yield `${name}: ${server.processorSeconds.toFixed(1)} s of CPU time, ${megabytes(server.peakBytes)} MB at most`;
    if (error !== undefined) yield `${name}: failed: ${error}`;
  }
  yield* report.notes;
}

function* tableOf(kind: Kind, { workloads, rows }: BenchReport): Generator<string> {
  const names = workloads.flatMap(workload => (workload.kind === kind ? workload.name : []));
  const shown = rows.filter(({ workload }) => names.includes(workload));
  if (shown.length === 0) return;
  const columns = COLUMNS[kind];
  const line = (texts: readonly [string, string, string], cells: readonly string[]): string =>
    [
      texts[0].padEnd(WORKLOAD),
      texts[1].padStart(CLIENTS - 1),
      ` ${texts[2]}`.slice(0, TARGET).padEnd(TARGET),
      ...cells.map((cell, i) => cell.padStart(columns[i]?.width ?? 0)),
    ]
      .join('')
      .trimEnd();
  yield line(
    ['workload', 'clients', 'target'],
    columns.map(({ head }) => head),
  );
  let before = '';
  for (const row of shown) {
    const group = `${row.workload} ${row.clients}`;
    const [workload, clients] = group === before ? ['', ''] : [row.workload, String(row.clients)];
    yield line(
      [workload, clients, row.target],
      columns.map(({ cell }) => cell(row)),
    );
    before = group;
  }
  yield '';
}

const megabytes = (bytes: number): string => (bytes / 1e6).toFixed(0);
