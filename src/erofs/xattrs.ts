/**
 * Extended attributes: inline ones after the inode, shared ones in a table of the image. Inline ones come first, in lookups and
 * in lists. Source: Linux fs/erofs/erofs_fs.h; xattr.c of 6.18.
 *
 * ```
 * header | shared id 0 | shared id 1 | ... | entry name value | entry name value | ...     entries aligned to 4
 * ```
 */
import { type ByteString, byteStringOf } from '../sys/bytes.ts';
import { EOPNOTSUPP, ErrnoError, EUCLEAN } from '../sys/errno.ts';
import { readData } from './data.ts';
import {
  INCOMPAT_XATTR_PREFIXES,
  SHARED_ID_BYTES,
  SUPER_AT,
  SuperBlock,
  XATTR_ALIGN,
  XATTR_LONG_PREFIX,
  XATTR_LONG_PREFIX_MASK,
  XATTR_PREFIXES,
  XattrEntry,
  XattrHeader,
  XattrLongPrefix,
} from './format.ts';
import { ImageInode } from './inode.ts';
import type { Image } from './superblock.ts';

/**
 * Finds an xattr by its whole name. @returns the offset of its entry, for `xattrValue`, or -1. Allocates nothing.
 * Throws ErrnoError EUCLEAN for a corrupt xattr area.
 */
export function findXattr(image: Image, inode: ImageInode, name: ByteString): number {
  if (inode.xattrBytes === 0) return -1;
  const end = inode.xattrAt + inode.xattrBytes;
  const inline = inlineStart(image, inode);
  for (let at = inline; at < end; ) {
    const next = entryEnd(image, inode, at, end);
    if (matches(image, at, name)) return at;
    at = next;
  }
  for (let id = inode.xattrAt + XattrHeader.SIZE; id < inline; id += SHARED_ID_BYTES) {
    const at = sharedEntry(image, inode, id);
    if (matches(image, at, name)) return at;
  }
  return -1;
}

/** The value of an entry that `findXattr` found: a view of the image, which must not be written to. */
export function xattrValue(image: Image, entry: number): Uint8Array {
  const from = entry + XattrEntry.SIZE + image.view.getUint8(entry + XattrEntry.e_name_len);
  return image.bytes.subarray(from, from + xattrValueBytes(image, entry));
}

/** The same value as a byte string. */
export function xattrText(image: Image, entry: number): ByteString {
  const from = entry + XattrEntry.SIZE + image.view.getUint8(entry + XattrEntry.e_name_len);
  return byteStringOf(image.bytes, from, from + xattrValueBytes(image, entry));
}

/** The size of that value in bytes. */
export function xattrValueBytes(image: Image, entry: number): number {
  return image.view.getUint16(entry + XattrEntry.e_value_size, true);
}

/**
 * Passes the whole name of each xattr, and its entry for `xattrValue`, to `visit`. Entries with an undefined name index are left
 * out, as in the kernel.
 * Throws ErrnoError EUCLEAN for a corrupt xattr area.
 */
export function listXattrs(image: Image, inode: ImageInode, visit: (name: ByteString, entry: number) => void): void {
  if (inode.xattrBytes === 0) return;
  const end = inode.xattrAt + inode.xattrBytes;
  const inline = inlineStart(image, inode);
  for (let at = inline; at < end; ) {
    const next = entryEnd(image, inode, at, end);
    visitEntry(image, at, visit);
    at = next;
  }
  for (let id = inode.xattrAt + XattrHeader.SIZE; id < inline; id += SHARED_ID_BYTES) {
    visitEntry(image, sharedEntry(image, inode, id), visit);
  }
}

function visitEntry(image: Image, at: number, visit: (name: ByteString, entry: number) => void): void {
  const prefix = prefixOf(image, image.view.getUint8(at + XattrEntry.e_name_index));
  const from = at + XattrEntry.SIZE;
  const length = image.view.getUint8(at + XattrEntry.e_name_len);
  if (prefix !== undefined) visit(prefix + byteStringOf(image.bytes, from, from + length), at);
}

/** The offset of the first inline entry, after the ids of the shared ones. Throws EOPNOTSUPP, EUCLEAN. */
function inlineStart(image: Image, inode: ImageInode): number {
  if (inode.xattrBytes === XattrHeader.SIZE) {
    throw new ErrnoError(EOPNOTSUPP, `nid ${inode.nid}: the xattr area has only a header`); // as the kernel answers
  }
  const shared = image.view.getUint8(inode.xattrAt + XattrHeader.h_shared_count);
  const length = XattrHeader.SIZE + shared * SHARED_ID_BYTES;
  if (length > inode.xattrBytes) {
    throw new ErrnoError(EUCLEAN, `nid ${inode.nid}: ${shared} shared xattrs in an area of ${inode.xattrBytes} bytes`);
  }
  return inode.xattrAt + length;
}

/** Bytes of the entry at `at`, without the alignment. The caller has checked that the head of the entry is in the image. */
function entryBytes(image: Image, at: number): number {
  const v = image.view;
  return XattrEntry.SIZE + v.getUint8(at + XattrEntry.e_name_len) + v.getUint16(at + XattrEntry.e_value_size, true);
}

/**
 * The offset of the next inline entry. Areas are multiples of 4 bytes, so the head of an entry is always inside. Throws EUCLEAN
 * if the rest of the entry is not.
 */
function entryEnd(image: Image, inode: ImageInode, at: number, end: number): number {
  const length = entryBytes(image, at);
  if (at + length > end) {
    throw new ErrnoError(EUCLEAN, `nid ${inode.nid}: an xattr of ${length} bytes, ${end - at} are left`);
  }
  return at + ((length + XATTR_ALIGN - 1) & -XATTR_ALIGN);
}

/** The offset of the entry of the shared xattr whose id is stored at `id`. Throws EUCLEAN if it is outside the image. */
function sharedEntry(image: Image, inode: ImageInode, id: number): number {
  const number = image.view.getUint32(id, true);
  const at = image.sharedAt + number * SHARED_ID_BYTES;
  if (at + XattrEntry.SIZE > image.sizeBytes || at + entryBytes(image, at) > image.sizeBytes) {
    throw new ErrnoError(EUCLEAN, `nid ${inode.nid}: shared xattr ${number} lies past the end of the image`);
  }
  return at;
}

/**
 * Whether the entry at `at`, whose head is in the image, has this name. The stored part is compared first, because it differs
 * most often.
 */
function matches(image: Image, at: number, name: ByteString): boolean {
  const { bytes } = image;
  const stored = bytes[at + XattrEntry.e_name_len] as number;
  const prefix = prefixOf(image, bytes[at + XattrEntry.e_name_index] as number);
  if (prefix === undefined || prefix.length + stored !== name.length) return false;
  for (let i = name.length, from = at + XattrEntry.SIZE + stored; i > prefix.length; ) {
    if (bytes[--from] !== name.charCodeAt(--i)) return false;
  }
  return name.startsWith(prefix);
}

function prefixOf(image: Image, index: number): ByteString | undefined {
  return index & XATTR_LONG_PREFIX ? image.longPrefixes[index & XATTR_LONG_PREFIX_MASK] : XATTR_PREFIXES[index];
}

/**
 * Reads the table of long xattr name prefixes. @returns the complete texts in the order of their numbers
 * The table is in the data of the image's `prefixNid`, or in the image itself. Throws ErrnoError EUCLEAN.
 */
export function readLongPrefixes(image: Image): ByteString[] {
  if (!(image.featureIncompat & INCOMPAT_XATTR_PREFIXES)) return [];
  const count = image.view.getUint8(SUPER_AT + SuperBlock.xattr_prefix_count);
  let at = image.view.getUint32(SUPER_AT + SuperBlock.xattr_prefix_start, true) * XATTR_ALIGN;
  const holder = image.prefixNid === 0 ? undefined : new ImageInode(image, image.prefixNid);
  const record = new Uint8Array(RECORD_BYTES);
  const prefixes: ByteString[] = [];
  for (let i = 0; i < count; i++) {
    const n = holder ? readData(image, holder, record, 0, RECORD_BYTES, at) : copyBytes(image, at, record);
    const length = (record[XattrLongPrefix.length] as number) | ((record[XattrLongPrefix.length + 1] as number) << 8);
    const base = XATTR_PREFIXES[record[XattrLongPrefix.base_index] as number];
    const end = XattrLongPrefix.base_index + length;
    if (n < end || length === 0 || length > LENGTH_MAX || base === undefined) {
      throw new ErrnoError(EUCLEAN, `long xattr prefix ${i}: ${length} bytes at ${at}`);
    }
    prefixes.push(base + byteStringOf(record, XattrLongPrefix.infix, end));
    at += Math.ceil(end / XATTR_ALIGN) * XATTR_ALIGN;
  }
  return prefixes;
}
const LENGTH_MAX = 256; // base_index and an infix of 255 bytes
const RECORD_BYTES = XattrLongPrefix.base_index + LENGTH_MAX;

function copyBytes(image: Image, at: number, out: Uint8Array): number {
  const bytes = image.bytes.subarray(Math.min(at, image.sizeBytes), Math.min(at + out.length, image.sizeBytes));
  out.set(bytes);
  return bytes.length;
}
