/**
 * Detached signatures: CMS SignedData (PKCS#7) in DER, as `fsverity sign` and `openssl smime -sign` write it. Source: RFC 5652,
 * section 5; RFC 2315, section 9.
 *
 * ```
 * ContentInfo   { signedData, [0] SignedData }
 * SignedData    { version, SET of digest algorithms, { data }, [0] certificates?, [1] CRLs?, SET of SignerInfo }
 * SignerInfo    { version, signer's name, digest algorithm, [0] signed attributes?, signature algorithm, signature, [1] … ? }
 * ```
 *
 * Certificates in the signature are not looked at: the keys that count are known before.
 */
import { createHash, createSign, type KeyObject } from 'node:crypto';
import { EFBIG, ErrnoError } from '../sys/errno.ts';
import { ECDSA_OIDS, HASH_OIDS, type Hash, type KeyKind, methodOf, RSA_OID } from './algorithms.ts';
import { DerReader, der, derOid, Tag } from './der.ts';

const SIGNED_DATA = '1.2.840.113549.1.7.2';
const DATA = '1.2.840.113549.1.7.1';
const CONTENT_TYPE = '1.2.840.113549.1.9.3';
const MESSAGE_DIGEST = '1.2.840.113549.1.9.4';

/** The size of the largest signature that is read. The kernel takes 16,128 bytes. */
export const SIGNATURE_BYTES_MAX = 1 << 16;
const SIGNERS_MAX = 16;
const ATTRIBUTES_MAX = 64;

/** What one signer has signed. */
export interface Signer {
  /** How; or the reason why it is not taken, for messages. */
  readonly method: { readonly hash: Hash; readonly kind: KeyKind } | string;
  readonly signature: Uint8Array;
  /** What is signed in place of the data, if it is not the data itself. */
  readonly attributes: SignedAttributes | undefined;
}

interface SignedAttributes {
  readonly bytes: Uint8Array;
  readonly messageDigest: Uint8Array;
}

/**
 * Reads a signature. Throws ErrnoError: EUCLEAN with the byte at which it is malformed, or is no detached signature of data; EFBIG
 * if it is too large, or has too many signers or attributes.
 */
export function readSignature(bytes: Uint8Array): Signer[] {
  if (bytes.length > SIGNATURE_BYTES_MAX)
    throw new ErrnoError(EFBIG, `a signature of more than ${SIGNATURE_BYTES_MAX} bytes`);
  const file = new DerReader(bytes);
  const info = file.into('the signature', Tag.sequence);
  file.finish('the signature');
  wants(info, 'the type of the signature', SIGNED_DATA);
  const wrapper = info.into('the signed data', Tag.context0);
  info.finish('the signed data');
  const signed = wrapper.into('the signed data', Tag.sequence);
  wrapper.finish('the signed data');
  signed.number('the version');
  signed.into('the digest algorithms', Tag.set);
  const content = signed.into('the content', Tag.sequence);
  wants(content, 'the type of the content', DATA);
  if (content.tag !== undefined) throw content.fault('the signature brings its own data: it is not detached');
  signed.optional('the certificates', Tag.context0);
  signed.optional('the revocation lists', Tag.context1);
  const infos = signed.into('the signers', Tag.set);
  signed.finish('the signers');
  const signers: Signer[] = [];
  while (infos.tag !== undefined) {
    if (signers.length === SIGNERS_MAX) throw new ErrnoError(EFBIG, `more than ${SIGNERS_MAX} signers`);
    signers.push(readSigner(infos.into('a signer', Tag.sequence)));
  }
  return signers;
}

function readSigner(info: DerReader): Signer {
  info.number('the version of a signer');
  info.into("a signer's name", info.tag === Tag.bytes0 ? Tag.bytes0 : Tag.sequence);
  const digestOid = readAlgorithm(info, 'the digest algorithm');
  const attributes = info.tag === Tag.context0 ? readAttributes(info.whole('the signed attributes')) : undefined;
  const signatureOid = readAlgorithm(info, 'the signature algorithm');
  const signature = info.contents('the signature of a signer', Tag.octetString);
  info.optional('the attributes that are not signed', Tag.context1);
  info.finish('a signer');
  return { method: methodOf(digestOid, signatureOid), signature, attributes };
}

/** An algorithm, whose parameters have to be absent or NULL: those that are taken have no others. */
function readAlgorithm(reader: DerReader, what: string): string {
  const algorithm = reader.into(what, Tag.sequence);
  const oid = algorithm.oid(what);
  if (algorithm.tag === Tag.null) algorithm.into(`the parameters of ${what}`).finish('NULL');
  // those of other algorithms are not read, and the algorithm is refused by its name
  return oid;
}

/** @param encoded with the tag that they have in a signature; they are signed with that of a set */
function readAttributes(encoded: Uint8Array): SignedAttributes {
  const bytes = Uint8Array.from(encoded);
  bytes[0] = Tag.set;
  const reader = new DerReader(bytes).into('the signed attributes', Tag.set);
  let isData = false;
  let messageDigest: Uint8Array | undefined;
  for (let count = 0; reader.tag !== undefined; count++) {
    if (count === ATTRIBUTES_MAX) throw new ErrnoError(EFBIG, `more than ${ATTRIBUTES_MAX} signed attributes`);
    const attribute = reader.into('a signed attribute', Tag.sequence);
    const type = attribute.oid('the type of a signed attribute');
    const values = attribute.into('the values of a signed attribute', Tag.set);
    attribute.finish('the values of a signed attribute');
    if (type !== CONTENT_TYPE && type !== MESSAGE_DIGEST) continue;
    if (type === CONTENT_TYPE ? isData : messageDigest !== undefined)
      throw reader.fault(`two signed attributes of type ${type}`);
    if (type === MESSAGE_DIGEST) messageDigest = values.contents('the digest of the data', Tag.octetString);
    else {
      wants(values, 'the signed type of the content', DATA);
      isData = true;
    }
    values.finish('the value of a signed attribute');
  }
  if (!isData || messageDigest === undefined)
    throw reader.fault('the signed attributes lack the type or the digest of the data');
  return { bytes, messageDigest };
}

function wants(reader: DerReader, what: string, oid: string): void {
  const found = reader.oid(what);
  if (found !== oid) throw reader.fault(`${what} is ${found}, not ${oid}`);
}

/** The name of a signer: issuer and serial number of its certificate, as SignerInfo has them. @param certificate DER */
export function issuerAndSerial(certificate: Uint8Array): Uint8Array {
  const body = new DerReader(certificate).into('the certificate', Tag.sequence).into('the certificate', Tag.sequence);
  body.optional('the version', Tag.context0);
  const serial = body.whole('the serial number', Tag.integer);
  body.into('the signature algorithm', Tag.sequence);
  return der(Tag.sequence, body.whole('the issuer', Tag.sequence), serial);
}

/**
 * Signs data as the kernel verifies it: without certificates and without signed attributes. It is the form of `fsverity sign`.
 * @param certificate that of the key, DER; the signature has its issuer and serial number
 */
export function writeSignature(data: Uint8Array, hash: Hash, key: KeyObject, certificate: Uint8Array): Uint8Array {
  const isRsa = key.asymmetricKeyType === 'rsa';
  const none = der(Tag.null);
  const digestAlgorithm = der(Tag.sequence, derOid(HASH_OIDS[hash]), none);
  const signatureAlgorithm = isRsa
    ? der(Tag.sequence, derOid(RSA_OID), none)
    : der(Tag.sequence, derOid(ECDSA_OIDS[hash]));
  const version = der(Tag.integer, Uint8Array.of(1));
  const signature = createSign(hash).update(data).sign(key);
  const signer = der(
    Tag.sequence,
    ...[version, issuerAndSerial(certificate), digestAlgorithm, signatureAlgorithm],
    der(Tag.octetString, signature),
  );
  const content = der(Tag.sequence, derOid(DATA));
  const signed = der(Tag.sequence, version, der(Tag.set, digestAlgorithm), content, der(Tag.set, signer));
  return der(Tag.sequence, derOid(SIGNED_DATA), der(Tag.context0, signed));
}

/** The bytes that a signer has signed; undefined if that is other data than this. */
export function signedOf({ attributes, method }: Signer, data: Uint8Array): Uint8Array | undefined {
  if (attributes === undefined || typeof method === 'string') return data;
  const digest = createHash(method.hash).update(data).digest();
  return digest.equals(attributes.messageDigest) ? attributes.bytes : undefined;
}
