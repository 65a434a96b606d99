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
import type { Seconds } from '../sys/bytes.ts';
import { isDirectory, isRegular, isSymlink } from '../sys/stat.ts';
import type { StagedChild, StagedInode } from './stage.ts';
import { align, type InodeXattrs, type SharedXattrs, shareXattrs } from './xattrs.ts';

export const BLOCK_BITS = 12;
export const BLOCK_BYTES = 2 ** BLOCK_BITS;
/** The largest tail of a directory or file; a longer rest gets a block. */
const TAIL_MAX = BLOCK_BYTES / 2;
const INODES_AT = SUPER_AT + SuperBlock.SIZE;
const U16_MAX = 0xffff;
const U32_MAX = 0xffffffff;

/** An inode with its position and the sizes of its parts. */
export interface PlacedInode {
  inode: StagedInode;
  xattrs: InodeXattrs;
  /** Offset from the start of the image, where nid 0 is as well. */
  at: number;
  compact: boolean;
  layout: number;
  /** Bytes in the tail. */
  tailBytes: number;
  /** The number of whole blocks outside the inode, and the number of the first one. */
  blocks: number;
  firstBlock: number;
  /** log2 of the chunk size, for LAYOUT_CHUNK_BASED; else 0. */
  chunkBits: number;
  /** i_size. */
  sizeBytes: number;
}

export interface ImageLayout {
  inodes: PlacedInode[];
  shared: SharedXattrs;
  sharedAt: number;
  blocksAt: number;
  sizeBytes: number;
  /** The earliest mtime of all inodes; compact inodes have this time. */
  mtime: Seconds;
  mtimensec: number;
}

/** Places the inodes of an image in the given order. */
export function layOut(staged: StagedInode[]): ImageLayout {
  const shared = shareXattrs(staged.map(inode => inode.xattrs));
  const earliest = staged.reduce((a, b) => (isEarlier(b, a) ? b : a));
  const inodes: PlacedInode[] = [];
  let at = INODES_AT;
  for (const inode of staged) {
    const placed = measure(inode, shared.assign(inode.xattrs));
    placed.compact = fitsCompact(placed, earliest);
    placed.at = place(placed, align(at, SLOT_BYTES));
    placed.layout = layoutOf(placed);
    if (!isRegular(inode.mode) && !isSymlink(inode.mode))
      placed.sizeBytes = placed.blocks * BLOCK_BYTES + placed.tailBytes;
    at = placed.at + headBytes(placed) + placed.tailBytes;
    inodes.push(placed);
  }
  const sharedAt = align(at, SLOT_BYTES);
  const blocksAt = align(sharedAt + shared.sizeBytes, BLOCK_BYTES);
  const sizeBytes = numberBlocks(inodes, blocksAt);
  return { inodes, shared, sharedAt, blocksAt, sizeBytes, mtime: earliest.mtime, mtimensec: earliest.mtimensec };
}

const isEarlier = (a: StagedInode, b: StagedInode): boolean =>
  a.mtime < b.mtime || (a.mtime === b.mtime && a.mtimensec < b.mtimensec);

/** Bytes of an inode with its xattrs. */
export const headBytes = ({ compact, xattrs }: PlacedInode): number =>
  (compact ? InodeCompact.SIZE : InodeExtended.SIZE) + xattrs.sizeBytes;

/** Computes the blocks and the tail that an inode's data needs, before its position is known. */
function measure(inode: StagedInode, xattrs: InodeXattrs): PlacedInode {
  const { mode, sizeBytes, content } = inode;
  const placed: PlacedInode = {
    inode,
    xattrs,
    at: 0,
    compact: false,
    layout: 0,
    tailBytes: 0,
    blocks: 0,
    firstBlock: 0,
    chunkBits: 0,
    sizeBytes,
  };
  if (isDirectory(mode)) {
    const blocks = directoryBlocks(inode.children);
    splitTail(placed, blocks.length - 1, directoryBytes(blocks.at(-1) as StagedChild[]));
  } else if (isSymlink(mode)) {
    placed.tailBytes = sizeBytes;
  } else if (isRegular(mode) && sizeBytes > 0) {
    if (content !== undefined) splitTail(placed, Math.floor(sizeBytes / BLOCK_BYTES), sizeBytes % BLOCK_BYTES);
    else {
      placed.chunkBits = chunkBits(sizeBytes);
      placed.tailBytes = Math.ceil(sizeBytes / 2 ** placed.chunkBits) * BLOCK_MAP_BYTES;
    }
  }
  return placed;
}

function splitTail(placed: PlacedInode, blocks: number, rest: number): void {
  placed.blocks = rest > TAIL_MAX ? blocks + 1 : blocks;
  placed.tailBytes = rest > TAIL_MAX ? 0 : rest;
}

/** log2 of the smallest chunk that holds the whole file, at most 43: the largest chunk has 2^43 bytes. */
function chunkBits(sizeBytes: number): number {
  let bits = BLOCK_BITS;
  while (bits < BLOCK_BITS + CHUNK_BITS_MASK && 2 ** bits < sizeBytes) bits++;
  return bits;
}

/** Distributes a directory's children over blocks; each block takes as many as fit. */
export function directoryBlocks(children: StagedChild[]): StagedChild[][] {
  const blocks: StagedChild[][] = [];
  let room = 0;
  for (const child of children) {
    const need = Dirent.SIZE + child.name.length;
    if (need > room) {
      blocks.push([]);
      room = BLOCK_BYTES;
    }
    blocks.at(-1)?.push(child);
    room -= need;
  }
  return blocks;
}

const directoryBytes = (children: StagedChild[]): number =>
  children.reduce((bytes, { name }) => bytes + Dirent.SIZE + name.length, 0);

/** Whether an inode can be compact: it has the image's common mtime, 16-bit owners and link count, and a 32-bit size. */
function fitsCompact({ inode, blocks, tailBytes }: PlacedInode, earliest: StagedInode): boolean {
  const sizeBytes = isDirectory(inode.mode) ? blocks * BLOCK_BYTES + tailBytes : inode.sizeBytes;
  return (
    inode.mtime === earliest.mtime &&
    inode.mtimensec === earliest.mtimensec &&
    inode.nlink <= U16_MAX &&
    inode.uid <= U16_MAX &&
    inode.gid <= U16_MAX &&
    sizeBytes <= U32_MAX
  );
}

/**
 * Returns the offset for an inode whose first possible offset is `at`. If no offset keeps the tail within one block, the tail
 * becomes a block. A symlink's target has to be in the same block as its inode; other tails only have to lie within one block.
 */
function place(placed: PlacedInode, at: number): number {
  const head = headBytes(placed);
  const nextBlock = align(at, BLOCK_BYTES);
  if (isSymlink(placed.inode.mode)) {
    const bytes = head + placed.tailBytes;
    if (bytes >= BLOCK_BYTES) tailToBlock(placed);
    return Math.floor(at / BLOCK_BYTES) === Math.floor((at + bytes - 1) / BLOCK_BYTES) ? at : nextBlock;
  }
  const room = (from: number): number => BLOCK_BYTES - ((from + head) % BLOCK_BYTES);
  if (placed.tailBytes <= room(at)) return at;
  const later = at + align(room(at), SLOT_BYTES);
  if (placed.tailBytes <= room(later)) return later;
  tailToBlock(placed);
  return nextBlock;
}

function tailToBlock(placed: PlacedInode): void {
  placed.blocks++;
  placed.tailBytes = 0;
}

function layoutOf({ inode, chunkBits, tailBytes }: PlacedInode): number {
  if (isRegular(inode.mode) && chunkBits > 0) return LAYOUT_CHUNK_BASED;
  return tailBytes > 0 ? LAYOUT_FLAT_INLINE : LAYOUT_FLAT_PLAIN;
}

/** Numbers the blocks in the order of the inodes. @returns the offset after the last block */
function numberBlocks(inodes: PlacedInode[], blocksAt: number): number {
  let block = blocksAt / BLOCK_BYTES;
  for (const placed of inodes) {
    if (placed.blocks === 0) continue;
    placed.firstBlock = block;
    block += placed.blocks;
  }
  return block * BLOCK_BYTES;
}
