/** The bounded cache of dentries: what a name in a directory led to, so that a repeat asks no layer. */
import { LRUCache } from 'lru-cache';
import type { Name } from '../sys/bytes.ts';
import { CacheCounts } from '../sys/counters.ts';
import type { Node } from './node.ts';

/** What an overlay remembers of its layers. */
export interface Memory {
  /** Dentries at most; 0: none, every lookup asks the layers. */
  readonly dentries: number;
  /** How long attributes of directory layers may be out of date. Those of images never are. */
  readonly attrSeconds: number;
}

export const DEFAULT_MEMORY: Memory = { dentries: 65_536, attrSeconds: 30 };

/** Of one dentry with its node, an inode of a layer, its attributes and what the cache itself needs. */
const NODE_BYTES = 600;
/** One more layer of a merged directory, or the data of a metacopy file: another inode. */
const INODE_BYTES = 250;

/** A miss is remembered as its errno. */
export class DentryCache {
  private readonly max: number;
  private readonly dentries: LRUCache<string, Node | number>;
  readonly counts = new CacheCounts();

  /**
   * @param max dentries: as many times the bytes of one of a directory layer; long names and deep merges make it fewer. The
   * cache itself is not told: it would take memory for all of them in advance, and 5 ms.
   */
  constructor(max: number) {
    this.max = max;
    this.dentries = new LRUCache({ maxSize: max * NODE_BYTES, sizeCalculation: sizeBytes });
    this.counts.holds(this.dentries, max);
  }

  get(parent: Node, name: Name): Node | number | undefined {
    const found = this.dentries.get(key(parent, name));
    this.counts.asked(found !== undefined);
    return found;
  }

  set(parent: Node, name: Name, found: Node | number): void {
    this.dentries.set(key(parent, name), found);
    this.counts.holds(this.dentries, this.max);
  }

  /** Those there are now, and about how many bytes they take. */
  get count(): number {
    return this.dentries.size;
  }
  get bytes(): number {
    return this.dentries.calculatedSize;
  }
}

const key = (parent: Node, name: Name): string => `${parent.ino}/${name}`;

function sizeBytes(found: Node | number, { length }: string): number {
  const long = Math.max(0, length - SHORT_KEY);
  if (typeof found === 'number') return NODE_BYTES + long; // less, but it takes a place
  const inodes = found.stack.length - 1 + (typeof found.data === 'object' ? 1 : 0);
  return NODE_BYTES + inodes * INODE_BYTES + long + (typeof found.data === 'string' ? found.data.length : 0);
}
/** What NODE_BYTES has room for. */
const SHORT_KEY = 32;
