/**
 * Computes the layout of an image.
 *
 * ```
 * 0 composefs header | 1024 superblock | inodes, each: inode, xattrs, tail | shared xattrs | blocks of directories and data
 * ```
 * An inode starts at a slot of 32 bytes. Its tail is the last part of a directory or file, a symlink's target, or a chunk map. A
 * tail never crosses a block; slots are left empty to avoid that. Source: the images of mkcomposefs 1.0.8; fs/erofs/erofs_fs.h.
 */

import {
  BLOCK_MAP_BYTES,
  CHUNK_BITS_MASK,
  Dirent,
  InodeCompact,
  InodeExtended,
  LAYOUT_CHUNK_BASED,
  LAYOUT_FLAT_INLINE,
  LAYOUT_FLAT_PLAIN,
  SLOT_BYTES,
  SUPER_AT,
  SuperBlock,
} from '../erofs/format.ts';
import type { ByteString, Seconds } from '../sys/bytes.ts';
import { isDirectory, isRegular, isSymlink } from '../sys/stat.ts';
import { SharedXattrs } from './shared-xattrs.ts';
import type { Row, StagedInodes } from './staged.ts';
import { align } from './xattrs.ts';

export const BLOCK_BITS = 12;
export const BLOCK_BYTES = 2 ** BLOCK_BITS;
/** The largest tail of a directory or file; a longer rest gets a block. */
const TAIL_MAX = BLOCK_BYTES / 2;
const INODES_AT = SUPER_AT + SuperBlock.SIZE;
const U16_MAX = 0xffff;
const U32_MAX = 0xffffffff;

/** The positions of an image's inodes, and the sizes of their parts. Columns are indexed by row. */
export class ImageLayout {
  readonly staged: StagedInodes;
  readonly shared: SharedXattrs;
  /** The rows in the order of the image. */
  readonly order: Uint32Array;
  /** The first inode with the earliest mtime of all; compact inodes have this time. */
  readonly earliest: Row;
  /** Offset from the start of the image, where nid 0 is as well. */
  readonly at: Float64Array;
  /** 1 for compact inodes. */
  readonly compact: Uint8Array;
  readonly xattrBytes: Uint32Array;
  /** Bytes in the tail. */
  readonly tailBytes: Uint32Array;
  /** The number of whole blocks outside the inode, and the number of the first one. */
  readonly blocks: Uint32Array;
  readonly firstBlock: Uint32Array;
  /** log2 of the chunk size of a file whose data is outside the image; else 0. */
  readonly chunkBits: Uint8Array;
  readonly sharedAt: number;
  readonly sizeBytes: number;

  /** Places the inodes. */
  constructor(staged: StagedInodes) {
    const { count } = staged;
    this.staged = staged;
    this.shared = new SharedXattrs(staged);
    this.order = staged.order ?? new Uint32Array(count).map((_, row) => row);
    this.earliest = this.order.reduce((a, b) => (isEarlier(staged, b, a) ? b : a));
    this.at = new Float64Array(count);
    this.compact = new Uint8Array(count);
    this.xattrBytes = new Uint32Array(count);
    this.tailBytes = new Uint32Array(count);
    this.blocks = new Uint32Array(count);
    this.firstBlock = new Uint32Array(count);
    this.chunkBits = new Uint8Array(count);
    this.sharedAt = align(this.#placeInodes(), SLOT_BYTES);
    this.sizeBytes = this.#numberBlocks(align(this.sharedAt + this.shared.sizeBytes, BLOCK_BYTES));
  }

  /** Bytes of an inode with its xattrs. */
  headBytes(row: Row): number {
    return (this.compact[row] ? InodeCompact.SIZE : InodeExtended.SIZE) + (this.xattrBytes[row] as number);
  }

  /** One of LAYOUT_* in format.ts. */
  layoutOf(row: Row): number {
    if (this.chunkBits[row] !== 0) return LAYOUT_CHUNK_BASED;
    return this.tailBytes[row] !== 0 ? LAYOUT_FLAT_INLINE : LAYOUT_FLAT_PLAIN;
  }

  /** i_size. */
  sizeOf(row: Row): number {
    const mode = this.staged.mode[row] as number;
    if (isRegular(mode) || isSymlink(mode)) return this.staged.sizeBytes[row] as number;
    return (this.blocks[row] as number) * BLOCK_BYTES + (this.tailBytes[row] as number);
  }

  /** @returns the offset after the last inode */
  #placeInodes(): number {
    let at = INODES_AT;
    for (const row of this.order) {
      this.xattrBytes[row] = this.shared.bytesOf(row);
      this.#measure(row);
      this.compact[row] = this.#fitsCompact(row) ? 1 : 0;
      at = this.#place(row, align(at, SLOT_BYTES));
      this.at[row] = at;
      at += this.headBytes(row) + (this.tailBytes[row] as number);
    }
    return at;
  }

  /** Computes the blocks and the tail that an inode's data needs, before its position is known. */
  #measure(row: Row): void {
    const mode = this.staged.mode[row] as number;
    const sizeBytes = this.staged.sizeBytes[row] as number;
    if (isDirectory(mode)) this.#measureDirectory(row);
    else if (isSymlink(mode)) this.tailBytes[row] = sizeBytes;
    else if (isRegular(mode) && sizeBytes > 0) {
      if (this.staged.data[row] === undefined) {
        const bits = chunkBits(sizeBytes);
        this.chunkBits[row] = bits;
        this.tailBytes[row] = Math.ceil(sizeBytes / 2 ** bits) * BLOCK_MAP_BYTES;
      } else this.#splitTail(row, Math.floor(sizeBytes / BLOCK_BYTES), sizeBytes % BLOCK_BYTES);
    }
  }

  #measureDirectory(row: Row): void {
    let [first, end] = this.staged.namesOf(row);
    let blocks = 0;
    for (let next = endOfBlock(this.staged, first, end); next < end; next = endOfBlock(this.staged, first, end)) {
      first = next;
      blocks++;
    }
    this.#splitTail(row, blocks, direntBytes(this.staged, first, end));
  }

  #splitTail(row: Row, blocks: number, rest: number): void {
    this.blocks[row] = rest > TAIL_MAX ? blocks + 1 : blocks;
    this.tailBytes[row] = rest > TAIL_MAX ? 0 : rest;
  }

  /** Whether an inode can be compact: it has the image's common mtime, 16-bit owners and link count, and a 32-bit size. */
  #fitsCompact(row: Row): boolean {
    const { staged, earliest } = this;
    return (
      staged.mtime[row] === staged.mtime[earliest] &&
      staged.mtimensec[row] === staged.mtimensec[earliest] &&
      (staged.nlink[row] as number) <= U16_MAX &&
      (staged.uid[row] as number) <= U16_MAX &&
      (staged.gid[row] as number) <= U16_MAX &&
      (isDirectory(staged.mode[row] as number) ? this.sizeOf(row) : (staged.sizeBytes[row] as number)) <= U32_MAX
    );
  }

  /**
   * Returns the offset for an inode whose first possible offset is `at`. If no offset keeps the tail within one block, the tail
   * becomes a block. A symlink's target has to be in the same block as its inode; other tails only have to lie within one block.
   */
  #place(row: Row, at: number): number {
    const head = this.headBytes(row);
    const tail = this.tailBytes[row] as number;
    const nextBlock = align(at, BLOCK_BYTES);
    if (isSymlink(this.staged.mode[row] as number)) {
      const bytes = head + tail;
      if (bytes >= BLOCK_BYTES) this.#tailToBlock(row);
      return Math.floor(at / BLOCK_BYTES) === Math.floor((at + bytes - 1) / BLOCK_BYTES) ? at : nextBlock;
    }
    const room = BLOCK_BYTES - ((at + head) % BLOCK_BYTES);
    if (tail <= room) return at;
    const later = at + align(room, SLOT_BYTES);
    if (tail <= BLOCK_BYTES - ((later + head) % BLOCK_BYTES)) return later;
    this.#tailToBlock(row);
    return nextBlock;
  }

  #tailToBlock(row: Row): void {
    this.blocks[row] = (this.blocks[row] as number) + 1;
    this.tailBytes[row] = 0;
  }

  /** Numbers the blocks in the order of the inodes. @returns the offset after the last block */
  #numberBlocks(blocksAt: number): number {
    let block = blocksAt / BLOCK_BYTES;
    for (const row of this.order) {
      const blocks = this.blocks[row] as number;
      if (blocks > 0) this.firstBlock[row] = block;
      block += blocks;
    }
    return block * BLOCK_BYTES;
  }
}

const isEarlier = ({ mtime, mtimensec }: StagedInodes, a: Row, b: Row): boolean => {
  const [secondsA, secondsB] = [mtime[a] as Seconds, mtime[b] as Seconds];
  return secondsA < secondsB || (secondsA === secondsB && (mtimensec[a] as number) < (mtimensec[b] as number));
};

/** log2 of the smallest chunk that holds the whole file, at most 43: the largest chunk has 2^43 bytes. */
function chunkBits(sizeBytes: number): number {
  const high = Math.ceil(sizeBytes / 2 ** 32);
  const bits = high > 1 ? 64 - Math.clz32(high - 1) : 32 - Math.clz32(sizeBytes - 1);
  return Math.min(Math.max(bits, BLOCK_BITS), BLOCK_BITS + CHUNK_BITS_MASK);
}

/** Fills one block of a directory, whose names from `first` on are left. @returns the number after the last name that fits */
export function endOfBlock({ names }: StagedInodes, first: number, end: number): number {
  let bytes = 0;
  for (let i = first; i < end; i++) {
    bytes += Dirent.SIZE + (names[i] as ByteString).length;
    if (bytes > BLOCK_BYTES) return i;
  }
  return end;
}

function direntBytes({ names }: StagedInodes, first: number, end: number): number {
  let bytes = 0;
  for (let i = first; i < end; i++) bytes += Dirent.SIZE + (names[i] as ByteString).length;
  return bytes;
}
