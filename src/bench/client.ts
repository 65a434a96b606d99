/**
 * One client of a benchmark: a thread that executes orders, while the main thread stays free to handle signals.
 *
 *     ClientOrder  ->  ClientAnswer
 */
import { parentPort, workerData } from 'node:worker_threads';
import type { ByteString } from '../sys/bytes.ts';
import { native } from '../sys/native.ts';

/** The user that a client has to become, if it is not the user of the process. */
export interface ClientUser {
  readonly uid: number;
  readonly gid: number;
}

/** A list of operations, each of which is timed. */
export type ClientOrder = PathsOrder | LargeOrder | RunsOrder;

interface PathsOrder {
  readonly kind: 'paths';
  readonly root: ByteString;
  /** A BenchOperation. */
  readonly operation: number;
  /** Paths relative to the root, each followed by a NUL. */
  readonly paths: Uint8Array;
  readonly count: number;
  /** The most bytes that an operation reads, or those that it writes. */
  readonly bytes: number;
}

interface LargeOrder {
  /**
   * Reads or writes `bytes` at each offset of a file, or touches a mapping of it there. Opening the file is not timed; a file that
   * is written is made.
   */
  readonly kind: 'reads' | 'writes' | 'touches';
  readonly path: ByteString;
  readonly offsets: Float64Array;
  readonly bytes: number;
}

interface RunsOrder {
  readonly kind: 'runs';
  readonly path: ByteString;
  readonly option: ByteString;
  readonly value: ByteString;
  readonly count: number;
}

export interface ClientAnswer {
  /** The number of operations, or the negative errno of the first one that failed. */
  readonly result: number;
  /** The time of each operation; 0 from the first failure on. */
  readonly nanoseconds: Float64Array;
  /** In milliseconds of the system's monotonic clock, which is comparable between threads. */
  readonly beginMs: number;
  readonly endMs: number;
}

const AT_FDCWD = -100;
const O_PATH_DIRECTORY = 0o10200000;
const NEW_FILE = 0o101; // O_CREAT, O_WRONLY
/** The permissions of a file that is made. */
const MODE = 0o644;

const user = workerData as ClientUser | undefined;
const refused = user ? native.benchUser(user.uid, user.gid) : 0;

parentPort?.on('message', (order: ClientOrder) => parentPort?.postMessage(execute(order)));

function execute(order: ClientOrder): ClientAnswer {
  if (refused < 0) return timed(1, () => refused);
  if (order.kind === 'paths') {
    const { root, operation, paths, count, bytes } = order;
    const buffer = new Uint8Array(bytes);
    return withFile(root, O_PATH_DIRECTORY, count, (dirfd, out) =>
      native.benchPaths(dirfd, operation, paths, buffer, out),
    );
  }
  if (order.kind === 'runs') {
    const { path, option, value, count } = order;
    return timed(count, out => native.benchRuns(path, option, value, out));
  }
  const { kind, path, offsets, bytes } = order;
  if (kind === 'touches') return withFile(path, 0, offsets.length, (fd, out) => native.benchTouches(fd, offsets, out));
  const buffer = new Uint8Array(bytes);
  return kind === 'reads'
    ? withFile(path, 0, offsets.length, (fd, out) => native.benchReads(fd, offsets, buffer, out))
    : withFile(path, NEW_FILE, offsets.length, (fd, out) => native.benchWrites(fd, offsets, buffer, out));
}

function withFile(
  path: ByteString,
  flags: number,
  count: number,
  use: (fd: number, out: Float64Array) => number,
): ClientAnswer {
  const fd = native.openat(AT_FDCWD, path, flags, MODE);
  const answer = timed(count, out => (fd < 0 ? fd : use(fd, out)));
  if (fd >= 0) native.close(fd);
  return answer;
}

function timed(count: number, use: (nanoseconds: Float64Array) => number): ClientAnswer {
  const nanoseconds = new Float64Array(count);
  const beginMs = now();
  const result = use(nanoseconds);
  return { result, nanoseconds, beginMs, endMs: now() };
}

function now(): number {
  return Number(process.hrtime.bigint()) / 1e6;
}
