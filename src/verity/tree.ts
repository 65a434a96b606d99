/**
 * Data that is checked each time it is read. The hashes of the data's blocks stay in memory from the measurement on; the
 * levels above only lead from them to the digest, so they need not be kept.
 */
import { EIO, ErrnoError, must } from '../sys/errno.ts';
import { ALGORITHMS, BlockHasher, DEFAULTS, Measurement, measureInto, type Parameters, type Read } from './digest.ts';

/** What was measured, by blocks. It takes 32 bytes for 4 KiB of data. */
export class VerityTree {
  /** The fs-verity digest. */
  readonly digest: Uint8Array;
  readonly sizeBytes: number;
  readonly blockBytes: number;
  private readonly hasher: BlockHasher;
  private readonly hashBytes: number;
  private readonly leaves: Buffer;
  private readonly block: Uint8Array;

  /** Measures the first `sizeBytes` bytes of a source. Throws ErrnoError: its error, or EIO where it ends too early. */
  constructor(read: Read, sizeBytes: number, parameters: Parameters = DEFAULTS) {
    const { blockBytes } = parameters;
    const { digestBytes } = ALGORITHMS[parameters.algorithm];
    const leaves = Buffer.alloc(Math.ceil(sizeBytes / blockBytes) * digestBytes);
    let used = 0;
    const measurement = new Measurement(parameters, hash => {
      used += leaves.write(hash, used, 'latin1');
    });
    this.digest = measureInto(measurement, read, sizeBytes).digest();
    this.sizeBytes = sizeBytes;
    this.blockBytes = blockBytes;
    this.hasher = new BlockHasher(parameters);
    this.hashBytes = digestBytes;
    this.leaves = leaves;
    this.block = new Uint8Array(blockBytes);
  }

  /** Whether `bytes`, shorter than a block only at the end of the data, are what block `index` was. */
  holds(index: number, bytes: Uint8Array): boolean {
    const at = index * this.hashBytes;
    if (bytes.length !== Math.min(this.blockBytes, this.sizeBytes - index * this.blockBytes)) return false;
    let block = bytes;
    if (bytes.length < this.blockBytes) {
      block = this.block;
      block.set(bytes);
      block.fill(0, bytes.length);
    }
    return this.hasher.hash(block) === this.leaves.toString('latin1', at, at + this.hashBytes);
  }

  /**
   * Reads up to `length` bytes at `position` of the source into `out[at..]`, every block of them checked; the count, which
   * is less only at the end. Throws ErrnoError: the source's error; EIO where a block is not what it was, and then what is in
   * `out` must not be used.
   */
  read(read: Read, out: Uint8Array, at: number, length: number, position: number): number {
    const end = Math.min(position + length, this.sizeBytes);
    if (position >= end) return 0;
    const from = Math.floor(position / this.blockBytes) * this.blockBytes;
    const to = Math.min(Math.ceil(end / this.blockBytes) * this.blockBytes, this.sizeBytes);
    if (from === position && to === end) {
      this.readBlocks(read, out.subarray(at, at + end - position), from);
    } else {
      const blocks = new Uint8Array(to - from);
      this.readBlocks(read, blocks, from);
      out.set(blocks.subarray(position - from, end - from), at);
    }
    return end - position;
  }

  /** Fills `out` with whole blocks from `position` and checks them where they are, so that nobody changes them in between. */
  private readBlocks(read: Read, out: Uint8Array, position: number): void {
    let count = 0;
    while (count < out.length) {
      const n = must(read(out, count, out.length - count, position + count), `read at ${position + count}`);
      if (n === 0) throw new ErrnoError(EIO, `the data ends at ${position + count} of ${this.sizeBytes} bytes`);
      count += n;
    }
    for (let at = 0; at < out.length; at += this.blockBytes) {
      const index = (position + at) / this.blockBytes;
      if (!this.holds(index, out.subarray(at, Math.min(at + this.blockBytes, out.length)))) {
        throw new ErrnoError(EIO, `block ${index} is not what was measured`);
      }
    }
  }
}
