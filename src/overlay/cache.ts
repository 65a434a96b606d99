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

/** Of one dentry with its node, an inode of a layer, its attributes and what the cache itself needs; a miss has no node. */
const NODE_BYTES = 600;
const MISS_BYTES = 150;
/** One more layer of a merged directory, or the data of a metacopy file: another inode. */
const INODE_BYTES = 250;

/** A miss is remembered as its errno. */
export class DentryCache {
  private readonly dentries: LRUCache<string, Node | number>;
  readonly counts = new CacheCounts();

  /** @param max dentries, and as many times the bytes of one of a directory layer: long names and deep merges make it fewer */
  constructor(max: number) {
    this.dentries = new LRUCache({ max, maxSize: max * NODE_BYTES, sizeCalculation: sizeBytes });
    this.counts.holds(this.dentries);
  }

  get(parent: Node, name: Name): Node | number | undefined {
    const found = this.dentries.get(key(parent, name));
    this.counts.asked(found !== undefined);
    return found;
  }

  set(parent: Node, name: Name, found: Node | number): void {
    this.dentries.set(key(parent, name), found);
    this.counts.holds(this.dentries);
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
  if (typeof found === 'number') return MISS_BYTES + length;
  const inodes = found.stack.length - 1 + (typeof found.data === 'object' ? 1 : 0);
  const long = Math.max(0, length - SHORT_KEY) + (typeof found.data === 'string' ? found.data.length : 0);
  return NODE_BYTES + inodes * INODE_BYTES + long;
}
/** What NODE_BYTES has room for. */
const SHORT_KEY = 32;
