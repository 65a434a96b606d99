/**
 * Measures the cost of a lookup as its surroundings grow: inodes of an image, entries of a directory, layers of a stack, clients
 * of a mount. Also measures the time and memory of a mount as its image grows.
 *
 *     npm run build && node dist/scripts/bench/scale.js [inodes|entries|layers|mounts|clients…] [--large] [--svg]
 *
 * Images are synthetic (synthetic-image.ts), and names are random but the same in each round. Sizes take turns in every round;
 * medians of the rounds go to standard error as tables, and to standard output as JSON. In process: microseconds per lookup with
 * attributes, in a known directory. Through a mount: microseconds per lstat in a known directory, timed in C, after caches were
 * dropped.
 * `--svg` draws scripts/bench/scale.svg. `--large` goes on to 10,000,000 inodes, which takes 3 GB of memory and 1 GB of disk.
 * Mounts need root, and drop caches of the whole system.
 */
import { execFileSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type Node, Overlay, settleRules } from '../../src/index.ts';
import { ErofsLayer } from '../../src/layers/erofs.ts';
import { BenchOperation, native } from '../../src/sys/native.ts';
import { drawScale, type Part } from './scale-picture.ts';
import { nameOfEntry, syntheticImage } from './synthetic-image.ts';

const ROUNDS = 7;
const SAMPLE = 20_000;
/** Widths of the levels of a tree, by its number of files. */
const TREES: Readonly<Record<number, readonly number[]>> = {
  1000: [10, 1, 100],
  10000: [10, 10, 100],
  100000: [100, 10, 100],
  1000000: [100, 100, 100],
  10000000: [100, 1000, 100],
};
const DIRECTORIES = [100, 1_000, 10_000, 100_000, 1_000_000];
const LAYERS = [1, 2, 4, 8, 16, 32, 64];
const CLIENTS = '1,2,4,8,16,32';
/** The fields of a mount that are not times of one operation. */
const NO_TIMES = ['imageMB', 'mountMs', 'residentMB'];

const command = new URL('../../src/cli/main.js', import.meta.url).pathname;
const lowerdata = (...args: string[]): string =>
  execFileSync(process.execPath, [command, ...args], { encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] });

/** A linear congruential generator. Source: Numerical Recipes, 7.1. */
let state = 1;
const below = (limit: number): number => {
  state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
  return Math.floor((state / 2 ** 32) * limit);
};
const randomPath = (widths: readonly number[]): string[] => widths.map(width => nameOfEntry(below(width)));
const median = (numbers: number[]): number => numbers.sort((a, b) => a - b)[numbers.length >> 1] as number;

type Row = Record<string, number>;

/** Runs every variant in turn, one round as a warm-up and then ROUNDS more. @returns the median of each number */
function rounds(variants: ReadonlyMap<number, () => Row>): Map<number, Row> {
  const found = new Map([...variants.keys()].map(key => [key, [] as Row[]]));
  for (let round = 0; round <= ROUNDS; round++)
    for (const [key, measure] of variants) {
      const row = measure();
      if (round > 0) found.get(key)?.push(row);
    }
  const middle = (rows: Row[]): Row =>
    Object.fromEntries(Object.keys(rows[0] ?? {}).map(field => [field, median(rows.map(row => row[field] as number))]));
  return new Map([...found].map(([key, rows]) => [key, middle(rows)]));
}

/** The names to look up, each with its directory. */
type Names = readonly (readonly [Node, string])[];

function namesIn(overlay: Overlay, widths: readonly number[]): Names {
  return Array.from({ length: SAMPLE }, () => {
    const path = randomPath(widths);
    const directory = path.slice(0, -1).reduce((at, name) => overlay.lookup(at, name) as Node, overlay.root);
    return [directory, path.at(-1) as string] as const;
  });
}

/** Microseconds per lookup. */
function lookUpAll(overlay: Overlay, names: Names): number {
  const begin = performance.now();
  for (const [directory, name] of names) {
    const node = overlay.lookup(directory, name);
    if (typeof node !== 'number') overlay.attr(node);
  }
  return ((performance.now() - begin) * 1000) / names.length;
}

const missing = (names: Names): Names => names.map(([directory, name]) => [directory, `${name}-`] as const);

function inImages(trees: ReadonlyMap<number, readonly number[]>): Map<number, Row> {
  const variants = new Map<number, () => Row>();
  for (const [key, widths] of trees) {
    const bytes = syntheticImage(widths);
    const overlay = new Overlay([new ErofsLayer(`${key} files`, bytes)], [], settleRules());
    const [names, misses] = [namesIn(overlay, widths), missing(namesIn(overlay, widths))];
    const megabytes = bytes.length / 1e6;
    variants.set(key, () => ({ megabytes, found: lookUpAll(overlay, names), missing: lookUpAll(overlay, misses) }));
  }
  return rounds(variants);
}

/** Looks up names of the lowest layer in directories that all layers have, so that every layer is asked. */
function inLayers(): Map<number, Row> {
  const widths = [100, 100];
  const bytes = syntheticImage(widths);
  const upper = syntheticImage([100, 1]);
  const variants = new Map<number, () => Row>();
  for (const count of LAYERS) {
    const layers = Array.from({ length: count }, (_, i) => new ErofsLayer(`${i}`, i === count - 1 ? bytes : upper));
    const make = (): Overlay => new Overlay(layers, [], settleRules());
    const known = make();
    const names = namesIn(known, [100, 99]).map(
      ([directory, name]) => [directory, name.replace('e0000000', 'e0000099')] as const,
    );
    lookUpAll(known, names);
    variants.set(count, () => ({ first: lookUpAll(make(), names), again: lookUpAll(known, names) }));
  }
  return rounds(variants);
}

/** Measures a mount of an image: microseconds per lstat after dropping the kernel's caches, and the cost of the mount itself. */
function mounted(home: string, files: number, widths: readonly number[]): () => Row {
  const image = join(home, `image${files}`);
  const bytes = syntheticImage(widths);
  for (let at = 0; at < bytes.length; at += 1 << 26)
    writeFileSync(image, Buffer.from(bytes.slice(at, at + (1 << 26))), { flag: 'a' }); // a Buffer needs memory that is not shared
  const paths = Array.from({ length: SAMPLE / 4 }, () => randomPath(widths).join('/'));
  return () => {
    const mnt = join(home, 'mnt');
    const begin = performance.now();
    lowerdata('mount', image, mnt);
    const mountMs = performance.now() - begin;
    try {
      const [, pid = ''] = /"pid":\s*(\d+)/.exec(lowerdata('status', mnt, '--json')) ?? [];
      writeFileSync('/proc/sys/vm/drop_caches', '2');
      const [lstat = 0] = timed(mnt, paths);
      const [, resident = ''] = /^VmRSS:\s*(\d+) kB$/m.exec(readFileSync(`/proc/${pid}/status`, 'latin1')) ?? [];
      return { imageMB: bytes.length / 1e6, mountMs, residentMB: Number(resident) / 1000, lstat };
    } finally {
      lowerdata('umount', mnt);
    }
  };
}

/** The median microseconds per path. */
function timed(mnt: string, paths: readonly string[]): number[] {
  const nanoseconds = new Float64Array(paths.length);
  const dirfd = native.openat2(-100, mnt, 0o10200000, 0);
  const text = Buffer.from(paths.map(path => `${path}\0`).join(''), 'latin1');
  const done = native.benchPaths(dirfd, BenchOperation.stat, text, new Uint8Array(1), nanoseconds);
  native.close(dirfd);
  if (done !== paths.length) throw new Error(`lstat below ${mnt}: ${done}`);
  return [median([...nanoseconds]) / 1000];
}

function withClients(home: string): Map<number, Row> {
  const image = join(home, 'clients');
  writeFileSync(image, Buffer.from(syntheticImage(TREES[10_000] as number[]).slice()));
  const options = ['--workloads', 'walk,stat', '--rounds', '3', '--clients', CLIENTS, '--json'];
  const { rows } = JSON.parse(lowerdata('bench', image, ...options)) as {
    rows: { workload: string; clients: number; target: string; seconds: number; operations: number }[];
  };
  const found = new Map<number, Row>();
  for (const { workload, clients, target, seconds, operations } of rows) {
    const row = found.get(clients) ?? {};
    row[`${workload}, ${target}`] = (seconds * 1e6) / operations;
    found.set(clients, row);
  }
  return found;
}

function print(title: string, by: string, table: ReadonlyMap<number, Row>): void {
  const fields = Object.keys([...table.values()][0] ?? {});
  console.error(`\nµs of ${title}\n${[by, ...fields].map(cell => cell.padStart(17)).join('')}`);
  for (const [key, row] of table)
    console.error(
      [String(key), ...fields.map(field => (row[field] ?? 0).toFixed(2))].map(cell => cell.padStart(17)).join(''),
    );
}

const PICTURE = new URL('../../../scripts/bench/scale.svg', import.meta.url);

const args = process.argv.slice(2);
const parts = args.filter(arg => !arg.startsWith('--'));
const trees = new Map(
  Object.entries(TREES)
    .map(([files, widths]) => [Number(files), widths] as const)
    .filter(([files]) => args.includes('--large') || files <= 1_000_000),
);
const home = mkdtempSync(join(tmpdir(), 'lowerdata-bench-'));
const done = new Map<string, Part>();
/** @param other names of fields that are not times */
const note = (name: string, title: string, by: string, measure: () => Map<number, Row>, other: string[] = []): void => {
  if (parts.length > 0 && !parts.includes(name)) return;
  const table = measure();
  print(title, by, table);
  const times = Object.keys([...table.values()][0] ?? {}).filter(field => !other.includes(field));
  done.set(name, { title, by, table, times });
};
try {
  mkdirSync(join(home, 'mnt'));
  note('inodes', 'a lookup in process, by the files of an image', 'files', () => inImages(trees), ['megabytes']);
  const directories = new Map(DIRECTORIES.map(entries => [entries, [entries]]));
  note('entries', 'the same, by the entries of one directory', 'entries', () => inImages(directories), ['megabytes']);
  note('layers', 'the same, by the images of a stack: a name of the lowest', 'layers', inLayers);
  const images = (): Map<number, Row> =>
    rounds(new Map([...trees].map(([files, widths]) => [files, mounted(home, files, widths)])));
  note('mounts', 'a cold lstat of three names, by the files of the image', 'files', images, NO_TIMES);
  note('clients', 'one operation, by clients of a mount', 'clients', () => withClients(home));
  const result = Object.fromEntries([...done].map(([name, { table }]) => [name, Object.fromEntries(table)]));
  console.log(JSON.stringify({ bench: 'scale', rounds: ROUNDS, result }, undefined, 2));
  if (args.includes('--svg')) writeFileSync(PICTURE, drawScale([...done.values()]));
} finally {
  rmSync(home, { recursive: true });
}
