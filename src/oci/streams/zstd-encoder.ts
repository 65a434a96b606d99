/**
 * Compresses by zstd without a library: Node.js has one only since 22.15, and another version of a library may give another result,
 * while here the same bytes give the same result everywhere. Blocks do not refer to each other, and literals are stored as they
 * are: enough for the headers of tar archives, which are mostly zeros, and else much like the header before.
 * Source: RFC 8878, "Zstandard Frames" and "Blocks".
 */
import { OFFSET_BASE, putSequences, SAME_OFFSET, Sequence } from './zstd-sequences.ts';

const FRAME_HEADER = Uint8Array.of(0x28, 0xb5, 0x2f, 0xfd, 0, 0x38); // no checksum, a window of 128 KiB
/** The most bytes of a block of this window. */
const BLOCK_BYTES_MAX = 1 << 17;
const BLOCK_HEADER_BYTES = 3;
const RAW = 0;
const COMPRESSED = 2;
/** Bytes that a match has at least: a hash is made of the first four. A block has fewer matches than SEQUENCES_MAX. */
const MATCH_BYTES_MIN = 5;
const HASH_BYTES = 4;
const HASH_BITS = 15;
const HASH_FACTOR = 0x9e3779b1;

/** Compresses bytes by calls of `write`, and then `finish`. */
export class ZstdEncoder {
  readonly #emit: (bytes: Uint8Array) => void;
  readonly #input = new Uint8Array(BLOCK_BYTES_MAX);
  #inputBytes = 0;
  /** The literals of a block, one after the other, and its sequences. */
  readonly #literals = new Uint8Array(BLOCK_BYTES_MAX);
  #literalsBytes = 0;
  readonly #sequences = new Uint32Array(Sequence.SIZE * Math.ceil(BLOCK_BYTES_MAX / MATCH_BYTES_MIN));
  #sequenceCount = 0;
  /** The place where the bytes of a hash were seen last, plus 1. */
  readonly #seen = new Int32Array(1 << HASH_BITS);
  readonly #output = new Uint8Array(BLOCK_HEADER_BYTES + BLOCK_BYTES_MAX);
  /** The offset of the last sequence that was written. */
  #offset = 1;

  /** @param emit gets the result, piece by piece; each is valid during the call */
  constructor(emit: (bytes: Uint8Array) => void) {
    this.#emit = emit;
    emit(FRAME_HEADER);
  }

  write(bytes: Uint8Array): void {
    for (let at = 0; at < bytes.length; ) {
      const part = bytes.subarray(at, at + BLOCK_BYTES_MAX - this.#inputBytes);
      this.#input.set(part, this.#inputBytes);
      this.#inputBytes += part.length;
      at += part.length;
      if (this.#inputBytes === BLOCK_BYTES_MAX) this.#endBlock(false);
    }
  }

  finish(): void {
    this.#endBlock(true);
  }

  #endBlock(isLast: boolean): void {
    const offset = this.#findMatches();
    const bytes = this.#sequenceCount > 0 ? this.#putCompressed() : this.#inputBytes;
    const isShorter = bytes < this.#inputBytes;
    if (isShorter) this.#offset = offset;
    else this.#output.set(this.#input.subarray(0, this.#inputBytes), BLOCK_HEADER_BYTES);
    const content = isShorter ? bytes : this.#inputBytes;
    const header = (content << 3) | ((isShorter ? COMPRESSED : RAW) << 1) | Number(isLast);
    for (let i = 0; i < BLOCK_HEADER_BYTES; i++) this.#output[i] = header >> (8 * i);
    this.#emit(this.#output.subarray(0, BLOCK_HEADER_BYTES + content));
    this.#inputBytes = 0;
  }

  /** Cuts the input into literals and matches. @returns the last offset */
  #findMatches(): number {
    const [input, end] = [this.#input, this.#inputBytes];
    this.#literalsBytes = 0;
    this.#sequenceCount = 0;
    this.#seen.fill(0);
    let offset = this.#offset;
    let anchor = 0;
    for (let at = 1; at + HASH_BYTES <= end; ) {
      const seen = this.#lookUp(at);
      const again = at > anchor ? matchBytes(input, at - offset, at, end) : 0;
      const other = matchBytes(input, seen, at, end);
      const isSame = again >= MATCH_BYTES_MIN && again + 2 >= other; // another offset costs bits
      const bytes = isSame ? again : other;
      if (bytes < MATCH_BYTES_MIN) {
        at++;
        continue;
      }
      if (!isSame) offset = at - seen;
      this.#addSequence(anchor, at, bytes, isSame ? SAME_OFFSET : offset + OFFSET_BASE);
      at += bytes;
      anchor = at;
    }
    this.#addLiterals(anchor, end);
    return offset;
  }

  /** The place before `at` whose bytes have the same hash; a negative number if there is none. */
  #lookUp(at: number): number {
    const input = this.#input;
    const bytes =
      (input[at] as number) |
      ((input[at + 1] as number) << 8) |
      ((input[at + 2] as number) << 16) |
      ((input[at + 3] as number) << 24);
    const hash = Math.imul(bytes, HASH_FACTOR) >>> (32 - HASH_BITS);
    const seen = (this.#seen[hash] as number) - 1;
    this.#seen[hash] = at + 1;
    return seen;
  }

  #addLiterals(from: number, to: number): void {
    this.#literals.set(this.#input.subarray(from, to), this.#literalsBytes);
    this.#literalsBytes += to - from;
  }

  #addSequence(anchor: number, at: number, bytes: number, offset: number): void {
    const place = Sequence.SIZE * this.#sequenceCount++;
    this.#sequences[place + Sequence.literals] = at - anchor;
    this.#sequences[place + Sequence.match] = bytes;
    this.#sequences[place + Sequence.offset] = offset;
    this.#addLiterals(anchor, at);
  }

  /** Writes the literals and the sequences after the header of the block. @returns their bytes */
  #putCompressed(): number {
    const bytes = this.#literalsBytes;
    const [format, headerBytes] = bytes < 32 ? [0, 1] : bytes < 4096 ? [1, 2] : [3, 3];
    const header = (bytes << (format === 0 ? 3 : 4)) | (format << 2);
    let at = BLOCK_HEADER_BYTES;
    for (let i = 0; i < headerBytes; i++) this.#output[at++] = header >> (8 * i);
    if (at + bytes > this.#output.length) return BLOCK_BYTES_MAX;
    this.#output.set(this.#literals.subarray(0, bytes), at);
    return putSequences(this.#output, at + bytes, this.#sequences, this.#sequenceCount) - BLOCK_HEADER_BYTES;
  }
}

/** How many bytes from two places on are the same; 0 if the first one is before the input. */
function matchBytes(input: Uint8Array, first: number, second: number, end: number): number {
  if (first < 0) return 0;
  let bytes = 0;
  while (second + bytes < end && input[first + bytes] === input[second + bytes]) bytes++;
  return bytes;
}
