import fc from 'fast-check';
import t from 'tap';
import { isMetacopy, Metacopy, parseDigest } from '../../src/overlay/metacopy.ts';
import { ErrnoError } from '../../src/sys/errno.ts';

const value = (...parts: (readonly number[] | Uint8Array)[]): Uint8Array => Uint8Array.from(parts.flatMap(p => [...p]));
const bytes = (count: number): Uint8Array => new Uint8Array(count).map((_, i) => i + 1);

for (const [length, want] of [
  [0, true],
  [1, false],
  [2, false],
  [3, false],
  [4, true],
  [5, true],
  [36, true],
  [300, true],
] as const) {
  t.equal(isMetacopy(length), want, `M2: a value of ${length} bytes`);
}

t.strictSame(Metacopy, { version: 0, len: 1, flags: 2, digest_algo: 3, digest: 4, SIZE: 4 }, 'M2: struct ovl_metacopy');

for (const [rule, given, want] of [
  ['V1: an empty value has none', value(), undefined],
  ['V1: a header alone has none', value([0, 4, 0, 0]), undefined],
  ['V1: a header alone is never looked into', value([9, 9, 9, 1]), undefined],
  ['V3: algorithm 0 is no digest', value([0, 5, 0, 0], [1]), undefined],
  ['M2: SHA-256', value([0, 36, 0, 1], bytes(32)), { algorithm: 'sha256', bytes: bytes(32) }],
  ['M2: SHA-512', value([0, 68, 0, 2], bytes(64)), { algorithm: 'sha512', bytes: bytes(64) }],
  ['M2: flags are not checked', value([0, 36, 255, 1], bytes(32)), { algorithm: 'sha256', bytes: bytes(32) }],
] as const) {
  t.strictSame(parseDigest(given), want, rule);
}

for (const [rule, given, name] of [
  ['V3: version 1', value([1, 36, 0, 1], bytes(32)), 'EIO'],
  ['V3: a length that is too small', value([0, 35, 0, 1], bytes(32)), 'EIO'],
  ['V3: a length that is too large', value([0, 37, 0, 1], bytes(32)), 'EIO'],
  ['V3: an unknown algorithm', value([0, 36, 0, 3], bytes(32)), 'EIO'],
  ['V3: a SHA-256 that is short', value([0, 35, 0, 1], bytes(31)), 'EIO'],
  ['V3: a SHA-256 as long as a SHA-512', value([0, 68, 0, 1], bytes(64)), 'EIO'],
  ['V3: a SHA-512 as short as a SHA-256', value([0, 36, 0, 2], bytes(32)), 'EIO'],
  ['V3: more than 68 bytes', value([0, 69, 0, 2], bytes(65)), 'ERANGE'],
  ['V3: the length comes before all else', value([1, 0, 0, 9], bytes(65)), 'ERANGE'],
] as const) {
  t.throws(() => parseDigest(given), { name }, rule);
}

fc.assert(
  fc.property(
    fc.oneof(
      fc.uint8Array({ maxLength: 80 }),
      fc
        .tuple(fc.integer({ min: 5, max: 70 }), fc.integer({ min: 0, max: 4 }))
        .map(([length, algorithm]) => value([0, length, 0, algorithm], bytes(length - 4))),
    ),
    given => {
      try {
        const digest = parseDigest(given);
        return digest === undefined || digest.bytes.length === { sha256: 32, sha512: 64 }[digest.algorithm];
      } catch (error) {
        return error instanceof ErrnoError;
      }
    },
  ),
  { numRuns: 5000 },
);
t.pass('V3: any bytes give a whole digest, none, or an ErrnoError');
t.end();
