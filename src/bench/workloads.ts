/** The workloads of a benchmark, and the orders that they give to clients. */
import { type ByteString, bufferOf, printable } from '../sys/bytes.ts';
import { EINVAL, ErrnoError } from '../sys/errno.ts';
import { BenchOperation } from '../sys/native.ts';
import type { ClientOrder } from './client.ts';
import { type BenchNames, generator, LARGE_BYTES_MIN, type LargeFile, type Program } from './names.ts';

/** One kind of operation on a list of names. */
interface PathsPass {
  readonly operation: keyof typeof BenchOperation;
  readonly names: 'directories' | 'any' | 'missing' | 'files' | 'made';
  /** The most bytes that one operation reads, or those that it writes. */
  readonly bytes?: number;
}

/** Parts of the large file: reads of `bytes` each, or touches of one mapped page of that size. */
interface LargePass {
  readonly operation: 'read-at' | 'touch';
  readonly order: 'sequential' | 'random';
  readonly partBytes: number;
}

/** Writes of `partBytes` each to a new file. */
interface WritePass {
  readonly operation: 'write-at';
  readonly partBytes: number;
}

/** Runs of a program that does nothing, from its start to its end. */
interface StartPass {
  readonly operation: 'start';
  readonly program: Program;
}

export type Pass = PathsPass | LargePass | WritePass | StartPass;

/** The order in which groups of workloads are measured. */
export const GROUPS = [
  ...['open', 'read', 'sequential', 'random', 'mmap', 'node', 'python3', 'names'],
  ...['create', 'write', 'chmod', 'append', 'remove'],
] as const;

export type Workload = Pass & {
  readonly name: string;
  readonly what: string;
  /** The kind of its numbers: single names, bytes, or programs. */
  readonly kind: 'names' | 'data' | 'start';
  /** Workloads of one group share a mount, in this order; each group has a fresh mount. */
  readonly group: (typeof GROUPS)[number];
  /** Whether it changes files. */
  readonly writes: boolean;
  /** The untimed step before it: nothing, dropping the kernel's dentries and inodes, or a pass that fills caches. */
  readonly before: 'nothing' | 'drop' | Pass;
};

const READ_BYTES = 128 * 1024;
const PAGE_BYTES = 4096;
const RANDOM_READS = 4096;
const WRITE_BYTES = 1 << 20;
const WRITES = 256;
/** The size of the buffer of readdir(3) in the C library. Files that are read by name are no larger. */
const BUFFER_BYTES = 32_768;
const NEW_FILE_BYTES = 4096;
const STARTS = 16;

const list: Pass = { operation: 'list', names: 'directories' };
const stat: Pass = { operation: 'stat', names: 'any' };
const miss: Pass = { operation: 'miss', names: 'missing' };
const open: Pass = { operation: 'open', names: 'files' };
const read: Pass = { operation: 'read', names: 'files' };
const known: Pass = { operation: 'stat', names: 'files' };
const sequential: Pass = { operation: 'read-at', order: 'sequential', partBytes: READ_BYTES };
const random: Pass = { operation: 'read-at', order: 'random', partBytes: PAGE_BYTES };
const mmap: Pass = { operation: 'touch', order: 'sequential', partBytes: PAGE_BYTES };
const create: Pass = { operation: 'create', names: 'made', bytes: NEW_FILE_BYTES };
const removeNew: Pass = { operation: 'remove', names: 'made' };
const write: Pass = { operation: 'write-at', partBytes: WRITE_BYTES };
const chmod: Pass = { operation: 'chmod', names: 'files' };
const append: Pass = { operation: 'append', names: 'files', bytes: 1 };
const remove: Pass = { operation: 'remove', names: 'files' };
const starts: Readonly<Record<Program, Pass>> = {
  node: { operation: 'start', program: 'node' },
  python3: { operation: 'start', program: 'python3' },
};

type Words = Pick<Workload, 'name' | 'what' | 'kind' | 'group' | 'before' | 'writes'>;

/** A workload, and its repetition with caches that are warm from the first pass. */
const twice = (words: Words, pass: Pass): Workload[] => [
  { ...words, ...pass },
  { ...words, name: `${words.name}-again`, what: 'the same again', before: pass, ...pass },
];
const names = (name: string, group: 'names' | 'open' | 'read', what: string, before: 'drop' | Pass, pass: Pass) =>
  twice({ name, what, kind: 'names', group, before, writes: false }, pass);
const data = (name: 'sequential' | 'random' | 'mmap', what: string, pass: Pass): Workload[] =>
  twice({ name, what, kind: 'data', group: name, before: 'nothing', writes: false }, pass);
const start = (program: Program, what: string): Workload[] =>
  twice({ name: program, what, kind: 'start', group: program, before: 'nothing', writes: false }, starts[program]);
const change = (
  name: string,
  group: Workload['group'],
  what: string,
  before: Workload['before'],
  pass: Pass,
): Workload => ({
  name,
  what,
  kind: pass.operation === 'write-at' ? 'data' : 'names',
  group,
  before,
  writes: true,
  ...pass,
});

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
  change('create', 'create', 'make a file, write 4 KiB and close it, in known directories', known, create),
  change('remove-new', 'create', 'remove such a file', 'nothing', removeNew),
  change('write', 'write', 'write 1 MiB to a new file, in order', 'nothing', write),
  change('chmod', 'chmod', 'chmod known small files of lower layers', known, chmod),
  change('append', 'append', 'append a byte to known small files of lower layers', known, append),
  change('remove', 'remove', 'remove known small files of lower layers', known, remove),
];

/**
 * The pass that loads the data of files into the page cache before the first measurement, so that no target is charged for the
 * disk.
 * @returns undefined for a workload that reads no data
 */
export function warmUp(workload: Workload): Pass | undefined {
  if (workload.group === 'append') return read;
  if (workload.writes) return undefined;
  if (workload.kind === 'data') return sequential;
  if (workload.operation === 'start') return starts[workload.program];
  return workload.group === 'names' ? undefined : read;
}

/** The named workloads, in the order above; without names those that change nothing. Throws ErrnoError EINVAL for an unknown name. */
export function chosenWorkloads(text: ByteString | undefined): Workload[] {
  if (text === undefined) return WORKLOADS.filter(({ writes }) => !writes);
  const names = text.split(',');
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
  const { kind, group, writes } = workload;
  if (writes && kind === 'names' && files.length === 0)
    return 'create, chmod, append and remove are left out: the stack has no small files with data.';
  if (kind === 'data' && !writes && !large)
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
    if (pass.operation === 'write-at') return writeShare(pass, place, client, count);
    return largeShare(pass, place, names, client, count);
  });
}

function pathsShare(
  { operation, names, bytes = BUFFER_BYTES }: PathsPass,
  { root }: BenchRoot,
  all: BenchNames,
  client: number,
  count: number,
): Share {
  const share = all[names].filter((_, at) => at % count === client);
  const paths = bufferOf(share.map(name => `${name}\0`).join(''));
  const what = { operation: BenchOperation[operation], paths, count: share.length, bytes };
  const order: ClientOrder = { kind: 'paths', root, ...what };
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
    bytes: pass.partBytes,
  };
  return { order, nameAt: () => large.path };
}

/** Each client writes a file of its own, and all together as much as one. */
function writeShare({ partBytes }: WritePass, { root }: BenchRoot, client: number, count: number): Share {
  const name = `.lowerdata-bench-${client}`;
  const length = Math.ceil((WRITES - client) / count);
  const offsets = Float64Array.from({ length }, (_, i) => i * partBytes);
  const order: ClientOrder = { kind: 'writes', path: `${root}/${name}`, offsets, bytes: partBytes };
  return { order, nameAt: () => name };
}

/** The offsets of a pass: sequential, or random ones that are the same each time. */
function offsetsOf({ order, partBytes }: LargePass, { sizeBytes, seed }: LargeFile): Float64Array {
  const parts = Math.floor(sizeBytes / partBytes);
  if (order === 'sequential') return Float64Array.from({ length: parts }, (_, i) => i * partBytes);
  const next = generator(seed);
  return Float64Array.from({ length: RANDOM_READS }, () => Math.floor(next() * parts) * partBytes);
}
