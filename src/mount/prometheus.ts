/**
 * The activity of mounts in the text format of Prometheus, for example for a textfile collector.
 * Source: prometheus.io/docs/instrumenting/exposition_formats, text format 0.0.4, and its naming practices.
 */
import type { Activity } from '../driver/activity.ts';
import { printable } from '../sys/bytes.ts';
import type { LiveNumbers } from './control-socket.ts';
import type { MountState } from './state.ts';

/** A mount, and the live numbers of its daemon; undefined if the daemon does not answer. */
export interface LiveMountState {
  readonly state: MountState;
  readonly live: LiveNumbers | undefined;
}

type Labels = Readonly<Record<string, string>>;
/** One value of a metric. Its labels come after the mount point's. The suffix names a part of a histogram. */
type Sample = readonly [labels: Labels, value: number, suffix?: string];

interface Family {
  readonly name: string;
  readonly type: 'counter' | 'gauge' | 'histogram';
  readonly help: string;
  readonly samples: (mount: LiveMountState) => Sample[];
}

/** The metrics as lines without newlines. Families without samples are left out. */
export function metricsOf(mounts: readonly LiveMountState[]): string[] {
  return families.flatMap(({ name, type, help, samples }) => {
    const lines = mounts.flatMap(mount => {
      const mountpoint = printable(mount.state.mountpoint);
      return samples(mount).map(sample => sampleLine(name, mountpoint, sample));
    });
    return lines.length > 0 ? [`# HELP ${name} ${help}`, `# TYPE ${name} ${type}`, ...lines] : [];
  });
}

function sampleLine(name: string, mountpoint: string, [labels, value, suffix = '']: Sample): string {
  const pairs = Object.entries({ mountpoint, ...labels }).map(([label, text]) => `${label}="${escaped(text)}"`);
  return `${name}${suffix}{${pairs.join(',')}} ${value}`;
}

const ESCAPES: Readonly<Record<string, string>> = { '\\': '\\\\', '"': '\\"', '\n': '\\n' };
const escaped = (text: string): string => text.replace(/[\\"\n]/g, one => ESCAPES[one] as string);

// ---- the families --------------------------------------------------------------------------------------------------

type Numbers = readonly (readonly [labels: Labels, value: number])[];

const ofProcess =
  (numbers: (process: LiveNumbers['process']) => Numbers) =>
  ({ live }: LiveMountState): Sample[] =>
    live ? [...numbers(live.process)] : [];

const ofActivity =
  (samples: (activity: Activity) => readonly Sample[]) =>
  ({ live }: LiveMountState): Sample[] =>
    live?.activity ? [...samples(live.activity)] : [];

const perCache = (key: 'hits' | 'misses' | 'entries' | 'entriesMax'): Family['samples'] =>
  ofActivity(({ caches }) => Object.entries(caches).map(([cache, numbers]) => [{ cache }, numbers[key]]));

const perKey = (label: string, numbers: Readonly<Record<string, number>>): Sample[] =>
  Object.entries(numbers).map(([key, value]) => [{ [label]: key }, value]);

/** The histogram's shortest and longest bounds, as powers of two in nanoseconds: half a microsecond to a second. */
const [SHORTEST, LONGEST] = [9, 30];

const requestTimes = ofActivity(({ operations }) =>
  operations.flatMap(({ operation, count, nanoseconds, buckets }) => {
    const samples: Sample[] = [];
    let sum = 0;
    for (const [b, number] of buckets.entries()) {
      sum += number;
      if (b >= SHORTEST && b <= LONGEST) samples.push([{ operation, le: String(2 ** b / 1e9) }, sum, '_bucket']);
    }
    samples.push([{ operation, le: '+Inf' }, count, '_bucket']);
    return [...samples, [{ operation }, nanoseconds / 1e9, '_sum'], [{ operation }, count, '_count']] as Sample[];
  }),
);

const row = (name: string, type: Family['type'], help: string, samples: Family['samples']): Family => ({
  name: `lowerdata_${name}`,
  type,
  help,
  samples,
});

const families: readonly Family[] = [
  row('up', 'gauge', 'Whether the daemon of the mount answers.', ({ live }) => [[{}, live ? 1 : 0]]),
  row('info', 'gauge', 'The source and the transport of the mount; always 1.', ({ state }) => [
    [{ source: printable(state.source), transport: state.transport, pid: String(state.pid) }, 1],
  ]),
  row('start_time_seconds', 'gauge', 'When it was mounted, in seconds since 1970.', ({ state }) => [
    [{}, state.startedAt / 1000],
  ]),
  row(
    'uptime_seconds',
    'gauge',
    'How long the daemon has been running.',
    ofProcess(({ uptimeSeconds }) => [[{}, uptimeSeconds]]),
  ),
  row(
    'resident_memory_bytes',
    'gauge',
    'Memory of the daemon.',
    ofProcess(({ residentBytes }) => [[{}, residentBytes]]),
  ),
  row(
    'cpu_seconds_total',
    'counter',
    'CPU time of the daemon.',
    ofProcess(({ userSeconds, systemSeconds }) => [
      [{ mode: 'user' }, userSeconds],
      [{ mode: 'system' }, systemSeconds],
    ]),
  ),
  row('request_duration_seconds', 'histogram', 'Requests of the kernel, by the time until their answer.', requestTimes),
  row(
    'errors_total',
    'counter',
    'Requests that were answered with an error; ENOENT and the like are answers as well.',
    ofActivity(({ operations }) =>
      operations.flatMap(({ operation, errors }) =>
        Object.entries(errors).map(([errno, value]) => [{ operation, errno }, value] as const),
      ),
    ),
  ),
  row(
    'missing_names_total',
    'counter',
    'Lookups that found nothing.',
    ofActivity(({ missing }) => [[{}, missing]]),
  ),
  row(
    'read_bytes_total',
    'counter',
    'Bytes of files that were read through the daemon.',
    ofActivity(({ readBytes }) => [[{}, readBytes]]),
  ),
  row(
    'checks_total',
    'counter',
    'Checks of data by its digest, by what came of them.',
    ofActivity(({ checks }) => perKey('result', checks)),
  ),
  row(
    'open',
    'gauge',
    'Open handles, files that the kernel reads itself, and nodes that it knows.',
    ofActivity(({ open }) => perKey('kind', open)),
  ),
  row('cache_entries', 'gauge', 'What a cache of the daemon holds.', perCache('entries')),
  row('cache_entries_max', 'gauge', 'What a cache of the daemon can hold.', perCache('entriesMax')),
  row('cache_hits_total', 'counter', 'Questions that a cache could answer.', perCache('hits')),
  row('cache_misses_total', 'counter', 'Questions that a cache could not answer.', perCache('misses')),
];
