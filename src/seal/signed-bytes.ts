/** What a seal signs: an fs-verity digest in the form that the kernel verifies signatures of. */
import { ALGORITHMS, type Algorithm, algorithmOfHex } from '../verity/algorithms.ts';

/**
 * struct fsverity_formatted_digest. Source: linux/fsverity.h, and kernel Documentation/filesystems/fsverity.rst, "Built-in
 * signature verification".
 */
export const FormattedDigest = {
  magic: 0, // char[8]  "FSVerity"
  digest_algorithm: 8, // u16  FS_VERITY_HASH_ALG_*
  digest_size: 10, // u16
  digest: 12, // u8[digest_size]
} as const;

/** The bytes that a signature of an fs-verity digest covers. @param digest 64 or 128 hexadecimal digits */
export function signedBytes(digest: string): Uint8Array {
  const algorithm = algorithmOfHex(digest) as Algorithm;
  const { number, digestBytes } = ALGORITHMS[algorithm];
  const bytes = Buffer.alloc(FormattedDigest.digest + digestBytes);
  bytes.write('FSVerity', FormattedDigest.magic, 'latin1');
  bytes.writeUInt16LE(number, FormattedDigest.digest_algorithm);
  bytes.writeUInt16LE(digestBytes, FormattedDigest.digest_size);
  bytes.write(digest, FormattedDigest.digest, 'hex');
  return bytes;
}
