/**
 * Measures the speed of src/verity/digest.ts on a file of 512 MB in the page cache, compared with `fsverity digest`. Also
 * measures the block hashing of each implementation in src/verity/hash.ts, and the scaling of threads that digest files of their
 * own.
 *
 *     npm run build && node dist/scripts/bench/verity-digest.js [ROUNDS]
 *
 * Rounds are interleaved, the first one is not counted, and medians are printed: JSON on standard output, a table on standard
 * error. The time of `fsverity` includes a few milliseconds of its start. Takes a minute, and 512 MB of the directory for
 * temporary files.
 */
import { execFileSync, spawnSync } from 'node:child_process';
import { closeSync, mkdtempSync, openSync, rmSync, writeSync } from 'node:fs';
import { availableParallelism, cpus, tmpdir } from 'node:os';
import { join } from 'node:path';
import { isMainThread, parentPort, Worker } from 'node:worker_threads';
import * as sha2 from '@noble/hashes/sha2.js';
import { DEFAULTS, measureFd } from '../../src/verity/digest.ts';
import { addonHasher, type BlockHasher, cryptoHasher, nobleHasher } from '../../src/verity/hash.ts';

const FILE_BYTES = 512_000_000;
/** The size of each thread's file; with at most 8 threads, all files stay in the page cache. */
const SHARE_BYTES = FILE_BYTES / 8;
const HASHER_BYTES = 64_000_000;
const RUN_BYTES = 1 << 18;

/** A subject: `run` does the work once, on `bytes` bytes. */
interface Subject {
  readonly name: string;
  readonly bytes: number;
  run(): void | Promise<void>;
}

const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString('hex');

/** The digest of a file in hex. */
function digestOf(path: string, sizeBytes: number): string {
  const fd = openSync(path, 'r');
  try {
    return hex(measureFd(fd, sizeBytes));
  } finally {
    closeSync(fd);
  }
}

/** Writes a file whose bytes are the same in every run. */
function writeInput(path: string, sizeBytes: number): void {
  const fd = openSync(path, 'w');
  const words = new Uint32Array(1 << 18);
  let x = 1;
  for (let at = 0; at < sizeBytes; at += words.byteLength) {
    for (let i = 0; i < words.length; i++) words[i] = x = (Math.imul(x, 1_664_525) + 1_013_904_223) >>> 0;
    writeSync(fd, words, 0, Math.min(words.byteLength, sizeBytes - at));
  }
  closeSync(fd);
}

/** Digests of the large file: ours on this thread, and that of the program fsverity if it is installed. */
function digestSubjects(path: string): Subject[] {
  const program = (): string => execFileSync('fsverity', ['digest', '--compact', path], { encoding: 'latin1' }).trim();
  const subjects = [{ name: 'lowerdata', bytes: FILE_BYTES, run: () => void digestOf(path, FILE_BYTES) }];
  if (spawnSync('fsverity', ['--version']).error) return subjects;
  if (program() !== digestOf(path, FILE_BYTES)) throw new Error('fsverity has another digest');
  return [...subjects, { name: 'fsverity', bytes: FILE_BYTES, run: () => void program() }];
}

/** Each implementation, on blocks that fit into the CPU's cache. */
function hasherSubjects(): Subject[] {
  const blocks = new Uint8Array(RUN_BYTES).fill(7);
  const out = new Uint8Array((RUN_BYTES / DEFAULTS.blockBytes) * 32);
  const subject = (name: string, hasher: BlockHasher): Subject => ({
    name,
    bytes: HASHER_BYTES,
    run() {
      for (let at = 0; at < HASHER_BYTES; at += RUN_BYTES) hasher.hashBlocks(blocks, out, 0);
    },
  });
  return [
    subject('addon', addonHasher(DEFAULTS)),
    subject('node:crypto', cryptoHasher(DEFAULTS)),
    subject('@noble/hashes', nobleHasher(DEFAULTS, sha2)),
  ];
}

/** `count` threads, already started, digest `paths` at the same time, one file each. */
function threadSubject(count: number, paths: readonly string[], workers: readonly Worker[]): Subject {
  const digest = (worker: Worker, path: string): Promise<void> =>
    new Promise(resolve => {
      worker.once('message', () => resolve());
      worker.postMessage(path);
    });
  return {
    name: `${count} thread${count === 1 ? '' : 's'}`,
    bytes: count * SHARE_BYTES,
    run: async () => {
      await Promise.all(workers.slice(0, count).map((worker, i) => digest(worker, paths[i] as string)));
    },
  };
}

/** Runs all subjects in turn for all rounds. @returns the median speed of each in MB/s */
async function measureAll(subjects: readonly Subject[], rounds: number): Promise<Map<string, number>> {
  const speeds = new Map(subjects.map(({ name }) => [name, [] as number[]]));
  for (let round = 0; round <= rounds; round++) {
    for (const { name, bytes, run } of subjects) {
      const start = performance.now();
      await run();
      if (round > 0) speeds.get(name)?.push(bytes / (performance.now() - start) / 1000);
    }
  }
  return new Map([...speeds].map(([name, found]) => [name, median(found)]));
}

const median = (numbers: number[]): number => numbers.sort((a, b) => a - b)[numbers.length >> 1] as number;

/** Prints speeds, and their ratio to that of `base`. */
function report(title: string, speeds: ReadonlyMap<string, number>, base: string) {
  const of = speeds.get(base);
  console.error(`\n${title.padEnd(40)}    MB/s   of ${base}`);
  return Object.fromEntries(
    [...speeds].map(([name, speed]) => {
      const ratio = of === undefined ? undefined : Number((speed / of).toFixed(2));
      console.error(`  ${name.padEnd(38)}${speed.toFixed(0).padStart(8)}   ${ratio ?? '-'}`);
      return [name, { megabytesPerSecond: Math.round(speed), ratio }];
    }),
  );
}

async function main(directory: string, rounds: number): Promise<void> {
  const large = join(directory, 'large');
  writeInput(large, FILE_BYTES);
  const digests = await measureAll(digestSubjects(large), rounds);
  rmSync(large);
  const hashers = await measureAll(hasherSubjects(), rounds);

  const most = Math.min(Math.max(2, availableParallelism()), 8);
  const paths = Array.from({ length: most }, (_, i) => join(directory, `share-${i}`));
  for (const path of paths) writeInput(path, SHARE_BYTES);
  const workers = paths.map(() => new Worker(new URL(import.meta.url)));
  const counts = [...new Set([1, 2, most])];
  const threads = await measureAll(
    counts.map(count => threadSubject(count, paths, workers)),
    rounds,
  );
  await Promise.all(workers.map(worker => worker.terminate()));

  const result = {
    bench: 'verity-digest',
    node: process.version,
    processor: cpus()[0]?.model,
    processors: availableParallelism(),
    rounds,
    digest: report('digest of 512 MB, one thread', digests, 'fsverity'),
    hashers: report('SHA-256 of blocks of 4 KiB in cache', hashers, 'node:crypto'),
    threads: report('digests of 64 MB a thread', threads, '1 thread'),
  };
  console.log(JSON.stringify(result, null, 2));
}

if (isMainThread) {
  const directory = mkdtempSync(join(tmpdir(), 'lowerdata-bench-'));
  try {
    await main(directory, Number(process.argv[2] ?? 9));
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
} else {
  parentPort?.on('message', (path: string) => parentPort?.postMessage(digestOf(path, SHARE_BYTES)));
}
