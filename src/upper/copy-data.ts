/** Copies the bytes of a file into another one: shared, if the filesystem can do that, and without filling holes. */
import type { Data } from '../layers/layer.ts';
import { EBADF, EINVAL, EIO, ENOSYS, ENXIO, EOPNOTSUPP, ErrnoError, EXDEV, must } from '../sys/errno.ts';
import { native } from '../sys/native.ts';

const SEEK_DATA = 3;
const SEEK_HOLE = 4;
const PIECE_BYTES = 1 << 20;
/** Bytes of one step: milliseconds. */
const STEP_BYTES = 1 << 23;
/** Errors which mean that the kernel cannot copy between these two files. */
const CANNOT_COPY: readonly number[] = [-EXDEV, -EINVAL, -EOPNOTSUPP, -ENOSYS, -EBADF];

/** The parts of Data that a copy needs. */
export type Source = Pick<Data, 'fd' | 'place' | 'read' | 'seek'>;

/** Has all bytes shared by both files, which takes no time. @returns whether the filesystem can do that */
const shareData = (from: Pick<Data, 'fd' | 'sizeBytes'>, to: number, sizeBytes: number): boolean =>
  from.fd >= 0 && from.sizeBytes === sizeBytes && native.clone(to, from.fd) === 0;

/** A copy under way: of `sizeBytes` bytes to the start of an empty file that is open for writing. */
export class DataCopy {
  private readonly from: Source;
  private readonly to: number;
  private readonly sizeBytes: number;
  private at = 0;
  /** Where the hole after `at` begins. */
  private end = 0;
  private isByKernel: boolean;
  private piece: Uint8Array | undefined;

  constructor(from: Source, to: number, sizeBytes: number) {
    this.from = from;
    this.to = to;
    this.sizeBytes = sizeBytes;
    this.isByKernel = from.fd >= 0;
  }

  /**
   * Copies a part. @returns whether all is done
   * Throws ErrnoError: EIO if the data is shorter; the error of a write, for example ENOSPC.
   */
  step(): boolean {
    for (const until = Math.min(this.at + STEP_BYTES, this.sizeBytes); this.at < until; ) {
      if (this.at >= this.end && !this.findData()) break;
      this.copy(Math.min(this.end, this.at + STEP_BYTES));
    }
    if (this.at < this.sizeBytes) return false;
    if (this.end < this.sizeBytes) must(native.ftruncate(this.to, this.sizeBytes), 'the size of a copy'); // it ends in a hole
    return true;
  }

  /** Goes to the next data. @returns false if the rest is a hole */
  private findData(): boolean {
    const { from, sizeBytes } = this;
    const start = from.seek(this.at, SEEK_DATA);
    if (start === -ENXIO || start >= sizeBytes) {
      this.at = sizeBytes;
      return false;
    }
    const hole = start < 0 ? -1 : from.seek(start, SEEK_HOLE);
    this.at = start < 0 ? this.at : start;
    this.end = hole < 0 ? sizeBytes : Math.min(hole, sizeBytes);
    return true;
  }

  private copy(end: number): void {
    const { from, to, at } = this;
    const copied = this.isByKernel ? native.copyFileRange(from.fd, at, to, at, end - at) : -ENOSYS;
    if (copied > 0) this.at += copied;
    else if (copied === 0) throw new ErrnoError(EIO, `${from.place}: shorter than its inode says`);
    else if (!this.isByKernel || CANNOT_COPY.includes(copied)) this.copyPiece(end);
    else must(copied, from.place);
  }

  private copyPiece(end: number): void {
    const { from, to, at } = this;
    this.isByKernel = false;
    this.piece ??= new Uint8Array(Math.min(PIECE_BYTES, this.sizeBytes));
    const { piece } = this;
    const length = must(from.read(piece, 0, Math.min(piece.length, end - at), at), from.place);
    if (length === 0) throw new ErrnoError(EIO, `${from.place}: shorter than its inode says`);
    for (let written = 0; written < length; )
      written += must(native.pwrite(to, piece, written, length - written, at + written), 'a write to the upper layer');
    this.at += length;
  }
}

/** Copies all at once. Throws as DataCopy.step does. */
export function copyData(from: Data, to: number, sizeBytes: number): void {
  if (sizeBytes === 0 || shareData(from, to, sizeBytes)) return;
  const copy = new DataCopy(from, to, sizeBytes);
  while (!copy.step());
}
