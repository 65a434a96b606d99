/** The nodes of a tree that is written to, which the kernel knows. */
import type { Nodeid } from '../../fuse/filesystem.ts';
import { ROOT } from '../../fuse/filesystem.ts';
import type { Inode } from '../../layers/layer.ts';
import type { LinkIndex } from '../../overlay/hard-links/link-index.ts';
import { isStale, type Node } from '../../overlay/node.ts';
import type { ByteString } from '../../sys/bytes.ts';
import { isDirectory } from '../../sys/stat.ts';
import { type Place, UpperNode } from '../../upper/node.ts';
import { FIRST_NODEID, isRootOf, isSameObject, type NodeTable } from '../nodes.ts';

interface KnownNode {
  readonly nodeid: Nodeid;
  readonly node: UpperNode;
  lookups: number;
  /** When the kernel was given its attributes with a name, by performance.now. */
  givenAtMs: number;
  /** The object by its layer. */
  key: string;
}

export interface NodeRules {
  /** Called with each node that the kernel has forgotten. */
  readonly forgotten: (node: UpperNode) => void;
  /** The flags of an object that was found just now. */
  readonly protectionOf: (found: Inode) => number;
  /** The inode number of an object itself, whatever it is a copy of. */
  readonly inoOf: (object: Inode) => number;
}

/**
 * Nodes that are kept until the kernel has forgotten them. A node is known by the object of the layer that it is made of, never
 * by st_ino: two objects may show the same. It keeps its nodeid when it is copied up.
 */
export class WritableNodes implements NodeTable {
  holdsMerged = false;
  readonly root: UpperNode;
  private readonly known = new Map<Nodeid, KnownNode>();
  private readonly byKey = new Map<string, KnownNode>();
  private readonly byNode = new WeakMap<UpperNode, KnownNode>();
  /** The same nodes by directory and name, for changes of names that the kernel has looked up. */
  private readonly byPlace = new Map<string, UpperNode>();
  /** Nodes of the upper layer that show the number of the lower object they are copies of, by that number. */
  private readonly byOriginIno = new Map<number, KnownNode>();
  private readonly rules: NodeRules;
  private readonly index: LinkIndex | undefined;
  private next = FIRST_NODEID;

  /** @param index keeps the links of lower files that it takes: all names of one lead to one object */
  constructor(root: Node, index: LinkIndex | undefined, rules: NodeRules) {
    this.index = index;
    this.rules = rules;
    this.root = this.node(root, undefined);
  }

  get size(): number {
    return this.known.size;
  }

  get(nodeid: Nodeid): UpperNode | undefined {
    return isRootOf(this, nodeid) ? this.root : this.known.get(nodeid)?.node;
  }

  canonical(found: Node, parent: Node, name: ByteString): UpperNode {
    const place = { parent: parent as UpperNode, name };
    const known = this.byKey.get(this.keyOf(found.top, place));
    if (known === undefined || !isSameObject(known.node, found) || isStale(known.node)) return this.node(found, place);
    this.settle(known.node, place);
    return known.node;
  }

  private node(found: Node, place: Place | undefined): UpperNode {
    const node = new UpperNode(found, place);
    node.protection = this.rules.protectionOf(found.top);
    const other = this.byOriginIno.get(node.ino);
    if (other && this.showsOrigin(node) && other.key !== this.keyOf(node.top, place))
      node.ino = this.rules.inoOf(node.top); // somebody copied the upper file with its xattrs: two objects are not one
    return node;
  }

  /** Whether a node of the upper layer shows the number of a lower object. */
  private showsOrigin({ isUpper, ino, top }: UpperNode): boolean {
    return isUpper && ino !== this.rules.inoOf(top);
  }

  private noteOrigin(known: KnownNode): void {
    const { node } = known;
    if (this.showsOrigin(node) && !this.byOriginIno.has(node.ino)) this.byOriginIno.set(node.ino, known);
  }

  remember(node: Node): Nodeid {
    if (node === this.root) return ROOT;
    const known = this.byNode.get(node as UpperNode);
    if (known === undefined || !this.known.has(known.nodeid)) return this.add(node as UpperNode);
    known.lookups++;
    known.givenAtMs = performance.now();
    return known.nodeid;
  }

  /** The node that a name in a directory leads to, if the kernel was given it with its attributes lately. */
  given(parent: UpperNode, name: ByteString, withinMs: number): UpperNode | undefined {
    const node = this.at(parent, name);
    const known = node && this.byNode.get(node);
    return known && performance.now() - known.givenAtMs < withinMs ? node : undefined;
  }

  /** The known node that a name in a directory leads to. */
  at(parent: UpperNode, name: ByteString): UpperNode | undefined {
    return this.byPlace.get(placeKey({ parent, name }));
  }

  /** Must be called when a node has another name, or none: `place` is the new one. */
  settle(node: UpperNode, place: Place | undefined): void {
    this.leave(node);
    if (node.place && !isSamePlace(node.place, place)) node.otherPlace = node.place;
    node.place = place;
    if (place && this.byNode.has(node)) this.byPlace.set(placeKey(place), node);
  }

  /** Forgets which name led to a node. */
  private leave(node: UpperNode): void {
    const key = node.place && placeKey(node.place);
    if (key !== undefined && this.byPlace.get(key) === node) this.byPlace.delete(key);
  }

  private add(node: UpperNode): Nodeid {
    const [key, givenAtMs] = [this.keyOf(node.top, node.place), performance.now()];
    const known = { nodeid: this.next++ as Nodeid, node, lookups: 1, givenAtMs, key };
    this.known.set(known.nodeid, known);
    this.byKey.set(known.key, known);
    this.byNode.set(node, known);
    this.noteOrigin(known);
    this.settle(node, node.place);
    return known.nodeid;
  }

  /** The nodeid of a node, if the kernel knows it. */
  idOf(node: UpperNode): Nodeid | undefined {
    return this.byNode.get(node)?.nodeid;
  }

  /** Must be called when a node has become another object of the layers: it was copied up. */
  changed(node: UpperNode): void {
    const known = this.byNode.get(node);
    if (known === undefined) return;
    this.dropKey(known);
    known.key = this.keyOf(node.top, node.place);
    this.byKey.set(known.key, known);
    this.noteOrigin(known);
  }

  /** Without the index, a lower file with several names is an object for each of them: a change of one does not change the others. */
  private keyOf(top: Inode, place: UpperNode['place']): string {
    const isOne = this.index?.takes(top) || top.layer.isUpper || isDirectory(top.mode) || place === undefined;
    return isOne || top.layer.attr(top).nlink === 1 ? `${top.layer.filesystem} ${top.ino}` : placeKey(place);
  }

  private dropKey(known: KnownNode): void {
    if (this.byKey.get(known.key) === known) this.byKey.delete(known.key);
  }

  forget(nodeid: Nodeid, count: number): boolean {
    const known = this.known.get(nodeid);
    if (known === undefined) return false;
    known.lookups -= count;
    if (known.lookups > 0) return false;
    this.dropKey(known);
    if (this.byOriginIno.get(known.node.ino) === known) this.byOriginIno.delete(known.node.ino);
    this.leave(known.node);
    this.known.delete(nodeid);
    this.byNode.delete(known.node);
    this.rules.forgotten(known.node);
    return true;
  }
}

const isSamePlace = (one: Place, other: Place | undefined): boolean =>
  one.parent === other?.parent && one.name === other.name;

const placeKey = ({ parent, name }: Place): string => `${parent.id}/${name}`;
