/** Listings that are read in parts, while their directory changes. */
import type { Inode } from '../layers/layer.ts';
import { bytesOf, ENTRY_BYTES, type Entry } from './readdir.ts';

export interface Listing {
  /** About how much memory it takes to keep; 0: it is not worth keeping. */
  readonly bytes: number;
  /**
   * Hands over entries until `visit` returns false. `next` is the position of what comes after the entry.
   * @param position 0, or what `visit` got as `next`, from this listing or an older one of the directory
   */
  from(position: number, visit: (entry: Entry, next: number) => boolean): void;
}

/** The entries of a layer's directory that has positions of its own: nothing is kept, whatever its size. */
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

interface Numbered {
  readonly sorted: readonly Entry[];
  /** Of each entry, ascending. */
  readonly positions: Float64Array;
  /** The first one that no entry ever had. */
  readonly end: number;
}

function firstNumbers(entries: readonly Entry[]): Numbered {
  const positions = new Float64Array(entries.length);
  for (let i = 0; i < entries.length; i++) positions[i] = i;
  return { sorted: entries, positions, end: entries.length };
}

/** 32-bit programs have no room for a larger position. */
const POSITION_LIMIT = 2 ** 31 - 4096;

/**
 * Entries with numbers for positions. A name that is in the directory all the time keeps its number in each newer listing, and
 * new names get higher ones. So a reader who goes on with a newer listing misses no name and sees none twice.
 */
export class NumberedListing implements Listing {
  readonly bytes: number;
  private readonly entries: readonly Entry[];
  /** Of each entry, ascending. */
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

  /** Entries whose names are listed here, in this order and with their positions, then all others. */
  private number(entries: readonly Entry[]): Numbered {
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

  /** Whether the names are the same, in the same order, as they mostly are. */
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

  /** The first entry at a position or after it. */
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
