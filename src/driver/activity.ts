/** The activity of a mount: the numbers that it counts, in the form that other programs read. */
import { RequestCounts, type RequestNumbers } from '../fuse/request-counts.ts';
import { CacheCounts, type CacheNumbers, type Counters } from '../sys/counters.ts';

/**
 * Indices of the numbers of Files. The first four count checks by their outcome; the last two count what is open now. measured:
 * read and hashed; remembered: this version was checked before; byKernel: the kernel has measured it (fs-verity); failed: the
 * digest is wrong or missing, or the data cannot be read.
 */
export const FileCount = {
  measured: 0,
  remembered: 1,
  byKernel: 2,
  failed: 3,
  handles: 4,
  backings: 5,
  SIZE: 6,
} as const;

/** Indices of the numbers of names: LOOKUPs that found nothing, and nodes that the kernel knows now. */
export const NameCount = { missing: 0, nodes: 1, SIZE: 2 } as const;

/** In a counter: the number is not known. Readers of counters get undefined for it. */
const UNKNOWN = Number.NaN;

/** @param names numbers at the indices of NameCount; @param nodes undefined if they are not counted */
export function putNodeCount(names: Counters, nodes: number | undefined): void {
  names[NameCount.nodes] = nodes ?? UNKNOWN;
}

function nodeCountOf(names: Counters): number | undefined {
  const nodes = names[NameCount.nodes] as number;
  return Number.isNaN(nodes) ? undefined : nodes;
}

/** Counters that change while a mount is served. */
export interface ActivityCounters {
  /** The counters of a RequestCounts. */
  readonly requests: Counters;
  /** Numbers at the indices of FileCount. `names` has those of NameCount. */
  readonly files: Counters;
  readonly names: Counters;
  /** The counters of CacheCounts, by the contents of the cache. */
  readonly caches: Readonly<Record<string, Counters>>;
}

export interface Activity extends RequestNumbers {
  /** LOOKUPs that found nothing. */
  readonly missing: number;
  /** Opens of files that have a digest, by outcome. With `opens=none`, these are reads. */
  readonly checks: Readonly<Record<'measured' | 'remembered' | 'byKernel' | 'failed', number>>;
  /**
   * Open now: file handles, files that the kernel reads itself, and nodes that it knows. `nodes` is absent if they are not
   * counted.
   */
  readonly open: Readonly<{ handles: number; backings: number; nodes?: number }>;
  readonly caches: Readonly<Record<string, CacheNumbers>>;
}

export function activityOf({ requests, files, names, caches }: ActivityCounters): Activity {
  const file = (key: keyof typeof FileCount): number => files[FileCount[key]] as number;
  const nodes = nodeCountOf(names);
  const cacheNumbers = Object.entries(caches).map(([name, counters]) => [name, CacheCounts.read(counters)]);
  return {
    ...RequestCounts.read(requests),
    missing: names[NameCount.missing] as number,
    checks: {
      measured: file('measured'),
      remembered: file('remembered'),
      byKernel: file('byKernel'),
      failed: file('failed'),
    },
    open: { handles: file('handles'), backings: file('backings'), ...(nodes === undefined ? {} : { nodes }) },
    caches: Object.fromEntries(cacheNumbers),
  };
}
