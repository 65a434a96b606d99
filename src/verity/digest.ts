/**
 * fs-verity without the kernel: the digest that FS_IOC_MEASURE_VERITY would give, computed from the bytes.
 * Source: kernel Documentation/filesystems/fsverity.rst, "Merkle tree" and "fs-verity descriptor".
 *
 * ```
 * digest = H(descriptor)              the descriptor holds size, block size, salt and root
 * root   = H(top block)
 * level1   h0 h1 ... | h128 ...       hashes of blocks of hashes, until one block holds all
 * level0   h0 h1 h2 ... h127 | ...    hashes of the data's blocks; the last block of each level is filled with zeros
 * ```
 */
import { hash } from 'node:crypto';
import { putU64 } from '../sys/bytes.ts';
import { EINVAL, EIO, ErrnoError, must } from '../sys/errno.ts';

export type Algorithm = 'sha256' | 'sha512';

/** What a digest depends on besides the data. `blockBytes` is a power of two from 1,024 to 65,536; a salt has up to 32 bytes. */
export interface Parameters {
  algorithm: Algorithm;
  blockBytes: number;
  salt: Uint8Array;
}

/** SHA-256, blocks of 4 KiB, no salt: what composefs uses. */
export const DEFAULTS: Parameters = { algorithm: 'sha256', blockBytes: 4096, salt: new Uint8Array(0) };

/** Reads up to `length` bytes at `position` into `out[at..]`: the count, which is less only at the end, or -errno. */
export type Read = (out: Uint8Array, at: number, length: number, position: number) => number;

/** struct fsverity_descriptor; what is not listed is zero. Source: linux/fsverity.h. */
export const Descriptor = {
  version: 0, // u8  1
  hash_algorithm: 1, // u8  FS_VERITY_HASH_ALG_*
  log_blocksize: 2, // u8
  salt_size: 3, // u8
  data_size: 8, // u64
  root_hash: 16, // u8[64]
  salt: 80, // u8[32]
  SIZE: 256,
} as const;

/** By algorithm: its number in the descriptor, and the bytes of a digest and of the block that the salt is padded to. */
export const ALGORITHMS = {
  sha256: { number: 1, digestBytes: 32, padBytes: 64 },
  sha512: { number: 2, digestBytes: 64, padBytes: 128 },
} as const;

/** The digest of bytes in memory. */
export function measureBytes(bytes: Uint8Array, parameters: Parameters = DEFAULTS): Uint8Array {
  const measurement = new Measurement(parameters);
  measurement.update(bytes);
  return measurement.digest();
}

/**
 * The digest of the first `sizeBytes` bytes of a source, read once from start to end.
 * Throws ErrnoError: the source's error, or EIO where it ends too early.
 */
export function measure(read: Read, sizeBytes: number, parameters: Parameters = DEFAULTS): Uint8Array {
  return measureInto(new Measurement(parameters), read, sizeBytes).digest();
}

/** Feeds the first `sizeBytes` bytes of a source to `measurement`. Throws as `measure`. */
export function measureInto(measurement: Measurement, read: Read, sizeBytes: number): Measurement {
  const buffer = new Uint8Array(Math.min(READ_BYTES, sizeBytes));
  for (let position = 0; position < sizeBytes; ) {
    const n = must(read(buffer, 0, Math.min(buffer.length, sizeBytes - position), position), `read at ${position}`);
    if (n === 0) throw new ErrnoError(EIO, `the data ends at ${position} of ${sizeBytes} bytes`);
    measurement.update(n === buffer.length ? buffer : buffer.subarray(0, n));
    position += n;
  }
  return measurement;
}
const READ_BYTES = 1 << 20;

/** One level of the tree while it grows: the block of hashes that is being filled. */
interface Level {
  block: Buffer;
  used: number;
  count: number;
}

/** A digest in the making: takes the data in pieces of any size, and keeps one block a level. */
export class Measurement {
  private readonly parameters: Parameters;
  private readonly onLeaf: ((hash: string) => void) | undefined;
  private readonly hasher: BlockHasher;
  private readonly levels: Level[] = [];
  /** The start of a data block whose end has not come yet. */
  private readonly partial: Buffer;
  private partialBytes = 0;
  private sizeBytes = 0;

  /**
   * @param onLeaf is given the hash of each data block, in order, as a byte string
   * Throws ErrnoError EINVAL for parameters that fs-verity does not have.
   */
  constructor(parameters: Parameters = DEFAULTS, onLeaf?: (hash: string) => void) {
    this.parameters = parameters;
    this.onLeaf = onLeaf;
    this.hasher = new BlockHasher(parameters);
    this.partial = Buffer.alloc(parameters.blockBytes);
  }

  update(bytes: Uint8Array): void {
    const { blockBytes } = this.parameters;
    this.sizeBytes += bytes.length;
    let at = 0;
    if (this.partialBytes > 0) {
      at = Math.min(blockBytes - this.partialBytes, bytes.length);
      this.partial.set(bytes.subarray(0, at), this.partialBytes);
      this.partialBytes += at;
      if (this.partialBytes < blockBytes) return;
      this.leaf(this.partial);
      this.partialBytes = 0;
    }
    for (; at + blockBytes <= bytes.length; at += blockBytes) this.leaf(bytes.subarray(at, at + blockBytes));
    this.partial.set(bytes.subarray(at));
    this.partialBytes = bytes.length - at;
  }

  /** Ends the data; to be called once. */
  digest(): Uint8Array {
    if (this.partialBytes > 0) this.leaf(this.partial.fill(0, this.partialBytes));
    const { algorithm, blockBytes, salt } = this.parameters;
    const descriptor = Buffer.alloc(Descriptor.SIZE);
    descriptor[Descriptor.version] = 1;
    descriptor[Descriptor.hash_algorithm] = ALGORITHMS[algorithm].number;
    descriptor[Descriptor.log_blocksize] = Math.log2(blockBytes);
    descriptor[Descriptor.salt_size] = salt.length;
    putU64(new DataView(descriptor.buffer, descriptor.byteOffset), Descriptor.data_size, this.sizeBytes);
    descriptor.set(this.root(), Descriptor.root_hash);
    descriptor.set(salt, Descriptor.salt);
    return hash(algorithm, descriptor, 'buffer');
  }

  private leaf(block: Uint8Array): void {
    const hash = this.hasher.hash(block);
    this.onLeaf?.(hash);
    this.push(0, hash);
  }

  /** Adds a hash to a level; a full block goes up. */
  private push(index: number, hash: string): void {
    let level = this.levels[index];
    if (level === undefined) {
      level = { block: Buffer.alloc(this.parameters.blockBytes), used: 0, count: 0 };
      this.levels.push(level);
    }
    level.block.write(hash, level.used, 'latin1');
    level.used += hash.length;
    level.count++;
    if (level.used === level.block.length) this.flush(index, level);
  }

  private flush(index: number, level: Level): void {
    const hash = this.hasher.hash(level.block.fill(0, level.used));
    level.used = 0;
    this.push(index + 1, hash);
  }

  /** Sends what is left up until a level has one hash; no data has a root of zeros. */
  private root(): Uint8Array {
    for (let index = 0; ; index++) {
      const level = this.levels[index];
      if (level === undefined) return new Uint8Array(ALGORITHMS[this.parameters.algorithm].digestBytes);
      if (level.count === 1) return level.block.subarray(0, level.used);
      if (level.used > 0) this.flush(index, level);
    }
  }
}

/** Hashes whole blocks, each after the salt, which is padded with zeros to the block of the hash function. */
export class BlockHasher {
  private readonly algorithm: Algorithm;
  /** Salt and room for a block; undefined without a salt. */
  private readonly salted: Buffer | undefined;
  private readonly saltBytes: number;

  /** Throws ErrnoError EINVAL for parameters that fs-verity does not have. */
  constructor({ algorithm, blockBytes, salt }: Parameters) {
    const { padBytes } = ALGORITHMS[algorithm];
    if (!Number.isInteger(Math.log2(blockBytes)) || blockBytes < 1024 || blockBytes > 65536) {
      throw new ErrnoError(EINVAL, `fs-verity has no blocks of ${blockBytes} bytes`);
    }
    if (salt.length > 32) throw new ErrnoError(EINVAL, `an fs-verity salt has at most 32 bytes, not ${salt.length}`);
    this.algorithm = algorithm;
    this.saltBytes = Math.ceil(salt.length / padBytes) * padBytes;
    this.salted = salt.length === 0 ? undefined : Buffer.alloc(this.saltBytes + blockBytes);
    this.salted?.set(salt);
  }

  /** The hash of a whole block, as a byte string: a string is made a sixth faster than a buffer. */
  hash(block: Uint8Array): string {
    this.salted?.set(block, this.saltBytes);
    return hash(this.algorithm, this.salted ?? block, 'binary');
  }
}
