/** Opens EROFS images. The whole file is read into memory once. */
import { closeSync, fstatSync, openSync, readSync } from 'node:fs';
import { type ByteString, bufferOf, getSeconds, getU64, printable } from '../sys/bytes.ts';
import { EFBIG, EINVAL, EIO, ENOMEM, ErrnoError, EUCLEAN, systemError } from '../sys/errno.ts';
import { hugeMemory } from '../sys/memory.ts';
import { isDirectory } from '../sys/stat.ts';
import {
  COMPAT_PLAIN_XATTR_PFX,
  INCOMPAT_48BIT,
  INCOMPAT_DEVICE_TABLE,
  INCOMPAT_FRAGMENTS,
  type Nid,
  SUPER_AT,
  SuperBlock,
} from './format.ts';
import { ImageInode } from './inode.ts';
import { checkSuperblock, composefsHeader, type Image, isErofs } from './superblock.ts';
import { readLongPrefixes } from './xattrs.ts';

/**
 * Opens an image that is in memory. The bytes may be shared between threads and must not change.
 * Throws ErrnoError: EINVAL if it is no EROFS image, EOPNOTSUPP with the name of the feature, EUCLEAN if it is corrupt.
 * @example
 * assert.ok(openImage(readImageFile('small.cfs')));
 * assert.throws(() => openImage(new Uint8Array(4096)), { name: 'EINVAL' });
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
  if (!isDirectory(new ImageInode(image, image.rootNid).mode)) {
    throw new ErrnoError(EUCLEAN, `nid ${image.rootNid}: the root is not a directory`);
  }
  return { ...image, longPrefixes: readLongPrefixes(image) };
}

/**
 * Reads a whole image file into memory.
 * @param file a path, or an open descriptor, which is read from its start and stays open
 * @param label the path to name in messages
 * Throws ErrnoError: EINVAL if it is no EROFS image, EFBIG if it does not fit into memory, otherwise the error of the system
 * call.
 * @example
 * assert.deepEqual(Buffer.from(readImageFile('small.cfs')), readFileSync('small.cfs'));
 * assert.throws(() => readImageFile('tree/poem'), { name: 'EINVAL' });
 */
export function readImageFile(file: ByteString | number, label: string = printable(String(file))): Uint8Array {
  if (typeof file !== 'number') {
    const fd = systemCall(label, () => openSync(bufferOf(file), 'r'));
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

/**
 * Fills `out` from the start of the file. @returns the number of bytes read, less than the length of `out` if the file ends
 * before
 */
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

/** Runs a call of node:fs, and turns its error into an ErrnoError that begins with `label`. */
function systemCall<T>(label: string, call: () => T): T {
  try {
    return call();
  } catch (error) {
    throw systemError(error, label);
  }
}
