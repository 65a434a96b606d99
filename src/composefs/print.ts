/**
 * Prints an image as an annotated listing that accounts for every byte once, so that two images can be compared as text.
 *
 * ```
 * 00001024   4  superblock.magic  0xe0f5e1e2
 * 00001152      nid 36 /: directory, extended, inline
 * 00001152   2  nid 36.i_format  5
 * 00001266  14  padding  14 zero bytes
 * ```
 * Offset and length are decimal numbers of bytes; lines are sorted by offset. Bytes outside every structure are `padding` if they
 * are zero, else `unclaimed`. A line with `!` claims bytes that an earlier line has already claimed.
 */
import { type Extent, extentAt, HOLE } from '../erofs/data.ts';
import { listDirents } from '../erofs/dirents.ts';
import type { Nid } from '../erofs/format.ts';
import {
  BLOCK_MAP_BYTES,
  CHUNK_BITS_MASK,
  CHUNK_INDEXES,
  ChunkIndex,
  ComposefsHeader,
  Dirent,
  FORMAT_EXTENDED,
  InodeCompact,
  InodeExtended,
  LAYOUT_CHUNK_BASED,
  NULL_ADDR,
  SHARED_ID_BYTES,
  SLOT_BYTES,
  SUPER_AT,
  SuperBlock,
  XattrEntry,
  XattrHeader,
} from '../erofs/format.ts';
import { openImage } from '../erofs/image.ts';
import { ImageInode } from '../erofs/inode.ts';
import type { Image } from '../erofs/superblock.ts';
import { listXattrs } from '../erofs/xattrs.ts';
import { type ByteString, byteStringOf, getI64 } from '../sys/bytes.ts';
import { ErrnoError } from '../sys/errno.ts';
import { isDirectory, S_IFMT } from '../sys/stat.ts';
import { escapeField } from './escape.ts';
import { AreaBudget } from './image-values.ts';

/** Widths of the listed fields; other bytes of a structure appear as padding. */
type Widths<Table> = { [Field in keyof Table]?: number };

const HEADER: Widths<typeof ComposefsHeader> = { magic: 4, version: 4, flags: 4, composefs_version: 4 };
const SUPER: Widths<typeof SuperBlock> = {
  magic: 4,
  checksum: 4,
  feature_compat: 4,
  blkszbits: 1,
  sb_extslots: 1,
  rootnid_2b: 2,
  inos: 8,
  epoch: 8,
  fixed_nsec: 4,
  blocks_lo: 4,
  meta_blkaddr: 4,
  xattr_blkaddr: 4,
  uuid: 16,
  volume_name: 16,
  feature_incompat: 4,
  available_compr_algs: 2,
  extra_devices: 2,
  devt_slotoff: 2,
  dirblkbits: 1,
  xattr_prefix_count: 1,
  xattr_prefix_start: 4,
  packed_nid: 8,
  xattr_filter_reserved: 1,
  build_time: 4,
  rootnid_8b: 8,
};
const COMPACT: Widths<typeof InodeCompact> = {
  i_format: 2,
  i_xattr_icount: 2,
  i_mode: 2,
  i_nlink: 2,
  i_size: 4,
  i_mtime: 4,
  i_u: 4,
  i_ino: 4,
  i_uid: 2,
  i_gid: 2,
};
const EXTENDED: Widths<typeof InodeExtended> = {
  i_format: 2,
  i_xattr_icount: 2,
  i_mode: 2,
  i_size: 8,
  i_u: 4,
  i_ino: 4,
  i_uid: 4,
  i_gid: 4,
  i_mtime: 8,
  i_mtime_nsec: 4,
  i_nlink: 4,
};
const XATTR: Widths<typeof XattrHeader> = { h_name_filter: 4, h_shared_count: 1 };

const HEX = new Set(['magic', 'checksum', 'feature_compat', 'feature_incompat', 'h_name_filter']);
const LAYOUTS = ['plain', 'compressed', 'inline', 'compressed', 'chunks'];
const TYPES: Record<number, string> = {
  1: 'fifo',
  2: 'character device',
  4: 'directory',
  6: 'block device',
  8: 'file',
  10: 'symlink',
  12: 'socket',
};
/** Bytes of data per line. */
const ROW_BYTES = 32;

/**
 * Lists an image line by line. Throws ErrnoError like `openImage`; corruption below the superblock becomes a line.
 * @example
 * const listing = [...printImage(readFileSync('small.cfs'))];
 * assert.ok(listing.length > 10);
 */
export function* printImage(bytes: Uint8Array): Generator<string> {
  const listing = new ImageListing(openImage(bytes));
  listing.claimAll();
  yield* listing.lines();
}

/** The bytes of one field and their meaning; without a text the bytes themselves are printed. */
interface Claim {
  at: number;
  length: number;
  name: string;
  text: string | undefined;
}

class ImageListing {
  readonly #image: Image;
  readonly #claims: Claim[] = [];
  readonly #seen = new Set<string>();
  readonly #budget: AreaBudget;

  constructor(image: Image) {
    this.#image = image;
    this.#budget = new AreaBudget(image);
  }

  claimAll(): void {
    if (this.#image.composefs) this.#fields('composefs', 0, ComposefsHeader, HEADER);
    this.#fields('superblock', SUPER_AT, SuperBlock, SUPER);
    const pending: [Nid, ByteString][] = [[this.#image.rootNid, '/']];
    const known = new Set<Nid>([this.#image.rootNid]);
    for (const [nid, path] of pending)
      this.#guard(nid, () =>
        this.#inode(nid, path, (name, child) => {
          if (known.has(child)) return;
          known.add(child);
          pending.push([child, path === '/' ? `/${name}` : `${path}/${name}`]);
        }),
      );
  }

  /** The lines of all claims in order of offset, and of the gaps between them. */
  *lines(): Generator<string> {
    const { sizeBytes } = this.#image;
    let at = 0;
    for (const claim of this.#claims.sort((a, b) => a.at - b.at)) {
      if (claim.at > at) yield* this.#gap(at, claim.at);
      const again = claim.length > 0 && claim.at < at;
      yield* this.#show({ ...claim, name: again ? `! ${claim.name}` : claim.name });
      at = Math.max(at, claim.at + claim.length);
    }
    if (at < sizeBytes) yield* this.#gap(at, sizeBytes);
  }

  /** Runs `claim`; corruption adds a line instead of ending the listing. */
  #guard(nid: Nid, claim: () => void): void {
    try {
      claim();
    } catch (error) {
      if (!(error instanceof ErrnoError)) throw error;
      const at = Math.min(this.#image.metaAt + nid * SLOT_BYTES, this.#image.sizeBytes);
      this.#claim(at, 0, `corrupt: ${error.message}`, '');
    }
  }

  #claim(at: number, length: number, name: string, text?: string): void {
    const key = `${at} ${length} ${name}`;
    if (this.#seen.has(key)) return; // already claimed through another inode
    this.#seen.add(key);
    this.#claims.push({ at, length, name, text });
  }

  #fields<Table extends Readonly<Record<string, number>>>(
    owner: string,
    at: number,
    table: Table,
    widths: Widths<Table>,
  ): void {
    for (const [field, width] of Object.entries(widths) as [string, number][]) {
      const fieldAt = at + (table[field] as number);
      this.#claim(fieldAt, width, `${owner}.${field}`, this.#value(field, fieldAt, width));
    }
  }

  #value(field: string, at: number, width: number): string {
    const v = this.#image.view;
    if (width > 8) return Buffer.from(this.#image.bytes.subarray(at, at + width)).toString('hex');
    if (width === 8) return String(getI64(v, at));
    const value = width === 4 ? v.getUint32(at, true) : width === 2 ? v.getUint16(at, true) : v.getUint8(at);
    if (field === 'i_mode') return `0${value.toString(8)}`;
    return HEX.has(field) ? `0x${value.toString(16)}` : String(value);
  }

  #inode(nid: Nid, path: ByteString, visit: (name: ByteString, child: Nid) => void): void {
    const inode = new ImageInode(this.#image, nid);
    const at = this.#image.metaAt + nid * SLOT_BYTES;
    const extended = (this.#image.view.getUint16(at + InodeCompact.i_format, true) & FORMAT_EXTENDED) !== 0;
    const type = TYPES[(inode.mode & S_IFMT) >> 12];
    const form = `${extended ? 'extended' : 'compact'}, ${LAYOUTS[inode.layout]}`;
    this.#claim(at, 0, `nid ${nid} ${escapeField(path)}: ${type}, ${form}`, '');
    if (extended) this.#fields(`nid ${nid}`, at, InodeExtended, EXTENDED);
    else this.#fields(`nid ${nid}`, at, InodeCompact, COMPACT);
    this.#guard(nid, () => this.#xattrs(inode));
    if (isDirectory(inode.mode)) this.#budget.take(inode, inode.sizeBytes);
    if (isDirectory(inode.mode)) listDirents(this.#image, inode, visit); // throws for a size that would list without end
    if (inode.layout === LAYOUT_CHUNK_BASED) this.#chunkMap(inode);
    this.#data(inode);
  }

  #xattrs(inode: ImageInode): void {
    if (inode.xattrBytes === 0) return;
    this.#budget.take(inode, inode.xattrBytes);
    const { view, sharedAt } = this.#image;
    const owner = `nid ${inode.nid}`;
    this.#fields(owner, inode.xattrAt, XattrHeader, XATTR);
    const shared = view.getUint8(inode.xattrAt + XattrHeader.h_shared_count);
    for (let i = 0; i < shared; i++) {
      const at = inode.xattrAt + XattrHeader.SIZE + i * SHARED_ID_BYTES;
      const id = view.getUint32(at, true);
      this.#claim(at, SHARED_ID_BYTES, `${owner}.shared`, `${id}, at ${sharedAt + id * SHARED_ID_BYTES}`);
    }
    const end = inode.xattrAt + inode.xattrBytes;
    listXattrs(this.#image, inode, (_, at) => {
      const inline = at >= inode.xattrAt && at < end;
      this.#xattr(inline ? `${owner}.xattr` : 'shared xattr', at);
    });
  }

  #xattr(name: string, at: number): void {
    const { bytes, view } = this.#image;
    const index = view.getUint8(at + XattrEntry.e_name_index);
    const nameEnd = at + XattrEntry.SIZE + view.getUint8(at + XattrEntry.e_name_len);
    const end = nameEnd + view.getUint16(at + XattrEntry.e_value_size, true);
    const stored = escapeField(byteStringOf(bytes, at + XattrEntry.SIZE, nameEnd));
    this.#claim(at, end - at, name, `${index}:${stored}=${escapeField(byteStringOf(bytes, nameEnd, end))}`);
  }

  /** Claims a chunk map. A run of equal entries, such as holes, becomes one line. */
  #chunkMap(inode: ImageInode): void {
    const { view, blockBytes, sizeBytes } = this.#image;
    const unit = inode.u & CHUNK_INDEXES ? ChunkIndex.SIZE : BLOCK_MAP_BYTES;
    const blockField = unit - BLOCK_MAP_BYTES;
    const table = Math.ceil((inode.xattrAt + inode.xattrBytes) / unit) * unit;
    const chunks = Math.ceil(inode.sizeBytes / (blockBytes * 2 ** (inode.u & CHUNK_BITS_MASK)));
    const end = Math.min(table + chunks * unit, sizeBytes - unit + 1);
    const blockAt = (at: number): number => view.getUint32(at + blockField, true);
    for (let at = table, next = at; at < end; at = next) {
      for (next = at + unit; next < end && blockAt(next) === blockAt(at); ) next += unit;
      const block = blockAt(at) === NULL_ADDR ? 'none' : `block ${blockAt(at)}`;
      this.#claim(at, next - at, `nid ${inode.nid}.chunks`, `${(next - at) / unit} * ${block}`);
    }
  }

  #data(inode: ImageInode): void {
    const extent: Extent = { at: 0, length: 0 };
    for (let position = 0; position < inode.sizeBytes; position += extent.length) {
      extentAt(this.#image, inode, position, extent);
      if (extent.at === HOLE) continue;
      if (!isDirectory(inode.mode)) this.#claim(extent.at, extent.length, `nid ${inode.nid}.data`);
      else this.#directory(inode, extent);
    }
  }

  #directory(inode: ImageInode, { at, length }: Extent): void {
    const { blockBytes } = this.#image;
    for (let from = 0; from < length; from += blockBytes)
      this.#direntBlock(`nid ${inode.nid}`, at + from, Math.min(blockBytes, length - from));
  }

  #direntBlock(owner: string, blockAt: number, length: number): void {
    const { view } = this.#image;
    if (length < Dirent.SIZE) return;
    const names = Math.min(view.getUint16(blockAt + Dirent.nameoff, true), length);
    for (let at = 0; at + Dirent.SIZE <= names; at += Dirent.SIZE) {
      const nid = getI64(view, blockAt + at + Dirent.nid);
      const nameoff = view.getUint16(blockAt + at + Dirent.nameoff, true);
      const type = view.getUint8(blockAt + at + Dirent.file_type);
      this.#claim(blockAt + at, Dirent.SIZE, `${owner}.dirent`, `nid ${nid}, type ${type}, name at ${nameoff}`);
      const last = at + 2 * Dirent.SIZE > names;
      const end = last ? length : view.getUint16(blockAt + at + Dirent.SIZE + Dirent.nameoff, true);
      this.#direntName(owner, blockAt, nameoff, Math.min(end, length));
    }
  }

  #direntName(owner: string, blockAt: number, from: number, end: number): void {
    if (from >= end) return;
    const name = byteStringOf(this.#image.bytes, blockAt + from, blockAt + end).replace(/\0.*/s, '');
    this.#claim(blockAt + from, name.length, `${owner}.name`, escapeField(name));
  }

  *#gap(from: number, to: number): Generator<string> {
    const zero = this.#image.bytes.subarray(from, to).every(byte => byte === 0);
    yield* this.#show({ at: from, length: to - from, name: zero ? 'padding' : 'unclaimed', text: undefined });
  }

  *#show({ at, length, name, text }: Claim): Generator<string> {
    const bytes = this.#image.bytes.subarray(at, at + length);
    if (text !== undefined) yield line(at, length, name, text);
    else if (bytes.every(byte => byte === 0)) yield line(at, length, name, `${length} zero bytes`);
    else
      for (let i = 0; i < length; i += ROW_BYTES) {
        const row = bytes.subarray(i, i + ROW_BYTES);
        yield line(at + i, row.length, name, escapeField(byteStringOf(row)));
      }
  }
}

function line(at: number, length: number, name: string, text: string): string {
  const size = length === 0 ? '' : String(length);
  return `${String(at).padStart(8, '0')} ${size.padStart(4)}  ${text === '' ? name : `${name}  ${text}`}`;
}
