/** The xattrs of an image on disk: entries, the table of shared ones, and the name filter. Source: Linux fs/erofs/erofs_fs.h. */
import {
  SHARED_ID_BYTES,
  XATTR_ALIGN,
  XATTR_FILTER_DEFAULT,
  XATTR_FILTER_SEED,
  XATTR_INDEX_LUSTRE,
  XATTR_LONG_PREFIX,
  XATTR_PREFIXES,
  XattrEntry,
  XattrHeader,
} from '../erofs/format.ts';
import { type ByteString, bufferOf } from '../sys/bytes.ts';
import { xxh32 } from './xxh32.ts';

/** An xattr as it is stored: the index of a name prefix, the rest of the name, and the value. */
export interface StoredXattr {
  index: number;
  suffix: ByteString;
  value: ByteString;
}

/** An inode's xattrs: offsets in the shared table (bytes from its start), and the ones stored right after the inode. */
export interface InodeXattrs {
  filter: number;
  shared: number[];
  inline: StoredXattr[];
  /** Size of the whole xattr area after the inode; 0 without xattrs. */
  sizeBytes: number;
}

/** The shared xattrs of an image, in the order of their table. */
export interface SharedXattrs {
  table: StoredXattr[];
  sizeBytes: number;
  /** Splits an inode's xattrs into shared and inline ones. */
  assign(xattrs: ReadonlyMap<ByteString, ByteString>): InodeXattrs;
}

/** The most shared xattrs that an inode can refer to; further ones are stored inline. */
const SHARED_MAX = XATTR_LONG_PREFIX;

/** The prefixes by index, without that of Lustre, which mkcomposefs does not use. */
const PREFIXES = XATTR_PREFIXES.map((prefix, index) => (index === XATTR_INDEX_LUSTRE ? '' : prefix));

function storedXattr(name: ByteString, value: ByteString): StoredXattr {
  const index = PREFIXES.findIndex(prefix => prefix !== '' && name.startsWith(prefix));
  return index < 0 ? { index: 0, suffix: name, value } : { index, suffix: name.slice(PREFIXES[index]?.length), value };
}

export function entryBytes({ suffix, value }: StoredXattr): number {
  return align(XattrEntry.SIZE + suffix.length + value.length, XATTR_ALIGN);
}

/** Rounds up to a multiple. */
export const align = (n: number, multiple: number): number => Math.ceil(n / multiple) * multiple;

/**
 * Collects xattrs that several inodes have into one table, sorted descending by name, then by length of value, then by value.
 * @param inodes the xattrs of every inode of the image, once each
 */
export function shareXattrs(inodes: Iterable<ReadonlyMap<ByteString, ByteString>>): SharedXattrs {
  const uses = new Map<ByteString, Map<ByteString, XattrUse>>();
  for (const xattrs of inodes) for (const [name, value] of xattrs) count(uses, name, value);
  const table: StoredXattr[] = [];
  let sizeBytes = 0;
  const shared = [...uses.values()].flatMap(values => [...values.values()].filter(use => use.count > 1));
  for (const use of shared.sort(descending)) {
    const xattr = storedXattr(use.name, use.value);
    use.place = sizeBytes;
    table.push(xattr);
    sizeBytes += entryBytes(xattr);
  }
  const bits = new Map<ByteString, number>();
  return { table, sizeBytes, assign: xattrs => assignXattrs(xattrs, uses, bits) };
}

/** A pair of name and value: the number of inodes that have it, and its offset in the table if that is more than one. */
interface XattrUse {
  readonly name: ByteString;
  readonly value: ByteString;
  count: number;
  place: number | undefined;
}

/** Counts one use. The nested maps avoid a combined key, which would copy each value for each inode. */
function count(uses: Map<ByteString, Map<ByteString, XattrUse>>, name: ByteString, value: ByteString): void {
  const values = uses.get(name) ?? new Map<ByteString, XattrUse>();
  if (values.size === 0) uses.set(name, values);
  const use = values.get(value);
  if (use) use.count++;
  else values.set(value, { name, value, count: 1, place: undefined });
}

function descending(a: { name: ByteString; value: ByteString }, b: { name: ByteString; value: ByteString }): number {
  if (a.name !== b.name) return a.name < b.name ? 1 : -1;
  if (a.value.length !== b.value.length) return b.value.length - a.value.length;
  return a.value < b.value ? 1 : -1;
}

function assignXattrs(
  xattrs: ReadonlyMap<ByteString, ByteString>,
  uses: ReadonlyMap<ByteString, ReadonlyMap<ByteString, XattrUse>>,
  bits: Map<ByteString, number>,
): InodeXattrs {
  const result: InodeXattrs = { filter: XATTR_FILTER_DEFAULT, shared: [], inline: [], sizeBytes: 0 };
  for (const [name, value] of xattrs) {
    const xattr = storedXattr(name, value);
    result.filter = (result.filter & ~filterBit(name, xattr, bits)) >>> 0;
    const place = uses.get(name)?.get(value)?.place;
    if (place !== undefined && result.shared.length < SHARED_MAX) {
      result.shared.push(place);
      result.sizeBytes += SHARED_ID_BYTES;
    } else {
      result.inline.push(xattr);
      result.sizeBytes += entryBytes(xattr);
    }
  }
  if (xattrs.size > 0) result.sizeBytes += XattrHeader.SIZE;
  return result;
}

/**
 * The filter bit whose absence tells readers that a name may exist. `bits` caches it, because an image has few distinct names.
 */
function filterBit(name: ByteString, { suffix, index }: StoredXattr, bits: Map<ByteString, number>): number {
  let bit = bits.get(name);
  if (bit === undefined) {
    bit = 1 << (xxh32(bufferOf(suffix), XATTR_FILTER_SEED + index) & 31);
    bits.set(name, bit);
  }
  return bit;
}
