/**
 * The names, xattrs and data of an image, as strings whose total size is bounded by the size of the image. A shared xattr is one
 * string for all its inodes. Images whose inode areas overlap too much are refused, because each overlap multiplies the bytes
 * read.
 */
import { readData } from '../erofs/data.ts';
import { listDirents } from '../erofs/dirents.ts';
import type { Nid } from '../erofs/format.ts';
import { BLOCK_MAP_BYTES, CHUNK_BITS_MASK, LAYOUT_CHUNK_BASED } from '../erofs/format.ts';
import type { ImageInode } from '../erofs/inode.ts';
import type { Image } from '../erofs/superblock.ts';
import { listXattrs, xattrText } from '../erofs/xattrs.ts';
import { type ByteString, byteStringOf } from '../sys/bytes.ts';
import { EFBIG, ErrnoError, EUCLEAN } from '../sys/errno.ts';
import { XATTR_NAME_BYTES_MAX } from './tree.ts';

/** Tolerated overlap between inodes, besides shared xattrs. Images of mkcomposefs and composefs-rs have no overlap at all. */
const OVERLAP_BYTES_MAX = 1 << 24;
/** The limit for the xattrs of one inode. Source: composefs lcfs-writer.h, LCFS_INODE_XATTR_MAX. */
const XATTRS_BYTES_MAX = 65535;

/**
 * Counts down the bytes that the areas of an image's inodes may have in total, which bounds the bytes read from overlapping
 * areas.
 */
export class AreaBudget {
  readonly #imageBytes: number;
  #left: number;

  constructor({ sizeBytes }: Image) {
    this.#imageBytes = sizeBytes;
    this.#left = sizeBytes + OVERLAP_BYTES_MAX;
  }

  /** Subtracts the bytes of an area. Throws ErrnoError EUCLEAN if the budget is exceeded. */
  take({ nid }: ImageInode, bytes: number): void {
    this.#left -= bytes;
    if (this.#left < 0)
      throw new ErrnoError(
        EUCLEAN,
        `nid ${nid}: inodes overlap: those up to this one have more bytes than the image, which has ${this.#imageBytes}`,
      );
  }
}

interface Xattr {
  readonly name: ByteString;
  readonly value: ByteString;
}

/** Reads the values of one image; each inode is to be read once. Throws ErrnoError EUCLEAN if areas overlap too much. */
export class ImageValues {
  readonly #image: Image;
  readonly #budget: AreaBudget;
  /** Shared xattrs, keyed by the offset of their entries. */
  readonly #shared = new Map<number, Xattr>();

  constructor(image: Image) {
    this.#image = image;
    this.#budget = new AreaBudget(image);
  }

  /** Visits the entries of a directory; see `listDirents`. */
  dirents(inode: ImageInode, visit: (name: ByteString, nid: Nid) => void): void {
    this.#budget.take(inode, inode.sizeBytes);
    listDirents(this.#image, inode, visit);
  }

  /**
   * Visits the xattrs of an inode; see `listXattrs`.
   * Throws ErrnoError: EUCLEAN for a corrupt area or an impossible name, EFBIG if the xattrs exceed the limit of a composefs
   * inode.
   */
  xattrs(inode: ImageInode, visit: (name: ByteString, value: ByteString) => void): void {
    this.#budget.take(inode, inode.xattrBytes);
    const end = inode.xattrAt + inode.xattrBytes;
    let bytes = 0;
    listXattrs(this.#image, inode, (stored, entry) => {
      const isInline = entry >= inode.xattrAt && entry < end;
      const { name, value } = isInline ? this.#xattr(inode, stored, entry) : this.#sharedXattr(inode, stored, entry);
      bytes += name.length + value.length;
      if (bytes > XATTRS_BYTES_MAX)
        throw new ErrnoError(EFBIG, `nid ${inode.nid}: more than ${XATTRS_BYTES_MAX} bytes of xattrs`);
      visit(name, value);
    });
  }

  /** The data of an inode. Throws ErrnoError EUCLEAN if it has more than `max` bytes. */
  data(inode: ImageInode, max: number): ByteString {
    const { nid, sizeBytes } = inode;
    if (sizeBytes > max) throw new ErrnoError(EUCLEAN, `nid ${nid}: ${sizeBytes} bytes; ${max} are allowed`);
    this.#budget.take(inode, sizeBytes);
    const bytes = new Uint8Array(sizeBytes);
    readData(this.#image, inode, bytes, 0, sizeBytes, 0);
    return byteStringOf(bytes);
  }

  /** Charges an inode's chunk map to the budget; to be called before the map is traversed. Other layouts have none. */
  takeChunkMap(inode: ImageInode): void {
    if (inode.layout !== LAYOUT_CHUNK_BASED) return;
    const chunkBytes = this.#image.blockBytes * 2 ** (inode.u & CHUNK_BITS_MASK);
    this.#budget.take(inode, Math.ceil(inode.sizeBytes / chunkBytes) * BLOCK_MAP_BYTES);
  }

  #xattr({ nid }: ImageInode, name: ByteString, entry: number): Xattr {
    if (name.length > XATTR_NAME_BYTES_MAX || name === '' || name.includes('\0'))
      throw new ErrnoError(EUCLEAN, `nid ${nid}: an xattr name of ${name.length} bytes, or with a NUL`);
    return { name, value: xattrText(this.#image, entry) };
  }

  #sharedXattr(inode: ImageInode, name: ByteString, entry: number): Xattr {
    let xattr = this.#shared.get(entry);
    if (xattr === undefined) {
      xattr = this.#xattr(inode, name, entry);
      this.#budget.take(inode, name.length + xattr.value.length);
      this.#shared.set(entry, xattr);
    }
    return xattr;
  }
}
