/** Copies the bytes of a file into another one: shared, if the filesystem can do that, and without filling holes. */
import type { Data } from '../layers/layer.ts';
import { EBADF, EINVAL, EIO, ENOSYS, ENXIO, EOPNOTSUPP, ErrnoError, EXDEV, must } from '../sys/errno.ts';
import { native } from '../sys/native.ts';

const SEEK_DATA = 3;
const SEEK_HOLE = 4;
const PIECE_BYTES = 1 << 20;
/** The kernel copies no more in one call. */
const CALL_BYTES_MAX = 0x7ffff000;
/** Errors which mean that the kernel cannot copy between these two files. */
const CANNOT_COPY: readonly number[] = [-EXDEV, -EINVAL, -EOPNOTSUPP, -ENOSYS, -EBADF];

/**
 * Copies `sizeBytes` bytes to the start of an empty file.
 * @param to open for writing
 * Throws ErrnoError: EIO if the data is shorter; the error of a write, for example ENOSPC.
 */
export function copyData(from: Data, to: number, sizeBytes: number): void {
  if (sizeBytes === 0) return;
  if (from.fd >= 0 && from.sizeBytes === sizeBytes && native.clone(to, from.fd) === 0) return;
  let at = 0;
  while (at < sizeBytes) {
    const start = from.seek(at, SEEK_DATA);
    if (start === -ENXIO || start >= sizeBytes) break; // the rest is a hole
    const hole = start < 0 ? -1 : from.seek(start, SEEK_HOLE);
    const begin = start < 0 ? at : start;
    const end = hole < 0 ? sizeBytes : Math.min(hole, sizeBytes);
    copyRange(from, to, begin, end);
    at = end;
  }
  must(native.ftruncate(to, sizeBytes), 'the size of a copy');
}

function copyRange(from: Data, to: number, begin: number, end: number): void {
  let at = begin;
  while (from.fd >= 0 && at < end) {
    const copied = native.copyFileRange(from.fd, at, to, at, Math.min(end - at, CALL_BYTES_MAX));
    if (copied > 0) at += copied;
    else if (copied === 0) throw new ErrnoError(EIO, `${from.place}: shorter than its inode says`);
    else if (CANNOT_COPY.includes(copied)) break;
    else must(copied, from.place);
  }
  if (at < end) copyPieces(from, to, at, end);
}

function copyPieces(from: Data, to: number, begin: number, end: number): void {
  const piece = new Uint8Array(Math.min(PIECE_BYTES, end - begin));
  for (let at = begin; at < end; ) {
    const length = must(from.read(piece, 0, Math.min(piece.length, end - at), at), from.place);
    if (length === 0) throw new ErrnoError(EIO, `${from.place}: shorter than its inode says`);
    for (let written = 0; written < length; )
      written += must(native.pwrite(to, piece, written, length - written, at + written), 'a write to the upper layer');
    at += length;
  }
}
