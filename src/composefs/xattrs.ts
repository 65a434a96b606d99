/** The xattrs of an image on disk: entries, the table of shared ones, and the name filter. Source: Linux fs/erofs/erofs_fs.h. */
import { XATTR_ALIGN, XATTR_FILTER_SEED, XATTR_INDEX_LUSTRE, XATTR_PREFIXES, XattrEntry } from '../erofs/format.ts';
import { type ByteString, bufferOf } from '../sys/bytes.ts';
import { xxh32 } from './xxh32.ts';

/** The name of an xattr as an image stores it. */
export interface XattrName {
  readonly name: ByteString;
  /** The index of a prefix, and the rest of the name. */
  readonly index: number;
  readonly suffix: ByteString;
  /** The filter bit whose absence tells readers that the name may exist. */
  readonly filterBit: number;
}

/** The prefixes by index, without that of Lustre, which mkcomposefs does not use. */
const PREFIXES = XATTR_PREFIXES.map((prefix, index) => (index === XATTR_INDEX_LUSTRE ? '' : prefix));

function storedName(name: ByteString): XattrName {
  const index = Math.max(
    PREFIXES.findIndex(prefix => prefix !== '' && name.startsWith(prefix)),
    0,
  );
  const suffix = name.slice(PREFIXES[index]?.length);
  return { name, index, suffix, filterBit: 1 << (xxh32(bufferOf(suffix), XATTR_FILTER_SEED + index) & 31) };
}

/** Pairs of name and value, numbered from 0. All inodes that have a pair refer to it by its number. */
export class XattrPairs {
  readonly #names: XattrName[] = [];
  readonly #values: ByteString[] = [];
  /** Nested maps avoid a combined key, which would copy each value for each inode. */
  readonly #known = new Map<ByteString, { readonly name: XattrName; readonly numbers: Map<ByteString, number> }>();

  get count(): number {
    return this.#values.length;
  }

  /** The number of a pair, which is added if it is new. */
  number(name: ByteString, value: ByteString): number {
    let known = this.#known.get(name);
    if (known === undefined) {
      known = { name: storedName(name), numbers: new Map() };
      this.#known.set(name, known);
    }
    let number = known.numbers.get(value);
    if (number !== undefined) return number;
    number = this.#values.push(value) - 1;
    this.#names.push(known.name);
    known.numbers.set(value, number);
    return number;
  }

  hasName(name: ByteString): boolean {
    return this.#known.has(name);
  }

  nameOf(number: number): XattrName {
    return this.#names[number] as XattrName;
  }

  valueOf(number: number): ByteString {
    return this.#values[number] as ByteString;
  }

  /** Compares the names of two pairs. */
  readonly byName = (a: number, b: number): number => (this.nameOf(a).name < this.nameOf(b).name ? -1 : 1);

  /** The size of a pair's entry. */
  entryBytes(number: number): number {
    const { suffix } = this.nameOf(number);
    return align(XattrEntry.SIZE + suffix.length + this.valueOf(number).length, XATTR_ALIGN);
  }
}

/** Rounds up to a multiple. */
export const align = (n: number, multiple: number): number => Math.ceil(n / multiple) * multiple;
