import t from 'tap';
import { ALGORITHMS, algorithmOfHex, digestFromText, parametersOf } from '../../src/verity/algorithms.ts';
import { measureBytes } from '../../src/verity/digest.ts';

const [short, long] = ['0a'.repeat(32), '0a'.repeat(64)];

for (const [rule, text, want] of [
  ['64 digits', short, short],
  ['128 digits', long, long],
  ['64 digits of SHA-256', `sha256:${short}`, short],
  ['128 digits of SHA-512', `sha512:${long}`, long],
  ['capitals', `sha512:${long.toUpperCase()}`, long],
  ['64 digits of SHA-512', `sha512:${short}`, undefined],
  ['128 digits of SHA-256', `sha256:${long}`, undefined],
  ['another algorithm', `sha1:${short}`, undefined],
  ['an algorithm in capitals', `SHA256:${short}`, undefined],
  ['an algorithm alone', 'sha256:', undefined],
  ['nothing', '', undefined],
  ['one digit too few', short.slice(1), undefined],
  ['one digit too many', `${long}0`, undefined],
  ['what is no digit', `${short.slice(1)}g`, undefined],
  ['a newline at the end', `${short}\n`, undefined],
  ['a space before', ` ${short}`, undefined],
] as const)
  t.equal(digestFromText(text), want, rule);

t.same(
  [short, long, '', 'zz'.repeat(32)].map(algorithmOfHex),
  ['sha256', 'sha512', undefined, undefined],
  'the number of digits tells the algorithm',
);

/** Source: composefs-rs, crates/composefs/src/fsverity/digest.rs, test_digest. */
const published = {
  sha256: '1e2eaa4202d750a41174ee454970b92c1bc2f925b1e35076d8c7d5f56362ba64',
  sha512:
    '18430270729d162d4e469daca123ae61893db4b0583d8f7081e3bf4f92b88ba5' +
    '14e7982f10733fb6aa895195c5ae8fd2eb2c47a8be05513ce5a0c51a6f570409',
} as const;
for (const algorithm of ['sha256', 'sha512'] as const) {
  const digest = measureBytes(Buffer.from('hello world'), parametersOf(algorithm));
  t.equal(Buffer.from(digest).toString('hex'), published[algorithm], `${algorithm} of hello world`);
  t.equal(digest.length, ALGORITHMS[algorithm].digestBytes, `${algorithm}: bytes`);
}
