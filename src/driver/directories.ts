/**
 * Listings of directories, kept between the parts that the kernel reads. It opens directories without us, and so readers of one
 * directory share its listing.
 */
import { LRUCache } from 'lru-cache';
import type { Nodeid } from '../fuse/ops.ts';
import type { Listing } from '../overlay/listing.ts';
import { CacheCounts } from '../sys/counters.ts';

const LISTINGS_MAX = 4096;
/** Of all listings. A larger one is kept alone: to make it anew for each part would take ever longer. */
const BYTES_MAX = 64 << 20;

export class Directories {
  readonly counts = new CacheCounts();
  private readonly listings = new LRUCache<Nodeid, Listing>({
    max: LISTINGS_MAX,
    maxSize: BYTES_MAX,
    sizeCalculation: ({ bytes }) => Math.min(Math.max(bytes, 1), BYTES_MAX),
  });

  constructor() {
    this.counts.holds(this.listings);
  }

  /**
   * The listing of a directory.
   * @param isStale whether the one that is kept is not to be used
   * @param make makes it, so that readers of the one before can go on with it
   */
  listing(nodeid: Nodeid, isStale: boolean, make: (before: Listing | undefined) => Listing): Listing {
    const known = this.listings.get(nodeid);
    this.counts.asked(known !== undefined && !isStale);
    if (known && !isStale) return known;
    const listing = make(known);
    if (listing.bytes > 0) this.listings.set(nodeid, listing);
    this.counts.holds(this.listings);
    return listing;
  }

  /** To be told when the kernel forgets a directory: its number may become that of another. */
  forget(nodeid: Nodeid): void {
    if (this.listings.delete(nodeid)) this.counts.holds(this.listings);
  }
}
