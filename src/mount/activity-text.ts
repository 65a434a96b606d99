/** The activity of a mount as text for people. */
import type { Activity } from '../driver/activity.ts';
import type { OperationNumbers } from '../fuse/request-counts.ts';
import type { CacheNumbers } from '../sys/counters.ts';
import type { LiveNumbers } from './control-socket.ts';

/** Lines about a running mount, to follow the lines about its layers. @param live undefined if the daemon does not answer */
export function liveText(live: LiveNumbers | undefined): string[] {
  if (live === undefined) return ['  running     the daemon does not answer'];
  const { uptimeSeconds, residentBytes, userSeconds, systemSeconds } = live.process;
  const memory = `${(residentBytes / 2 ** 20).toFixed(1)} MiB of memory`;
  const time = `${(userSeconds + systemSeconds).toFixed(2)} s of CPU time`;
  const running = `  running     for ${duration(uptimeSeconds)}, ${memory}, ${time}`;
  if (live.activity === null) return [running, '  requests    are not counted with transport=fuse-native'];
  return [running, ...activityText(live.activity)];
}

function activityText({ operations, readBytes, missing, checks, open, caches }: Activity): string[] {
  const all = operations.reduce((sum, operation) => sum + operation.count, 0);
  const nodes = open.nodes === undefined ? '' : `; nodes: ${many(open.nodes)}`;
  const { measured, remembered, byKernel, failed } = checks;
  return [
    `  open        handles: ${many(open.handles)}; files that the kernel reads: ${many(open.backings)}${nodes}`,
    `  checks      ${many(measured)} measured, ${many(remembered)} remembered, ${many(byKernel)} by the kernel, ${many(failed)} failed`,
    `  requests    ${many(all)}; names not found: ${many(missing)}; bytes read through the daemon: ${many(readBytes)}`,
    ...aligned([['operation', 'count', 'half within', '99% within', 'errors'], ...operations.map(operationRow)]),
    '  caches',
    ...aligned([['of', 'entries', 'at most', 'hits', 'misses', 'rate'], ...Object.entries(caches).map(cacheRow)]),
  ];
}

const operationRow = ({ operation, count, buckets, errors }: OperationNumbers): string[] => [
  operation,
  many(count),
  within(buckets, 0.5),
  within(buckets, 0.99),
  Object.entries(errors)
    .map(([name, number]) => `${name} ${many(number)}`)
    .join(', '),
];

const cacheRow = ([name, { entries, entriesMax, hits, misses }]: [string, CacheNumbers]): string[] => [
  name,
  many(entries),
  many(entriesMax),
  many(hits),
  many(misses),
  hits + misses === 0 ? '' : `${((100 * hits) / (hits + misses)).toFixed(1)}%`,
];

/**
 * Aligns columns: the first one to the left, numbers to the right, and the last one not at all. Rows are indented like other
 * lines.
 */
function aligned(rows: readonly string[][]): string[] {
  const widths = (rows[0] as string[]).map((_, column) => Math.max(...rows.map(row => (row[column] as string).length)));
  const cell = (text: string, column: number): string => {
    const width = widths[column] as number;
    return column === 0 ? text.padEnd(width) : text.padStart(column === widths.length - 1 ? 0 : width);
  };
  return rows.map(row => `    ${row.map(cell).join('  ')}`.trimEnd());
}

/** The smallest power of two nanoseconds that covers this part of all requests: `2.0 µs`. */
function within(buckets: readonly number[], part: number): string {
  const needed = part * buckets.reduce((sum, count) => sum + count, 0);
  let [at, sum] = [0, buckets[0] as number];
  while (sum < needed) sum += buckets[++at] as number;
  return at === buckets.length - 1 ? 'longer' : timeText(2 ** at);
}

function timeText(nanoseconds: number): string {
  const [unit, size] = UNITS.find(([, size]) => nanoseconds >= size) as (typeof UNITS)[number];
  const value = nanoseconds / size;
  return `${value < 10 && size > 1 ? value.toFixed(1) : Math.round(value)} ${unit}`;
}
const UNITS = [
  ['s', 1e9],
  ['ms', 1e6],
  ['µs', 1e3],
  ['ns', 1],
] as const;

/** A duration as text: `3 d 4 h`, `5 min 6 s`, `7 s`. */
function duration(seconds: number): string {
  const whole = Math.floor(seconds);
  if (whole >= 86_400) return `${Math.floor(whole / 86_400)} d ${Math.floor((whole % 86_400) / 3600)} h`;
  if (whole >= 3600) return `${Math.floor(whole / 3600)} h ${Math.floor((whole % 3600) / 60)} min`;
  return whole >= 60 ? `${Math.floor(whole / 60)} min ${whole % 60} s` : `${whole} s`;
}

const many = (number: number): string => number.toLocaleString('en-US');
