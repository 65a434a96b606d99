/**
 * Damaged signatures and certificates. A signature is either refused with the place, or read; it never vouches for data that nobody
 * has signed. A certificate is a key or a reason.
 */
import { type Key, readKey, reasonAgainst } from '../../src/seal/key.ts';
import { readSignature } from '../../src/seal/signature.ts';
import { asOneLine } from '../../src/sys/bytes.ts';
import { attempt, EFBIG, ErrnoError, EUCLEAN } from '../../src/sys/errno.ts';
import { ATTRIBUTES, CERTIFICATE, KEY_NAME, PLAIN } from '../../test/fixtures/seal-samples.ts';
import { damageBytes, joined, reshape } from './mutate.ts';
import { demand, type Random, type Target } from './target.ts';

const OTHER = Buffer.from('not signed');

const CERTIFICATE_BYTES = Buffer.from(CERTIFICATE.replace(/-----.*/g, ''), 'base64');
const KEY = readKey(CERTIFICATE) as Key;

/** Lengths that lie, tags that are not expected, and values without contents. */
const PIECES = [
  '80',
  '84ffffffff',
  '8100',
  '1f',
  '3080',
  '0200',
  '0600',
  '3000',
  'a000',
  'a100',
  '0000',
  '0500',
  '02820101',
]
  .concat(['06092a864886f70d010702', '06092a864886f70d010701', '0603550403'])
  .map(hex => new Uint8Array(Buffer.from(hex, 'hex')));

function make(random: Random): Uint8Array {
  const bases = [PLAIN, PLAIN, ATTRIBUTES, ATTRIBUTES, KEY_NAME, CERTIFICATE_BYTES];
  let input: Uint8Array = new Uint8Array(random.pick(bases));
  for (let k = random.below(3); k > 0; k--) {
    const at = random.below(input.length + 1);
    const piece = random.pick(PIECES);
    input = joined(input.subarray(0, at), piece, input.subarray(at + (random.oneIn(2) ? piece.length : 0)));
  }
  if (random.oneIn(2)) damageBytes(input, random);
  if (random.oneIn(6)) input = reshape(input, random.pick(bases), random.pick([1, 2, 16]), random);
  return input;
}

function check(input: Uint8Array): void {
  const signers = attempt(() => readSignature(input));
  if (signers instanceof ErrnoError) {
    demand(signers.errno === EUCLEAN || signers.errno === EFBIG, `refused with ${signers.name}`);
    demand(/^byte \d+: .|^(?:more than|a signature of)/.test(signers.message), `says ${signers.message}`);
  } else demand(reasonAgainst(KEY, signers, OTHER, new Date(0)) !== undefined, 'it vouches for other data');
  const pem = `-----BEGIN CERTIFICATE-----\n${Buffer.from(input).toString('base64')}\n-----END CERTIFICATE-----\n`;
  const key = readKey(pem);
  demand(
    typeof key === 'string' || key.subject === undefined || asOneLine(key.subject) === key.subject,
    'its name has controls',
  );
}

export const seals: Target = { make, check };
