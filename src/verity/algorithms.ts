/** The hash functions of fs-verity, and digests as text. */

export type Algorithm = 'sha256' | 'sha512';

/**
 * The parameters that a digest depends on besides the data. `blockBytes` is a power of two from 1,024 to 65,536; a salt has at
 * most 32 bytes.
 */
export interface Parameters {
  algorithm: Algorithm;
  blockBytes: number;
  salt: Uint8Array;
}

/**
 * The parameters of composefs: SHA-256, blocks of 4 KiB, no salt.
 * @example
 * const salted = { ...VERITY_DEFAULTS, salt: Uint8Array.of(1) };
 * assert.equal(measureBytes(Buffer.from('data'), VERITY_DEFAULTS).length, 32);
 * assert.notDeepEqual(measureBytes(Buffer.from('data'), salted), measureBytes(Buffer.from('data')));
 */
export const DEFAULTS: Parameters = { algorithm: 'sha256', blockBytes: 4096, salt: new Uint8Array(0) };

/**
 * The parameters of composefs for each algorithm. They are single objects, because hashers and buffers are kept for each object.
 */
const DEFAULTS_OF: Readonly<Record<Algorithm, Parameters>> = {
  sha256: DEFAULTS,
  sha512: { ...DEFAULTS, algorithm: 'sha512' },
};
export const parametersOf = (algorithm: Algorithm): Parameters => DEFAULTS_OF[algorithm];

/**
 * For each algorithm: its number in the descriptor, the bytes of a digest, and the bytes of the block that the salt is padded to.
 */
export const ALGORITHMS = {
  sha256: { number: 1, digestBytes: 32, padBytes: 64 },
  sha512: { number: 2, digestBytes: 64, padBytes: 128 },
} as const;

/** The algorithm of a hexadecimal digest, by its number of digits; undefined if the text is no digest of either. */
export function algorithmOfHex(digest: string): Algorithm | undefined {
  if (!/^[0-9a-f]*$/i.test(digest)) return undefined;
  if (digest.length === 2 * ALGORITHMS.sha256.digestBytes) return 'sha256';
  return digest.length === 2 * ALGORITHMS.sha512.digestBytes ? 'sha512' : undefined;
}

/** The digits of `[sha256:|sha512:]HEX` in lower case; undefined if they are no digest of that algorithm. */
export function digestFromText(text: string): string | undefined {
  const [, name, digits = ''] = /^(?:(sha256|sha512):)?(.*)$/s.exec(text) ?? [];
  const algorithm = algorithmOfHex(digits);
  return algorithm !== undefined && (name ?? algorithm) === algorithm ? digits.toLowerCase() : undefined;
}
