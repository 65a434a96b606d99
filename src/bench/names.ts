/** The names that a benchmark asks for: a fixed choice, shuffled by a seed, read from the stack without a mount. */
import { fstatSync, readlinkSync, statSync } from 'node:fs';
import type { Node } from '../overlay/node.ts';
import { openOverlay } from '../overlay/open.ts';
import type { StackOptions } from '../overlay/options/rules.ts';
import type { Overlay } from '../overlay/overlay.ts';
import { findPath } from '../overlay/path.ts';
import { type ByteString, bufferOf, byteStringOf, printable } from '../sys/bytes.ts';
import { EINVAL, ErrnoError } from '../sys/errno.ts';
import { isDirectory, isRegular } from '../sys/stat.ts';

export interface BenchNames {
  /** All directories, `.` first, each before its contents. */
  readonly directories: readonly ByteString[];
  /** The number of names below the root, including directories. */
  readonly entries: number;
  /** A sample of all names except the root. */
  readonly any: readonly ByteString[];
  /** Nonexistent names in existing directories. */
  readonly missing: readonly ByteString[];
  /** A sample of regular files with 1 to 16,384 bytes. */
  readonly files: readonly ByteString[];
  /** Names of new files, each beside one of these. */
  readonly made: readonly ByteString[];
  /** The chosen file, or the largest one; undefined if no file has LARGE_BYTES_MIN bytes. */
  readonly large: LargeFile | undefined;
  /** Executable programs of the stack, by kind. */
  readonly programs: ReadonlyMap<Program, ByteString>;
}

export interface LargeFile {
  readonly path: ByteString;
  /** The bytes that are measured, from the start of the file: at most LARGE_BYTES_MAX. */
  readonly sizeBytes: number;
  /** The plain file in its layer that holds the data; undefined if the data is in an image. */
  readonly object: ByteString | undefined;
  readonly seed: number;
}

/** Programs whose start is measured, with the patterns of their names in a stack. */
const PROGRAMS = { node: /^node$/, python3: /^python3(\.\d+)?$/ } as const;
export type Program = keyof typeof PROGRAMS;

/** The most names of each kind. */
const SAMPLE = 5000;
const SMALL_BYTES = 16_384;
/** The smallest large file: 32 reads of the measured size. */
export const LARGE_BYTES_MIN = 4 << 20;
const LARGE_BYTES_MAX = 256 << 20;

/**
 * Chooses the names.
 * @param large the path of the large file, instead of the largest one
 * Throws ErrnoError if the stack cannot be read or is empty, or if `large` is not a file of LARGE_BYTES_MIN bytes.
 */
export function benchNames(options: StackOptions, seed: number, large?: ByteString): BenchNames {
  const overlay = openOverlay(options);
  const { directories, others, files, largest, programs } = readAll(overlay);
  const all = [...directories.slice(1), ...others];
  if (all.length === 0) throw new ErrnoError(EINVAL, 'the stack is empty: there is nothing to look up');
  const random = generator(seed);
  const any = sample(all, random);
  const chosen = large === undefined ? largest : chosenLarge(overlay, large);
  const small = sample(files, random);
  const names = {
    directories,
    entries: all.length,
    any,
    missing: any.map(beside),
    files: small,
    made: small.map(beside),
    large: chosen && largeFile(overlay, chosen, seed),
    programs,
  };
  overlay.close();
  return names;
}

/** The i-th name that is not there, in the directory of a path. */
const beside = (path: ByteString, i: number): ByteString =>
  `${path.slice(0, path.lastIndexOf('/') + 1)}.lowerdata-bench-${i}`;

interface Candidate {
  readonly path: ByteString;
  readonly node: Node;
  readonly sizeBytes: number;
}

interface FoundNames {
  readonly directories: ByteString[];
  readonly others: ByteString[];
  /** The subset of `others` with a little data. */
  readonly files: ByteString[];
  readonly programs: Map<Program, ByteString>;
  largest?: Candidate;
}

function readAll(overlay: Overlay): FoundNames {
  const found: FoundNames = { directories: ['.'], others: [], files: [], programs: new Map() };
  const pending: [ByteString, Node][] = [['', overlay.root]];
  const seen = new Set([overlay.root.ino]); // a corrupt image may have a directory inside itself
  for (let next = pending.pop(); next; next = pending.pop()) {
    const [prefix, directory] = next;
    for (const { name } of overlay.list(directory)) {
      if (name === '.' || name === '..') continue;
      const node = overlay.lookup(directory, name);
      if (typeof node === 'number') continue; // a whiteout that is listed
      const path = prefix + name;
      const { mode, size } = overlay.attr(node);
      if (isDirectory(mode)) {
        if (seen.has(node.ino)) continue;
        seen.add(node.ino);
        found.directories.push(path);
        pending.push([`${path}/`, node]);
      } else found.others.push(path);
      if (isRegular(mode)) noteFile(found, { path, node, sizeBytes: size }, name, mode);
    }
  }
  return found;
}

const EXECUTABLE = 0o111;

function noteFile(found: FoundNames, file: Candidate, name: ByteString, mode: number): void {
  const { path, sizeBytes } = file;
  if (sizeBytes > 0 && sizeBytes <= SMALL_BYTES) found.files.push(path);
  if (sizeBytes >= LARGE_BYTES_MIN && sizeBytes > (found.largest?.sizeBytes ?? 0)) found.largest = file;
  if ((mode & EXECUTABLE) === 0) return;
  for (const [program, pattern] of Object.entries(PROGRAMS) as [Program, RegExp][]) {
    const before = found.programs.get(program);
    if (pattern.test(name) && (before === undefined || path.length < before.length)) found.programs.set(program, path);
  }
}

function chosenLarge(overlay: Overlay, path: ByteString): Candidate {
  const node = findPath(overlay, path, false);
  const { mode, size } = overlay.attr(node);
  if (!isRegular(mode) || size < LARGE_BYTES_MIN)
    throw new ErrnoError(EINVAL, `--large ${printable(path)}: not a file of ${LARGE_BYTES_MIN} bytes or more`);
  return { path: path.replace(/^\/+/, ''), node, sizeBytes: size };
}

function largeFile(overlay: Overlay, { path, node, sizeBytes }: Candidate, seed: number): LargeFile {
  const data = overlay.find(node);
  const object = typeof data === 'number' ? undefined : objectOf(overlay, data.fd);
  if (typeof data !== 'number') data.close();
  return { path, sizeBytes: Math.min(sizeBytes, LARGE_BYTES_MAX), object, seed };
}

/**
 * The path of an open file; undefined if none is found. Layers are opened as separate mounts, so a path in /proc starts at its
 * layer. Source: proc_pid_fd(5).
 * @param fd -1 for data in an image, which has no file
 */
function objectOf(overlay: Overlay, fd: number): ByteString | undefined {
  if (fd < 0) return undefined;
  const own = byteStringOf(readlinkSync(`/proc/self/fd/${fd}`, { encoding: 'buffer' }));
  const { dev, ino } = fstatSync(fd, { bigint: true });
  const folders = [...overlay.layers, ...overlay.dataLayers].flatMap(({ kind, path }) =>
    kind === 'directory' ? path : [],
  );
  const candidates = [own, ...folders.map(path => path + own)];
  return candidates.find(candidate => {
    const stat = statSync(bufferOf(candidate), { bigint: true, throwIfNoEntry: false });
    return stat?.dev === dev && stat.ino === ino;
  });
}

/** The first SAMPLE elements of a shuffled copy of a list. */
function sample(list: readonly ByteString[], random: () => number): ByteString[] {
  const shuffled = [...list];
  for (let i = shuffled.length - 1; i > 0; i--) {
    const j = Math.floor(random() * (i + 1));
    [shuffled[i], shuffled[j]] = [shuffled[j] as ByteString, shuffled[i] as ByteString];
  }
  return shuffled.slice(0, SAMPLE);
}

/**
 * Pseudo-random numbers from 0 to 1 (exclusive), determined by the seed: a linear congruential generator. Source: Numerical
 * Recipes, 7.1.
 */
export function generator(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    return state / 2 ** 32;
  };
}
