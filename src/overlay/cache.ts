/** The bounded cache of dentries: what a name in a directory led to, so that a repeat asks no layer. */
import { LRUCache } from 'lru-cache';
import type { ByteString } from '../sys/bytes.ts';
import { CacheCounts } from '../sys/counters.ts';
import { isStale, type Node } from './node.ts';

/** What an overlay remembers of its layers. */
export interface Memory {
  /** Dentries at most; 0: none, every lookup asks the layers. */
  readonly dentries: number;
  /** How long attributes of directory layers may be out of date. Those of images never are. */
  readonly attrSeconds: number;
  /** The same of names, of what they led to and of those that led nowhere. */
  readonly entrySeconds: number;
  readonly negativeSeconds: number;
}

export const DEFAULT_MEMORY: Memory = {
  dentries: 65_536,
  attrSeconds: 30,
  entrySeconds: Number.POSITIVE_INFINITY,
  negativeSeconds: Number.POSITIVE_INFINITY,
};

/** What a name led to, and when, by performance.now. */
interface Dentry {
  readonly found: Node | number;
  readonly atMs: number;
  /** Of the node's top, then: since it was found elsewhere, nothing says that it is here, too. */
  readonly moves: number | undefined;
  /** Of the directory, whose number another one may have now. */
  readonly birth: ByteString | undefined;
}

/** Of one dentry with its node, an inode of a layer, its attributes and what the cache itself needs. */
const NODE_BYTES = 600;
/** One more layer of a merged directory, or the data of a metacopy file: another inode. */
const INODE_BYTES = 250;

/** A miss is remembered as its errno. */
export class DentryCache {
  private readonly max: number;
  private readonly entryMs: number;
  private readonly negativeMs: number;
  private readonly dentries: LRUCache<string, Dentry>;
  readonly counts = new CacheCounts();

  /**
   * @param memory `dentries` is as many times the bytes of one of a directory layer; long names and deep merges make it fewer. The
   * cache itself is not told: it would take memory for all of them in advance, and 5 ms.
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

  /** Those there are now, and about how many bytes they take. */
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
  if (typeof found === 'number') return NODE_BYTES + long; // less, but it takes a place
  const inodes = found.stack.length - 1 + (typeof found.data === 'object' ? 1 : 0);
  return NODE_BYTES + inodes * INODE_BYTES + long + (typeof found.data === 'string' ? found.data.length : 0);
}
/** What NODE_BYTES has room for. */
const SHORT_KEY = 32;
