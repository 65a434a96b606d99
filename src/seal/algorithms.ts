/** The algorithms of signatures: hash functions, kinds of keys, and their object identifiers. */

/** Hash functions of signatures. */
export type Hash = 'sha256' | 'sha384' | 'sha512';

/** Kinds of keys, as KeyObject.asymmetricKeyType of node:crypto names them: RSA by PKCS#1 version 1.5, and ECDSA. */
export type KeyKind = 'rsa' | 'ec';

/** Source: RFC 5754, section 2. */
export const HASH_OIDS: Readonly<Record<Hash, string>> = {
  sha256: '2.16.840.1.101.3.4.2.1',
  sha384: '2.16.840.1.101.3.4.2.2',
  sha512: '2.16.840.1.101.3.4.2.3',
};

/** Source: RFC 5754, section 3.3. */
export const ECDSA_OIDS: Readonly<Record<Hash, string>> = {
  sha256: '1.2.840.10045.4.3.2',
  sha384: '1.2.840.10045.4.3.3',
  sha512: '1.2.840.10045.4.3.4',
};

/** RSA with the hash function that is named beside it, and with one of its own. Source: RFC 3370, section 3.2; RFC 5754, 3.2. */
export const RSA_OID = '1.2.840.113549.1.1.1';
const RSA_OIDS: Readonly<Record<Hash, string>> = {
  sha256: '1.2.840.113549.1.1.11',
  sha384: '1.2.840.113549.1.1.12',
  sha512: '1.2.840.113549.1.1.13',
};

/** Algorithms that others write and that are refused. */
const OTHERS: Readonly<Record<string, string>> = {
  '1.2.840.113549.2.5': 'MD5',
  '1.3.14.3.2.26': 'SHA-1',
  '2.16.840.1.101.3.4.2.4': 'SHA-224',
  '1.2.840.113549.1.1.5': 'RSA with SHA-1',
  '1.2.840.113549.1.1.10': 'RSASSA-PSS',
  '1.2.840.10045.4.1': 'ECDSA with SHA-1',
  '1.2.840.10045.4.3.1': 'ECDSA with SHA-224',
  '1.2.840.10040.4.1': 'DSA',
  '1.3.101.112': 'Ed25519',
  '1.3.101.113': 'Ed448',
};

const nameOf = (oid: string): string => OTHERS[oid] ?? oid;
const hashIn = (oids: Readonly<Record<Hash, string>>, oid: string): Hash | undefined =>
  (Object.keys(oids) as Hash[]).find(hash => oids[hash] === oid);

/** How a signature was made; a reason, for messages, if it was made in a way that is not taken. */
export function methodOf(digestOid: string, signatureOid: string): { hash: Hash; kind: KeyKind } | string {
  const hash = hashIn(HASH_OIDS, digestOid);
  if (hash === undefined) return `its digest algorithm is ${nameOf(digestOid)}, not SHA-256, SHA-384 or SHA-512`;
  if (signatureOid === RSA_OID) return { hash, kind: 'rsa' };
  for (const [kind, oids] of [
    ['rsa', RSA_OIDS],
    ['ec', ECDSA_OIDS],
  ] as const) {
    const own = hashIn(oids, signatureOid);
    if (own === hash) return { hash, kind };
    if (own !== undefined) return `it names two digest algorithms, ${hash} and ${own}`;
  }
  return `its signature algorithm is ${nameOf(signatureOid)}, not RSA (PKCS#1 v1.5) or ECDSA`;
}
