/** Writes a tree as a composefs image, byte for byte like mkcomposefs 1.0.8. */
import {
  COMPAT_MTIME,
  COMPAT_XATTR_FILTER,
  COMPOSEFS_HAS_ACL,
  COMPOSEFS_HEADER_VERSION,
  COMPOSEFS_MAGIC,
  ComposefsHeader,
  Dirent,
  FORMAT_EXTENDED,
  FORMAT_LAYOUT_SHIFT,
  FT_BLKDEV,
  FT_CHRDEV,
  FT_DIR,
  FT_FIFO,
  FT_REG_FILE,
  FT_SOCK,
  FT_SYMLINK,
  FT_UNKNOWN,
  InodeCompact,
  InodeExtended,
  SHARED_ID_BYTES,
  SLOT_BYTES,
  SUPER_AT,
  SUPER_MAGIC,
  SuperBlock,
  XATTR_FILTER_DEFAULT,
  XattrEntry,
  XattrHeader,
} from '../erofs/format.ts';
import { type ByteString, putByteString, putU64, type Seconds } from '../sys/bytes.ts';
import {
  isDirectory,
  isRegular,
  isSymlink,
  S_IFBLK,
  S_IFCHR,
  S_IFDIR,
  S_IFIFO,
  S_IFLNK,
  S_IFMT,
  S_IFREG,
  S_IFSOCK,
} from '../sys/stat.ts';
import { BLOCK_BITS, BLOCK_BYTES, endOfBlock, ImageLayout } from './layout.ts';
import { type StageOptions, stageTree } from './stage.ts';
import type { Row, StagedInodes } from './staged.ts';
import type { TreeInode } from './tree.ts';

const FILE_TYPES: Record<number, number> = {
  [S_IFREG]: FT_REG_FILE,
  [S_IFDIR]: FT_DIR,
  [S_IFCHR]: FT_CHRDEV,
  [S_IFBLK]: FT_BLKDEV,
  [S_IFIFO]: FT_FIFO,
  [S_IFSOCK]: FT_SOCK,
  [S_IFLNK]: FT_SYMLINK,
};

/**
 * Writes the image of a tree. Throws ErrnoError EINVAL or EFBIG for a tree that no image can hold.
 * @example
 * const image = openImage(writeImage(scanTree('tree').root));
 * assert.deepEqual([...readTree(image).entries.keys()].sort(), ['link', 'poem']);
 */
export function writeImage(root: TreeInode, options: StageOptions = {}): Uint8Array {
  return writeStaged(stageTree(root, options));
}

/** Writes the image of staged inodes. Throws like `writeImage`. */
export function writeStaged(inodes: StagedInodes): Uint8Array {
  return new ImageWriter(new ImageLayout(inodes)).write();
}

/** Fills an image that starts as zeros; bytes that are never written remain as padding. */
class ImageWriter {
  readonly #layout: ImageLayout;
  readonly #staged: StagedInodes;
  readonly #bytes: Uint8Array;
  readonly #view: DataView;

  constructor(layout: ImageLayout) {
    this.#layout = layout;
    this.#staged = layout.staged;
    this.#bytes = new Uint8Array(layout.sizeBytes);
    this.#view = new DataView(this.#bytes.buffer);
  }

  write(): Uint8Array {
    const { order, compact, shared, sharedAt } = this.#layout;
    this.#putHeader();
    this.#putSuperBlock();
    for (const [ino, row] of order.entries()) {
      if (compact[row]) this.#putCompact(row, ino);
      else this.#putExtended(row, ino);
      this.#putXattrs(row);
      this.#putData(row);
    }
    let at = sharedAt;
    for (const pair of shared.table) at = this.#putXattr(pair, at);
    return this.#bytes;
  }

  #putHeader(): void {
    const v = this.#view;
    const hasAcl = ACLS.some(name => this.#staged.pairs.hasName(name));
    v.setUint32(ComposefsHeader.magic, COMPOSEFS_MAGIC, true);
    v.setUint32(ComposefsHeader.version, COMPOSEFS_HEADER_VERSION, true);
    v.setUint32(ComposefsHeader.flags, hasAcl ? COMPOSEFS_HAS_ACL : 0, true);
    v.setUint32(ComposefsHeader.composefs_version, this.#staged.composefsVersion, true);
  }

  #putSuperBlock(): void {
    const v = this.#view;
    const { order, earliest, sharedAt, sizeBytes } = this.#layout;
    const { mtime, mtimensec } = this.#staged;
    v.setUint32(SUPER_AT + SuperBlock.magic, SUPER_MAGIC, true);
    v.setUint32(SUPER_AT + SuperBlock.feature_compat, COMPAT_MTIME | COMPAT_XATTR_FILTER, true);
    v.setUint8(SUPER_AT + SuperBlock.blkszbits, BLOCK_BITS);
    v.setUint16(SUPER_AT + SuperBlock.rootnid_2b, this.#nid(order[0] as Row), true);
    putU64(v, SUPER_AT + SuperBlock.inos, order.length);
    putU64(v, SUPER_AT + SuperBlock.epoch, mtime[earliest] as Seconds);
    v.setUint32(SUPER_AT + SuperBlock.fixed_nsec, mtimensec[earliest] as number, true);
    v.setUint32(SUPER_AT + SuperBlock.blocks_lo, sizeBytes / BLOCK_BYTES, true);
    v.setUint32(SUPER_AT + SuperBlock.xattr_blkaddr, Math.floor(sharedAt / BLOCK_BYTES), true);
  }

  #nid(row: Row): number {
    return (this.#layout.at[row] as number) / SLOT_BYTES;
  }

  #putCompact(row: Row, ino: number): void {
    const v = this.#view;
    const { nlink, uid, gid } = this.#staged;
    const at = this.#putStart(row);
    v.setUint16(at + InodeCompact.i_nlink, nlink[row] as number, true);
    v.setUint32(at + InodeCompact.i_size, this.#layout.sizeOf(row), true);
    v.setUint32(at + InodeCompact.i_ino, ino, true);
    v.setUint16(at + InodeCompact.i_uid, uid[row] as number, true);
    v.setUint16(at + InodeCompact.i_gid, gid[row] as number, true);
  }

  #putExtended(row: Row, ino: number): void {
    const v = this.#view;
    const { nlink, uid, gid, mtime, mtimensec } = this.#staged;
    const at = this.#putStart(row);
    putU64(v, at + InodeExtended.i_size, this.#layout.sizeOf(row));
    v.setUint32(at + InodeExtended.i_ino, ino, true);
    v.setUint32(at + InodeExtended.i_uid, uid[row] as number, true);
    v.setUint32(at + InodeExtended.i_gid, gid[row] as number, true);
    putU64(v, at + InodeExtended.i_mtime, mtime[row] as Seconds);
    v.setUint32(at + InodeExtended.i_mtime_nsec, mtimensec[row] as number, true);
    v.setUint32(at + InodeExtended.i_nlink, nlink[row] as number, true);
  }

  /** Writes the fields that both forms of inodes have at the same offsets. @returns the offset of the inode */
  #putStart(row: Row): number {
    const v = this.#view;
    const layout = this.#layout;
    const at = layout.at[row] as number;
    const form = layout.compact[row] ? 0 : FORMAT_EXTENDED;
    v.setUint16(at + InodeCompact.i_format, (layout.layoutOf(row) << FORMAT_LAYOUT_SHIFT) | form, true);
    v.setUint16(at + InodeCompact.i_xattr_icount, xattrCount(layout.xattrBytes[row] as number), true);
    v.setUint16(at + InodeCompact.i_mode, this.#staged.mode[row] as number, true);
    v.setUint32(at + InodeCompact.i_u, this.#unionOf(row), true);
    return at;
  }

  /** i_u: a device number, chunk bits, or the number of the first block. */
  #unionOf(row: Row): number {
    const { chunkBits, firstBlock } = this.#layout;
    const type = (this.#staged.mode[row] as number) & S_IFMT;
    if (type === S_IFCHR || type === S_IFBLK) return this.#staged.rdev[row] as number;
    return chunkBits[row] ? (chunkBits[row] as number) - BLOCK_BITS : (firstBlock[row] as number);
  }

  #putXattrs(row: Row): void {
    const { shared, sharedAt, at, xattrBytes } = this.#layout;
    if (xattrBytes[row] === 0) return;
    const headerAt = (at[row] as number) + this.#layout.headBytes(row) - (xattrBytes[row] as number);
    const tableAt = sharedAt % BLOCK_BYTES; // ids count from the start of this block
    let filter = XATTR_FILTER_DEFAULT;
    let left = shared.referencesOf(row);
    this.#view.setUint8(headerAt + XattrHeader.h_shared_count, left);
    let idAt = headerAt + XattrHeader.SIZE;
    let entryAt = idAt + left * SHARED_ID_BYTES;
    this.#staged.visitXattrs(row, pair => {
      filter &= ~this.#staged.pairs.nameOf(pair).filterBit;
      const place = left > 0 ? shared.placeOf(pair) : undefined;
      if (place !== undefined) {
        this.#view.setUint32(idAt, (tableAt + place) / SHARED_ID_BYTES, true);
        idAt += SHARED_ID_BYTES;
        left--;
      } else entryAt = this.#putXattr(pair, entryAt);
    });
    this.#view.setUint32(headerAt + XattrHeader.h_name_filter, filter >>> 0, true);
  }

  /** Writes one entry. @returns the offset after it */
  #putXattr(pair: number, at: number): number {
    const { pairs } = this.#staged;
    const { index, suffix } = pairs.nameOf(pair);
    const value = pairs.valueOf(pair);
    this.#view.setUint8(at + XattrEntry.e_name_len, suffix.length);
    this.#view.setUint8(at + XattrEntry.e_name_index, index);
    this.#view.setUint16(at + XattrEntry.e_value_size, value.length, true);
    this.#putText(suffix, at + XattrEntry.SIZE);
    this.#putText(value, at + XattrEntry.SIZE + suffix.length);
    return at + pairs.entryBytes(pair);
  }

  #putText(text: ByteString, at: number): void {
    putByteString(this.#bytes, at, text);
  }

  /** Writes an inode's data: whole blocks first, the rest into the tail. */
  #putData(row: Row): void {
    const mode = this.#staged.mode[row] as number;
    if (isDirectory(mode)) this.#putDirectory(row);
    else if (this.#layout.chunkBits[row]) this.#putHoles(row);
    else if (isSymlink(mode) || (isRegular(mode) && this.#layout.sizeOf(row) > 0))
      this.#putSplit(row, this.#staged.data[row] ?? '');
  }

  #blocksAt(row: Row): number {
    return (this.#layout.firstBlock[row] as number) * BLOCK_BYTES;
  }

  #tailAt(row: Row): number {
    return (this.#layout.at[row] as number) + this.#layout.headBytes(row);
  }

  #putSplit(row: Row, text: ByteString): void {
    const blockBytes = (this.#layout.blocks[row] as number) * BLOCK_BYTES;
    if (blockBytes > 0) this.#putText(text.slice(0, blockBytes), this.#blocksAt(row));
    this.#putText(text.slice(blockBytes), this.#tailAt(row));
  }

  /**
   * Writes a chunk map of null addresses, as the data is not in the image. A map too large for the tail fills a block, although
   * readers expect it after the inode. Only files near FILE_BYTES_MAX have such a map, and overlayfs never reads it.
   */
  #putHoles(row: Row): void {
    const { blocks, tailBytes } = this.#layout;
    const from = blocks[row] ? this.#blocksAt(row) : this.#tailAt(row);
    this.#bytes.fill(0xff, from, from + (blocks[row] ? BLOCK_BYTES : (tailBytes[row] as number)));
  }

  #putDirectory(row: Row): void {
    const blocks = this.#layout.blocks[row] as number;
    const [first, end] = this.#staged.namesOf(row);
    let block = 0;
    for (let from = first; from < end; block++) {
      const to = endOfBlock(this.#staged, from, end);
      this.#putDirents(from, to, block < blocks ? this.#blocksAt(row) + block * BLOCK_BYTES : this.#tailAt(row));
      from = to;
    }
  }

  #putDirents(from: number, to: number, blockAt: number): void {
    const { names, nameRow, mode } = this.#staged;
    let nameoff = (to - from) * Dirent.SIZE;
    for (let i = from, at = blockAt; i < to; i++, at += Dirent.SIZE) {
      const name = names[i] as ByteString;
      const row = nameRow[i] as Row;
      putU64(this.#view, at + Dirent.nid, this.#nid(row));
      this.#view.setUint16(at + Dirent.nameoff, nameoff, true);
      this.#view.setUint8(at + Dirent.file_type, FILE_TYPES[(mode[row] as number) & S_IFMT] ?? FT_UNKNOWN);
      this.#putText(name, blockAt + nameoff);
      nameoff += name.length;
    }
  }
}

const ACLS = ['system.posix_acl_access', 'system.posix_acl_default'];

/** i_xattr_icount: 0 without xattrs; otherwise 1 for the header plus 1 for every 4 bytes after it. */
const xattrCount = (xattrBytes: number): number => (xattrBytes === 0 ? 0 : (xattrBytes - XattrHeader.SIZE) / 4 + 1);
