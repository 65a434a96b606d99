/** The nodes that the kernel knows: nodeid to overlay node, with the kernel's count of lookups. */
import type { Nodeid } from '../fuse/ops.ts';
import { ROOT } from '../fuse/ops.ts';
import type { Node } from '../overlay/node.ts';
import { S_IFMT } from '../sys/stat.ts';

interface Known {
  node: Node;
  lookups: number;
}

/** A nodeid is st_ino + 2, so that hard links share one, and 1 is left for the root. */
const FIRST_NODEID = 2;

export class Nodes {
  private readonly known = new Map<number, Known>();
  private readonly root: Node;

  constructor(root: Node) {
    this.root = root;
  }

  get size(): number {
    return this.known.size;
  }

  /** The node, or undefined for a nodeid that the kernel was never given or has forgotten. */
  get(nodeid: Nodeid): Node | undefined {
    return nodeid === ROOT ? this.root : this.known.get(nodeid)?.node;
  }

  idOf(node: Node): Nodeid {
    return (node.ino === this.root.ino ? ROOT : node.ino + FIRST_NODEID) as Nodeid;
  }

  /** The node to answer with: the one that the kernel knows already keeps its stack and data, as its inode would. */
  canonical(node: Node): Node {
    if (node.ino === this.root.ino) return this.root;
    const known = this.known.get(this.idOf(node))?.node;
    const isSameObject = known && (known.top.mode & S_IFMT) === (node.top.mode & S_IFMT);
    return isSameObject ? known : node; // else the number was used again in a layer that changed
  }

  /** Counts a lookup of a canonical node that the kernel is told of. */
  remember(node: Node): void {
    const nodeid = this.idOf(node);
    if (nodeid === ROOT) return;
    const known = this.known.get(nodeid);
    if (known === undefined) {
      this.known.set(nodeid, { node, lookups: 1 });
    } else {
      known.node = node;
      known.lookups++;
    }
  }

  /** Takes back `count` lookups. @returns whether the kernel has forgotten the node */
  forget(nodeid: Nodeid, count: number): boolean {
    const known = this.known.get(nodeid);
    if (known === undefined) return false;
    known.lookups -= count;
    return known.lookups <= 0 && this.known.delete(nodeid);
  }
}
