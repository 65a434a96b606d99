/** The nodes that the kernel knows: from nodeid to overlay node. */
import type { Nodeid } from '../fuse/filesystem.ts';
import { ROOT } from '../fuse/filesystem.ts';
import { isStale, type Node } from '../overlay/node.ts';
import type { Overlay } from '../overlay/overlay.ts';
import type { ByteString } from '../sys/bytes.ts';
import { S_IFMT } from '../sys/stat.ts';

interface KnownNode {
  readonly nodeid: Nodeid;
  node: Node;
  lookups: number;
}

/** The first nodeid after the root's, which is 1. */
export const FIRST_NODEID = 2;
/**
 * A second nodeid of the tree's root, for when it is the only directory in the kernel's root. Inode numbers do not reach it.
 */
export const MERGED = Number.MAX_SAFE_INTEGER as Nodeid;
/**
 * The name of the directory that is mounted instead of the kernel's root. findmnt(8) and mountinfo show it as the root of the
 * mount; overlayfs uses the same name.
 */
export const MERGED_NAME: ByteString = 'merged';

export const isRoot = (nodeid: Nodeid): boolean => nodeid === ROOT || nodeid === MERGED;

/** Whether a nodeid is the root of the tree. MERGED is one only in a table that has given it to the kernel. */
export const isRootOf = ({ holdsMerged }: Pick<NodeTable, 'holdsMerged'>, nodeid: Nodeid): boolean =>
  nodeid === ROOT || (nodeid === MERGED && holdsMerged);

/** From nodeid to overlay node, for the nodeids that the kernel holds. */
export interface NodeTable {
  /** The number of nodes that the kernel knows besides the root; undefined if they are not counted. */
  readonly size: number | undefined;
  /** Whether the kernel's root holds nothing but a directory that is the root of the tree, with the nodeid MERGED. */
  holdsMerged: boolean;
  /**
   * The node; undefined for a nodeid that the kernel was never given or has forgotten. May throw ErrnoError for the former.
   */
  get(nodeid: Nodeid): Node | undefined;
  /**
   * The node that represents the object of a node that a lookup found; it is the one to answer with.
   * @param parent the directory in which `name` led to it
   */
  canonical(node: Node, parent: Node, name: ByteString): Node;
  /** Counts a lookup of a canonical node that is reported to the kernel. @returns its nodeid */
  remember(node: Node): Nodeid;
  /** Takes back `count` lookups. @returns whether the kernel has forgotten the node */
  forget(nodeid: Nodeid, count: number): boolean;
  /**
   * The node for a nodeid in a file handle, or the directory above it; undefined if there is none. The method is absent if nodes
   * cannot be found once the kernel has forgotten them.
   */
  ofHandle?(nodeid: Nodeid, isParent: boolean): Node | undefined;
}

/** The table for an overlay. */
export const newNodeTable = (overlay: Overlay): NodeTable =>
  overlay.recalls ? new RecalledNodes(overlay) : new Nodes(overlay.root);

/**
 * Nodes that are kept until the kernel has forgotten them, with its count of lookups. A nodeid belongs to one object for good. An
 * object whose inode number was used before gets a nodeid of its own, so open files of the earlier object stay valid.
 */
export class Nodes implements NodeTable {
  private readonly known = new Map<Nodeid, KnownNode>();
  /** The same nodes by the object's current inode number, so that the names of a hard link share a nodeid. */
  private readonly byIno = new Map<number, KnownNode>();
  /** The node that `canonical` found last, which is usually remembered next. */
  private latest: KnownNode | undefined;
  holdsMerged = false;
  private readonly root: Node;
  private next = FIRST_NODEID;

  constructor(root: Node) {
    this.root = root;
  }

  get size(): number {
    return this.known.size;
  }

  get(nodeid: Nodeid): Node | undefined {
    return isRootOf(this, nodeid) ? this.root : this.known.get(nodeid)?.node;
  }

  /**
   * The node to answer with. If the kernel already knows the object, that is the known node: it keeps its stack and data, as a
   * kernel inode would, unless it is stale. The known node then follows the object to the place where it was found last.
   */
  canonical(node: Node): Node {
    if (node.ino === this.root.ino) return this.root;
    const known = this.knownAs(node);
    this.latest = known;
    return known === undefined || isStale(known.node) ? node : known.node;
  }

  remember(node: Node): Nodeid {
    if (node.ino === this.root.ino) return ROOT;
    const known = this.latest?.node === node ? this.latest : this.knownAs(node);
    if (known === undefined) return this.add(node);
    known.node = node;
    known.lookups++;
    return known.nodeid;
  }

  private add(node: Node): Nodeid {
    const known: KnownNode = { nodeid: this.next++ as Nodeid, node, lookups: 1 };
    this.known.set(known.nodeid, known);
    this.byIno.set(node.ino, known);
    return known.nodeid;
  }

  /** The known node of the same object; undefined if there is none. */
  private knownAs(node: Node): KnownNode | undefined {
    const known = this.byIno.get(node.ino);
    return known && isSameObject(known.node, node) ? known : undefined;
  }

  forget(nodeid: Nodeid, count: number): boolean {
    const known = this.known.get(nodeid);
    if (known === undefined) return false;
    known.lookups -= count;
    if (known.lookups > 0) return false;
    if (this.latest === known) this.latest = undefined;
    const { ino } = known.node;
    if (this.byIno.get(ino) === known) this.byIno.delete(ino);
    return this.known.delete(nodeid);
  }
}

/** Whether a found node is the known object. The known node then follows it to the place where it was found. */
export function isSameObject(known: Node, found: Node): boolean {
  if (known === found) return true;
  const { top } = known;
  if ((top.mode & S_IFMT) !== (found.top.mode & S_IFMT)) return false;
  return top.layer.adopt?.(top, found.top) ?? true;
}

/** The number of slots of the cache of nodes. */
const PLACES = 1024;

/**
 * Nodes of a stack that can find each node by its number. So no node is kept for the kernel, and lookups are not counted.
 */
export class RecalledNodes implements NodeTable {
  readonly size = undefined;
  holdsMerged = false;
  private readonly overlay: Overlay;
  /**
   * A direct-mapped cache: a nodeid has one slot, and evicts the node there. Making a node again is as cheap as another policy.
   */
  private readonly recent = new Array<Node | undefined>(PLACES).fill(undefined);

  /** @param overlay one that `recalls` */
  constructor(overlay: Overlay) {
    this.overlay = overlay;
  }

  get(nodeid: Nodeid): Node | undefined {
    if (isRootOf(this, nodeid)) return this.overlay.root;
    if (nodeid < FIRST_NODEID) return undefined;
    const ino = nodeid - FIRST_NODEID;
    const recent = this.recent[ino % PLACES];
    if (recent?.ino === ino) return recent;
    const node = this.overlay.recall(ino);
    if (typeof node === 'number') return undefined;
    this.recent[ino % PLACES] = node;
    return node;
  }

  ofHandle(nodeid: Nodeid, isParent: boolean): Node | undefined {
    const ino = nodeid === ROOT ? this.overlay.root.ino : nodeid - FIRST_NODEID;
    if (ino < 0) return undefined;
    const node = this.overlay.recallHandle(ino, isParent);
    return typeof node === 'number' ? undefined : this.canonical(node);
  }

  private idOf({ ino }: Node): Nodeid {
    return (ino === this.overlay.root.ino ? ROOT : ino + FIRST_NODEID) as Nodeid;
  }

  canonical(node: Node): Node {
    return node.ino === this.overlay.root.ino ? this.overlay.root : node;
  }

  remember(node: Node): Nodeid {
    return this.idOf(node);
  }

  /** Always true: the kernel forgets an inode with all its lookups at once, and a node that it still knows is found again. */
  forget(_nodeid: Nodeid, _count: number): boolean {
    return true;
  }
}
