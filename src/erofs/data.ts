/** Locates the bytes of a file, a directory or a link in the image. Source: Linux fs/erofs/erofs_fs.h; data.c of 6.18. */
import { EOPNOTSUPP, ErrnoError, EUCLEAN } from '../sys/errno.ts';
import {
  BLOCK_MAP_BYTES,
  CHUNK_48BIT,
  CHUNK_BITS_MASK,
  CHUNK_INDEXES,
  ChunkIndex,
  LAYOUT_CHUNK_BASED,
  LAYOUT_COMPRESSED_COMPACT,
  LAYOUT_COMPRESSED_FULL,
  LAYOUT_FLAT_INLINE,
} from './format.ts';
import { type ImageInode, NO_BLOCK, narrowBlock, wideBlock } from './inode.ts';
import type { Image } from './superblock.ts';

/** A contiguous run of a file's bytes: `at` is its offset in the image, or HOLE for zeros. */
export interface Extent {
  at: number;
  length: number;
}
export const HOLE = -1;

export function isCompressed(inode: ImageInode): boolean {
  return inode.layout === LAYOUT_COMPRESSED_FULL || inode.layout === LAYOUT_COMPRESSED_COMPACT;
}

/**
 * Finds the contiguous run of bytes at `position`, which must be below the inode's size, and puts it into `out`. The run lies
 * inside the image.
 * Throws ErrnoError: EUCLEAN; EOPNOTSUPP for compressed data and for data on another device.
 */
export function extentAt(image: Image, inode: ImageInode, position: number, out: Extent): Extent {
  if (inode.layout === LAYOUT_CHUNK_BASED) return chunkExtent(image, inode, position, out);
  if (isCompressed(inode)) throw compressed(inode);
  const blockBytes = image.blockBytes;
  const tail = inode.layout === LAYOUT_FLAT_INLINE ? Math.ceil(inode.sizeBytes / blockBytes) - 1 : Infinity;
  if (position >= tail * blockBytes) return tailExtent(image, inode, tail, position, out);
  out.length = Math.min(inode.sizeBytes, tail * blockBytes) - position;
  if (inode.firstBlock === NO_BLOCK) out.at = HOLE;
  else place(image, inode, inode.firstBlock * blockBytes + position, out);
  return out;
}

/** Finds bytes in the last block of inline data, which follows the inode and its xattrs. */
function tailExtent(image: Image, inode: ImageInode, tail: number, position: number, out: Extent): Extent {
  const start = inode.xattrAt + inode.xattrBytes;
  const length = inode.sizeBytes - tail * image.blockBytes;
  if ((start % image.blockBytes) + length > image.blockBytes) {
    throw new ErrnoError(EUCLEAN, `nid ${inode.nid}: ${length} bytes of inline data cross a block`);
  }
  const skip = position - tail * image.blockBytes;
  out.length = length - skip;
  place(image, inode, start + skip, out);
  return out;
}

function chunkExtent(image: Image, inode: ImageInode, position: number, out: Extent): Extent {
  const chunkBytes = image.blockBytes * 2 ** (inode.u & CHUNK_BITS_MASK);
  const chunk = Math.floor(position / chunkBytes);
  const skip = position - chunk * chunkBytes;
  const entry = chunkEntryAt(image, inode, chunk);
  out.length = Math.min(chunkBytes - skip, inode.sizeBytes - position);
  const v = image.view;
  const indexes = inode.u & CHUNK_INDEXES;
  const low = v.getUint32(indexes ? entry + ChunkIndex.startblk_lo : entry, true);
  const wide = indexes !== 0 && (inode.u & CHUNK_48BIT) !== 0;
  const block = wide ? wideBlock(low, v.getUint16(entry + ChunkIndex.startblk_hi, true)) : narrowBlock(low);
  if (block === NO_BLOCK) {
    out.at = HOLE;
    return out;
  }
  if (indexes) checkDevice(image, inode, entry);
  place(image, inode, block * image.blockBytes + skip, out);
  return out;
}

/** The offset of a chunk's entry in the table. Throws EUCLEAN if the image ends before the end of the entry. */
function chunkEntryAt(image: Image, inode: ImageInode, chunk: number): number {
  const unit = inode.u & CHUNK_INDEXES ? ChunkIndex.SIZE : BLOCK_MAP_BYTES;
  const table = Math.ceil((inode.xattrAt + inode.xattrBytes) / unit) * unit;
  const entry = table + chunk * unit;
  if (entry + unit > image.sizeBytes) {
    throw new ErrnoError(EUCLEAN, `nid ${inode.nid}: the entry of chunk ${chunk} lies past the end of the image`);
  }
  return entry;
}

function checkDevice(image: Image, inode: ImageInode, entry: number): void {
  const device = image.view.getUint16(entry + ChunkIndex.device_id, true) & image.deviceMask;
  if (device !== 0) {
    throw new ErrnoError(EOPNOTSUPP, `nid ${inode.nid}: its data is on device ${device}, which is not in the image`);
  }
}

function place(image: Image, inode: ImageInode, at: number, out: Extent): void {
  if (at + out.length > image.sizeBytes) {
    throw new ErrnoError(EUCLEAN, `nid ${inode.nid}: ${out.length} bytes at ${at} lie past the end of the image`);
  }
  out.at = at;
}

/**
 * Throws ErrnoError EOPNOTSUPP, with the reason, if some of an inode's data is not in the image as plain bytes: it is compressed,
 * or on another device.
 * Chunks are examined only if the image has other devices; reads find out whether chunks are in bounds.
 */
export function checkReadable(image: Image, inode: ImageInode): void {
  if (isCompressed(inode)) throw compressed(inode);
  if (inode.layout !== LAYOUT_CHUNK_BASED || image.deviceMask === 0) return;
  const extent: Extent = { at: 0, length: 0 };
  for (let position = 0; position < inode.sizeBytes; position += extent.length)
    extentAt(image, inode, position, extent);
}

/**
 * Reads up to `length` bytes at `position` of an inode's data into `out[at..]`; holes read as zeros.
 * @returns the count, which is less only at the end of the data. Throws as `extentAt` does
 */
export function readData(
  image: Image,
  inode: ImageInode,
  out: Uint8Array,
  at: number,
  length: number,
  position: number,
): number {
  const end = Math.min(position + length, inode.sizeBytes);
  const extent: Extent = { at: 0, length: 0 };
  for (let from = position; from < end; ) {
    extentAt(image, inode, from, extent);
    const n = Math.min(extent.length, end - from);
    const to = at + from - position;
    if (extent.at === HOLE) out.fill(0, to, to + n);
    else out.set(image.bytes.subarray(extent.at, extent.at + n), to);
    from += n;
  }
  return Math.max(0, end - position);
}

/**
 * The offset of the next data (or, if `hole`, of the next hole) at or after `position`; the size of the data if there is none.
 */
export function seekData(image: Image, inode: ImageInode, position: number, hole: boolean): number {
  const extent: Extent = { at: 0, length: 0 };
  for (let from = position; from < inode.sizeBytes; from += extent.length) {
    extentAt(image, inode, from, extent);
    if ((extent.at === HOLE) === hole) return from;
  }
  return inode.sizeBytes;
}

const compressed = (inode: ImageInode): ErrnoError =>
  new ErrnoError(EOPNOTSUPP, `nid ${inode.nid}: its data is compressed`);
