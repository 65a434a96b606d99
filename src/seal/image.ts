/** Images with detached signatures, as files. */
import { closeSync, fstatSync } from 'node:fs';
import { O_PATH, openForReading, openIn } from '../sys/beneath.ts';
import { type ByteString, printable } from '../sys/bytes.ts';
import { EFBIG, EINVAL, ErrnoError, must } from '../sys/errno.ts';
import { native } from '../sys/native.ts';
import { AT_FDCWD } from '../sys/statx.ts';
import { parametersOf } from '../verity/algorithms.ts';
import { type Algorithm, measureFd } from '../verity/digest.ts';
import { readKeys } from './keys.ts';
import { SIGNATURE_BYTES_MAX } from './signature.ts';
import { findVoucher, type Voucher } from './verify.ts';

/** A seal as options name it. */
export interface SealChoice {
  /** The path of the detached signature. */
  readonly signature: ByteString;
  /** Directories of keys; undefined: those of the system. */
  readonly keys: readonly ByteString[] | undefined;
}

/** By which digests an image may be signed, in the order in which they are tried. */
const ALGORITHMS: readonly Algorithm[] = ['sha256', 'sha512'];

/**
 * Finds the digest of an image that a key vouches for. Who uses the image afterwards has to check that its bytes have this digest:
 * the file may be another one by then.
 * @param digest the digest that the image is to have, if it is known: the image is then not read
 * Throws ErrnoError that names the file, as findVoucher and readKeys do, and if a file cannot be read.
 */
export function verifyImage(image: ByteString, { signature, keys }: SealChoice, digest?: string): Voucher {
  const names = { image: printable(image), signature: printable(signature), directories: keys };
  const bytes = withFile(signature, 'signature', readBounded);
  const known = readKeys(keys);
  if (digest !== undefined) return findVoucher(names, bytes, [digest], known);
  return withFile(image, 'image', (fd, label) => findVoucher(names, bytes, digestsOf(fd, label), known));
}

/** The fs-verity digest of a file. Throws ErrnoError that names it. */
export const digestOfFile = (path: ByteString, algorithm: Algorithm): string =>
  withFile(path, 'image', (fd, label) => digestOf(fd, label, algorithm));

function* digestsOf(fd: number, label: string): Generator<string> {
  for (const algorithm of ALGORITHMS) yield digestOf(fd, label, algorithm);
}

function digestOf(fd: number, label: string, algorithm: Algorithm): string {
  const { size } = fstatSync(fd);
  if (size > IMAGE_BYTES_MAX) throw new ErrnoError(EFBIG, `${label}: ${size} bytes; ${IMAGE_BYTES_MAX} are allowed`);
  return Buffer.from(measureFd(fd, size, parametersOf(algorithm))).toString('hex');
}

/** An image is in memory when it is mounted. A sparse file of any size is made in no time, and takes days to digest. */
export const IMAGE_BYTES_MAX = 2 ** 33;

/** The first bytes of a signature: one too many if it is too large. */
function readBounded(fd: number): Uint8Array {
  const bytes = new Uint8Array(SIGNATURE_BYTES_MAX + 1);
  return bytes.subarray(0, must(native.pread(fd, bytes, 0, bytes.length, 0), 'read'));
}

/** Calls `use` with a descriptor of a regular file; others are not opened, because that might have effects or no end. */
function withFile<T>(path: ByteString, what: string, use: (fd: number, label: string) => T): T {
  const label = `${what} ${printable(path)}`;
  const found = must(openIn(AT_FDCWD, path, O_PATH, 0), label);
  try {
    if (!fstatSync(found).isFile()) throw new ErrnoError(EINVAL, `${label}: not a regular file`);
    const fd = must(openForReading(found), label);
    try {
      return use(fd, label);
    } finally {
      closeSync(fd);
    }
  } finally {
    closeSync(found);
  }
}
