/**
 * Measures `lowerdata relink`: the time to convert a whole image in each direction, and opens of files whose objects are found by
 * origin, compared with the same files found by path.
 *
 *     npm run build && node dist/scripts/bench/relink.js [ROUNDS] [SOURCE]
 *
 * An image of SOURCE (/usr/lib) and its objects are put on an ext4 filesystem in a file. Converting back has to give the original
 * bytes. For opens, both images are mounted afresh in each round, in turn. All names are looked up first; then every file of up
 * to 64 KiB is opened and closed once, including its digest check. Prints medians, and counts of strace if it is installed: JSON
 * on standard output, a table on standard error. Needs root, space for all of SOURCE, and ten minutes.
 */
import { execFileSync, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, mkdirSync, mkdtempSync, openSync, readdirSync, readFileSync, rmSync, statSync } from 'node:fs';
import { cpus, tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout } from 'node:timers/promises';

const FILE_BYTES_MAX = 1 << 16;
const TRACED_FILES = 2000;
/** An image, and the number of base directories; only the last of them has the objects. */
const VARIANTS = [
  ['absolute', 1],
  ['origin', 1],
  ['absolute', 4],
  ['origin', 4],
] as const;
type Variant = (typeof VARIANTS)[number];

/** Source and target of each conversion; the last two are the ways back. */
const CONVERSIONS = [
  ['absolute', 'data-only'],
  ['absolute', 'origin'],
  ['data-only', 'absolute'],
  ['origin', 'absolute'],
] as const;

const command = new URL('../../src/cli/main.js', import.meta.url).pathname;
const lowerdata = (...args: string[]): void =>
  void execFileSync(process.execPath, [command, ...args], { stdio: ['ignore', 'ignore', 'pipe'] });

const median = (numbers: number[]): number => numbers.sort((a, b) => a - b)[numbers.length >> 1] as number;
const rounded = (number: number): number => Number(number.toFixed(3));

/** Mounts a new ext4 with space for the source, without write barriers. */
function mountDisk(home: string, source: string): string {
  const disk = join(home, 'disk');
  mkdirSync(disk);
  const [kilobytes = ''] = execFileSync('du', ['-sk', source], { encoding: 'utf8' }).split('\t');
  execFileSync('truncate', ['-s', `${Math.ceil(Number(kilobytes) * 1.3) + 500_000}K`, `${disk}.image`]);
  execFileSync('mkfs.ext4', ['-q', `${disk}.image`]);
  execFileSync('mount', ['-o', 'loop,barrier=0', `${disk}.image`, disk]);
  return disk;
}

/** Seconds per conversion. */
function convert(disk: string, rounds: number): Record<string, number> {
  const image = (name: string): string => join(disk, name);
  const original = readFileSync(image('absolute'));
  const seconds = new Map(CONVERSIONS.map(([from, to]) => [`${from} to ${to}`, [] as number[]]));
  for (let round = 0; round < rounds; round++) {
    for (const [from, to] of CONVERSIONS) {
      const out = to === 'absolute' ? 'back' : to;
      const basedir = to === 'origin' ? [`--basedir=${disk}/objects`] : [];
      const begin = performance.now();
      lowerdata('relink', image(from), '-o', image(out), `--to=${to}`, ...basedir);
      seconds.get(`${from} to ${to}`)?.push((performance.now() - begin) / 1000);
      if (out === 'back' && !readFileSync(image('back')).equals(original))
        throw new Error(`${from}: other bytes came back`);
    }
  }
  return Object.fromEntries([...seconds].map(([name, all]) => [name, rounded(median(all))]));
}

/** The stack of a variant; base directories without objects are empty. */
function stackOf(disk: string, [image, count]: Variant): string {
  const empty = Array.from({ length: count - 1 }, (_, i) => join(disk, `empty-${i}`));
  for (const directory of empty) mkdirSync(directory, { recursive: true });
  return [join(disk, image), ...empty, join(disk, 'objects')].join('::');
}

/** The regular files to open below a directory. Listing them also looks their names up. */
function filesIn(directory: string): string[] {
  const entries = readdirSync(directory, { recursive: true, withFileTypes: true }).filter(entry => entry.isFile());
  const paths = entries.map(entry => join(entry.parentPath, entry.name));
  return paths.filter(path => statSync(path).size <= FILE_BYTES_MAX);
}

/** Microseconds per first open and close of a file. */
function openAll(disk: string, variant: Variant): { files: number; microseconds: number } {
  const mnt = join(disk, '..', 'mnt');
  lowerdata('mount', stackOf(disk, variant), mnt);
  try {
    const paths = filesIn(mnt);
    const begin = performance.now();
    for (const path of paths) closeSync(openSync(path, 'r'));
    return { files: paths.length, microseconds: ((performance.now() - begin) * 1000) / paths.length };
  } finally {
    lowerdata('umount', mnt);
  }
}

/** System calls of the daemon per open, by name, as strace counts them; undefined if strace is not installed. */
async function callsOf(disk: string, variant: Variant): Promise<Record<string, number> | undefined> {
  if (spawnSync('strace', ['--version']).error) return undefined;
  const mnt = join(disk, '..', 'mnt');
  lowerdata('mount', stackOf(disk, variant), mnt);
  try {
    const paths = filesIn(mnt).slice(0, TRACED_FILES);
    const status = execFileSync(process.execPath, [command, 'status', '--json', mnt], { encoding: 'utf8' });
    const [{ pid }] = JSON.parse(status).mounts as [{ pid: number }];
    const strace = spawn('strace', ['-f', '-c', '-p', String(pid)], { stdio: ['ignore', 'ignore', 'pipe'] });
    let text = '';
    strace.stderr.setEncoding('utf8').on('data', (more: string) => (text += more));
    while (!text.includes('attached')) await setTimeout(50);
    await setTimeout(500); // strace has attached to all threads by then
    for (const path of paths) closeSync(openSync(path, 'r'));
    strace.kill('SIGINT');
    await once(strace, 'close');
    const rows = text.matchAll(/^\s*[\d.]+\s+[\d.]+\s+\d+\s+(\d+)\s+(?:\d+\s+)?(\w+)$/gm);
    return Object.fromEntries([...rows].map(([, calls, name]) => [name, rounded(Number(calls) / paths.length)]));
  } finally {
    lowerdata('umount', mnt);
  }
}

/** The times of one variant, compared with the first variant that has as many directories. */
async function resultOf(disk: string, variant: Variant, times: ReadonlyMap<Variant, number[]>) {
  const own = times.get(variant) as number[];
  const [base] = [...times].find(([other]) => other[1] === variant[1]) as [Variant, number[]];
  const ratio = median(own.map((time, round) => time / ((times.get(base) as number[])[round] as number)));
  const calls = await callsOf(disk, variant);
  const [image, directories] = variant;
  return { image, directories, microseconds: rounded(median([...own])), ratio: rounded(ratio), calls };
}

async function main(home: string, disk: string, rounds: number, source: string): Promise<void> {
  mkdirSync(join(home, 'mnt'));
  lowerdata('mkfs', `--digest-store=${disk}/objects`, source, join(disk, 'absolute'));
  const seconds = convert(disk, rounds);
  for (const [name, time] of Object.entries(seconds)) console.error(`${name.padEnd(24)}${time} s`);

  const times = new Map(VARIANTS.map(variant => [variant, [] as number[]]));
  let files = 0;
  for (let round = 0; round <= rounds; round++) {
    for (const variant of VARIANTS) {
      const found = openAll(disk, variant);
      files = found.files;
      if (round > 0) times.get(variant)?.push(found.microseconds); // the first round warms the page cache
    }
  }
  const opens = [];
  for (const variant of VARIANTS) opens.push(await resultOf(disk, variant, times));
  for (const { image, directories, microseconds, ratio, calls } of opens) {
    const label = `${image}, ${directories} ${directories === 1 ? 'directory' : 'directories'}`;
    console.error(`${label.padEnd(24)}${microseconds} µs an open (${ratio}), openat2 ${calls?.openat2 ?? '-'} times`);
  }
  const names = Number(execFileSync('sh', ['-c', 'find "$0" | wc -l', source], { encoding: 'utf8' }));
  const about = { bench: 'relink', source, names, files, rounds, processor: cpus()[0]?.model };
  console.log(JSON.stringify({ ...about, seconds, opens }, undefined, 2));
}

const home = mkdtempSync(join(tmpdir(), 'lowerdata-bench-'));
const source = process.argv[3] ?? '/usr/lib';
const disk = mountDisk(home, source);
try {
  await main(home, disk, Number(process.argv[2] ?? 5), source);
} finally {
  execFileSync('umount', [disk]);
  rmSync(home, { recursive: true });
}
