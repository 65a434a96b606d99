/** A set of the inodes of an image: one bit for each slot. */
import type { Nid } from './format.ts';
import { SLOT_BYTES } from './format.ts';
import type { Image } from './superblock.ts';

export class NidSet {
  /** The number of slots; nids from there on are outside the image. */
  readonly slots: number;
  readonly #bits: Uint8Array;

  constructor({ sizeBytes, metaAt }: Image) {
    this.slots = Math.max(0, Math.floor((sizeBytes - metaAt) / SLOT_BYTES));
    this.#bits = new Uint8Array(Math.ceil(this.slots / 8));
  }

  has(nid: number): boolean {
    return ((this.#bits[Math.floor(nid / 8)] ?? 0) & (1 << (nid % 8))) !== 0;
  }

  /** Adds an inode. @returns whether it is new, which inodes outside the image always are */
  add(nid: Nid): boolean {
    if (this.has(nid)) return false;
    const at = Math.floor(nid / 8);
    this.#bits[at] = (this.#bits[at] ?? 0) | (1 << (nid % 8));
    return true;
  }
}
