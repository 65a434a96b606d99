/** Lists a directory of the overlay. Source: kernel fs/overlayfs/readdir.c. */
import { getHeapStatistics } from 'node:v8';
import type { Inode } from '../layers/layer.ts';
import type { ByteString } from '../sys/bytes.ts';
import { ENOMEM, ErrnoError } from '../sys/errno.ts';
import { DT_CHR, DT_REG, DT_UNKNOWN, isRegular } from '../sys/stat.ts';
import { isWhiteout } from './step.ts';
import type { OverlayXattrs } from './xattrs.ts';

/** A name in a listing, which has no `.` and `..`; `dtype` is the DT_* number of the top entry. */
export interface Entry {
  name: ByteString;
  dtype: number;
  /** The number of the inode that a lookup in this real directory finds, if its layer knows it. */
  ino?: number | undefined;
}

/** Bytes of an entry without its name, with its slots in the arrays of a listing. */
export const ENTRY_BYTES = 120;
export const bytesOf = ({ name }: Entry): number => ENTRY_BYTES + name.length;

/** Limits the memory of a listing while it is made: it may take a quarter of the heap that this process may use. */
class ListingBudget {
  private left = getHeapStatistics().heap_size_limit / 4;

  /** Throws ErrnoError ENOMEM if the entry does not fit. */
  take(entry: Entry): void {
    this.left -= bytesOf(entry);
    if (this.left < 0) throw new ErrnoError(ENOMEM, 'a directory with more names than fit into memory');
  }
}

/**
 * Lists a real directory without merging: whiteouts are included.
 * Throws ErrnoError ENOMEM if the entries do not fit into ListingBudget.
 */
export function listReal(directory: Inode): Entry[] {
  const entries: Entry[] = [];
  const budget = new ListingBudget();
  visitReal(directory, entry => {
    budget.take(entry);
    entries.push(entry);
  });
  return entries;
}

function visitReal(directory: Inode, visit: (entry: Entry) => void): void {
  const { layer } = directory;
  if (!layer.readdirFrom) {
    layer.readdir(directory, (name, dtype) => visit({ name, dtype }));
    return;
  }
  layer.readdirFrom(directory, 0, (name, dtype, ino) => {
    visit({ name, dtype, ino });
    return true;
  });
}

/**
 * Merges the listings of a stack of directories: the first occurrence of a name from the top counts, and whiteouts are left out.
 * Order: every name of the lowest layer in that layer's order, then the others by layer from the top.
 * @param hasXwhiteouts whether regular files of this real directory may be xattr whiteouts
 * Throws ErrnoError ENOMEM if the entries do not fit into ListingBudget.
 */
export function listMerged(
  xattrs: OverlayXattrs,
  stack: readonly Inode[],
  hasXwhiteouts: (directory: Inode) => boolean,
): Entry[] {
  const seen = new Map<ByteString, Entry | undefined>(); // undefined: a whiteout
  const lowest = new Set<Entry>();
  const budget = new ListingBudget();
  for (const directory of stack) {
    const checkRegular = hasXwhiteouts(directory);
    const isLowest = directory === stack[stack.length - 1];
    visitReal(directory, listed => {
      const { name, dtype } = listed;
      if (!seen.has(name)) {
        budget.take(listed);
        const maybe = dtype === DT_CHR || dtype === DT_UNKNOWN || (dtype === DT_REG && checkRegular);
        seen.set(name, maybe && isHidden(xattrs, directory, listed, checkRegular) ? undefined : listed);
      }
      const entry = isLowest ? seen.get(name) : undefined;
      if (entry) lowest.add(entry);
    });
  }
  const rest = [...seen.values()].filter(entry => entry !== undefined && !lowest.has(entry));
  return [...lowest, ...(rest as Entry[])];
}

/** Whether the entry is a whiteout; an empty regular file with the xattr is one only with `checkRegular`. */
function isHidden(
  xattrs: OverlayXattrs,
  directory: Inode,
  { name, ino, dtype }: Entry,
  checkRegular: boolean,
): boolean {
  const { layer } = directory;
  if (dtype === DT_CHR && layer.isDevice0?.(directory, name)) return true;
  const inode = ino !== undefined && layer.recall ? layer.recall(ino) : layer.lookup(directory, name);
  if (inode === undefined) return true; // removed since the layer was listed
  return (checkRegular || !isRegular(inode.mode)) && isWhiteout(xattrs, inode);
}
