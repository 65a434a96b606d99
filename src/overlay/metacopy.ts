/** The value of `overlay.metacopy`: it marks a regular file whose data is in a layer below, and may carry its digest. */

import { EIO, ERANGE, ErrnoError } from '../sys/errno.ts';

/** struct ovl_metacopy. Source: kernel fs/overlayfs/overlayfs.h, since 6.6; before that the value was empty. */
export const Metacopy = {
  version: 0, //     u8  0
  len: 1, //         u8  size of the whole value
  flags: 2, //       u8  not checked
  digest_algo: 3, // u8  0 none, 1 SHA-256, 2 SHA-512: the numbers of fs-verity
  digest: 4, //      up to 64 bytes
  SIZE: 4,
} as const;
const DIGEST_MAX = 64;
export const METACOPY_BYTES_MAX: number = Metacopy.SIZE + DIGEST_MAX;

/** The fs-verity digest that the data must have. */
export interface Digest {
  algorithm: 'sha256' | 'sha512';
  bytes: Uint8Array;
}

/** Whether lookup accepts a value of this size: empty, or at least a header. Other defects of a value are found at open. */
export const isMetacopy = (bytes: number): boolean => bytes === 0 || bytes >= Metacopy.SIZE;

/** Whether the value carries a digest, well-formed or not. */
export function hasDigest(value: Uint8Array | undefined): boolean {
  return value !== undefined && value.length > Metacopy.SIZE && value[Metacopy.digest_algo] !== 0;
}

/**
 * The digest in a value that lookup accepted; undefined if it has none. A value of four bytes or less is not inspected.
 * Throws ErrnoError: EIO for a malformed value, ERANGE for one too long to hold a digest.
 * Source: kernel fs/overlayfs/util.c, ovl_check_metacopy_xattr and ovl_get_verity_digest.
 * @example
 * const value = Uint8Array.of(0, 36, 0, 1, ...new Uint8Array(32).fill(7));
 * assert.deepEqual(parseDigest(value), { algorithm: 'sha256', bytes: new Uint8Array(32).fill(7) });
 * assert.equal(parseDigest(new Uint8Array(0)), undefined);
 */
export function parseDigest(value: Uint8Array): Digest | undefined {
  if (value.length <= Metacopy.SIZE) return undefined;
  if (value.length > METACOPY_BYTES_MAX) throw new ErrnoError(ERANGE, `metacopy of ${value.length} bytes`);
  const { version, len, digest_algo } = Metacopy;
  if (value[version] !== 0) throw new ErrnoError(EIO, `metacopy version ${value[version]}`);
  if (value[len] !== value.length)
    throw new ErrnoError(EIO, `metacopy says ${value[len]} bytes, but has ${value.length}`);
  const bytes = value.slice(Metacopy.digest);
  const algorithm = algorithms[value[digest_algo] as number];
  if (algorithm === 'none') return undefined;
  if (algorithm === undefined) throw new ErrnoError(EIO, `metacopy digest_algo ${value[digest_algo]}`);
  if (bytes.length !== digestBytes[algorithm])
    throw new ErrnoError(EIO, `${algorithm} digest of ${bytes.length} bytes`);
  return { algorithm, bytes };
}
const algorithms = ['none', 'sha256', 'sha512'] as const;
const digestBytes = { sha256: 32, sha512: 64 };
