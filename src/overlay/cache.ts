/** The bounded cache of dentries: what a name in a directory led to, so that a repeat asks no layer. */
import { LRUCache } from 'lru-cache';
import type { Name } from '../sys/bytes.ts';
import type { Node } from './node.ts';

/** A miss is remembered as its errno. */
export class DentryCache {
  private readonly dentries: LRUCache<string, Node | number>;
  hits = 0;
  misses = 0;

  constructor(max: number) {
    this.dentries = new LRUCache({ max });
  }

  get(parent: Node, name: Name): Node | number | undefined {
    const found = this.dentries.get(key(parent, name));
    if (found === undefined) this.misses++;
    else this.hits++;
    return found;
  }

  set(parent: Node, name: Name, found: Node | number): void {
    this.dentries.set(key(parent, name), found);
  }
}

const key = (parent: Node, name: Name): string => `${parent.ino}/${name}`;
