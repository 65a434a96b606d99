/**
 * Directory listings, kept between the parts that the kernel reads. The kernel may open directories without asking, so all
 * readers of a directory share its listing.
 */
import { LRUCache } from 'lru-cache';
import type { Nodeid } from '../fuse/filesystem.ts';
import type { Listing } from '../overlay/listing.ts';
import { CacheCounts } from '../sys/counters.ts';

const LISTINGS_MAX = 4096;
/**
 * The limit for all listings together. A larger listing is kept alone, because making it again for each part would take ever
 * longer.
 */
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
   * @param isStale whether a kept listing must not be used
   * @param make makes a new listing from the kept one, so that readers of the old one can continue with the new one
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

  /** Must be called when the kernel forgets a directory, whose nodeid may later be another's. */
  forget(nodeid: Nodeid): void {
    if (this.listings.delete(nodeid)) this.counts.holds(this.listings);
  }
}
