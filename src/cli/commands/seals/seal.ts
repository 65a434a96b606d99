/** `lowerdata seal`: signs the digest of an image. */
import { createPrivateKey, type KeyObject, X509Certificate } from 'node:crypto';
import { readFileSync } from 'node:fs';
import type { Command } from 'commander';
import { digestOfFile } from '../../../seal/image.ts';
import { readKey, reasonOfTime } from '../../../seal/key.ts';
import { writeSignature } from '../../../seal/signature.ts';
import { signedBytes } from '../../../seal/signed-bytes.ts';
import { labelled } from '../../../seal/verify.ts';
import { type ByteString, bufferOf, byteStringFromText, printable } from '../../../sys/bytes.ts';
import { EINVAL, ErrnoError, systemError } from '../../../sys/errno.ts';
import { printLines } from '../../../terminal/output.ts';
import { Output } from '../../../terminal/output-file.ts';
import { reporting } from '../../../terminal/report.ts';
import type { Algorithm } from '../../../verity/digest.ts';
import { ALGORITHM_NAMES, newCommand, oneOf, parse } from '../../command.ts';

const FAILED = 1;

interface SealFlags {
  readonly key?: ByteString;
  readonly cert?: ByteString;
  readonly output?: ByteString;
  readonly algorithm?: ByteString;
}

export const define = (): Command =>
  newCommand('lowerdata seal')
    .description('Sign the fs-verity digest of an image, as a detached signature.')
    .usage('[options] IMAGE --key KEY --cert CERT -o FILE')
    .argument('<image>', 'an image')
    .option('--key <path>', 'the private key, PEM: RSA of 2048 bits or more, P-256 or P-384')
    .option('--cert <path>', 'the certificate of the key, PEM')
    .option('-o, --output <path>', 'the signature to write, `-` for stdout')
    .addOption(
      oneOf('--algorithm <name>', 'by which the image is digested: sha256 (default) or sha512', ALGORITHM_NAMES),
    )
    .addHelpText('after', HELP);

const HELP = `
The signature is PKCS#7 in DER over the digest in the form that the kernel verifies, as of fsverity-sign(1): without the
certificate and without signed attributes. Its hash function is that of the digest.
Exit status: 0, or 1 if nothing was signed.`;

export async function run(args: readonly ByteString[]): Promise<number> {
  const command = define();
  const ended = parse(command, args);
  if (ended !== undefined) return ended;
  return reporting(FAILED, () => seal(command.args[0] as ByteString, command.opts<SealFlags>()));
}

async function seal(image: ByteString, { key, cert, output, algorithm = 'sha256' }: SealFlags): Promise<number> {
  if (!ALGORITHM_NAMES.includes(algorithm))
    throw new ErrnoError(EINVAL, `--algorithm=${printable(algorithm)}: ${ALGORITHM_NAMES.join(' or ')}`);
  if (key === undefined) throw new ErrnoError(EINVAL, '--key is missing: the private key');
  if (cert === undefined) throw new ErrnoError(EINVAL, '--cert is missing: the certificate of the key');
  if (output === undefined) throw new ErrnoError(EINVAL, 'no file to write is named: -o FILE');
  const file = new Output(output);
  const signer = readSigner(key, cert);
  const hash = algorithm as Algorithm;
  const digest = digestOfFile(image, hash);
  await file.write(writeSignature(signedBytes(digest), hash, signer.key, signer.certificate.raw));
  if (output !== '-') printLines([`${byteStringFromText(labelled(digest))}  ${output}`]);
  return 0;
}

/** Reads a key and its certificate. Throws ErrnoError EINVAL, naming the file, if they do not go together or would not count. */
function readSigner(keyPath: ByteString, certPath: ByteString): { key: KeyObject; certificate: X509Certificate } {
  const pem = textOf(certPath);
  const known = readKey(pem);
  const [certName, keyName] = [certPath, keyPath].map(printable);
  if (typeof known === 'string') throw new ErrnoError(EINVAL, `${certName} ${known}`);
  if (known.subject === undefined) throw new ErrnoError(EINVAL, `${certName} holds a public key, not a certificate`);
  const reason = reasonOfTime(known, new Date());
  if (reason !== undefined) throw new ErrnoError(EINVAL, `${certName}: ${reason}: nobody would take the seal`);
  const certificate = new X509Certificate(pem);
  const key = privateKey(keyPath);
  if (!certificate.checkPrivateKey(key))
    throw new ErrnoError(EINVAL, `${keyName} is not the key of the certificate ${certName}`);
  return { key, certificate };
}

function privateKey(path: ByteString): KeyObject {
  const pem = textOf(path);
  try {
    return createPrivateKey(pem);
  } catch {
    const why = /ENCRYPTED/.test(pem)
      ? 'is encrypted: decrypt it first, as by `openssl pkey`'
      : 'holds no private key in PEM';
    throw new ErrnoError(EINVAL, `${printable(path)} ${why}`);
  }
}

function textOf(path: ByteString): string {
  try {
    return readFileSync(bufferOf(path), 'latin1');
  } catch (error) {
    throw systemError(error, printable(path));
  }
}
