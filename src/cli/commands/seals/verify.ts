/** `lowerdata verify`: whether a known key has signed the digest of an image. */
import type { Command } from 'commander';
import { pathList } from '../../../mount/options.ts';
import { type Platform, parsePlatform } from '../../../oci/platform.ts';
import { parseReference } from '../../../oci/reference.ts';
import { verifySealed } from '../../../oci/seals/sealed.ts';
import { checkStored, verifyStored } from '../../../oci/seals/stored.ts';
import { findImage } from '../../../oci/stored/images.ts';
import { verifyImage } from '../../../seal/image.ts';
import { labelled, labelOf, type Voucher } from '../../../seal/verify.ts';
import { type ByteString, byteStringFromText } from '../../../sys/bytes.ts';
import { EINVAL, ErrnoError } from '../../../sys/errno.ts';
import { printLines } from '../../../terminal/output.ts';
import { MOUNT_FAILED, reporting, WRONG_CALL } from '../../../terminal/report.ts';
import { newCommand, parse } from '../../command.ts';
import {
  checkRegistryFlags,
  openImage,
  type RegistryFlags,
  SEALED_IN_PLACE,
  SEALED_PLATFORM,
  withRegistryOptions,
} from '../../source-image.ts';

interface VerifyFlags extends RegistryFlags {
  readonly signature?: ByteString;
  readonly keys?: ByteString;
  readonly platform?: ByteString;
  readonly store?: ByteString;
}

export const define = (): Command => withRegistryOptions(withoutRegistryOptions()).addHelpText('after', HELP);

const withoutRegistryOptions = (): Command =>
  newCommand('lowerdata verify')
    .description('Find the key that has signed the digest of an image.')
    .usage('[options] IMAGE --signature FILE | oci:DIR[:TAG] | docker://REF | NAME --store DIR')
    .argument('<image>', 'an image, an OCI image in a layout or a registry, or with --store the name of an image')
    .option('--signature <path>', 'the detached signature, as of `lowerdata seal` or fsverity-sign(1)')
    .option('--store <path>', 'the repository that has the image and its seals, as of `lowerdata pull`')
    .option('--platform <name>', SEALED_PLATFORM)
    .option('--keys <list>', 'the directories of keys that count, DIR[:DIR]...');

const HELP = `
With oci: and docker: the seal has to be right for the manifest and the configuration, too. The digest that is printed is the one that
\`lowerdata pull --expect\` has to come to.

With --store: one of the seals that \`lowerdata pull\` has taken has to be one of the image's digest, as for a mount with
\`-o store=DIR,signature=auto\`; and the image must have that digest.

A key is a file NAME.pem with one certificate or public key, in /etc/lowerdata/keys.d or /usr/lib/lowerdata/keys.d, or else in
the directories of --keys. A name in the first directory hides the same name in the next; a link to /dev/null revokes it.
Exit status: 0, or 1 if the call is wrong, or 32 if no key that counts has signed the digest, as of a mount with
\`-o signature=\`.`;

export async function run(args: readonly ByteString[]): Promise<number> {
  const command = define();
  const ended = parse(command, args);
  if (ended !== undefined) return ended;
  const flags = command.opts<VerifyFlags>();
  const [image = ''] = command.args;
  return reporting(WRONG_CALL, () => {
    const verify = verifierOf(image, flags);
    return reporting(MOUNT_FAILED, async () => {
      const { digest, key } = await verify();
      printLines([byteStringFromText(`${labelled(digest)}  ${labelOf(key)}`)]);
      return 0;
    });
  });
}

/** What verifies an image, by its kind. Throws ErrnoError EINVAL for options that do not go with it. */
function verifierOf(image: ByteString, flags: VerifyFlags): () => Voucher | Promise<Voucher> {
  const { signature, keys, platform, store } = flags;
  const directories = keys === undefined ? undefined : pathList(keys);
  if (directories?.includes('')) throw new ErrnoError(EINVAL, '--keys: an empty path');
  if (store !== undefined) {
    if (signature !== undefined || platform !== undefined)
      throw new ErrnoError(EINVAL, '--signature and --platform do not go with --store, where the seals are');
    return () => verifyInStore(store, image, directories);
  }
  checkRegistryFlags(flags);
  const hasSeal = SEALED_IN_PLACE.test(image);
  if (hasSeal && signature !== undefined)
    throw new ErrnoError(
      EINVAL,
      '--signature goes with an image; with oci: and docker: the seal is where the image is',
    );
  if (!hasSeal && platform !== undefined) throw new ErrnoError(EINVAL, '--platform goes with oci:DIR and docker://REF');
  if (hasSeal) {
    const wanted = platform === undefined ? undefined : parsePlatform(platform);
    return () => verifyInPlace(image, wanted, flags, directories);
  }
  if (signature === undefined) throw new ErrnoError(EINVAL, '--signature is missing: the file with the signature');
  return () => verifyImage(image, { signature, keys: directories });
}

async function verifyInStore(
  store: ByteString,
  name: ByteString,
  directories: readonly ByteString[] | undefined,
): Promise<Voucher> {
  const image = await findImage(store, name);
  const voucher = verifyStored(image, directories);
  checkStored(image);
  return voucher;
}

async function verifyInPlace(
  text: ByteString,
  platform: Platform | undefined,
  flags: RegistryFlags,
  directories: readonly ByteString[] | undefined,
): Promise<Voucher> {
  const image = await openImage(parseReference(text), platform, flags);
  try {
    return await verifySealed(image, directories);
  } finally {
    image.source.close();
  }
}
