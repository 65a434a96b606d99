/** An object of a tree that is written to. */
import type { Inode } from '../layers/layer.ts';
import type { IndexEntry, Node } from '../overlay/node.ts';
import type { ByteString } from '../sys/bytes.ts';

/** Where a node was found. */
export interface Place {
  readonly parent: UpperNode;
  readonly name: ByteString;
}

/** A node whose parts change when it is copied up, renamed or removed. It stands for one object as long as it is used. */
let count = 0;

export class UpperNode implements Node {
  /** Distinguishes the node from all others of this process. */
  readonly id: number = count++;
  ino: number;
  top: Inode;
  stack: readonly Inode[];
  data: Node['data'];
  origin: Node['origin'];
  readonly xwhiteouts: boolean;
  indexed: IndexEntry | undefined;
  /** A name of the object; undefined for the root, and for an object that has lost the name by which it was found. */
  place: Place | undefined;
  /** The name before that, which may still lead to the object: a file has several when it is linked. */
  otherPlace: Place | undefined;
  /** An open descriptor of a file in the upper layer; -1: there is none. Its owner sets it. */
  openFd = -1;
  /** The flags of chattr(1) that forbid changes; see protection.ts. */
  protection = 0;
  /** Whether it is known that a directory of the upper layer is marked as one with copies of lower objects. */
  isImpure = false;

  constructor(found: Node, place: Place | undefined) {
    this.ino = found.ino;
    this.top = found.top;
    this.stack = found.stack;
    this.data = found.data;
    this.origin = found.origin;
    this.xwhiteouts = found.xwhiteouts;
    this.indexed = found.indexed;
    this.place = place;
  }

  /** Whether the object is in the upper layer. */
  get isUpper(): boolean {
    return this.top.layer.isUpper === true;
  }

  /** Whether the object has all of its data in the upper layer. */
  get isComplete(): boolean {
    return this.isUpper && this.data === undefined;
  }
}
