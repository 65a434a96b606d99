/** Which names a benchmark asks for: a fixed choice, shuffled by a seed, read from the stack without a mount. */
import type { Node } from '../overlay/node.ts';
import { openOverlay } from '../overlay/open.ts';
import type { StackOptions } from '../overlay/options.ts';
import type { Name } from '../sys/bytes.ts';
import { EINVAL, ErrnoError } from '../sys/errno.ts';
import { isDirectory, isRegular } from '../sys/stat.ts';

export interface BenchNames {
  /** All directories, `.` first, each before what is in it. */
  readonly directories: readonly Name[];
  /** Names below the root, the directories included. */
  readonly entries: number;
  /** Anything but the root. */
  readonly any: readonly Name[];
  /** Names that are not there, in directories that are. */
  readonly missing: readonly Name[];
  /** Regular files with a little data. */
  readonly files: readonly Name[];
}

/** Names of each kind at most. */
const SAMPLE = 5000;
const SMALL_BYTES = 16_384;

/** Throws ErrnoError where the stack can not be read, or holds nothing to ask for. */
export function benchNames(options: StackOptions, seed: number): BenchNames {
  const { directories, others, files } = readAll(options);
  const all = [...directories.slice(1), ...others];
  if (all.length === 0) throw new ErrnoError(EINVAL, 'the stack is empty: there is nothing to look up');
  const random = generator(seed);
  const any = sample(all, random);
  return {
    directories,
    entries: all.length,
    any,
    missing: any.map((path, i) => `${path.slice(0, path.lastIndexOf('/') + 1)}.lowerdata-bench-${i}`),
    files: sample(files, random),
  };
}

interface Found {
  readonly directories: Name[];
  readonly others: Name[];
  /** Those of the others that have a little data. */
  readonly files: Name[];
}

function readAll(options: StackOptions): Found {
  const overlay = openOverlay(options);
  const found: Found = { directories: ['.'], others: [], files: [] };
  const pending: [Name, Node][] = [['', overlay.root]];
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
      if (isRegular(mode) && size > 0 && size <= SMALL_BYTES) found.files.push(path);
    }
  }
  overlay.close();
  return found;
}

/** The first ones of a shuffled list. */
function sample(list: readonly Name[], random: () => number): Name[] {
  const shuffled = [...list];
  for (let i = shuffled.length - 1; i > 0; i--) {
    const j = Math.floor(random() * (i + 1));
    [shuffled[i], shuffled[j]] = [shuffled[j] as Name, shuffled[i] as Name];
  }
  return shuffled.slice(0, SAMPLE);
}

/** Numbers from 0 to 1, the same ones for a seed: a linear congruential generator. Source: Numerical Recipes, 7.1. */
function generator(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    return state / 2 ** 32;
  };
}
