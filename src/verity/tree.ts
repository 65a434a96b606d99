/**
 * Checks data each time it is read. The hashes of the data's blocks stay in memory from the measurement on. The levels above only
 * lead from them to the digest, so they are not kept.
 */
import { EINVAL, EIO, ErrnoError, must } from '../sys/errno.ts';
import type { Parameters } from './algorithms.ts';
import { leavesBytes, type Read } from './digest.ts';
import { VerityError } from './error.ts';
import { BLOCK_BYTES_MAX, type BlockHasher, blockHasher } from './hash.ts';

/** The measured hashes of the blocks: 32 bytes for 4 KiB of data. */
export class VerityTree {
  private readonly sizeBytes: number;
  private readonly blockBytes: number;
  private readonly hasher: BlockHasher;
  private readonly leaves: Uint8Array;

  /**
   * @param sizeBytes size of the data
   * @param leaves the hash of each block of the data, in order, as `measureLeaves` gives them; not copied
   * Throws ErrnoError EINVAL for parameters that fs-verity does not have, and if the length of `leaves` does not match the size.
   */
  constructor(parameters: Parameters, sizeBytes: number, leaves: Uint8Array) {
    this.hasher = blockHasher(parameters);
    const wanted = leavesBytes(sizeBytes, parameters);
    if (leaves.length !== wanted)
      throw new ErrnoError(EINVAL, `the hashes of ${sizeBytes} bytes take ${wanted} bytes, not ${leaves.length}`);
    this.sizeBytes = sizeBytes;
    this.blockBytes = parameters.blockBytes;
    this.leaves = leaves;
  }

  /**
   * Reads up to `length` bytes at `position` of the source into `out[at..]`, and checks every block of them. @returns the count,
   * which is less only at the end
   * Throws ErrnoError: the source's error; EIO if a block differs from the measurement. After an error, the bytes in `out` must
   * not be used.
   */
  read(read: Read, out: Uint8Array, at: number, length: number, position: number): number {
    const end = Math.min(position + length, this.sizeBytes);
    for (let from = position; from < end; ) {
      const to = this.stepEnd(from, end);
      const part = out.subarray(at + from - position, at + to - position);
      if (from % this.blockBytes === 0 && (to % this.blockBytes === 0 || to === this.sizeBytes)) {
        this.readBlocks(read, part, from);
      } else this.readPart(read, part, from);
      from = to;
    }
    return Math.max(end - position, 0);
  }

  /** The end of the next step: of the whole blocks from `from` on, or of a part of one block if there are none. */
  private stepEnd(from: number, end: number): number {
    const start = from - (from % this.blockBytes);
    const wholeEnd = end === this.sizeBytes ? end : end - (end % this.blockBytes);
    if (start < from || wholeEnd <= from) return Math.min(start + this.blockBytes, end);
    return wholeEnd;
  }

  /** Fills `out` with a part of one block, which is read completely. */
  private readPart(read: Read, out: Uint8Array, position: number): void {
    const start = position - (position % this.blockBytes);
    const block = scratchBlock.subarray(0, Math.min(this.blockBytes, this.sizeBytes - start));
    this.readBlocks(read, block, start);
    out.set(block.subarray(position - start, position - start + out.length));
  }

  /** Fills `out` with whole blocks from `position`, and checks them in place, so that no byte can change after the check. */
  private readBlocks(read: Read, out: Uint8Array, position: number): void {
    for (let count = 0; count < out.length; ) {
      const n = must(read(out, count, out.length - count, position + count), `read at ${position + count}`);
      if (n === 0) throw new ErrnoError(EIO, `the data ends at ${position + count} of ${this.sizeBytes} bytes`);
      count += n;
    }
    const runBytes = (scratchHashes.length / this.hasher.digestBytes) * this.blockBytes;
    for (let at = 0; at < out.length; at += runBytes)
      this.check(out.subarray(at, at + runBytes), (position + at) / this.blockBytes);
  }

  /** Compares the hashes of blocks with the leaves from `index` on. */
  private check(blocks: Uint8Array, index: number): void {
    const { digestBytes } = this.hasher;
    const count = this.hasher.hashBlocks(blocks, scratchHashes, 0);
    const leaves = this.leaves.subarray(index * digestBytes, (index + count) * digestBytes);
    if (Buffer.compare(scratchHashes.subarray(0, leaves.length), leaves) === 0) return;
    const wrong = leaves.findIndex((byte, at) => byte !== scratchHashes[at]);
    const block = index + Math.floor(wrong / digestBytes);
    throw new VerityError('EWRONGVERITY', `block ${block} has changed since it was measured`);
  }
}

/** Scratch buffers, one of each for a thread. Their contents are checked and copied before anything else is read. */
const scratchBlock = new Uint8Array(BLOCK_BYTES_MAX);
const scratchHashes = new Uint8Array(64 * 64);
