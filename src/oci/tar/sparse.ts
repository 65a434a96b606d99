/** Maps of sparse files: which parts of a file an archive holds. The rest are holes, which read as zeros. */
import { type ByteString, byteStringOf } from '../../sys/bytes.ts';
import {
  BLOCK_BYTES,
  GnuHeader,
  refuse,
  SPARSE_BLOCK_ISEXTENDED,
  SPARSE_IN_BLOCK,
  SPARSE_IN_HEADER,
  SparseField,
  sizeIn,
} from './header.ts';

/** A part of a sparse file that the archive holds: `bytes` of data at an offset of the file. */
export interface Segment {
  readonly at: number;
  readonly bytes: number;
}

/** The most segments of one file. */
export const SEGMENTS_MAX = 65_536;

/** The map in a header of GNU with type S. */
export interface GnuMap {
  readonly sizeBytes: number;
  readonly segments: Segment[];
  /** Whether the map goes on in the next block. */
  readonly isExtended: boolean;
}

/** Reads the map and the size of a header with type S. Throws ErrnoError EUCLEAN. */
export function readGnuMap(header: Uint8Array): GnuMap {
  return {
    sizeBytes: sizeIn(header, GnuHeader.realsize, GnuHeader.SIZE, 'size'),
    segments: readSegments(header, GnuHeader.sparse, SPARSE_IN_HEADER),
    isExtended: header[GnuHeader.isextended] !== 0,
  };
}

/** Reads a block that continues such a map. @returns whether another one follows. Throws ErrnoError EUCLEAN. */
export function readGnuBlock(block: Uint8Array, segments: Segment[]): boolean {
  segments.push(...readSegments(block, 0, SPARSE_IN_BLOCK));
  if (segments.length > SEGMENTS_MAX) refuse(`a sparse file of more than ${SEGMENTS_MAX} segments`);
  return block[SPARSE_BLOCK_ISEXTENDED] !== 0;
}

/** Reads segments up to the first empty place. */
function readSegments(block: Uint8Array, from: number, count: number): Segment[] {
  const segments: Segment[] = [];
  for (let at = from; at < from + count * SparseField.SIZE && block[at] !== 0; at += SparseField.SIZE) {
    const end = at + SparseField.numbytes;
    segments.push({
      at: sizeIn(block, at, end, 'offset of a segment'),
      bytes: sizeIn(block, end, at + SparseField.SIZE, 'size of a segment'),
    });
  }
  return segments;
}

/** The map of version 1.0: the data begins with it, as decimal numbers, one a line, padded to a whole block. */
export class MapText {
  readonly segments: Segment[] = [];
  /** The number of segments; undefined before its line. */
  #count: number | undefined;
  #pendingAt: number | undefined;
  #rest = '';

  /** Takes the next block. @returns whether the map is complete. Throws ErrnoError EUCLEAN. */
  add(block: Uint8Array): boolean {
    const lines = (this.#rest + byteStringOf(block, 0, BLOCK_BYTES)).split('\n');
    this.#rest = lines.pop() as string;
    for (const line of lines) {
      this.#take(numberOf(line));
      if (this.isComplete) return true;
    }
    if (this.#rest.length > BLOCK_BYTES) refuse('the sparse map has a line without an end');
    return false;
  }

  get isComplete(): boolean {
    return this.segments.length === this.#count;
  }

  #take(number: number): void {
    if (this.#count === undefined) {
      if (number > SEGMENTS_MAX) refuse(`a sparse file of more than ${SEGMENTS_MAX} segments`);
      this.#count = number;
    } else if (this.#pendingAt === undefined) this.#pendingAt = number;
    else {
      this.segments.push({ at: this.#pendingAt, bytes: number });
      this.#pendingAt = undefined;
    }
  }
}

function numberOf(line: ByteString): number {
  const value = /^\d{1,16}$/.test(line) ? Number(line) : Number.NaN;
  return Number.isSafeInteger(value) ? value : refuse('the sparse map has a line that is no number');
}

/**
 * Checks that a map is in order, within the size of the file, and has all of the data that the archive holds.
 * Throws ErrnoError EUCLEAN.
 */
export function checkSegments(segments: readonly Segment[], sizeBytes: number, heldBytes: number): void {
  let end = 0;
  let sum = 0;
  for (const { at, bytes } of segments) {
    if (at < end) refuse(`the sparse map has a segment at ${at} before the end of the last one`);
    end = at + bytes;
    sum += bytes;
    if (end > sizeBytes) refuse(`the sparse map leads to ${end}, but the file has ${sizeBytes} bytes`);
  }
  if (sum !== heldBytes) refuse(`the sparse map has ${sum} bytes of data, but the archive holds ${heldBytes}`);
}
