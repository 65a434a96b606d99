/** An EROFS image in memory: reads the file, checks the superblock, refuses what the reader cannot take. */
import { closeSync, fstatSync, openSync, readSync } from 'node:fs';
import { getSeconds, getU64, type Name, nameBytes, printable, type Seconds } from '../sys/bytes.ts';
import { EFBIG, EINVAL, EIO, ENOMEM, EOPNOTSUPP, ErrnoError, EUCLEAN } from '../sys/errno.ts';
import { hugeMemory } from '../sys/memory.ts';
import { isDirectory } from '../sys/stat.ts';
import {
  BLOCK_BITS_MAX,
  BLOCK_BITS_MIN,
  COMPAT_PLAIN_XATTR_PFX,
  COMPAT_SB_CHKSUM,
  COMPOSEFS_MAGIC,
  ComposefsHeader,
  INCOMPAT_48BIT,
  INCOMPAT_DEVICE_TABLE,
  INCOMPAT_FRAGMENTS,
  INCOMPAT_NAMES,
  INCOMPAT_SUPPORTED,
  SUPER_AT,
  SUPER_MAGIC,
  SuperBlock,
} from './format.ts';
import { Inode, type Nid } from './inode.ts';
import { readLongPrefixes } from './xattrs.ts';

/** What the composefs header says; `version` is that of the header, `composefsVersion` that of the layout rules. */
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
  /** Blocks and inodes as the superblock counts them: what statfs shows, never a bound. */
  readonly blocks: number;
  readonly inodes: number;
  /** Where nid 0 is. */
  readonly metaAt: number;
  /** Where shared xattr 0 is. */
  readonly sharedAt: number;
  readonly rootNid: Nid;
  /** The inode whose data holds the long xattr prefixes; 0: they are in the image itself. */
  readonly prefixNid: Nid;
  /** mtime of compact inodes counts from `epoch` seconds and has these nanoseconds. */
  readonly epoch: Seconds;
  readonly fixedNsec: number;
  /** The bits of a chunk's device_id that count; 0 where the image has no other device. */
  readonly deviceMask: number;
  readonly featureCompat: number;
  readonly featureIncompat: number;
  readonly uuid: Uint8Array;
  readonly composefs: Composefs | undefined;
  /** The whole texts of the long xattr name prefixes. */
  readonly longPrefixes: readonly Name[];
}

/**
 * Opens an image that is in memory. The bytes may be shared between threads and must not change.
 * Throws ErrnoError: EINVAL for what is no EROFS image, EOPNOTSUPP with the feature's name, EUCLEAN for a corrupt one.
 */
export function openImage(bytes: Uint8Array): Image {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  checkSuperblock(view);
  const u32 = (field: number): number => view.getUint32(SUPER_AT + field, true);
  const blockBits = view.getUint8(SUPER_AT + SuperBlock.blkszbits);
  const blockBytes = 2 ** blockBits;
  const featureCompat = u32(SuperBlock.feature_compat);
  const featureIncompat = u32(SuperBlock.feature_incompat);
  const wide = (featureIncompat & INCOMPAT_48BIT) !== 0;
  const low = view.getUint16(SUPER_AT + SuperBlock.rootnid_2b, true);
  const packed = featureIncompat & INCOMPAT_FRAGMENTS && !(featureCompat & COMPAT_PLAIN_XATTR_PFX);
  const devices =
    featureIncompat & INCOMPAT_DEVICE_TABLE ? view.getUint16(SUPER_AT + SuperBlock.extra_devices, true) : 0;
  const image: Image = {
    bytes,
    view,
    sizeBytes: bytes.byteLength,
    blockBits,
    blockBytes,
    blocks: u32(SuperBlock.blocks_lo) + (wide ? low * 2 ** 32 : 0),
    inodes: getU64(view, SUPER_AT + SuperBlock.inos),
    metaAt: u32(SuperBlock.meta_blkaddr) * blockBytes,
    sharedAt: u32(SuperBlock.xattr_blkaddr) * blockBytes,
    rootNid: (wide ? getU64(view, SUPER_AT + SuperBlock.rootnid_8b) : low) as Nid,
    prefixNid: (packed ? getU64(view, SUPER_AT + SuperBlock.packed_nid) : 0) as Nid,
    epoch: getSeconds(view, SUPER_AT + SuperBlock.epoch),
    fixedNsec: u32(SuperBlock.fixed_nsec),
    deviceMask: devices === 0 ? 0 : 2 ** (32 - Math.clz32(devices)) - 1,
    featureCompat,
    featureIncompat,
    uuid: bytes.slice(SUPER_AT + SuperBlock.uuid, SUPER_AT + SuperBlock.uuid + 16),
    composefs: composefsHeader(view),
    longPrefixes: [],
  };
  if (!isDirectory(new Inode(image, image.rootNid).mode)) {
    throw new ErrnoError(EUCLEAN, `nid ${image.rootNid}: the root is not a directory`);
  }
  return { ...image, longPrefixes: readLongPrefixes(image) };
}

/** Whether the bytes have the magic number of an EROFS superblock where it belongs. */
export function isErofs(bytes: Uint8Array): boolean {
  if (bytes.byteLength < SUPER_AT + SuperBlock.SIZE) return false;
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  return view.getUint32(SUPER_AT + SuperBlock.magic, true) === SUPER_MAGIC;
}

function checkSuperblock(view: DataView): void {
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
  const unknown = view.getUint32(SUPER_AT + SuperBlock.feature_incompat, true) & ~INCOMPAT_SUPPORTED;
  if (unknown !== 0) throw new ErrnoError(EOPNOTSUPP, `superblock: unsupported feature ${featureNames(unknown)}`);
  const dirblkbits = view.getUint8(SUPER_AT + SuperBlock.dirblkbits);
  if (dirblkbits !== 0) throw new ErrnoError(EOPNOTSUPP, `superblock: unsupported dirblkbits ${dirblkbits}`);
  if (view.getUint32(SUPER_AT + SuperBlock.feature_compat, true) & COMPAT_SB_CHKSUM) checkChecksum(view, 2 ** bits);
}

function featureNames(bits: number): string {
  const names: string[] = [];
  for (let i = 0; i < 32; i++) {
    const bit = (1 << i) >>> 0;
    if (bits & bit) names.push(INCOMPAT_NAMES.get(bit) ?? `0x${bit.toString(16)}`);
  }
  return names.join(', ');
}

/** The checksum covers the superblock and what follows it in its block, with the field itself as zeros. */
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

function composefsHeader(view: DataView): Composefs | undefined {
  if (view.getUint32(ComposefsHeader.magic, true) !== COMPOSEFS_MAGIC) return undefined;
  return {
    version: view.getUint32(ComposefsHeader.version, true),
    flags: view.getUint32(ComposefsHeader.flags, true),
    composefsVersion: view.getUint32(ComposefsHeader.composefs_version, true),
  };
}

/**
 * Reads an image file, once and whole, into memory.
 * @param file a path, or an open descriptor, which is read from its start and stays open
 * @param label the path to name in messages
 * Throws ErrnoError: EINVAL for what is no EROFS image, EFBIG for one that does not fit into memory, else the system's.
 */
export function readImageFile(file: Name | number, label: string = printable(String(file))): Uint8Array {
  if (typeof file !== 'number') {
    const fd = systemCall(label, () => openSync(nameBytes(file) as Buffer, 'r'));
    try {
      return readImageFile(fd, label);
    } finally {
      closeSync(fd);
    }
  }
  const { size } = systemCall(label, () => fstatSync(file));
  const start = new Uint8Array(SUPER_AT + SuperBlock.SIZE);
  if (!isErofs(start.subarray(0, readFully(file, start, label)))) {
    throw new ErrnoError(EINVAL, `${label}: not an EROFS image: no superblock at byte 1024`);
  }
  const bytes = memoryFor(size, label);
  const count = readFully(file, bytes, label);
  if (count !== size) throw new ErrnoError(EIO, `${label}: ${count} of ${size} bytes could be read`);
  return bytes;
}

function memoryFor(size: number, label: string): Uint8Array {
  try {
    return hugeMemory(size);
  } catch (error) {
    if (![EFBIG, ENOMEM].includes((error as ErrnoError).errno)) throw error;
    throw new ErrnoError(EFBIG, `${label}: an image of ${size} bytes does not fit into memory`);
  }
}

/** Fills `out` from the start of the file; the number of bytes there were. */
function readFully(fd: number, out: Uint8Array, label: string): number {
  let count = 0;
  while (count < out.length) {
    const length = Math.min(out.length - count, READ_BYTES);
    const n = systemCall(label, () => readSync(fd, out, count, length, count));
    if (n === 0) break;
    count += n;
  }
  return count;
}
const READ_BYTES = 2 ** 30; // read(2) takes at most 2 GiB

/** Runs a call of node:fs; its error becomes an ErrnoError that begins with `label`. */
function systemCall<T>(label: string, call: () => T): T {
  try {
    return call();
  } catch (error) {
    const { errno, message } = error as NodeJS.ErrnoException;
    throw new ErrnoError(errno === undefined ? EIO : -errno, `${label}: ${message}`);
  }
}
