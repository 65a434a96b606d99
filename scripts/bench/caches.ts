/**
 * Measures the gain of the dentry cache, which also holds attributes: the same stacks with and without it, for each kind of
 * layer.
 *
 *     npm run build && node dist/scripts/bench/caches.js [ROUNDS [KIND…]]
 *
 * Four layers have the same 300 directories, and each layer has eight files of its own in every directory, so that most names are
 * looked up in several layers. With and without the cache take turns.
 * In process: all names in random order, looked up with attributes, twice. First the whole tree is looked up once in another
 * overlay, as a warm-up. Through a mount: all names once, then the kernel's caches are dropped, then all names again. One more
 * such pass counts the system calls on layers with strace.
 * For a single image the cache makes no difference, so its row shows the noise of the others. Medians go to standard error, JSON
 * to standard output. Needs root and strace, drops caches of the whole system, and takes a minute.
 */
import { execFileSync, spawn } from 'node:child_process';
import { lstatSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout } from 'node:timers/promises';
import { type Node, type Overlay, openOverlay, settleRules, step } from '../../src/index.ts';
import { DEFAULT_MEMORY } from '../../src/overlay/cache.ts';

const LAYERS = 4;
const DIRECTORIES = 300;
const FILES = 8;
const KINDS = {
  'one image': ['image0'],
  'four images': ['image0', 'image1', 'image2', 'image3'],
  'four directories': ['tree0', 'tree1', 'tree2', 'tree3'],
  'a directory on images': ['tree0', 'image1', 'image2', 'image3'],
} as const;
type Kind = keyof typeof KINDS;
const WAYS = {
  with: { memory: { ...DEFAULT_MEMORY, attrSeconds: 600 }, options: 'attr_timeout=600' }, // longer than any pass
  without: { memory: { ...DEFAULT_MEMORY, dentries: 0, attrSeconds: 600 }, options: 'attr_timeout=600,dentry_cache=0' },
} as const;
type Way = keyof typeof WAYS;
/** Microseconds per lookup; system calls per lookup. */
interface Measured {
  first: number;
  again: number;
  mounted: number;
  calls: number;
}

const command = new URL('../../src/cli/main.js', import.meta.url).pathname;
const lowerdata = (...args: string[]): string =>
  execFileSync(process.execPath, [command, ...args], { encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] });
const dropCaches = (): void => writeFileSync('/proc/sys/vm/drop_caches', '2');

function prepare(home: string): void {
  for (let layer = 0; layer < LAYERS; layer++) {
    for (let d = 0; d < DIRECTORIES; d++) {
      const directory = join(home, `tree${layer}`, `d${d % 20}`, `e${d}`);
      mkdirSync(directory, { recursive: true });
      for (let f = 0; f < FILES; f++) writeFileSync(join(directory, `file-${layer}-${f}`), '');
    }
    lowerdata('mkfs', '--external', join(home, `tree${layer}`), join(home, `image${layer}`));
  }
  mkdirSync(join(home, 'mnt'));
}

/** Every name of a stack with its directory, in a random order that is the same each time. */
function namesOf(overlay: Overlay): [Node, string, string][] {
  const names: [Node, string, string][] = [];
  const walk = (directory: Node, path: string): void => {
    for (const { name } of overlay.list(directory)) {
      names.push([directory, name, `${path}/${name}`]);
      const node = overlay.lookup(directory, name);
      if (typeof node === 'object' && (node.top.mode & 0o170000) === 0o040000) walk(node, `${path}/${name}`);
    }
  };
  walk(overlay.root, '');
  let state = 1;
  const next = (): number => (state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0);
  return names
    .map(name => [next(), name] as const)
    .sort(([a], [b]) => a - b)
    .map(([, name]) => name);
}

/** Microseconds per lookup with attributes. */
function lookUpAll(overlay: Overlay, names: readonly [Node, string, string][]): number {
  const begin = performance.now();
  for (const [directory, name] of names) {
    const node = overlay.lookup(directory, name);
    if (typeof node === 'object') overlay.attr(node);
  }
  return ((performance.now() - begin) * 1000) / names.length;
}

function inProcess(layers: readonly string[], way: Way): Pick<Measured, 'first' | 'again'> {
  const options = { layers: layers.map(path => ({ path, dataOnly: false })), ...settleRules() };
  const other = openOverlay(options);
  const names = namesOf(other);
  const overlay = openOverlay(options, step, WAYS[way].memory);
  const first = lookUpAll(overlay, names);
  const again = lookUpAll(overlay, names);
  overlay.close();
  other.close();
  return { first, again };
}

/**
 * Looks up all names through a mount after the kernel's caches were dropped. A further pass, which strace slows down, counts
 * system calls.
 */
async function mounted(home: string, layers: readonly string[], way: Way, paths: readonly string[]): Promise<number[]> {
  const mnt = join(home, 'mnt');
  lowerdata('mount', layers.join(':'), mnt, '-o', WAYS[way].options);
  try {
    const all = (): number => {
      const begin = performance.now();
      for (const path of paths) lstatSync(mnt + path);
      return ((performance.now() - begin) * 1000) / paths.length;
    };
    all();
    dropCaches();
    const microseconds = all();
    const [, pid] = /"pid":\s*(\d+)/.exec(lowerdata('status', mnt, '--json')) ?? [];
    dropCaches();
    return [microseconds, (await callsOf(Number(pid), join(home, 'calls'), all)) / paths.length];
  } finally {
    lowerdata('umount', mnt);
  }
}

/** The system calls that access layers, including those for xattrs through /proc/self/fd. */
const CALLS =
  /^.*\s(statx|openat2|getdents64|readlinkat|[fl]?getxattr(at)?|[fl]?listxattr(at)?|syscall_0x1d0|syscall_0x1d1)$/;

/**
 * The number of these calls that a process makes during `work`. Source: strace(1), -c: percent, seconds, microseconds, calls,
 * errors, name.
 */
async function callsOf(pid: number, file: string, work: () => void): Promise<number> {
  const strace = spawn('strace', ['-f', '-c', '-o', file, '-p', String(pid)], { stdio: 'ignore' });
  const ended = new Promise(resolve => strace.once('close', resolve));
  await setTimeout(500); // strace has attached by then
  work();
  strace.kill('SIGINT');
  await ended;
  const rows = readFileSync(file, 'latin1').split('\n');
  if (!rows.some(row => /\swrite$/.test(row))) throw new Error('strace saw no replies');
  return rows.filter(row => CALLS.test(row)).reduce((sum, row) => sum + Number(row.trim().split(/\s+/)[3]), 0);
}

const median = (numbers: number[]): number => numbers.sort((a, b) => a - b)[numbers.length >> 1] as number;

async function measure(home: string, kind: Kind, rounds: number): Promise<Record<Way, Measured>> {
  const layers = KINDS[kind].map(name => join(home, name));
  const overlay = openOverlay({ layers: layers.map(path => ({ path, dataOnly: false })), ...settleRules() });
  const paths = namesOf(overlay).map(([, , path]) => path);
  overlay.close();
  const found: Record<Way, Measured[]> = { with: [], without: [] };
  for (let round = 0; round <= rounds; round++)
    for (const way of round % 2 === 0 ? (['with', 'without'] as const) : (['without', 'with'] as const)) {
      const [microseconds = 0, calls = 0] = await mounted(home, layers, way, paths);
      const measured = { ...inProcess(layers, way), mounted: microseconds, calls };
      if (round > 0) found[way].push(measured); // the first round is a warm-up
    }
  const middle = (all: Measured[]): Measured => {
    const of = (field: keyof Measured): number => Number(median(all.map(one => one[field])).toFixed(2));
    return { first: of('first'), again: of('again'), mounted: of('mounted'), calls: of('calls') };
  };
  return { with: middle(found.with), without: middle(found.without) };
}

const home = mkdtempSync(join(tmpdir(), 'lowerdata-bench-'));
try {
  const rounds = Number(process.argv[2] ?? 5);
  prepare(home);
  console.error('µs of a lookup, with / without        first         again   mounted, cold   system calls');
  const result: Record<string, Record<Way, Measured>> = {};
  const chosen = process.argv.slice(3);
  for (const kind of Object.keys(KINDS) as Kind[]) {
    if (chosen.length > 0 && !chosen.includes(kind)) continue;
    const row = await measure(home, kind, rounds);
    const cells = (['first', 'again', 'mounted', 'calls'] as const).map(field =>
      `${row.with[field].toFixed(2)} / ${row.without[field].toFixed(2)}`.padStart(16),
    );
    console.error(kind.padEnd(24) + cells.join(''));
    result[kind] = row;
  }
  console.log(JSON.stringify({ bench: 'caches', rounds, result }, undefined, 2));
} finally {
  rmSync(home, { recursive: true });
}
