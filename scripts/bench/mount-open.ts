/**
 * Measures the cost of verification per open: the same image mounted with verity=off, verity=on and verify=read. verity=off is
 * also mounted without passthrough, as the base of verify=read.
 *
 *     npm run build && node dist/scripts/bench/mount-open.js [ROUNDS]
 *
 * In each round every variant is mounted afresh, in turn, and all names are looked up first. Then all files are opened and closed
 * once, and twice more. Prints the medians of microseconds per open, and the median ratio to verity=off in the same round: JSON
 * on standard output, a table on standard error. Needs root; takes a minute.
 */
import { execFileSync } from 'node:child_process';
import { closeSync, mkdirSync, mkdtempSync, openSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { cpus, tmpdir } from 'node:os';
import { join } from 'node:path';

const FILES = 4000;
const SIZES_BYTES = [100, 1000, 4096, 8000, 16_000];
const VARIANTS = {
  'verity=off': 'verity=off',
  'verity=on': 'verity=on',
  'verity=off, passthrough=off': 'verity=off,passthrough=off',
  'verify=read': 'verity=on,verify=read',
} as const;
type Variant = keyof typeof VARIANTS;
/** The variant that another variant is compared with. */
const BASES: Partial<Record<Variant, Variant>> = {
  'verity=on': 'verity=off',
  'verify=read': 'verity=off, passthrough=off',
};
const PASSES = ['first', 'again'] as const;
type Times = Record<(typeof PASSES)[number], number>;

const command = new URL('../../src/cli/main.js', import.meta.url).pathname;
const lowerdata = (...args: string[]): string =>
  execFileSync(process.execPath, [command, ...args], { encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] });

/** Makes files with distinct contents, and an image of them. @returns their names */
function prepare(home: string): string[] {
  const tree = join(home, 'tree');
  mkdirSync(tree);
  const names = Array.from({ length: FILES }, (_, i) => `f${i}`);
  for (const [i, name] of names.entries()) {
    writeFileSync(join(tree, name), Buffer.alloc(SIZES_BYTES[i % SIZES_BYTES.length] as number, `${name} `));
  }
  lowerdata('mkfs', `--digest-store=${home}/objects`, tree, `${home}/image`);
  return names;
}

/** Microseconds per open and close, each file once. */
function openAll(paths: readonly string[]): number {
  const begin = performance.now();
  for (const path of paths) closeSync(openSync(path, 'r'));
  return ((performance.now() - begin) * 1000) / paths.length;
}

function measure(home: string, names: readonly string[], options: string): Times {
  const place = join(home, 'mnt');
  lowerdata('mount', `${home}/image::${home}/objects`, place, '-o', options);
  try {
    const paths = names.map(name => join(place, name));
    for (const path of paths) statSync(path);
    const first = openAll(paths);
    return { first, again: Math.min(openAll(paths), openAll(paths)) };
  } finally {
    lowerdata('umount', place);
  }
}

const median = (numbers: number[]): number => numbers.sort((a, b) => a - b)[numbers.length >> 1] as number;

function main(home: string, rounds: number): void {
  mkdirSync(join(home, 'mnt'));
  const names = prepare(home);
  const all = Object.keys(VARIANTS) as Variant[];
  const found = new Map(all.map(variant => [variant, [] as Times[]]));
  for (let round = 0; round <= rounds; round++) {
    for (const variant of all) {
      const times = measure(home, names, VARIANTS[variant]);
      if (round > 0) found.get(variant)?.push(times); // the first round warms the page cache
    }
  }
  const result = all.map(variant => {
    const times = found.get(variant) as Times[];
    const base = BASES[variant] && (found.get(BASES[variant] as Variant) as Times[]);
    const rows = PASSES.map(pass => {
      const ratios = base?.map((other, round) => (times[round] as Times)[pass] / other[pass]);
      const ratio = ratios && Number(median(ratios).toFixed(2));
      return [pass, { microseconds: Number(median(times.map(time => time[pass])).toFixed(1)), ratio }] as const;
    });
    console.error(
      `${variant.padEnd(30)}${rows.map(([pass, { microseconds, ratio }]) => `${pass} ${microseconds} µs ${ratio ? `(${ratio} of ${BASES[variant]})` : ''}`).join('   ')}`,
    );
    return { variant, base: BASES[variant], ...Object.fromEntries(rows) };
  });
  console.log(
    JSON.stringify({ bench: 'mount-open', files: FILES, rounds, processor: cpus()[0]?.model, result }, undefined, 2),
  );
}

const home = mkdtempSync(join(tmpdir(), 'lowerdata-bench-'));
try {
  main(home, Number(process.argv[2] ?? 9));
} finally {
  rmSync(home, { recursive: true });
}
