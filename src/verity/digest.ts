/**
 * fs-verity without the kernel: the digest that FS_IOC_MEASURE_VERITY would give, computed from the bytes.
 * Source: kernel Documentation/filesystems/fsverity.rst, "Merkle tree" and "fs-verity descriptor".
 *
 * ```
 * digest = H(descriptor)              the descriptor holds size, block size, salt and root
 * root   = H(top block)
 * level1   h0 h1 ... | h128 ...       hashes of blocks of hashes, until one block holds all
 * level0   h0 h1 h2 ... h127 | ...    hashes of the data's blocks; the last block of each level is padded with zeros
 * ```
 */
import { putU64 } from '../sys/bytes.ts';
import { EINVAL, EIO, ErrnoError, must } from '../sys/errno.ts';
import { native } from '../sys/native.ts';
import { ALGORITHMS, type Algorithm, DEFAULTS, type Parameters, parametersOf } from './algorithms.ts';
import { type BlockHasher, blockHasher } from './hash.ts';

export { ALGORITHMS, type Algorithm, algorithmOfHex, DEFAULTS, type Parameters, parametersOf } from './algorithms.ts';

/** Reads up to `length` bytes at `position` into `out[at..]`. @returns the count, which is less only at the end, or -errno */
export type Read = (out: Uint8Array, at: number, length: number, position: number) => number;

/** struct fsverity_descriptor; all other bytes are zero. Source: linux/fsverity.h. */
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

/**
 * The fs-verity digest of bytes in memory: 32 bytes, or 64 for SHA-512.
 * Throws ErrnoError EINVAL for parameters that fs-verity does not have.
 * @example
 * const digest = Buffer.from(measureBytes(readFileSync('small.cfs'))).toString('hex');
 * assert.equal(digest, '497c8e68987c990c7afa8de7b0a3c17c8ede557c08977e4d50abe8ab81eb13e9'); // as `fsverity digest` prints it
 */
export function measureBytes(bytes: Uint8Array, parameters: Parameters = DEFAULTS): Uint8Array {
  const measurement = new Measurement(parameters);
  measurement.update(bytes);
  return measurement.digest();
}

/** The same with the usual parameters of an algorithm, in hexadecimal. */
export const measureHex = (bytes: Uint8Array, algorithm: Algorithm = 'sha256'): string =>
  Buffer.from(measureBytes(bytes, parametersOf(algorithm))).toString('hex');

/**
 * The digest of the first `sizeBytes` bytes of a source, which is read once from start to end.
 * Throws ErrnoError: the source's error, or EIO if the source ends too early.
 * @example
 * const bytes = readFileSync('small.cfs');
 * const digest = measure((out, at, length, position) => bytes.copy(out, at, position, position + length), bytes.length);
 * assert.deepEqual(digest, measureBytes(bytes));
 */
export function measure(read: Read, sizeBytes: number, parameters: Parameters = DEFAULTS): Uint8Array {
  return measureWhole(read, sizeBytes, parameters);
}

/**
 * The digest of the first `sizeBytes` bytes of an open file. Throws as `measure` does.
 * @example
 * const fd = openSync('small.cfs', 'r');
 * assert.deepEqual(measureFd(fd, fstatSync(fd).size), measureBytes(readFileSync('small.cfs')));
 * closeSync(fd);
 */
export function measureFd(fd: number, sizeBytes: number, parameters: Parameters = DEFAULTS): Uint8Array {
  return measure(readerOf(fd), sizeBytes, parameters);
}

/** An open file as a source. */
function readerOf(fd: number): Read {
  return (out, at, length, position) => native.pread(fd, out, at, length, position);
}

/** The result of a measurement that a VerityTree needs. */
export interface MeasuredBlocks {
  readonly digest: Uint8Array;
  /** The hash of each data block, in order. */
  readonly leaves: Uint8Array;
}

/** The digest and the block hashes of the first `sizeBytes` bytes of a source. Throws as `measure` does. */
export function measureLeaves(read: Read, sizeBytes: number, parameters: Parameters = DEFAULTS): MeasuredBlocks {
  const leaves = new Uint8Array(leavesBytes(sizeBytes, parameters));
  return { digest: measureWhole(read, sizeBytes, parameters, leaves), leaves };
}

/** The number of bytes that the block hashes of `sizeBytes` bytes of data take. */
export function leavesBytes(sizeBytes: number, { algorithm, blockBytes }: Parameters): number {
  return Math.ceil(sizeBytes / blockBytes) * ALGORITHMS[algorithm].digestBytes;
}

function measureWhole(read: Read, sizeBytes: number, parameters: Parameters, leaves?: Uint8Array): Uint8Array {
  const { buffer, measurement } = spare?.parameters === parameters ? spare : newSpare(parameters);
  spare = undefined; // the source may itself measure other data
  try {
    if (sizeBytes > 0 && sizeBytes <= measurement.atOnceBytes) {
      if (read(buffer, 0, sizeBytes, 0) === sizeBytes)
        return measurement.digestOf(buffer.subarray(0, sizeBytes), leaves);
    }
    measurement.restart(leaves);
    for (let position = 0; position < sizeBytes; ) {
      const n = must(read(buffer, 0, Math.min(READ_BYTES, sizeBytes - position), position), `read at ${position}`);
      if (n === 0) throw new ErrnoError(EIO, `the data ends at ${position} of ${sizeBytes} bytes`);
      measurement.update(n === READ_BYTES ? buffer : buffer.subarray(0, n));
      position += n;
    }
    return measurement.digest();
  } finally {
    spare = { parameters, buffer, measurement };
  }
}
/** Bytes of one read. From 128 KiB to 1 MiB a digest takes the same time; with 32 KiB it takes 4 % more. */
const READ_BYTES = 1 << 18;

/**
 * One set of buffers, which a thread uses again for all measurements by the same parameters. New buffers for each file would pile
 * up before they are collected, and allocating them takes longer than hashing a small file.
 */
interface Spare {
  readonly parameters: Parameters;
  readonly buffer: Uint8Array;
  readonly measurement: Measurement;
}
let spare: Spare | undefined;

const newSpare = (parameters: Parameters): Spare => ({
  parameters,
  buffer: spare?.buffer ?? new Uint8Array(READ_BYTES),
  measurement: new Measurement(parameters),
});

/**
 * One level of the tree while it grows: blocks of hashes. They are hashed into the level above when there is no room for more,
 * and at the end.
 */
interface TreeLevel {
  readonly hashes: Uint8Array;
  usedBytes: number;
  /** Whether any hashes have gone into the level above. */
  flushed: boolean;
}
/**
 * Buffer size of a level, unless a block is larger. Four times as much gains nothing for large files, and makes small ones a
 * sixth slower.
 */
const LEVEL_BYTES = 4096;

/**
 * Computes a digest: takes the data in pieces of any size, and keeps one to four blocks for each level.
 * @example
 * const measurement = new Measurement();
 * for (const piece of ['so much ', 'depends']) measurement.update(Buffer.from(piece));
 * assert.deepEqual(measurement.digest(), measureBytes(Buffer.from('so much depends')));
 */
export class Measurement {
  private readonly parameters: Parameters;
  private readonly hasher: BlockHasher;
  private readonly descriptor = new Uint8Array(Descriptor.SIZE);
  private leaves: Uint8Array | undefined;
  private leavesUsedBytes = 0;
  private readonly levels: TreeLevel[] = [];
  /** The start of a data block whose end has not come yet. */
  private partial: Uint8Array | undefined;
  private partialBytes = 0;
  private sizeBytes = 0;

  /**
   * @param leaves receives the hash of each data block as well; its length must be `leavesBytes` of the data
   * Throws ErrnoError EINVAL for parameters that fs-verity does not have; `update` and `digest` throw it if `leaves` is too
   * short.
   */
  constructor(parameters: Parameters = DEFAULTS, leaves?: Uint8Array) {
    this.parameters = parameters;
    this.hasher = blockHasher(parameters);
    this.leaves = leaves;
  }

  /** Starts over with other data. @param leaves as for the constructor */
  restart(leaves?: Uint8Array): void {
    this.leaves = leaves;
    this.leavesUsedBytes = 0;
    this.partialBytes = 0;
    this.sizeBytes = 0;
    for (const level of this.levels) {
      level.usedBytes = 0;
      level.flushed = false;
    }
  }

  /** The maximum size of data for `digestOf`: its hashes fit into one block, and it is read at once. */
  get atOnceBytes(): number {
    const { blockBytes } = this.parameters;
    return Math.min((blockBytes / this.hasher.digestBytes) * blockBytes, READ_BYTES);
  }

  /** The digest of data that is complete and not empty. Most files are small, and need none of the growing levels below. */
  digestOf(bytes: Uint8Array, leaves?: Uint8Array): Uint8Array {
    const { digestBytes } = this.hasher;
    const hashes = this.level(0).hashes;
    const count = this.hasher.hashBlocks(bytes, hashes, 0);
    const used = hashes.subarray(0, count * digestBytes);
    this.leaves = leaves;
    this.leavesUsedBytes = 0;
    if (leaves) this.keep(leaves, used);
    if (count === 1) return this.conclude(bytes.length, used);
    const root = this.level(1).hashes;
    this.hasher.hashBlocks(used, root, 0);
    return this.conclude(bytes.length, root.subarray(0, digestBytes));
  }

  /** Takes the next bytes. They are not kept, so the caller may reuse their memory. */
  update(bytes: Uint8Array): void {
    const { blockBytes } = this.parameters;
    this.sizeBytes += bytes.length;
    let at = 0;
    if (this.partialBytes > 0) {
      at = this.fillPartial(bytes);
      if (this.partialBytes < blockBytes) return;
      this.push(0, this.partial as Uint8Array);
      this.partialBytes = 0;
    }
    const end = bytes.length - ((bytes.length - at) % blockBytes);
    if (at < end) this.push(0, bytes.subarray(at, end));
    if (end < bytes.length) this.fillPartial(bytes.subarray(end));
  }

  /** Ends the data and returns its digest. It may be called only once before the next `restart`. */
  digest(): Uint8Array {
    if (this.partialBytes > 0) this.push(0, (this.partial as Uint8Array).subarray(0, this.partialBytes));
    return this.conclude(this.sizeBytes, this.root());
  }

  private conclude(sizeBytes: number, root: Uint8Array): Uint8Array {
    const { algorithm, blockBytes, salt } = this.parameters;
    const { descriptor } = this;
    descriptor.fill(0);
    descriptor[Descriptor.version] = 1;
    descriptor[Descriptor.hash_algorithm] = ALGORITHMS[algorithm].number;
    descriptor[Descriptor.log_blocksize] = Math.log2(blockBytes);
    descriptor[Descriptor.salt_size] = salt.length;
    putU64(new DataView(descriptor.buffer), Descriptor.data_size, sizeBytes);
    descriptor.set(root, Descriptor.root_hash);
    descriptor.set(salt, Descriptor.salt);
    return this.hasher.hashBytes(descriptor);
  }

  /** Adds bytes to the incomplete block, as far as they fit. @returns their number */
  private fillPartial(bytes: Uint8Array): number {
    this.partial ??= new Uint8Array(this.parameters.blockBytes);
    const count = Math.min(this.partial.length - this.partialBytes, bytes.length);
    this.partial.set(bytes.subarray(0, count), this.partialBytes);
    this.partialBytes += count;
    return count;
  }

  /** Adds the hashes of blocks to a level. Only the last of all blocks may be short. */
  private push(index: number, blocks: Uint8Array): void {
    const { blockBytes } = this.parameters;
    const { digestBytes } = this.hasher;
    const level = this.level(index);
    for (let at = 0; at < blocks.length; ) {
      if (level.usedBytes === level.hashes.length) this.flush(index, level);
      const room = (level.hashes.length - level.usedBytes) / digestBytes;
      const run = blocks.subarray(at, at + room * blockBytes);
      const end = level.usedBytes + this.hasher.hashBlocks(run, level.hashes, level.usedBytes) * digestBytes;
      if (index === 0 && this.leaves) this.keep(this.leaves, level.hashes.subarray(level.usedBytes, end));
      level.usedBytes = end;
      at += run.length;
    }
  }

  private level(index: number): TreeLevel {
    const size = Math.max(LEVEL_BYTES, this.parameters.blockBytes);
    this.levels[index] ??= { hashes: new Uint8Array(size), usedBytes: 0, flushed: false };
    return this.levels[index];
  }

  private keep(leaves: Uint8Array, hashes: Uint8Array): void {
    const end = this.leavesUsedBytes + hashes.length;
    if (end > leaves.length) throw new ErrnoError(EINVAL, `more data than ${leaves.length} bytes of hashes are for`);
    leaves.set(hashes, this.leavesUsedBytes);
    this.leavesUsedBytes = end;
  }

  /** Hashes the contents of a level into the level above, and empties the level. */
  private flush(index: number, level: TreeLevel): void {
    this.push(index + 1, level.hashes.subarray(0, level.usedBytes));
    level.usedBytes = 0;
    level.flushed = true;
  }

  /** Flushes all levels until one hash is left: the root. Without data, the root is zeros. */
  private root(): Uint8Array {
    for (let index = 0; ; index++) {
      const level = this.levels[index];
      if (level === undefined || (level.usedBytes === 0 && !level.flushed))
        return new Uint8Array(this.hasher.digestBytes);
      if (!level.flushed && level.usedBytes === this.hasher.digestBytes)
        return level.hashes.subarray(0, level.usedBytes);
      this.flush(index, level);
    }
  }
}
