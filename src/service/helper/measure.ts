/** The digest of a client's file. It is read by its descriptor alone, so that it takes no right but the client's, who has opened it. */
import { fstatSync } from 'node:fs';
import { IMAGE_BYTES_MAX } from '../../seal/image.ts';
import { EAGAIN, EFBIG, ErrnoError } from '../../sys/errno.ts';
import { type Algorithm, parametersOf } from '../../verity/algorithms.ts';
import { measureFd } from '../../verity/digest.ts';
import { versionOf } from '../file-version.ts';

/**
 * Measures an open file. @returns its fs-verity digest in hexadecimal; undefined if it is no regular file
 * Throws ErrnoError: EFBIG for a file that is too large for an image, EAGAIN for one that is changed meanwhile, EBADF for one that is
 * not open for reading.
 */
export function measureImage(fd: number, algorithm: Algorithm): string | undefined {
  const stats = fstatSync(fd);
  if (!stats.isFile()) return undefined;
  if (stats.size > IMAGE_BYTES_MAX)
    throw new ErrnoError(EFBIG, `the image has ${stats.size} bytes; ${IMAGE_BYTES_MAX} are allowed`);
  const version = versionOf(fd);
  const digest = Buffer.from(measureFd(fd, stats.size, parametersOf(algorithm))).toString('hex');
  if (versionOf(fd) === version) return digest;
  throw new ErrnoError(EAGAIN, 'the image was changed while it was read');
}
