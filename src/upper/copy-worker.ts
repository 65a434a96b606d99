/** One thread that copies the data of large files: CopyWork -> CopyResult. */
import { must } from '../sys/errno.ts';
import { native } from '../sys/native.ts';
import { type Slice, serveJobs } from '../sys/workers/thread.ts';
import { type Algorithm, DEFAULTS } from '../verity/algorithms.ts';
import { Measurement } from '../verity/digest.ts';
import { DataCopy } from './copy-data.ts';

/** A copy between two open files. */
export interface CopyWork {
  readonly from: number;
  /** The file that is copied, for messages. */
  readonly place: string;
  readonly to: number;
  readonly sizeBytes: number;
  /** Whether the copy is synchronized with the disk. */
  readonly isSynced: boolean;
  /** The digest of the copy that is wanted; undefined if none is. */
  readonly algorithm: Algorithm | undefined;
}

export interface CopyResult {
  readonly digest: Uint8Array | undefined;
}

const buffer = new Uint8Array(1 << 20);

/** The digest of a file, a piece in each slice. */
function measuring(fd: number, sizeBytes: number, algorithm: Algorithm): Slice<CopyResult> {
  const measurement = new Measurement({ ...DEFAULTS, algorithm }, undefined);
  let at = 0;
  return () => {
    const length = must(native.pread(fd, buffer, 0, Math.min(buffer.length, sizeBytes - at), at), 'the copy');
    measurement.update(buffer.subarray(0, length));
    at += length;
    return at < sizeBytes && length > 0 ? undefined : { digest: measurement.digest() };
  };
}

serveJobs(({ from, place, to, sizeBytes, isSynced, algorithm }: CopyWork): Slice<CopyResult> => {
  const copy = new DataCopy(
    {
      fd: from,
      place,
      read: (out, at, length, position) => native.pread(from, out, at, length, position),
      seek: (offset, whence) => native.lseek(from, offset, whence),
    },
    to,
    sizeBytes,
  );
  let next: Slice<CopyResult> | undefined;
  return () => {
    if (next) return next();
    if (!copy.step()) return undefined;
    if (isSynced) must(native.fsync(to), 'the copy');
    next = algorithm === undefined ? () => ({ digest: undefined }) : measuring(to, sizeBytes, algorithm);
    return undefined;
  };
});
