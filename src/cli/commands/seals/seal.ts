/** `lowerdata seal`: signs the digest of an image. */
import { readFileSync } from 'node:fs';
import type { Command } from 'commander';
import { type OpenImage, openLocalImage } from '../../../oci/image.ts';
import { parsePlatform } from '../../../oci/platform.ts';
import { pull } from '../../../oci/pull.ts';
import { type LocalReference, parseReference } from '../../../oci/reference.ts';
import type { RegistryReference } from '../../../oci/registry/reference.ts';
import { Repository } from '../../../oci/repository.ts';
import type { Seal } from '../../../oci/seals/artifact.ts';
import { addToLayout, replaceInLayout } from '../../../oci/seals/layout.ts';
import { makeSeal, type Sign, sealManifest } from '../../../oci/seals/make.ts';
import { digestOfFile } from '../../../seal/image.ts';
import { type PemFile, readSigner } from '../../../seal/signer.ts';
import { labelled } from '../../../seal/verify.ts';
import { type ByteString, bufferOf, byteStringFromText, printable } from '../../../sys/bytes.ts';
import { EINVAL, ErrnoError, systemError } from '../../../sys/errno.ts';
import { cleaningUp } from '../../../terminal/interruption.ts';
import { printLines } from '../../../terminal/output.ts';
import { Output } from '../../../terminal/output-file.ts';
import { complain, reporting } from '../../../terminal/report.ts';
import type { Algorithm } from '../../../verity/algorithms.ts';
import { ALGORITHM_NAMES, checkChoice, newCommand, oneOf, parse } from '../../command.ts';
import { checkServiceFlags, withServiceOption, withSocket } from '../../service-option.ts';
import {
  checkRegistryFlags,
  openInRegistry,
  type RegistryFlags,
  SEALED_IN_PLACE,
  SEALED_PLATFORM,
  withRegistryOptions,
} from '../../source-image.ts';
import { layerProgress } from '../../store.ts';

const FAILED = 1;

interface SealFlags extends RegistryFlags {
  readonly key?: ByteString;
  readonly cert?: ByteString;
  readonly output?: ByteString;
  readonly store?: ByteString;
  readonly platform?: ByteString;
  readonly algorithm?: ByteString;
  readonly inline?: true;
  readonly service?: ByteString;
}

export const define = (): Command =>
  withServiceOption(withRegistryOptions(withoutRegistryOptions()), SERVICE).addHelpText('after', HELP);

const SERVICE = 'with an image: have `lowerdata serve` sign its digest, in place of --key and --cert';

const withoutRegistryOptions = (): Command =>
  newCommand('lowerdata seal')
    .description(
      'Sign the fs-verity digest of an image: as a detached signature, or with the OCI image that it is made of.',
    )
    .usage('[options] IMAGE|oci:DIR[:TAG]|docker://REF --key KEY --cert CERT -o FILE|--store DIR')
    .argument('<image>', 'an image, or an OCI image in a layout or a registry')
    .option('--key <path>', 'the private key, PEM: RSA of 2048 bits or more, P-256 or P-384')
    .option('--cert <path>', 'the certificate of the key, PEM')
    .option('-o, --output <path>', 'the signature to write, `-` for stdout')
    .option('--store <path>', 'with oci: and docker: the repository in which the image is made, as of `lowerdata pull`')
    .option('--platform <name>', SEALED_PLATFORM)
    .addOption(oneOf('--algorithm <name>', ALGORITHM, ALGORITHM_NAMES))
    .option('--inline', 'with oci: put the signatures into the manifest itself, which changes its digest');

const ALGORITHM = 'by which an image is digested: sha256 (default) or sha512; a repository that is there has its own';
const HELP = `
With oci: and docker: the digests of the manifest, the configuration and the composefs image are signed. The signatures are put
into the layout or the registry as an artifact that refers to the manifest; the image itself is not changed. With --inline, the
manifest gets signatures of the configuration and the image as annotations, and the tag leads to the new manifest, whose digest is
printed.

A signature is PKCS#7 in DER over the digest in the form that the kernel verifies, as of fsverity-sign(1): without the
certificate and without signed attributes. Its hash function is that of the digest.
Exit status: 0, or 1 if nothing was signed.`;

export async function run(args: readonly ByteString[]): Promise<number> {
  const command = define();
  const ended = parse(command, withSocket(args));
  if (ended !== undefined) return ended;
  return reporting(FAILED, () => seal(command.args[0] as ByteString, command.opts<SealFlags>()));
}

async function seal(image: ByteString, flags: SealFlags): Promise<number> {
  const { key, cert, algorithm, service } = flags;
  checkChoice('--algorithm', algorithm, ALGORITHM_NAMES);
  if (service !== undefined) return sealByService(image, flags, service);
  if (key === undefined) throw new ErrnoError(EINVAL, '--key is missing: the private key');
  if (cert === undefined) throw new ErrnoError(EINVAL, '--cert is missing: the certificate of the key');
  checkRegistryFlags(flags);
  return SEALED_IN_PLACE.test(image)
    ? sealInPlace(image, flags, () => signerOf(key, cert))
    : sealFile(image, flags, () => signerOf(key, cert));
}

async function sealFile(
  image: ByteString,
  { output, store, platform, inline, algorithm = 'sha256' }: SealFlags,
  signer: () => Sign,
): Promise<number> {
  if (output === undefined) throw new ErrnoError(EINVAL, 'no file to write is named: -o FILE');
  if (store !== undefined || platform !== undefined)
    throw new ErrnoError(EINVAL, '--store and --platform go with oci:DIR and docker://REF');
  if (inline) throw new ErrnoError(EINVAL, '--inline goes with oci:DIR');
  const file = new Output(output);
  const sign = signer();
  const digest = digestOfFile(image, algorithm as Algorithm);
  await file.write(sign(digest));
  if (output !== '-') printLines([`${byteStringFromText(labelled(digest))}  ${output}`]);
  return 0;
}

/** The service signs files alone; --key and --cert are its own. */
async function sealByService(image: ByteString, flags: SealFlags, socket: ByteString): Promise<number> {
  checkServiceFlags(flags, ['output', 'algorithm']);
  if (SEALED_IN_PLACE.test(image))
    throw new ErrnoError(EINVAL, '--service goes with an image, not with oci: and docker:');
  const { signByService } = await import('../../../service/client/make.ts');
  const { algorithm = 'sha256' } = flags;
  return sealFile(image, flags, () => digest => signByService(socket, image, algorithm as Algorithm, digest));
}

async function sealInPlace(text: ByteString, flags: SealFlags, signer: () => Sign): Promise<number> {
  const { output, store, algorithm } = flags;
  if (output !== undefined)
    throw new ErrnoError(EINVAL, '-o goes with an image; with oci: and docker: the seal goes where the image is');
  if (store === undefined)
    throw new ErrnoError(EINVAL, '--store is missing: the repository in which the image is made');
  if (flags.inline && !text.startsWith('oci:'))
    throw new ErrnoError(EINVAL, '--inline goes with oci:DIR; such an image keeps its seal when it is copied');
  const sign = signer();
  const { image, seal } = await openSealable(text, flags);
  try {
    const digest = await digestOfMerged(image, new Repository(store, algorithm as Algorithm | undefined));
    const document = await seal(digest, sign);
    printLines([byteStringFromText(`${labelled(digest)}  ${document}`)]);
  } finally {
    image.source.close();
  }
  return 0;
}

/** An open OCI image, and what seals it where it is. */
interface Sealable {
  readonly image: OpenImage;
  /** @param digest of the composefs image @returns the digest of the document that has the signatures */
  readonly seal: (digest: string, sign: Sign) => Promise<string>;
}

async function openSealable(text: ByteString, flags: SealFlags): Promise<Sealable> {
  const reference = parseReference(text) as LocalReference | RegistryReference;
  const platform = flags.platform === undefined ? undefined : parsePlatform(flags.platform);
  if (reference.transport === 'docker') {
    const image = await openInRegistry(reference, platform, flags, true);
    return { image, seal: (digest, sign) => putting(makeSeal(image, digest, sign), image.addSeal) };
  }
  const { path, name } = reference;
  const image = await openLocalImage(reference, platform);
  if (flags.inline)
    return { image, seal: (digest, sign) => replaceInLayout(path, image, name, sealManifest(image, digest, sign)) };
  return {
    image,
    seal: (digest, sign) => putting(makeSeal(image, digest, sign), seal => addToLayout(path, image, seal)),
  };
}

async function putting(seal: Seal, put: (seal: Seal) => Promise<void>): Promise<string> {
  await put(seal);
  return seal.digest;
}

/** The digest of the composefs image of an OCI image, which is made in a repository. The repository is closed. */
async function digestOfMerged(image: OpenImage, repository: Repository): Promise<string> {
  try {
    const { digest, faults, other } = await cleaningUp(
      () => repository.abandon(),
      () => pull(image, repository, { whiteouts: 'spec', progress: layerProgress(image) }),
    );
    for (const fault of faults) complain(`others may not come to this digest: ${fault}`);
    if (other) complain('composefs-rs does not come to this digest: a layer hides names that it has itself');
    return digest;
  } finally {
    repository.close();
  }
}

/** What signs digests with a key. Throws ErrnoError if it cannot be used. */
function signerOf(key: ByteString, cert: ByteString): Sign {
  const [keyFile, certFile] = [key, cert].map(path => ({ pem: textOf(path), name: printable(path) }));
  return readSigner(keyFile as PemFile, certFile as PemFile).sign;
}

function textOf(path: ByteString): string {
  try {
    return readFileSync(bufferOf(path), 'latin1');
  } catch (error) {
    throw systemError(error, printable(path));
  }
}
