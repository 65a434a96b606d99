/** Counters that are kept while a mount is served. */

/** Counters up to 2^53, all zero at first. */
export type Counters = Float64Array;

export const newCounters = (length: number): Counters => new Float64Array(length);

export function count(counters: Counters, at: number, more = 1): void {
  counters[at] = (counters[at] as number) + more;
}

/** Indices of a cache's numbers. `bytes` and `bytesMax` are 0 if the cache has no limit for them. */
const CacheCount = { hits: 0, misses: 1, entries: 2, entriesMax: 3, bytes: 4, bytesMax: 5, SIZE: 6 } as const;

export interface CacheNumbers {
  readonly hits: number;
  readonly misses: number;
  readonly entries: number;
  readonly entriesMax: number;
  readonly bytes: number;
  readonly bytesMax: number;
}

/** The fields of an LRUCache that are used here. */
interface Cache {
  readonly size: number;
  readonly max: number;
  readonly calculatedSize: number;
  readonly maxSize: number;
}

/** The counters of a cache. */
export class CacheCounts {
  readonly counters: Counters = newCounters(CacheCount.SIZE);

  /** Counts a lookup in the cache. */
  asked(hit: boolean): void {
    count(this.counters, hit ? CacheCount.hits : CacheCount.misses);
  }

  /** Must be called after each change of the cache. @param entriesMax if the cache's own `max` is not the limit */
  holds({ size, max, calculatedSize, maxSize }: Cache, entriesMax: number = max): void {
    const { counters } = this;
    counters[CacheCount.entries] = size;
    counters[CacheCount.entriesMax] = entriesMax;
    counters[CacheCount.bytes] = calculatedSize;
    counters[CacheCount.bytesMax] = maxSize;
  }

  static read(counters: Counters): CacheNumbers {
    const number = (key: keyof CacheNumbers): number => counters[CacheCount[key]] as number;
    return {
      hits: number('hits'),
      misses: number('misses'),
      entries: number('entries'),
      entriesMax: number('entriesMax'),
      bytes: number('bytes'),
      bytesMax: number('bytesMax'),
    };
  }
}
