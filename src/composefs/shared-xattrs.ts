/** The pairs of xattr name and value that several inodes of an image have, which are stored once, in a table. */
import { SHARED_ID_BYTES, XATTR_LONG_PREFIX, XattrHeader } from '../erofs/format.ts';
import type { Row, StagedInodes } from './staged.ts';
import type { XattrPairs } from './xattrs.ts';

/** The most shared xattrs that an inode can refer to; further ones are stored inline. */
const SHARED_MAX = XATTR_LONG_PREFIX;
const NOWHERE = 0xffffffff;

export class SharedXattrs {
  /** The numbers of the pairs in the order of the table: descending by name, then by length of value, then by value. */
  readonly table: readonly number[];
  readonly sizeBytes: number;
  readonly #staged: StagedInodes;
  /** The offset of each pair in the table; NOWHERE if it is not shared. */
  readonly #places: Uint32Array;

  constructor(staged: StagedInodes) {
    const { pairs } = staged;
    const uses = new Uint32Array(pairs.count);
    for (let row = 0; row < staged.count; row++)
      staged.visitXattrs(row, pair => {
        uses[pair] = (uses[pair] as number) + 1;
      });
    const table: number[] = [];
    uses.forEach((count, pair) => {
      if (count > 1) table.push(pair);
    });
    this.table = table.sort((a, b) => descending(pairs, a, b));
    this.#staged = staged;
    this.#places = uses.fill(NOWHERE);
    let sizeBytes = 0;
    for (const pair of table) {
      this.#places[pair] = sizeBytes;
      sizeBytes += pairs.entryBytes(pair);
    }
    this.sizeBytes = sizeBytes;
  }

  /** The offset of a pair in the table; undefined if it is not shared. */
  placeOf(pair: number): number | undefined {
    const place = this.#places[pair] as number;
    return place === NOWHERE ? undefined : place;
  }

  /** How many of an inode's xattrs are references to the table: the first shared ones. The others are stored after the inode. */
  referencesOf(row: Row): number {
    let count = 0;
    this.#staged.visitXattrs(row, pair => {
      if (this.#places[pair] !== NOWHERE) count++;
    });
    return Math.min(count, SHARED_MAX);
  }

  /** The size of the xattr area after an inode; 0 without xattrs. */
  bytesOf(row: Row): number {
    const references = this.referencesOf(row);
    let left = references;
    let bytes = references * SHARED_ID_BYTES;
    this.#staged.visitXattrs(row, pair => {
      if (left > 0 && this.#places[pair] !== NOWHERE) left--;
      else bytes += this.#staged.pairs.entryBytes(pair);
    });
    return bytes === 0 ? 0 : XattrHeader.SIZE + bytes;
  }
}

function descending(pairs: XattrPairs, a: number, b: number): number {
  const [nameA, nameB] = [pairs.nameOf(a).name, pairs.nameOf(b).name];
  if (nameA !== nameB) return nameA < nameB ? 1 : -1;
  const [valueA, valueB] = [pairs.valueOf(a), pairs.valueOf(b)];
  if (valueA.length !== valueB.length) return valueB.length - valueA.length;
  return valueA < valueB ? 1 : -1;
}
