/** What makes seals: a private key with its certificate. */
import { createPrivateKey, type KeyObject, X509Certificate } from 'node:crypto';
import { EINVAL, ErrnoError } from '../sys/errno.ts';
import { type Algorithm, algorithmOfHex } from '../verity/algorithms.ts';
import { readKey, reasonOfTime } from './key.ts';
import { writeSignature } from './signature.ts';
import { signedBytes } from './signed-bytes.ts';

/** The text of a file in PEM, and how messages name it. */
export interface PemFile {
  readonly pem: string;
  readonly name: string;
}

export interface Signer {
  /** The subject of the certificate. */
  readonly subject: string;
  /** Signs an fs-verity digest in hexadecimal. Throws ErrnoError EINVAL if the certificate has expired. */
  readonly sign: (digest: string) => Uint8Array;
}

/** Reads a key and its certificate. Throws ErrnoError EINVAL, naming the file, if they do not go together or would not count. */
export function readSigner(keyFile: PemFile, { pem, name }: PemFile): Signer {
  const known = readKey(pem);
  if (typeof known === 'string') throw new ErrnoError(EINVAL, `${name} ${known}`);
  const { subject } = known;
  if (subject === undefined) throw new ErrnoError(EINVAL, `${name} holds a public key, not a certificate`);
  const checkTime = (): void => {
    const reason = reasonOfTime(known, new Date());
    if (reason !== undefined) throw new ErrnoError(EINVAL, `${name}: ${reason}: nobody would take the seal`);
  };
  checkTime();
  const certificate = new X509Certificate(pem);
  const key = privateKey(keyFile);
  if (!certificate.checkPrivateKey(key))
    throw new ErrnoError(EINVAL, `${keyFile.name} is not the key of the certificate ${name}`);
  const sign = (digest: string): Uint8Array => {
    checkTime();
    return writeSignature(signedBytes(digest), algorithmOfHex(digest) as Algorithm, key, certificate.raw);
  };
  return { subject, sign };
}

function privateKey({ pem, name }: PemFile): KeyObject {
  try {
    return createPrivateKey(pem);
  } catch {
    const why = /ENCRYPTED/.test(pem)
      ? 'is encrypted: decrypt it first, as by `openssl pkey`'
      : 'holds no private key in PEM';
    throw new ErrnoError(EINVAL, `${name} ${why}`);
  }
}
