/**
 * The inodes of an image as they are to be written: whiteouts escaped, and the overlay's xattrs among the others. Each inode is a
 * row, and its fields are columns: objects would take several times the memory, and the garbage collector would copy them.
 */
import type { ByteString, Seconds } from '../sys/bytes.ts';
import { withRoom } from '../sys/columns.ts';
import type { TreeInode } from './tree.ts';
import { XattrPairs } from './xattrs.ts';

/** The number of an inode's row; the root has 0. */
export type Row = number;

/** The fields that `add` copies into a row. */
type RowFields = Pick<TreeInode, 'mode' | 'nlink' | 'uid' | 'gid' | 'rdev' | 'sizeBytes' | 'mtime' | 'mtimensec'>;

const ROWS = 1024;
const u32 = (): Uint32Array => new Uint32Array(ROWS);

/** A table of inodes. Columns are indexed by row; those of names by the number of a name. */
export class StagedInodes {
  /** The number of rows. */
  count = 0;
  mode = u32();
  nlink = u32();
  uid = u32();
  gid = u32();
  rdev = u32();
  mtimensec = u32();
  sizeBytes = new Float64Array(ROWS);
  readonly mtime: Seconds[] = [];
  /** A symlink's target, or the bytes of a regular file that the image itself holds. */
  readonly data: (ByteString | undefined)[] = [];
  /** The directory of the inode's first name; the root's parent is the root. */
  parent = u32();
  /** A directory's names, in byte order with `.` and `..`: the number of the first one, and how many there are. */
  firstName = u32();
  nameCount = u32();
  readonly names: ByteString[] = [];
  /** The inode of each name. */
  nameRow = u32();
  /** An inode's xattrs, in byte order of their names: the position of the first one in `#xattrs`, and how many there are. */
  #firstXattr = u32();
  #xattrCount = u32();
  #xattrs = u32();
  #xattrsEnd = 0;
  readonly pairs = new XattrPairs();
  /** The rows in the order of the image; undefined if that is their own order. */
  order: Uint32Array | undefined;
  /** The rules by which the inodes were staged, as the header of the image records them. */
  composefsVersion = 0;

  /** Adds an inode without names and xattrs. @returns its row */
  add(fields: RowFields, data: ByteString | undefined, parent: Row): Row {
    const row = this.count++;
    if (row === this.mode.length) this.#grow(row + 1);
    this.mode[row] = fields.mode;
    this.nlink[row] = fields.nlink;
    this.uid[row] = fields.uid;
    this.gid[row] = fields.gid;
    this.rdev[row] = fields.rdev;
    this.sizeBytes[row] = fields.sizeBytes;
    this.mtime.push(fields.mtime);
    this.mtimensec[row] = fields.mtimensec;
    this.data.push(data);
    this.parent[row] = parent;
    return row;
  }

  #grow(count: number): void {
    this.mode = withRoom(this.mode, count);
    this.nlink = withRoom(this.nlink, count);
    this.uid = withRoom(this.uid, count);
    this.gid = withRoom(this.gid, count);
    this.rdev = withRoom(this.rdev, count);
    this.mtimensec = withRoom(this.mtimensec, count);
    this.sizeBytes = withRoom(this.sizeBytes, count);
    this.parent = withRoom(this.parent, count);
    this.firstName = withRoom(this.firstName, count);
    this.nameCount = withRoom(this.nameCount, count);
    this.#firstXattr = withRoom(this.#firstXattr, count);
    this.#xattrCount = withRoom(this.#xattrCount, count);
  }

  /** Adds the next name of a directory. All names of one directory have to be added before those of the next one. */
  addName(directory: Row, name: ByteString, row: Row): void {
    const number = this.names.push(name) - 1;
    this.nameRow = withRoom(this.nameRow, number + 1);
    this.nameRow[number] = row;
    if (this.nameCount[directory] === 0) this.firstName[directory] = number;
    this.nameCount[directory] = (this.nameCount[directory] as number) + 1;
  }

  /** The numbers of a directory's names: from the first up to, but not including, the second. */
  namesOf(directory: Row): [first: number, end: number] {
    const first = this.firstName[directory] as number;
    return [first, first + (this.nameCount[directory] as number)];
  }

  /** Replaces the xattrs of an inode. */
  setXattrs(row: Row, xattrs: ReadonlyMap<ByteString, ByteString>): void {
    this.#firstXattr[row] = this.#xattrsEnd;
    this.#xattrCount[row] = xattrs.size;
    this.#xattrs = withRoom(this.#xattrs, this.#xattrsEnd + xattrs.size);
    let last = '';
    let inOrder = true;
    for (const [name, value] of xattrs) {
      inOrder &&= last < name;
      last = name;
      this.#xattrs[this.#xattrsEnd++] = this.pairs.number(name, value);
    }
    if (!inOrder) this.#xattrs.subarray(this.#firstXattr[row], this.#xattrsEnd).sort(this.pairs.byName);
  }

  /** Visits the numbers in `pairs` of an inode's xattrs, in byte order of names. */
  visitXattrs(row: Row, visit: (pair: number) => void): void {
    const first = this.#firstXattr[row] as number;
    const end = first + (this.#xattrCount[row] as number);
    for (let i = first; i < end; i++) visit(this.#xattrs[i] as number);
  }

  /** An inode's xattrs, by name. */
  xattrsOf(row: Row): Map<ByteString, ByteString> {
    const copy = new Map<ByteString, ByteString>();
    this.visitXattrs(row, pair => copy.set(this.pairs.nameOf(pair).name, this.pairs.valueOf(pair)));
    return copy;
  }
}
