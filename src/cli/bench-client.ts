/**
 * One client of a benchmark: a thread that does what it is told, while the main thread stays awake for signals.
 *
 *     ClientOrder  ->  ClientAnswer
 */
import { parentPort } from 'node:worker_threads';
import type { Name } from '../sys/bytes.ts';
import { native } from '../sys/native.ts';

export interface ClientOrder {
  readonly root: Name;
  /** A BenchOperation. */
  readonly operation: number;
  /** Relative to the root, each with a NUL behind it. */
  readonly paths: Uint8Array;
  readonly count: number;
}

export interface ClientAnswer {
  /** The number of paths, or the negative errno of the first one that failed. */
  readonly result: number;
  /** Of each path; 0 from the first failure on. */
  readonly nanoseconds: Float64Array;
  /** By the clock of the system: comparable between threads. */
  readonly beginMs: number;
  readonly endMs: number;
}

const AT_FDCWD = -100;
const O_PATH_DIRECTORY = 0o10200000;
/** What readdir(3) of the C library offers; files that are read are no larger. */
const BUFFER_BYTES = 32_768;
const buffer = new Uint8Array(BUFFER_BYTES);

parentPort?.on('message', ({ root, operation, paths, count }: ClientOrder) => {
  const nanoseconds = new Float64Array(count);
  const dirfd = native.openat2(AT_FDCWD, root, O_PATH_DIRECTORY, 0);
  const beginMs = now();
  const result = dirfd < 0 ? dirfd : native.benchPaths(dirfd, operation, paths, buffer, nanoseconds);
  const endMs = now();
  if (dirfd >= 0) native.close(dirfd);
  parentPort?.postMessage({ result, nanoseconds, beginMs, endMs } satisfies ClientAnswer);
});

function now(): number {
  return Number(process.hrtime.bigint()) / 1e6;
}
