/**
 * The superblock of an EROFS image: its contents, and the features for which an image is refused. Source: Linux
 * fs/erofs/erofs_fs.h.
 */
import type { ByteString, Seconds } from '../sys/bytes.ts';
import { EINVAL, EOPNOTSUPP, ErrnoError, EUCLEAN } from '../sys/errno.ts';
import {
  BLOCK_BITS_MAX,
  BLOCK_BITS_MIN,
  COMPAT_SB_CHKSUM,
  COMPOSEFS_MAGIC,
  ComposefsHeader,
  INCOMPAT_48BIT,
  INCOMPAT_NAMES,
  INCOMPAT_SUPPORTED,
  type Nid,
  SUPER_AT,
  SUPER_MAGIC,
  SuperBlock,
} from './format.ts';

/** The composefs header; `version` is that of the header, `composefsVersion` that of the layout rules. */
export interface Composefs {
  version: number;
  flags: number;
  composefsVersion: number;
}

/** An open image. Offsets are in bytes from its start. Nothing in it changes after `openImage`. */
export interface Image {
  readonly bytes: Uint8Array;
  readonly view: DataView;
  readonly sizeBytes: number;
  readonly blockBits: number;
  readonly blockBytes: number;
  /** Numbers of blocks and inodes as the superblock records them: statfs shows them, but they never serve as a bound. */
  readonly blocks: number;
  readonly inodes: number;
  /** Offset of nid 0. */
  readonly metaAt: number;
  /** Offset of shared xattr 0. */
  readonly sharedAt: number;
  readonly rootNid: Nid;
  /** The inode whose data holds the long xattr prefixes; 0 if they are in the image itself. */
  readonly prefixNid: Nid;
  /** The mtime of a compact inode is relative to `epoch`, in seconds, and has these nanoseconds. */
  readonly epoch: Seconds;
  readonly fixedNsec: number;
  /** The significant bits of a chunk's device_id; 0 if the image has no other device. */
  readonly deviceMask: number;
  readonly featureCompat: number;
  readonly featureIncompat: number;
  readonly uuid: Uint8Array;
  readonly composefs: Composefs | undefined;
  /** The long xattr name prefixes as complete texts. */
  readonly longPrefixes: readonly ByteString[];
}

/** Whether the bytes have the magic number of an EROFS superblock at its place. */
export function isErofs(bytes: Uint8Array): boolean {
  if (bytes.byteLength < SUPER_AT + SuperBlock.SIZE) return false;
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  return view.getUint32(SUPER_AT + SuperBlock.magic, true) === SUPER_MAGIC;
}

/**
 * Checks a superblock. Throws ErrnoError: EINVAL if it is none, EUCLEAN if it is corrupt, EOPNOTSUPP with the name of the
 * feature.
 */
export function checkSuperblock(view: DataView): void {
  if (
    view.byteLength < SUPER_AT + SuperBlock.SIZE ||
    view.getUint32(SUPER_AT + SuperBlock.magic, true) !== SUPER_MAGIC
  ) {
    throw new ErrnoError(EINVAL, 'not an EROFS image: no superblock at byte 1024');
  }
  const bits = view.getUint8(SUPER_AT + SuperBlock.blkszbits);
  if (bits < BLOCK_BITS_MIN || bits > BLOCK_BITS_MAX) {
    throw new ErrnoError(
      EUCLEAN,
      `superblock: block size 2^${bits} is not between 2^${BLOCK_BITS_MIN} and 2^${BLOCK_BITS_MAX}`,
    );
  }
  const incompat = view.getUint32(SUPER_AT + SuperBlock.feature_incompat, true);
  const unknown = incompat & ~INCOMPAT_SUPPORTED;
  if (unknown !== 0) throw new ErrnoError(EOPNOTSUPP, `superblock: unsupported feature ${featureNames(unknown)}`);
  const dirblkbits = view.getUint8(SUPER_AT + SuperBlock.dirblkbits);
  if (dirblkbits !== 0) throw new ErrnoError(EOPNOTSUPP, `superblock: unsupported dirblkbits ${dirblkbits}`);
  if (view.getUint32(SUPER_AT + SuperBlock.feature_compat, true) & COMPAT_SB_CHKSUM) checkChecksum(view, 2 ** bits);
  const high = incompat & INCOMPAT_48BIT ? view.getUint16(SUPER_AT + SuperBlock.rootnid_2b, true) : 0;
  const bytes = (view.getUint32(SUPER_AT + SuperBlock.blocks_lo, true) + high * 2 ** 32) * 2 ** bits;
  if (view.byteLength >= bytes) return;
  throw new ErrnoError(EUCLEAN, `the image is cut off: ${view.byteLength} bytes of ${bytes}`);
}

function featureNames(bits: number): string {
  const names: string[] = [];
  for (let i = 0; i < 32; i++) {
    const bit = (1 << i) >>> 0;
    if (bits & bit) names.push(INCOMPAT_NAMES.get(bit) ?? `0x${bit.toString(16)}`);
  }
  return names.join(', ');
}

/** Checks the checksum. It covers the superblock and the rest of its block, with zeros in place of the checksum field itself. */
function checkChecksum(view: DataView, blockBytes: number): void {
  const length = blockBytes > SUPER_AT ? blockBytes - SUPER_AT : blockBytes;
  if (SUPER_AT + length > view.byteLength) throw new ErrnoError(EUCLEAN, 'superblock: its block is cut off');
  const field = SUPER_AT + SuperBlock.checksum;
  const stored = view.getUint32(field, true);
  let crc = 0xffffffff;
  for (let at = SUPER_AT; at < SUPER_AT + length; at++) {
    crc ^= at >= field && at < field + 4 ? 0 : view.getUint8(at);
    for (let bit = 0; bit < 8; bit++) crc = crc & 1 ? (crc >>> 1) ^ CRC32C : crc >>> 1;
  }
  if (crc >>> 0 !== stored) {
    throw new ErrnoError(EUCLEAN, `superblock: checksum ${(crc >>> 0).toString(16)}, stored ${stored.toString(16)}`);
  }
}
/** The reversed Castagnoli polynomial; no final inversion. */
const CRC32C = 0x82f63b78;

export function composefsHeader(view: DataView): Composefs | undefined {
  if (view.getUint32(ComposefsHeader.magic, true) !== COMPOSEFS_MAGIC) return undefined;
  return {
    version: view.getUint32(ComposefsHeader.version, true),
    flags: view.getUint32(ComposefsHeader.flags, true),
    composefsVersion: view.getUint32(ComposefsHeader.composefs_version, true),
  };
}
