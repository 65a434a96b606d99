/** Directory listings that are read in parts while the directory changes. */
import type { Inode } from '../layers/layer.ts';
import { bytesOf, ENTRY_BYTES, type Entry } from './readdir.ts';

export interface Listing {
  /** About how much memory the listing takes while it is kept; 0 if it is not worth keeping. */
  readonly bytes: number;
  /**
   * Passes entries to `visit` until it returns false. `next` is the position after the entry.
   * @param position 0, or a `next` that this listing or an older one of the same directory gave to `visit`
   */
  from(position: number, visit: (entry: Entry, next: number) => boolean): void;
}

/** A directory in a layer whose listings have positions of their own: no entries are kept, however many there are. */
export class PositionedListing implements Listing {
  readonly bytes = 0;
  private readonly directory: Inode;

  constructor(directory: Inode) {
    this.directory = directory;
  }

  from(position: number, visit: (entry: Entry, next: number) => boolean): void {
    const { layer } = this.directory;
    layer.readdirFrom?.(this.directory, position, (name, dtype, ino, next) => visit({ name, dtype, ino }, next));
  }
}

interface NumberedEntries {
  readonly sorted: readonly Entry[];
  /** The position of each entry, ascending. */
  readonly positions: Float64Array;
  /** The first position that no entry ever had. */
  readonly end: number;
}

function firstNumbers(entries: readonly Entry[]): NumberedEntries {
  const positions = new Float64Array(entries.length);
  for (let i = 0; i < entries.length; i++) positions[i] = i;
  return { sorted: entries, positions, end: entries.length };
}

/** When positions reach this limit, numbering starts again at 0: 32-bit programs have no room for larger positions. */
const POSITION_LIMIT = 2 ** 31 - 4096;

/**
 * Entries that are numbered; the numbers are their positions. A name that stays in the directory keeps its number in every newer
 * listing, and new names get higher numbers. So a reader that continues with a newer listing misses no name and sees none twice.
 */
export class NumberedListing implements Listing {
  readonly bytes: number;
  private readonly entries: readonly Entry[];
  /** The position of each entry, ascending. */
  private readonly positions: Float64Array;
  private readonly end: number;

  constructor(entries: readonly Entry[], before?: Listing) {
    const older = before instanceof NumberedListing && before.end < POSITION_LIMIT ? before : undefined;
    const { sorted, positions, end } = older?.number(entries) ?? firstNumbers(entries);
    this.entries = sorted;
    this.positions = positions;
    this.end = end;
    this.bytes = sorted.reduce((sum, entry) => sum + bytesOf(entry), ENTRY_BYTES);
  }

  /**
   * Orders and numbers entries: first those with names of this listing, in its order and with their positions, then all others.
   */
  private number(entries: readonly Entry[]): NumberedEntries {
    if (this.hasNamesOf(entries)) return { sorted: entries, positions: this.positions, end: this.end };
    const fresh = new Map(entries.map(entry => [entry.name, entry]));
    const sorted: Entry[] = [];
    const positions = new Float64Array(entries.length);
    for (let i = 0; i < this.entries.length; i++) {
      const { name } = this.entries[i] as Entry;
      const entry = fresh.get(name);
      if (entry === undefined) continue;
      positions[sorted.length] = this.positions[i] as number;
      sorted.push(entry);
      fresh.delete(name);
    }
    let { end } = this;
    for (const entry of fresh.values()) {
      positions[sorted.length] = end++;
      sorted.push(entry);
    }
    return { sorted, positions: positions.subarray(0, sorted.length), end };
  }

  /** Whether the names are the same and in the same order, which is the usual case. */
  private hasNamesOf(entries: readonly Entry[]): boolean {
    if (entries.length !== this.entries.length) return false;
    for (let i = 0; i < entries.length; i++) if (entries[i]?.name !== this.entries[i]?.name) return false;
    return true;
  }

  from(position: number, visit: (entry: Entry, next: number) => boolean): void {
    for (let i = this.indexOf(position); i < this.entries.length; i++) {
      if (!visit(this.entries[i] as Entry, (this.positions[i] as number) + 1)) return;
    }
  }

  /** The index of the first entry at `position` or after it. */
  private indexOf(position: number): number {
    let low = 0;
    let high = this.entries.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if ((this.positions[middle] as number) < position) low = middle + 1;
      else high = middle;
    }
    return low;
  }
}
