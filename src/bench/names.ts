/** What a benchmark asks for: a fixed choice of names, shuffled by a seed, read from the stack without a mount. */
import { fstatSync, readlinkSync, statSync } from 'node:fs';
import type { Node } from '../overlay/node.ts';
import { openOverlay } from '../overlay/open.ts';
import type { StackOptions } from '../overlay/options.ts';
import type { Overlay } from '../overlay/overlay.ts';
import { findPath } from '../overlay/path.ts';
import { type ByteString, bufferOf, byteStringOf, printable } from '../sys/bytes.ts';
import { EINVAL, ErrnoError } from '../sys/errno.ts';
import { isDirectory, isRegular } from '../sys/stat.ts';

export interface BenchNames {
  /** All directories, `.` first, each before what is in it. */
  readonly directories: readonly ByteString[];
  /** Names below the root, the directories included. */
  readonly entries: number;
  /** Anything but the root. */
  readonly any: readonly ByteString[];
  /** Names that are not there, in directories that are. */
  readonly missing: readonly ByteString[];
  /** Regular files with a little data. */
  readonly files: readonly ByteString[];
  /** The regular file with the most data, or the one that was chosen; undefined where there is none with much. */
  readonly large: LargeFile | undefined;
  /** Programs that can be started. */
  readonly programs: ReadonlyMap<Program, ByteString>;
}

export interface LargeFile {
  readonly path: ByteString;
  /** What is measured of it: from its beginning, LARGE_BYTES_MAX at most. */
  readonly sizeBytes: number;
  /** The plain file in its layer that holds the data; undefined where that is in an image. */
  readonly object: ByteString | undefined;
  readonly seed: number;
}

/** Programs that say with a few words how long starting takes, by their names in a stack. */
const PROGRAMS = { node: /^node$/, python3: /^python3(\.\d+)?$/ } as const;
export type Program = keyof typeof PROGRAMS;

/** Names of each kind at most. */
const SAMPLE = 5000;
const SMALL_BYTES = 16_384;
/** Where a large file begins: 32 reads of the size that is measured. */
export const LARGE_BYTES_MIN = 4 << 20;
const LARGE_BYTES_MAX = 256 << 20;

/**
 * @param large the path of the large file, instead of the largest one
 * Throws ErrnoError where the stack can not be read, holds nothing to ask for, or has no such file.
 */
export function benchNames(options: StackOptions, seed: number, large?: ByteString): BenchNames {
  const overlay = openOverlay(options);
  const { directories, others, files, largest, programs } = readAll(overlay);
  const all = [...directories.slice(1), ...others];
  if (all.length === 0) throw new ErrnoError(EINVAL, 'the stack is empty: there is nothing to look up');
  const random = generator(seed);
  const any = sample(all, random);
  const chosen = large === undefined ? largest : chosenLarge(overlay, large);
  const names = {
    directories,
    entries: all.length,
    any,
    missing: any.map((path, i) => `${path.slice(0, path.lastIndexOf('/') + 1)}.lowerdata-bench-${i}`),
    files: sample(files, random),
    large: chosen && largeFile(overlay, chosen, seed),
    programs,
  };
  overlay.close();
  return names;
}

interface Candidate {
  readonly path: ByteString;
  readonly node: Node;
  readonly sizeBytes: number;
}

interface Found {
  readonly directories: ByteString[];
  readonly others: ByteString[];
  /** Those of the others that have a little data. */
  readonly files: ByteString[];
  readonly programs: Map<Program, ByteString>;
  largest?: Candidate;
}

function readAll(overlay: Overlay): Found {
  const found: Found = { directories: ['.'], others: [], files: [], programs: new Map() };
  const pending: [ByteString, Node][] = [['', overlay.root]];
  const seen = new Set([overlay.root.ino]); // a damaged image may have a directory in itself
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

function noteFile(found: Found, file: Candidate, name: ByteString, mode: number): void {
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
 * The path of an open file. Layers are opened as mounts of their own, in which a path begins at the layer. Source: proc_pid_fd(5).
 * @param fd -1 for data in an image, which is no file
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

/** The first ones of a shuffled list. */
function sample(list: readonly ByteString[], random: () => number): ByteString[] {
  const shuffled = [...list];
  for (let i = shuffled.length - 1; i > 0; i--) {
    const j = Math.floor(random() * (i + 1));
    [shuffled[i], shuffled[j]] = [shuffled[j] as ByteString, shuffled[i] as ByteString];
  }
  return shuffled.slice(0, SAMPLE);
}

/** Numbers from 0 to 1, the same ones for a seed: a linear congruential generator. Source: Numerical Recipes, 7.1. */
export function generator(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    return state / 2 ** 32;
  };
}
