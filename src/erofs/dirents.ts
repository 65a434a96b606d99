/**
 * Directories: lookup by binary search, and listing. Source: Linux fs/erofs/erofs_fs.h, struct erofs_dirent; dir.c of 6.18.
 *
 * ```
 * block   dirent 0 | dirent 1 | ... | name 0 | name 1 | ...      names in the order of their bytes, over all blocks
 *         nameoff of dirent 0 = 12 * number of dirents           a name ends at the start of the next; the last one at
 *                                                                a NUL, or the end of the block or of the directory
 * ```
 * The code does not trust the order of the names. In a directory out of order, lookups miss names; nothing worse happens.
 */
import { type ByteString, byteStringOf, getU64, printable } from '../sys/bytes.ts';
import { ErrnoError, EUCLEAN } from '../sys/errno.ts';
import { type Extent, extentAt, HOLE } from './data.ts';
import type { Nid } from './format.ts';
import { Dirent, NAME_MAX } from './format.ts';
import type { ImageInode } from './inode.ts';
import type { Image } from './superblock.ts';

/** Finds `name` in a directory: its nid, or undefined. Allocates nothing. Throws ErrnoError EUCLEAN for a corrupt block. */
export function findDirent(image: Image, directory: ImageInode, name: ByteString): Nid | undefined {
  let low = 0;
  let high = blocksOf(image, directory) - 1;
  let found = -1;
  while (low <= high) {
    const middle = (low + high) >> 1;
    const order = compareDirent(image, directory, loadBlock(image, directory, middle), 0, name);
    if (order === 0) return nidOf(image, 0);
    if (order < 0) high = middle - 1;
    else {
      found = middle;
      low = middle + 1;
    }
  }
  return found < 0 ? undefined : findInBlock(image, directory, found, name);
}

/** Searches one block for `name`, which sorts after the first name of the block. */
function findInBlock(image: Image, directory: ImageInode, index: number, name: ByteString): Nid | undefined {
  const count = loadBlock(image, directory, index);
  let low = 1;
  let high = count - 1;
  while (low <= high) {
    const middle = (low + high) >> 1;
    const order = compareDirent(image, directory, count, middle, name);
    if (order === 0) return nidOf(image, middle);
    if (order < 0) high = middle - 1;
    else low = middle + 1;
  }
  return undefined;
}

/**
 * Passes each entry to `visit` in the order of the image, `.` and `..` included. `fileType` is an FT_* of format.ts.
 * Throws ErrnoError EUCLEAN for a corrupt block or name; the entries before it have been visited.
 */
export function listDirents(
  image: Image,
  directory: ImageInode,
  visit: (name: ByteString, nid: Nid, fileType: number) => void,
): void {
  listDirentsFrom(image, directory, 0, (name, nid, fileType) => {
    visit(name, nid, fileType);
    return true;
  });
}

/**
 * Lists entries as `listDirents` does, from a position on, until `visit` returns false. So a listing of any size needs no memory.
 * @param position 0, or the `next` that `visit` got with an entry: the offset of the next dirent in the directory
 */
export function listDirentsFrom(
  image: Image,
  directory: ImageInode,
  position: number,
  visit: (name: ByteString, nid: Nid, fileType: number, next: number) => boolean,
): void {
  const blocks = blocksOf(image, directory);
  let index = Math.floor(position / image.blockBytes);
  let first = Math.ceil((position % image.blockBytes) / Dirent.SIZE);
  for (; index < blocks; index++, first = 0) {
    const count = loadBlock(image, directory, index);
    const [at, bytes] = [blockAt, blockBytes];
    for (let i = first; i < count; i++) {
      const from = nameStart(image, directory, i);
      const name = byteStringOf(image.bytes, from, nameLimit(image, directory, count, i, from));
      const next = index * image.blockBytes + (i + 1 < count ? (i + 1) * Dirent.SIZE : image.blockBytes);
      const fileType = image.view.getUint8(blockAt + i * Dirent.SIZE + Dirent.file_type);
      if (!visit(name, nidOf(image, i), fileType, next)) return;
      blockAt = at; // visit may have read another directory
      blockBytes = bytes;
    }
  }
}

/**
 * Whether each name sorts after the one before it, so that a lookup finds all of them. Allocates nothing.
 * Throws ErrnoError as `listDirents` does.
 */
export function isInOrder(image: Image, directory: ImageInode): boolean {
  const { bytes } = image;
  const blocks = blocksOf(image, directory);
  let inOrder = true;
  let lastFrom = 0;
  let lastEnd = 0;
  for (let index = 0; index < blocks; index++) {
    const count = loadBlock(image, directory, index);
    for (let i = 0; i < count; i++) {
      const from = nameStart(image, directory, i);
      const end = nameLimit(image, directory, count, i, from);
      inOrder &&= isBefore(bytes, lastFrom, lastEnd, from, end);
      lastFrom = from;
      lastEnd = end;
    }
  }
  return inOrder;
}

/** Whether the name in `[from, end)` sorts before the one in `[otherFrom, otherEnd)`. */
function isBefore(bytes: Uint8Array, from: number, end: number, otherFrom: number, otherEnd: number): boolean {
  const shared = Math.min(end - from, otherEnd - otherFrom);
  for (let k = 0; k < shared; k++) {
    const difference = (bytes[from + k] as number) - (bytes[otherFrom + k] as number);
    if (difference !== 0) return difference < 0;
  }
  return end - from < otherEnd - otherFrom;
}

/**
 * The number of a directory's blocks. Throws EUCLEAN for a directory larger than the image, which could list the same blocks over
 * and over.
 */
function blocksOf(image: Image, directory: ImageInode): number {
  const { sizeBytes } = directory;
  if (sizeBytes > image.sizeBytes)
    throw corrupt(directory, `a directory of ${sizeBytes} bytes, more than the image has`);
  return Math.ceil(sizeBytes / image.blockBytes);
}

// The current block, which loadBlock sets. Returning an object from each call would cost more than the search.
let blockAt = 0;
let blockBytes = 0;
const extent: Extent = { at: 0, length: 0 };

/**
 * Finds a block of a directory, checks its head, and sets `blockAt` and `blockBytes`. @returns the number of its dirents, at
 * least 1
 */
function loadBlock(image: Image, directory: ImageInode, index: number): number {
  extentAt(image, directory, index * image.blockBytes, extent);
  blockAt = extent.at;
  blockBytes = Math.min(extent.length, image.blockBytes);
  if (blockAt === HOLE || blockBytes < Dirent.SIZE) throw corrupt(directory, `block ${index} holds no dirent`);
  const first = image.view.getUint16(blockAt + Dirent.nameoff, true);
  if (first < Dirent.SIZE || first % Dirent.SIZE !== 0 || first > blockBytes) {
    throw corrupt(directory, `block ${index} has its first name at ${first} of ${blockBytes}`);
  }
  return first / Dirent.SIZE;
}

/** The offset in the image of the name of dirent i. Throws EUCLEAN if it is outside the block. */
function nameStart(image: Image, directory: ImageInode, i: number): number {
  const nameoff = image.view.getUint16(blockAt + i * Dirent.SIZE + Dirent.nameoff, true);
  if (nameoff > blockBytes) throw corrupt(directory, `dirent ${i} has its name at ${nameoff} of ${blockBytes}`);
  return blockAt + nameoff;
}

/** The limit of the name that starts at `from`: the start of the next name, or the end of the block. */
function nameEnd(image: Image, directory: ImageInode, count: number, i: number, from: number): number {
  const end = i + 1 < count ? nameStart(image, directory, i + 1) : blockAt + blockBytes;
  if (end < from) throw corrupt(directory, `dirent ${i} has its name after the next one`);
  return end;
}

/**
 * Compares `name` with the name of dirent i, which ends at a NUL. @returns a value below 0 if `name` sorts first, 0 if they are
 * equal
 */
function compareDirent(image: Image, directory: ImageInode, count: number, i: number, name: ByteString): number {
  const from = nameStart(image, directory, i);
  const end = nameEnd(image, directory, count, i, from);
  const bytes = image.bytes;
  const shared = Math.min(name.length, end - from);
  for (let k = 0; k < shared; k++) {
    const byte = bytes[from + k] as number;
    const difference = name.charCodeAt(k) - byte;
    if (difference !== 0) return byte === 0 ? 1 : difference;
  }
  if (shared < name.length) return 1;
  return from + shared === end || bytes[from + shared] === 0 ? 0 : -1;
}

/** The nid of dirent i. It is checked only when the inode is opened, so that one bad entry does not break a listing. */
function nidOf(image: Image, i: number): Nid {
  return getU64(image.view, blockAt + i * Dirent.SIZE + Dirent.nid) as Nid;
}

/** The end of the name of dirent i. Throws ErrnoError EUCLEAN if it is not a valid file name. */
function nameLimit(image: Image, directory: ImageInode, count: number, i: number, from: number): number {
  const limit = nameEnd(image, directory, count, i, from);
  const bytes = image.bytes;
  let end = from;
  for (; end < limit; end++) {
    const byte = bytes[end];
    if (byte === 0 || byte === SLASH) break;
  }
  const isName = from + NAME_MAX >= end && end > from && (end === limit || bytes[end] === 0);
  if (isName) return end;
  const shown = printable(byteStringOf(bytes, from, Math.min(end + 1, limit, from + 300)));
  throw corrupt(directory, `dirent ${i} has the name ${shown}`);
}
const SLASH = 0x2f;

const corrupt = (directory: ImageInode, what: string): ErrnoError =>
  new ErrnoError(EUCLEAN, `nid ${directory.nid}: ${what}`);
