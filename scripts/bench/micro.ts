/**
 * Measures the functions on the path of most requests, and detects regressions.
 *
 *     npm run bench:micro                                   measures, and compares with baseline.json in this folder
 *     node dist/scripts/bench/micro.js --record             measures, and writes that file
 *     … [--baseline FILE] [--processes N] [FUNCTION...]     another file; a quick look; some of the functions
 *
 * Machines differ, so ratios are compared: the time of one call relative to a fixed piece of work, the yardstick, that is
 * measured in turn with it. Depending on the function, the yardstick is arithmetic in JavaScript, a hash, or a system call. Each
 * function is measured in five processes of its own; each process warms up and returns the median ratio of its ROUNDS, and the
 * median process counts.
 * Load on the machine moves ratios by a third in either direction: measure again before believing in a regression. Prints JSON on
 * standard output and a table on standard error. The exit status is 1 if a ratio exceeds the baseline by more than its recorded
 * tolerance. Takes a minute.
 */
import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { DirentPacker } from '../../src/fuse/dirents.ts';
import { scanTree, writeImage } from '../../src/index.ts';
import { DirLayer } from '../../src/layers/dir.ts';
import { openErofsLayer } from '../../src/layers/erofs.ts';
import type { Layer } from '../../src/layers/layer.ts';
import { planMount } from '../../src/mount/plan.ts';
import { measureBytes } from '../../src/verity/digest.ts';

const ROUNDS = 11;
const WARM_UP_MS = 300;
/** The time for which a round calls a function, and then its yardstick. */
const ROUND_MS = 15;
const FILES = 1000;

/** Does the work once. The result only prevents the optimizer from removing the work. */
type Work = () => unknown;
type Yardstick = 'arithmetic' | 'hash' | 'system call';

interface Subject {
  readonly what: string;
  readonly yardstick: Yardstick;
  /** @param folder an empty directory */
  readonly prepare: (folder: string) => Work;
}

const lookups = (layer: Layer): Work => {
  let i = 0;
  return () => layer.lookup(layer.root, `name-${i++ % FILES}`)?.ino;
};

/** Makes a directory of FILES empty files. */
function makeTree(folder: string): string {
  const tree = join(folder, 'tree');
  mkdirSync(tree);
  for (let i = 0; i < FILES; i++) writeFileSync(join(tree, `name-${i}`), '');
  return tree;
}

const SUBJECTS: Readonly<Record<string, Subject>> = {
  'image-lookup': {
    what: 'look a name up among 1,000 of an image',
    yardstick: 'arithmetic',
    prepare: folder => {
      writeFileSync(join(folder, 'image'), writeImage(scanTree(makeTree(folder)).root));
      return lookups(openErofsLayer(join(folder, 'image')));
    },
  },
  'directory-lookup': {
    what: 'look a name up among 1,000 of a directory layer',
    yardstick: 'system call',
    prepare: folder => lookups(new DirLayer(makeTree(folder))),
  },
  'readdirplus-entry': {
    what: 'encode an entry of READDIRPLUS',
    yardstick: 'arithmetic',
    prepare: folder => {
      const layer = new DirLayer(folder);
      const [attr, bytes, packer] = [layer.attr(layer.root), new Uint8Array(4096), new DirentPacker()];
      const out = { bytes, view: new DataView(bytes.buffer) };
      return () => {
        packer.begin(out, bytes.length);
        return packer.addPlus('a-name-of-21-bytes.md', 1, 8, 77, 77, 3600, 3600, attr);
      };
    },
  },
  'merkle-root': {
    what: 'the fs-verity digest of 1 MB in memory',
    yardstick: 'hash',
    prepare: () => {
      const bytes = new Uint8Array(1e6).fill(7);
      return () => measureBytes(bytes);
    },
  },
  'option-parse': {
    what: 'parse the options of a mount',
    yardstick: 'arithmetic',
    prepare: () => {
      const texts = [
        'lowerdir=/a:/b::/c,metacopy=on,redirect_dir=follow,verity=require,nosuid,entry_timeout=1,x-systemd.automount',
      ];
      return () => planMount({ source: 'none', texts, sloppy: false, isRoot: true, isImage: () => false });
    },
  },
};

const YARDSTICKS: Readonly<Record<Yardstick, Work>> = {
  arithmetic: () => {
    let state = 1;
    for (let i = 0; i < 1000; i++) state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    return state;
  },
  hash: (
    bytes => () =>
      createHash('sha256').update(bytes).digest()
  )(new Uint8Array(1e6).fill(7)),
  'system call': () => statSync(import.meta.filename).ino,
};

/** The recorded values of a function. */
interface Baseline {
  readonly ratio: number;
  /** The tolerated increase of the ratio: 0.5 allows 50 % more. */
  readonly tolerance: number;
}

interface Result {
  readonly nanoseconds: number;
  readonly ratio: number;
}

const median = (numbers: number[]): number => numbers.sort((a, b) => a - b)[numbers.length >> 1] as number;

/** Holds the result of the last work. */
let kept: unknown;

/** Nanoseconds per call, measured by calling repeatedly for the given time. */
function timeOf(work: Work, milliseconds: number): number {
  const start = performance.now();
  let calls = 0;
  let elapsed = 0;
  for (; elapsed < milliseconds; elapsed = performance.now() - start) {
    for (let i = 0; i < 16; i++) kept = work();
    calls += 16;
  }
  return (elapsed * 1e6) / calls;
}

/** Measures a function in this process. */
function measure({ yardstick, prepare }: Subject): Result {
  const folder = mkdtempSync(join(tmpdir(), 'lowerdata-bench-'));
  try {
    const [work, base] = [prepare(folder), YARDSTICKS[yardstick]];
    for (const one of [work, base]) timeOf(one, WARM_UP_MS);
    const rounds = Array.from({ length: ROUNDS }, () => {
      const nanoseconds = timeOf(work, ROUND_MS);
      return { nanoseconds, ratio: nanoseconds / timeOf(base, ROUND_MS) };
    });
    if (kept === undefined) throw new Error('a function under test returns nothing');
    return {
      nanoseconds: median(rounds.map(round => round.nanoseconds)),
      ratio: median(rounds.map(({ ratio }) => ratio)),
    };
  } finally {
    rmSync(folder, { recursive: true });
  }
}

/** The result of the process with the median ratio. */
function middle(name: string, processes: number): Result {
  const results = Array.from({ length: processes }, () => {
    const answer = execFileSync(process.execPath, [import.meta.filename, '--child', name], { encoding: 'utf8' });
    return JSON.parse(answer) as Result;
  });
  return results.sort((a, b) => a.ratio - b.ratio)[processes >> 1] as Result;
}

const TOLERANCE = 0.5;
const HEAD = `${'function'.padEnd(20)}${'µs'.padStart(10)}   ${'yardstick'.padEnd(12)}${'measured'.padStart(10)}${'baseline'.padStart(10)}${'tolerance'.padStart(11)}`;

/** Prints the line of a function. @returns whether it became slower, or has no baseline */
function judge(name: string, { nanoseconds, ratio }: Result, baseline: Baseline | undefined): boolean {
  const isSlower = baseline !== undefined && ratio > baseline.ratio * (1 + baseline.tolerance);
  const verdict = baseline === undefined ? '   no baseline' : isSlower ? '   SLOWER' : '';
  const numbers = [
    ratio.toPrecision(3).padStart(10),
    (baseline?.ratio.toPrecision(3) ?? '-').padStart(10),
    (baseline ? `+${Math.round(baseline.tolerance * 100)} %` : '-').padStart(11),
  ];
  const yardstick = SUBJECTS[name]?.yardstick ?? '';
  console.error(
    `${name.padEnd(20)}${(nanoseconds / 1000).toFixed(3).padStart(10)}   ${yardstick.padEnd(12)}${numbers.join('')}${verdict}`,
  );
  return isSlower || baseline === undefined;
}

function main(names: readonly string[], file: string, processes: number, isRecording: boolean): number {
  const baselines: Record<string, Baseline> = JSON.parse(readFileSync(file, 'utf8'));
  const results = new Map<string, Result>();
  let failed = false;
  console.error(HEAD);
  for (const name of names) {
    const result = middle(name, processes);
    results.set(name, result);
    failed = judge(name, result, baselines[name]) || failed;
    if (isRecording)
      baselines[name] = {
        ratio: Number(result.ratio.toPrecision(3)),
        tolerance: baselines[name]?.tolerance ?? TOLERANCE,
      };
  }
  if (isRecording) writeFileSync(file, `${JSON.stringify(baselines, undefined, 2)}\n`);
  console.log(
    JSON.stringify({ bench: 'micro', node: process.version, results: Object.fromEntries(results) }, undefined, 2),
  );
  return failed && !isRecording ? 1 : 0;
}

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    record: { type: 'boolean' },
    baseline: { type: 'string' },
    child: { type: 'string' },
    processes: { type: 'string', default: '5' },
  },
});
if (values.child !== undefined) console.log(JSON.stringify(measure(SUBJECTS[values.child] as Subject)));
else {
  const unknown = positionals.find(name => !(name in SUBJECTS));
  const own = new URL('../../../scripts/bench/baseline.json', import.meta.url).pathname;
  if (unknown !== undefined) console.error(`micro: ${unknown}: not one of ${Object.keys(SUBJECTS).join(', ')}`);
  process.exitCode =
    unknown !== undefined
      ? 2
      : main(
          positionals.length > 0 ? positionals : Object.keys(SUBJECTS),
          values.baseline ?? own,
          Number(values.processes),
          values.record === true,
        );
}
