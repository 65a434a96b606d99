/** Decodes compact and extended inodes. Source: Linux fs/erofs/erofs_fs.h; inode.c of 6.18 for the inodes that are refused. */
import { getSeconds, getU64, type Seconds, secondsOf } from '../sys/bytes.ts';
import { EFBIG, EOPNOTSUPP, ErrnoError, EUCLEAN } from '../sys/errno.ts';
import { S_IFBLK, S_IFCHR, S_IFDIR, S_IFIFO, S_IFLNK, S_IFMT, S_IFREG, S_IFSOCK } from '../sys/stat.ts';
import {
  FORMAT_ALL,
  FORMAT_EXTENDED,
  FORMAT_LAYOUT_MASK,
  FORMAT_LAYOUT_SHIFT,
  FORMAT_NLINK_1,
  InodeCompact,
  InodeExtended,
  LAYOUT_CHUNK_BASED,
  type Nid,
  NULL_ADDR,
  NULL_ADDR_HIGH,
  SLOT_BYTES,
  XattrHeader,
} from './format.ts';
import type { Image } from './superblock.ts';

/** One inode, decoded. Offsets are in bytes from the start of the image. */
export class ImageInode {
  readonly nid: Nid;
  /** Type and permission bits; the type is one of the seven file types. */
  readonly mode: number;
  readonly nlink: number;
  readonly uid: number;
  readonly gid: number;
  /** Device number as `makeRdev` packs it; 0 for other types. */
  readonly rdev: number;
  readonly sizeBytes: number;
  /** Seconds since 1970; `mtimensec` has the nanoseconds. */
  readonly mtime: Seconds;
  readonly mtimensec: number;
  /** One of LAYOUT_* in format.ts. */
  readonly layout: number;
  /** i_u. Depending on the layout, it holds the low bits of the first block, ChunkInfo, or the number of compressed blocks. */
  readonly u: number;
  /** The first block of flat data; NO_BLOCK if all of it is a hole. */
  readonly firstBlock: number;
  /** The inline xattr area; `xattrBytes` is 0 if there is none. */
  readonly xattrAt: number;
  readonly xattrBytes: number;

  /**
   * Throws ErrnoError: EUCLEAN (outside the image, or no such file type), EOPNOTSUPP (unknown format), EFBIG (size over 2^53 -
   * 1).
   */
  constructor(image: Image, nid: Nid) {
    const at = image.metaAt + nid * SLOT_BYTES;
    if (at + InodeCompact.SIZE > image.sizeBytes) throw outside(nid);
    const v = image.view;
    const format = v.getUint16(at + InodeCompact.i_format, true);
    const layout = (format >> FORMAT_LAYOUT_SHIFT) & FORMAT_LAYOUT_MASK;
    if (format & ~FORMAT_ALL || layout > LAYOUT_CHUNK_BASED) {
      throw new ErrnoError(EOPNOTSUPP, `nid ${nid}: unsupported inode format 0x${format.toString(16)}`);
    }
    const mode = v.getUint16(at + InodeCompact.i_mode, true);
    const u = v.getUint32(at + InodeCompact.i_u, true);
    const icount = v.getUint16(at + InodeCompact.i_xattr_icount, true);
    this.nid = nid;
    this.mode = mode;
    this.rdev = isDevice(mode, nid) ? u : 0;
    this.layout = layout;
    this.u = u;
    this.xattrBytes = icount === 0 ? 0 : XattrHeader.SIZE + (icount - 1) * 4;
    if (format & FORMAT_EXTENDED) {
      if (at + InodeExtended.SIZE > image.sizeBytes) throw outside(nid);
      this.xattrAt = at + InodeExtended.SIZE;
      this.sizeBytes = getU64(v, at + InodeExtended.i_size);
      this.firstBlock = wideBlock(u, v.getUint16(at + InodeExtended.startblk_hi, true));
      this.nlink = v.getUint32(at + InodeExtended.i_nlink, true);
      this.uid = v.getUint32(at + InodeExtended.i_uid, true);
      this.gid = v.getUint32(at + InodeExtended.i_gid, true);
      this.mtime = getSeconds(v, at + InodeExtended.i_mtime);
      this.mtimensec = v.getUint32(at + InodeExtended.i_mtime_nsec, true);
      if (this.sizeBytes > Number.MAX_SAFE_INTEGER) throw new ErrnoError(EFBIG, `nid ${nid}: size ${this.sizeBytes}`);
    } else {
      const nlink = v.getUint16(at + InodeCompact.i_nlink, true);
      const single = (format & FORMAT_NLINK_1) !== 0 && (mode & S_IFMT) !== S_IFDIR;
      this.xattrAt = at + InodeCompact.SIZE;
      this.sizeBytes = v.getUint32(at + InodeCompact.i_size, true);
      this.firstBlock = single ? wideBlock(u, nlink) : narrowBlock(u);
      this.nlink = single ? 1 : nlink;
      this.uid = v.getUint16(at + InodeCompact.i_uid, true);
      this.gid = v.getUint16(at + InodeCompact.i_gid, true);
      this.mtime = laterBy(image.epoch, v.getUint32(at + InodeCompact.i_mtime, true));
      this.mtimensec = image.fixedNsec;
    }
    if (this.xattrAt + this.xattrBytes > image.sizeBytes) throw outside(nid);
  }
}

/** The mode of an inode that lies in the image, without the checks that ImageInode makes. */
export const modeOf = ({ view, metaAt }: Image, nid: Nid): number =>
  view.getUint16(metaAt + nid * SLOT_BYTES + InodeCompact.i_mode, true);

/** Adds seconds; the sum wraps at 2^63, as in the kernel. */
function laterBy(epoch: Seconds, seconds: number): Seconds {
  const sum = typeof epoch === 'number' ? epoch + seconds : Number.NaN;
  return Number.isSafeInteger(sum) ? sum : secondsOf(BigInt.asIntN(64, BigInt(epoch) + BigInt(seconds)));
}

export const NO_BLOCK = -1;

/** A block number of 32 bits, or NO_BLOCK if all 32 bits are set. */
export const narrowBlock = (low: number): number => (low === NULL_ADDR ? NO_BLOCK : low);

/** A block number of 48 bits, or NO_BLOCK if all 48 bits are set. */
export function wideBlock(low: number, high: number): number {
  return low === NULL_ADDR && high === NULL_ADDR_HIGH ? NO_BLOCK : low + high * 2 ** 32;
}

/** Whether i_u is a device number. Throws EUCLEAN for a mode without a valid type. */
function isDevice(mode: number, nid: Nid): boolean {
  switch (mode & S_IFMT) {
    case S_IFCHR:
    case S_IFBLK:
      return true;
    case S_IFREG:
    case S_IFDIR:
    case S_IFLNK:
    case S_IFIFO:
    case S_IFSOCK:
      return false;
  }
  throw new ErrnoError(EUCLEAN, `nid ${nid}: mode 0${mode.toString(8)} has no type`);
}

const outside = (nid: Nid): ErrnoError => new ErrnoError(EUCLEAN, `nid ${nid}: inode lies past the end of the image`);
