/** Keys that vouch for seals: a certificate or a public key in PEM. */
import { createPublicKey, type KeyObject, verify, X509Certificate } from 'node:crypto';
import { asOneLine } from '../sys/bytes.ts';
import { type Signer, signedOf } from './signature.ts';

/** A key, and what its certificate says. */
export interface Key {
  readonly publicKey: KeyObject;
  /** The subject of the certificate; undefined for a key alone, which is valid at any time. */
  readonly subject: string | undefined;
  readonly validFrom: Date | undefined;
  readonly validTo: Date | undefined;
}

/** The kinds of keys that are taken, for messages. */
const KINDS = 'RSA of 2048 to 16384 bits, P-256 or P-384';
const RSA_BITS_MIN = 2048;
const RSA_BITS_MAX = 16_384;
const CURVES: readonly (string | undefined)[] = ['prime256v1', 'secp384r1'];

/** Reads the one certificate or public key of a PEM file. @returns a reason, for messages, if it is none that can be used */
export function readKey(pem: string): Key | string {
  const blocks = [...pem.matchAll(/^-----BEGIN ([A-Z0-9 ]+)-----$/gm)].map(([, label = '']) => label);
  const [label] = blocks;
  if (label === undefined) return 'holds no certificate or public key in PEM';
  if (label !== 'CERTIFICATE' && label !== 'PUBLIC KEY')
    return `holds a ${label.toLowerCase()}, not a certificate or public key`;
  if (blocks.length > 1) return `holds ${blocks.length} keys, not one`;
  try {
    return label === 'CERTIFICATE' ? keyOf(new X509Certificate(pem)) : checked({ publicKey: createPublicKey(pem) });
  } catch {
    return `holds a damaged ${label.toLowerCase()}`; // the words of OpenSSL help nobody
  }
}

function keyOf(certificate: X509Certificate): Key | string {
  const { publicKey, subject, validFrom, validTo } = certificate;
  return checked({
    publicKey,
    subject: asOneLine(subject.split('\n').join(', ')),
    validFrom: new Date(validFrom),
    validTo: new Date(validTo),
  });
}

function checked(key: Partial<Key> & Pick<Key, 'publicKey'>): Key | string {
  const { publicKey, subject, validFrom, validTo } = key;
  const { asymmetricKeyType: kind = '', asymmetricKeyDetails: { modulusLength = 0, namedCurve } = {} } = publicKey;
  const isTaken =
    kind === 'rsa' ? modulusLength >= RSA_BITS_MIN && modulusLength <= RSA_BITS_MAX : CURVES.includes(namedCurve);
  if (kind === 'rsa' && !isTaken) return `its key is RSA of ${modulusLength} bits, not ${KINDS}`;
  if (!isTaken) return `its key is ${namedCurve ?? kind}, not ${KINDS}`;
  return { publicKey, subject, validFrom, validTo };
}

/** Why a key does not count at a time; undefined if it does. */
export function reasonOfTime({ validFrom, validTo }: Key, now: Date): string | undefined {
  if (validFrom === undefined || validTo === undefined) return undefined;
  if (!(validFrom <= now)) return `its certificate is not valid before ${textOf(validFrom)}`; // NaN is no date
  return now <= validTo ? undefined : `its certificate has expired on ${textOf(validTo)}`;
}

const textOf = (date: Date): string => (Number.isNaN(date.getTime()) ? 'an unreadable date' : date.toISOString());

/** Reasons that say less than others: the key may have signed another digest of the same image. */
export const NOT_SIGNED = 'has not signed this digest';
export const OTHER_DATA = 'has signed other data';

/**
 * Whether a key has signed data at a time when it counts. @returns undefined if it has, otherwise the reason, for messages
 */
export function reasonAgainst(key: Key, signers: readonly Signer[], data: Uint8Array, now: Date): string | undefined {
  let reason = NOT_SIGNED;
  for (const { method, signature, attributes } of signers) {
    if (typeof method === 'string' || method.kind !== key.publicKey.asymmetricKeyType) continue;
    const signed = signedOf({ method, signature, attributes }, data);
    if (verify(method.hash, signed ?? attributes?.bytes ?? data, key.publicKey, signature)) {
      const late = signed && reasonOfTime(key, now);
      if (signed !== undefined) return late && `has signed it, but ${late}`;
      reason = OTHER_DATA;
    }
  }
  return reason;
}
