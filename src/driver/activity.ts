/** What a mount is doing: the numbers that it counts, as other programs are told of them. */
import { RequestCounts, type RequestNumbers } from '../fuse/request-counts.ts';
import { CacheCounts, type CacheNumbers, type Counters } from '../sys/counters.ts';

/**
 * Where the numbers of Files are: checks by how they ended, then what is open at present. remembered: this version was checked
 * before; byKernel: the kernel has measured it; failed: the digest is wrong or missing, or the data can not be read.
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

/** Where those of names are: LOOKUPs that found nothing, and nodes that the kernel knows at present; NaN: not counted. */
export const NameCount = { missing: 0, nodes: 1, SIZE: 2 } as const;

/** Numbers that go on while a mount is served. */
export interface ActivityCounters {
  /** Of RequestCounts. */
  readonly requests: Counters;
  /** At FileCount and NameCount. */
  readonly files: Counters;
  readonly names: Counters;
  /** Of CacheCounts, by what the cache holds. */
  readonly caches: Readonly<Record<string, Counters>>;
}

export interface Activity extends RequestNumbers {
  /** LOOKUPs that found nothing. */
  readonly missing: number;
  /** Opens of files that have a digest, by what came of it; with `opens=none` reads. */
  readonly checks: Readonly<Record<'measured' | 'remembered' | 'byKernel' | 'failed', number>>;
  /** At present: handles on files, files that the kernel reads itself, and nodes that it knows, where they are counted. */
  readonly open: Readonly<{ handles: number; backings: number; nodes?: number }>;
  readonly caches: Readonly<Record<string, CacheNumbers>>;
}

export function activityOf({ requests, files, names, caches }: ActivityCounters): Activity {
  const file = (key: keyof typeof FileCount): number => files[FileCount[key]] as number;
  const nodes = names[NameCount.nodes] as number;
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
    open: { handles: file('handles'), backings: file('backings'), ...(Number.isNaN(nodes) ? {} : { nodes }) },
    caches: Object.fromEntries(cacheNumbers),
  };
}
