/** Open directories: the handle that the kernel holds, and the listing made at its first read. */
import { LRUCache } from 'lru-cache';
import type { Nodeid } from '../fuse/ops.ts';
import type { Entry } from '../overlay/readdir.ts';
import { CacheCounts } from '../sys/counters.ts';

export interface OpenDirectory {
  entries: Entry[] | undefined;
}

/** Listings kept for directories that the kernel opens without us. */
const UNOPENED_MAX = 128;

export class Directories {
  /** Of those listings. */
  readonly counts = new CacheCounts();
  private readonly open = new Map<number, OpenDirectory>();
  private readonly listings = new LRUCache<Nodeid, OpenDirectory>({ max: UNOPENED_MAX });
  private next = 1;

  constructor() {
    this.counts.holds(this.listings);
  }

  add(): number {
    const handle = this.next++;
    this.open.set(handle, { entries: undefined });
    return handle;
  }

  get(handle: number): OpenDirectory | undefined {
    return this.open.get(handle);
  }

  /** A directory that the kernel reads without having opened it. */
  unopened(nodeid: Nodeid): OpenDirectory {
    const known = this.listings.get(nodeid);
    this.counts.asked(known !== undefined);
    if (known) return known;
    const directory = { entries: undefined };
    this.listings.set(nodeid, directory);
    this.counts.holds(this.listings);
    return directory;
  }

  /** Has the listing of such a directory made anew. */
  forget(nodeid: Nodeid): void {
    this.listings.delete(nodeid);
    this.counts.holds(this.listings);
  }

  release(handle: number): void {
    this.open.delete(handle);
  }
}
