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
  LAYOUT_CHUNK_BASED,
  SHARED_ID_BYTES,
  SLOT_BYTES,
  SUPER_AT,
  SUPER_MAGIC,
  SuperBlock,
  XattrEntry,
  XattrHeader,
} from '../erofs/format.ts';
import { type ByteString, putU64 } from '../sys/bytes.ts';
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
import {
  BLOCK_BITS,
  BLOCK_BYTES,
  directoryBlocks,
  headBytes,
  type ImageLayout,
  layOut,
  type PlacedInode,
} from './layout.ts';
import { type ComposefsVersion, hasWhiteouts, type StagedChild, type StagedInode, stageTree } from './stage.ts';
import type { TreeInode } from './tree.ts';
import { entryBytes, type StoredXattr } from './xattrs.ts';

/** The range of composefs versions to choose from; see ComposefsVersion. */
export interface WriteOptions {
  /** The version to write, unless whiteouts raise it to maxVersion. Default 0. */
  minVersion?: ComposefsVersion;
  /** Default 1; at least minVersion. */
  maxVersion?: ComposefsVersion;
}

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
export function writeImage(root: TreeInode, options: WriteOptions = {}): Uint8Array {
  const { minVersion = 0, maxVersion = 1 } = options;
  const version = minVersion === 0 && maxVersion === 1 && hasWhiteouts(root) ? 1 : minVersion;
  return writeStaged(stageTree(root, version), version);
}

/**
 * Writes the image of staged inodes, in their order. Throws like `writeImage`.
 * @param composefsVersion the rules by which they were staged, as the header is to record them
 */
export function writeStaged(inodes: StagedInode[], composefsVersion: number): Uint8Array {
  return new ImageWriter(layOut(inodes)).write(composefsVersion);
}

/** Fills an image that starts as zeros; bytes that are never written remain as padding. */
class ImageWriter {
  readonly #layout: ImageLayout;
  readonly #bytes: Buffer;
  readonly #view: DataView;
  readonly #placed: Map<StagedInode, PlacedInode>;

  constructor(layout: ImageLayout) {
    this.#layout = layout;
    this.#bytes = Buffer.from(new ArrayBuffer(layout.sizeBytes));
    this.#view = new DataView(this.#bytes.buffer);
    this.#placed = new Map(layout.inodes.map(placed => [placed.inode, placed]));
  }

  write(version: number): Uint8Array {
    this.#putHeader(version);
    this.#putSuperBlock();
    for (const placed of this.#layout.inodes) {
      if (placed.compact) this.#putCompact(placed);
      else this.#putExtended(placed);
      this.#putXattrs(placed);
      this.#putData(placed);
    }
    let at = this.#layout.sharedAt;
    for (const xattr of this.#layout.shared.table) at = this.#putXattr(xattr, at);
    return this.#bytes;
  }

  #putHeader(version: number): void {
    const v = this.#view;
    v.setUint32(ComposefsHeader.magic, COMPOSEFS_MAGIC, true);
    v.setUint32(ComposefsHeader.version, COMPOSEFS_HEADER_VERSION, true);
    v.setUint32(ComposefsHeader.flags, this.#layout.inodes.some(hasAcl) ? COMPOSEFS_HAS_ACL : 0, true);
    v.setUint32(ComposefsHeader.composefs_version, version, true);
  }

  #putSuperBlock(): void {
    const v = this.#view;
    const { inodes, sharedAt, sizeBytes, mtime, mtimensec } = this.#layout;
    v.setUint32(SUPER_AT + SuperBlock.magic, SUPER_MAGIC, true);
    v.setUint32(SUPER_AT + SuperBlock.feature_compat, COMPAT_MTIME | COMPAT_XATTR_FILTER, true);
    v.setUint8(SUPER_AT + SuperBlock.blkszbits, BLOCK_BITS);
    v.setUint16(SUPER_AT + SuperBlock.rootnid_2b, (inodes[0] as PlacedInode).at / SLOT_BYTES, true);
    putU64(v, SUPER_AT + SuperBlock.inos, inodes.length);
    putU64(v, SUPER_AT + SuperBlock.epoch, mtime);
    v.setUint32(SUPER_AT + SuperBlock.fixed_nsec, mtimensec, true);
    v.setUint32(SUPER_AT + SuperBlock.blocks_lo, sizeBytes / BLOCK_BYTES, true);
    v.setUint32(SUPER_AT + SuperBlock.xattr_blkaddr, Math.floor(sharedAt / BLOCK_BYTES), true);
  }

  #putCompact(placed: PlacedInode): void {
    const v = this.#view;
    const { at, inode } = placed;
    v.setUint16(at + InodeCompact.i_format, formatOf(placed), true);
    v.setUint16(at + InodeCompact.i_xattr_icount, xattrCount(placed), true);
    v.setUint16(at + InodeCompact.i_mode, inode.mode, true);
    v.setUint16(at + InodeCompact.i_nlink, inode.nlink, true);
    v.setUint32(at + InodeCompact.i_size, placed.sizeBytes, true);
    v.setUint32(at + InodeCompact.i_u, unionOf(placed), true);
    v.setUint32(at + InodeCompact.i_ino, inode.index, true);
    v.setUint16(at + InodeCompact.i_uid, inode.uid, true);
    v.setUint16(at + InodeCompact.i_gid, inode.gid, true);
  }

  #putExtended(placed: PlacedInode): void {
    const v = this.#view;
    const { at, inode } = placed;
    v.setUint16(at + InodeExtended.i_format, formatOf(placed), true);
    v.setUint16(at + InodeExtended.i_xattr_icount, xattrCount(placed), true);
    v.setUint16(at + InodeExtended.i_mode, inode.mode, true);
    putU64(v, at + InodeExtended.i_size, placed.sizeBytes);
    v.setUint32(at + InodeExtended.i_u, unionOf(placed), true);
    v.setUint32(at + InodeExtended.i_ino, inode.index, true);
    v.setUint32(at + InodeExtended.i_uid, inode.uid, true);
    v.setUint32(at + InodeExtended.i_gid, inode.gid, true);
    putU64(v, at + InodeExtended.i_mtime, inode.mtime);
    v.setUint32(at + InodeExtended.i_mtime_nsec, inode.mtimensec, true);
    v.setUint32(at + InodeExtended.i_nlink, inode.nlink, true);
  }

  #putXattrs({ at, compact, xattrs }: PlacedInode): void {
    if (xattrs.sizeBytes === 0) return;
    const headerAt = at + (compact ? InodeCompact.SIZE : InodeExtended.SIZE);
    this.#view.setUint32(headerAt + XattrHeader.h_name_filter, xattrs.filter, true);
    this.#view.setUint8(headerAt + XattrHeader.h_shared_count, xattrs.shared.length);
    let next = headerAt + XattrHeader.SIZE;
    const tableAt = this.#layout.sharedAt % BLOCK_BYTES; // ids count from the start of this block
    for (const place of xattrs.shared) {
      this.#view.setUint32(next, (tableAt + place) / SHARED_ID_BYTES, true);
      next += SHARED_ID_BYTES;
    }
    for (const xattr of xattrs.inline) next = this.#putXattr(xattr, next);
  }

  /** Writes one entry. @returns the offset after it */
  #putXattr(xattr: StoredXattr, at: number): number {
    this.#view.setUint8(at + XattrEntry.e_name_len, xattr.suffix.length);
    this.#view.setUint8(at + XattrEntry.e_name_index, xattr.index);
    this.#view.setUint16(at + XattrEntry.e_value_size, xattr.value.length, true);
    this.#putText(xattr.suffix + xattr.value, at + XattrEntry.SIZE);
    return at + entryBytes(xattr);
  }

  #putText(text: ByteString, at: number): void {
    this.#bytes.write(text, at, 'latin1');
  }

  /** Writes an inode's data: whole blocks first, the rest into the tail. */
  #putData(placed: PlacedInode): void {
    const { mode, children, payload, content } = placed.inode;
    if (isDirectory(mode)) this.#putDirectory(placed, directoryBlocks(children));
    else if (placed.layout === LAYOUT_CHUNK_BASED) this.#putHoles(placed);
    else if (isSymlink(mode)) this.#putSplit(placed, payload ?? '');
    else if (isRegular(mode) && placed.sizeBytes > 0) this.#putSplit(placed, content ?? '');
  }

  #putSplit(placed: PlacedInode, text: ByteString): void {
    const blockBytes = placed.blocks * BLOCK_BYTES;
    this.#putText(text.slice(0, blockBytes), placed.firstBlock * BLOCK_BYTES);
    this.#putText(text.slice(blockBytes), placed.at + headBytes(placed));
  }

  /**
   * Writes a chunk map of null addresses, as the data is not in the image. A map too large for the tail fills a block, although
   * readers expect it after the inode. Only files near FILE_BYTES_MAX have such a map, and overlayfs never reads it.
   */
  #putHoles(placed: PlacedInode): void {
    const tailAt = placed.at + headBytes(placed);
    const from = placed.blocks > 0 ? placed.firstBlock * BLOCK_BYTES : tailAt;
    this.#bytes.fill(0xff, from, from + (placed.blocks > 0 ? BLOCK_BYTES : placed.tailBytes));
  }

  #putDirectory(placed: PlacedInode, blocks: StagedChild[][]): void {
    for (const [i, children] of blocks.entries())
      this.#putDirents(
        children,
        i < placed.blocks ? (placed.firstBlock + i) * BLOCK_BYTES : placed.at + headBytes(placed),
      );
  }

  #putDirents(children: StagedChild[], blockAt: number): void {
    let nameoff = children.length * Dirent.SIZE;
    for (const [i, { name, inode }] of children.entries()) {
      const at = blockAt + i * Dirent.SIZE;
      putU64(this.#view, at + Dirent.nid, (this.#placed.get(inode) as PlacedInode).at / SLOT_BYTES);
      this.#view.setUint16(at + Dirent.nameoff, nameoff, true);
      this.#view.setUint8(at + Dirent.file_type, FILE_TYPES[inode.mode & S_IFMT] ?? FT_UNKNOWN);
      this.#putText(name, blockAt + nameoff);
      nameoff += name.length;
    }
  }
}

const hasAcl = ({ inode: { xattrs } }: PlacedInode): boolean =>
  xattrs.has('system.posix_acl_access') || xattrs.has('system.posix_acl_default');

const formatOf = ({ compact, layout }: PlacedInode): number =>
  (layout << FORMAT_LAYOUT_SHIFT) | (compact ? 0 : FORMAT_EXTENDED);

/** i_xattr_icount: 0 without xattrs; otherwise 1 for the header plus 1 for every 4 bytes after it. */
const xattrCount = ({ xattrs: { sizeBytes } }: PlacedInode): number =>
  sizeBytes === 0 ? 0 : (sizeBytes - XattrHeader.SIZE) / 4 + 1;

/** i_u: a device number, chunk bits, or the number of the first block. */
function unionOf({ inode, layout, chunkBits, blocks, firstBlock }: PlacedInode): number {
  const type = inode.mode & S_IFMT;
  if (type === S_IFCHR || type === S_IFBLK) return inode.rdev;
  if (layout === LAYOUT_CHUNK_BASED) return chunkBits - BLOCK_BITS;
  return blocks > 0 ? firstBlock : 0;
}
