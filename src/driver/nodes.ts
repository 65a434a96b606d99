/** The nodes that the kernel knows: nodeid to overlay node. */
import type { Nodeid } from '../fuse/ops.ts';
import { ROOT } from '../fuse/ops.ts';
import type { Node } from '../overlay/node.ts';
import type { Overlay } from '../overlay/overlay.ts';
import { S_IFMT } from '../sys/stat.ts';

interface Known {
  node: Node;
  lookups: number;
}

/** A nodeid is st_ino + 2, so that hard links share one, and 1 is left for the root. */
const FIRST_NODEID = 2;

/** Nodes that are kept, with the kernel's count of lookups, until it has forgotten them. */
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

/** Places for nodes that are used again and again, so that they are not made anew each time. */
const PLACES = 1024;

/**
 * Nodes of a stack that finds each of them by its number: none has to be kept, however many the kernel knows, and nothing
 * has to be counted.
 */
export class RecalledNodes {
  /** Nobody counts them. */
  readonly size: number = Number.NaN;
  private readonly overlay: Overlay;
  /** Each nodeid has one place, which it takes from another: making a node again costs no more than a better choice would. */
  private readonly recent = new Array<Node | undefined>(PLACES).fill(undefined);

  /** @param overlay one that `recalls` */
  constructor(overlay: Overlay) {
    this.overlay = overlay;
  }

  /** The node; throws ErrnoError for a nodeid that the kernel was never given, if there is no such inode. */
  get(nodeid: Nodeid): Node | undefined {
    if (nodeid === ROOT) return this.overlay.root;
    if (nodeid < FIRST_NODEID) return undefined;
    const ino = nodeid - FIRST_NODEID;
    const recent = this.recent[ino % PLACES];
    if (recent?.ino === ino) return recent;
    const node = this.overlay.recall(ino);
    if (typeof node === 'number') return undefined;
    this.recent[ino % PLACES] = node;
    return node;
  }

  /** The node of a nodeid that comes from a file handle, or the directory above it; undefined where there is none. */
  ofHandle(nodeid: Nodeid, isParent: boolean): Node | undefined {
    const ino = nodeid === ROOT ? this.overlay.root.ino : nodeid - FIRST_NODEID;
    if (ino < 0) return undefined;
    const node = this.overlay.recallHandle(ino, isParent);
    return typeof node === 'number' ? undefined : this.canonical(node);
  }

  idOf({ ino }: Node): Nodeid {
    return (ino === this.overlay.root.ino ? ROOT : ino + FIRST_NODEID) as Nodeid;
  }

  canonical(node: Node): Node {
    return node.ino === this.overlay.root.ino ? this.overlay.root : node;
  }

  remember(_node: Node): void {}

  /** The kernel forgets an inode with all of its lookups; if it should not, what is dropped for it is found again. */
  forget(_nodeid: Nodeid, _count: number): boolean {
    return true;
  }
}
