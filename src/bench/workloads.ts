/** The workloads of a benchmark, and the orders that they give to clients. */
import { type ByteString, bufferOf, printable } from '../sys/bytes.ts';
import { EINVAL, ErrnoError } from '../sys/errno.ts';
import { BenchOperation } from '../sys/native.ts';
import type { ClientOrder } from './client.ts';
import { type BenchNames, generator, LARGE_BYTES_MIN, type LargeFile, type Program } from './names.ts';

/** One kind of operation on a list of names. */
interface PathsPass {
  readonly operation: keyof typeof BenchOperation;
  readonly names: 'directories' | 'any' | 'missing' | 'files';
}

/** Parts of the large file: reads of `bytes` each, or touches of one mapped page of that size. */
interface LargePass {
  readonly operation: 'read-at' | 'touch';
  readonly order: 'sequential' | 'random';
  readonly bytes: number;
}

/** Runs of a program that does nothing, from its start to its end. */
interface StartPass {
  readonly operation: 'start';
  readonly program: Program;
}

export type Pass = PathsPass | LargePass | StartPass;

/** The order in which groups of workloads are measured. */
export const GROUPS = ['open', 'read', 'sequential', 'random', 'mmap', 'node', 'python3', 'names'] as const;

export type Workload = Pass & {
  readonly name: string;
  readonly what: string;
  /** The kind of its numbers: single names, bytes, or programs. */
  readonly kind: 'names' | 'data' | 'start';
  /** Workloads of one group share a mount, in this order; each group has a fresh mount. */
  readonly group: (typeof GROUPS)[number];
  /** The untimed step before it: nothing, dropping the kernel's dentries and inodes, or a pass that fills caches. */
  readonly before: 'nothing' | 'drop' | Pass;
};

const READ_BYTES = 128 * 1024;
const PAGE_BYTES = 4096;
const RANDOM_READS = 4096;
const STARTS = 16;

const list: Pass = { operation: 'list', names: 'directories' };
const stat: Pass = { operation: 'stat', names: 'any' };
const miss: Pass = { operation: 'miss', names: 'missing' };
const open: Pass = { operation: 'open', names: 'files' };
const read: Pass = { operation: 'read', names: 'files' };
const known: Pass = { operation: 'stat', names: 'files' };
const sequential: Pass = { operation: 'read-at', order: 'sequential', bytes: READ_BYTES };
const random: Pass = { operation: 'read-at', order: 'random', bytes: PAGE_BYTES };
const mmap: Pass = { operation: 'touch', order: 'sequential', bytes: PAGE_BYTES };
const starts: Readonly<Record<Program, Pass>> = {
  node: { operation: 'start', program: 'node' },
  python3: { operation: 'start', program: 'python3' },
};

type Words = Pick<Workload, 'name' | 'what' | 'kind' | 'group' | 'before'>;

/** A workload, and its repetition with caches that are warm from the first pass. */
const twice = (words: Words, pass: Pass): Workload[] => [
  { ...words, ...pass },
  { ...words, name: `${words.name}-again`, what: 'the same again', before: pass, ...pass },
];
const names = (name: string, group: 'names' | 'open' | 'read', what: string, before: 'drop' | Pass, pass: Pass) =>
  twice({ name, what, kind: 'names', group, before }, pass);
const data = (name: 'sequential' | 'random' | 'mmap', what: string, pass: Pass): Workload[] =>
  twice({ name, what, kind: 'data', group: name, before: 'nothing' }, pass);
const start = (program: Program, what: string): Workload[] =>
  twice({ name: program, what, kind: 'start', group: program, before: 'nothing' }, starts[program]);

export const WORKLOADS: readonly Workload[] = [
  ...names('walk', 'names', 'list a directory with attributes, cold', 'drop', list).slice(0, 1),
  ...names('stat', 'names', 'stat in random order, cold', 'drop', stat),
  ...names('miss', 'names', 'look up missing names in known directories', stat, miss),
  ...names('open', 'open', 'open and close known small files', known, open),
  ...names('read', 'read', 'open, read and close known small files', known, read),
  ...data('sequential', 'read 128 KiB of an open large file, in order', sequential),
  ...data('random', 'read 4 KiB of it at random offsets', random),
  ...data('mmap', 'map it and read its pages in order', mmap),
  ...start('node', 'run `node -e 0` from the mount to its end'),
  ...start('python3', 'run `python3 -c pass` from the mount to its end'),
];

/**
 * The pass that loads the data of files into the page cache before the first measurement, so that no target is charged for the
 * disk.
 * @returns undefined for a workload that reads no data
 */
export function warmUp(workload: Workload): Pass | undefined {
  if (workload.kind === 'data') return sequential;
  if (workload.operation === 'start') return starts[workload.program];
  return workload.group === 'names' ? undefined : read;
}

/** The named workloads, in the order above. Throws ErrnoError EINVAL for an unknown name. */
export function chosenWorkloads(text: ByteString | undefined): Workload[] {
  const names = text === undefined ? WORKLOADS.map(({ name }) => name) : text.split(',');
  for (const name of names)
    if (!WORKLOADS.some(workload => workload.name === name)) {
      const all = WORKLOADS.map(workload => workload.name).join(', ');
      throw new ErrnoError(EINVAL, `--workloads: ${printable(name)}: not one of ${all}`);
    }
  return WORKLOADS.filter(({ name }) => names.includes(name));
}

/**
 * The workloads that the stack has files for, and one sentence for each group that is left out.
 * Throws ErrnoError EINVAL with these sentences if no workload remains.
 */
export function possibleWorkloads(
  workloads: readonly Workload[],
  names: BenchNames,
): { workloads: Workload[]; notes: string[] } {
  const notes = new Set<string>();
  const possible = workloads.filter(workload => {
    const why = missingFor(workload, names);
    if (why !== undefined) notes.add(why);
    return why === undefined;
  });
  if (possible.length === 0) throw new ErrnoError(EINVAL, [...notes].join(' '));
  return { workloads: possible, notes: [...notes] };
}

function missingFor(workload: Workload, { files, large, programs }: BenchNames): string | undefined {
  const { kind, group } = workload;
  if (kind === 'data' && !large)
    return `sequential, random and mmap are left out: the stack has no file of ${LARGE_BYTES_MIN >> 20} MiB or more.`;
  if (workload.operation === 'start' && !programs.has(workload.program))
    return `${group} is left out: the stack has no program of that name.`;
  if ((group === 'open' || group === 'read') && files.length === 0)
    return 'open and read are left out: the stack has no small files with data.';
  return undefined;
}

/** The location where a target shows the stack. */
export interface BenchRoot {
  readonly root: ByteString;
  /** The path of the large file, if it is not at its path below the root. */
  readonly large?: ByteString;
  /** Resolves when the server has nothing left to do. */
  readonly settle: () => Promise<void>;
}

/** The part of a pass that one client executes. */
export interface Share {
  readonly order: ClientOrder;
  /** The path of its i-th operation, for messages. */
  readonly nameAt: (i: number) => ByteString;
}

/** Divides a pass among `count` clients. */
export function sharesOf(pass: Pass, place: BenchRoot, names: BenchNames, count: number): Share[] {
  return Array.from({ length: count }, (_, client) => {
    if ('names' in pass) return pathsShare(pass, place, names, client, count);
    if (pass.operation === 'start') return startShare(pass, place, names, client, count);
    return largeShare(pass, place, names, client, count);
  });
}

function pathsShare(
  { operation, names }: PathsPass,
  { root }: BenchRoot,
  all: BenchNames,
  client: number,
  count: number,
): Share {
  const share = all[names].filter((_, at) => at % count === client);
  const paths = bufferOf(share.map(name => `${name}\0`).join(''));
  const order: ClientOrder = { kind: 'paths', root, operation: BenchOperation[operation], paths, count: share.length };
  return { order, nameAt: i => share[i] ?? '.' };
}

function startShare(
  { program }: StartPass,
  { root }: BenchRoot,
  { programs }: BenchNames,
  client: number,
  count: number,
): Share {
  const [option, value] = program === 'node' ? ['-e', '0'] : ['-c', 'pass'];
  const name = programs.get(program) as ByteString;
  const share = Math.max(0, Math.ceil((STARTS - client) / count));
  const order: ClientOrder = { kind: 'runs', path: `${root}/${name}`, option, value, count: share };
  return { order, nameAt: () => name };
}

function largeShare(pass: LargePass, place: BenchRoot, names: BenchNames, client: number, count: number): Share {
  const large = names.large as LargeFile;
  const offsets = offsetsOf(pass, large);
  const [begin, end] = [client, client + 1].map(i => Math.floor((offsets.length * i) / count));
  const order: ClientOrder = {
    kind: pass.operation === 'touch' ? 'touches' : 'reads',
    path: place.large ?? `${place.root}/${large.path}`,
    offsets: offsets.slice(begin, end),
    bytes: pass.bytes,
  };
  return { order, nameAt: () => large.path };
}

/** The offsets of a pass: sequential, or random ones that are the same each time. */
function offsetsOf({ order, bytes }: LargePass, { sizeBytes, seed }: LargeFile): Float64Array {
  const parts = Math.floor(sizeBytes / bytes);
  if (order === 'sequential') return Float64Array.from({ length: parts }, (_, i) => i * bytes);
  const next = generator(seed);
  return Float64Array.from({ length: RANDOM_READS }, () => Math.floor(next() * parts) * bytes);
}
