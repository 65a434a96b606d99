/** The bounded cache of dentries: it keeps the result of each lookup, so that a repeated lookup needs no layer. */
import { LRUCache } from 'lru-cache';
import type { ByteString } from '../sys/bytes.ts';
import { CacheCounts } from '../sys/counters.ts';
import { isStale, type Node } from './node.ts';

/** How much an overlay remembers of its layers, and for how long. */
export interface Memory {
  /** The maximum number of dentries; with 0, every lookup asks the layers. */
  readonly dentries: number;
  /** How long attributes of directory layers may be out of date. Attributes of images never are. */
  readonly attrSeconds: number;
  /** How long the result of a lookup is remembered: `entrySeconds` for a node, `negativeSeconds` for a miss. */
  readonly entrySeconds: number;
  readonly negativeSeconds: number;
}

export const DEFAULT_MEMORY: Memory = {
  dentries: 65_536,
  attrSeconds: 30,
  entrySeconds: Number.POSITIVE_INFINITY,
  negativeSeconds: Number.POSITIVE_INFINITY,
};

/** The result of one lookup, and its time by performance.now. */
interface Dentry {
  readonly found: Node | number;
  readonly atMs: number;
  /** `moves` of the top inode at that time. If it has grown, the object was found elsewhere and may no longer have this name. */
  readonly moves: number | undefined;
  /** `birth` of the directory: another directory may have its inode number by now. */
  readonly birth: ByteString | undefined;
}

/** Bytes of one dentry with its node, one inode of a layer, its attributes, and the cache's own bookkeeping. */
const NODE_BYTES = 600;
/** Bytes of each further inode: one more layer of a merged directory, or the data of a metacopy file. */
const INODE_BYTES = 250;

/** Maps a directory and a name to a node. A miss is remembered as its negative errno. */
export class DentryCache {
  private readonly max: number;
  private readonly entryMs: number;
  private readonly negativeMs: number;
  private readonly dentries: LRUCache<string, Dentry>;
  readonly counts = new CacheCounts();

  /**
   * @param memory `dentries` sets the cache's size in bytes, as that many dentries of a directory layer. Long names and deep
   *   merges take more, so fewer dentries fit.
   * The cache is not given a maximum count: it would allocate memory for all dentries in advance, which takes 5 ms.
   */
  constructor({ dentries: max, entrySeconds, negativeSeconds }: Memory) {
    this.max = max;
    this.entryMs = entrySeconds * 1000;
    this.negativeMs = negativeSeconds * 1000;
    this.dentries = new LRUCache({ maxSize: max * NODE_BYTES, sizeCalculation: sizeBytes });
    this.counts.holds(this.dentries, max);
  }

  get(parent: Node, name: ByteString): Node | number | undefined {
    const dentry = this.dentries.get(key(parent, name));
    const isKnown = dentry !== undefined && dentry.birth === parent.top.birth && this.holds(dentry);
    this.counts.asked(isKnown);
    return isKnown ? dentry.found : undefined;
  }

  private holds({ found, atMs, moves }: Dentry): boolean {
    const isMiss = typeof found === 'number';
    const lifeMs = isMiss ? this.negativeMs : this.entryMs;
    if (lifeMs !== Number.POSITIVE_INFINITY && performance.now() - atMs >= lifeMs) return false;
    return isMiss || (found.top.moves === moves && !isStale(found));
  }

  set(parent: Node, name: ByteString, found: Node | number): void {
    const moves = typeof found === 'number' ? undefined : found.top.moves;
    this.dentries.set(key(parent, name), { found, atMs: performance.now(), moves, birth: parent.top.birth });
    this.counts.holds(this.dentries, this.max);
  }

  /** The number of dentries in the cache; `bytes` is about how much memory they take. */
  get count(): number {
    return this.dentries.size;
  }
  get bytes(): number {
    return this.dentries.calculatedSize;
  }
}

const key = ({ ino }: Node, name: ByteString): string => `${ino}/${name}`;

function sizeBytes({ found }: Dentry, { length }: string): number {
  const long = Math.max(0, length - SHORT_KEY);
  if (typeof found === 'number') return NODE_BYTES + long; // it takes less memory, but counts as a whole dentry
  const inodes = found.stack.length - 1 + (typeof found.data === 'object' ? 1 : 0);
  return NODE_BYTES + inodes * INODE_BYTES + long + (typeof found.data === 'string' ? found.data.length : 0);
}
/** The length of a key that NODE_BYTES has room for. */
const SHORT_KEY = 32;
