/** `lowerdata verify`: whether a known key has signed the digest of an image. */
import type { Command } from 'commander';
import { pathList } from '../../../mount/options.ts';
import { openLocalImage } from '../../../oci/image.ts';
import { type Platform, parsePlatform } from '../../../oci/platform.ts';
import { type LocalReference, parseReference } from '../../../oci/reference.ts';
import { verifyInLayout } from '../../../oci/seals/layout.ts';
import { checkStored, verifyStored } from '../../../oci/seals/stored.ts';
import { findImage } from '../../../oci/stored/images.ts';
import { verifyImage } from '../../../seal/image.ts';
import { labelled, labelOf, type Voucher } from '../../../seal/verify.ts';
import { type ByteString, byteStringFromText } from '../../../sys/bytes.ts';
import { EINVAL, ErrnoError } from '../../../sys/errno.ts';
import { printLines } from '../../../terminal/output.ts';
import { MOUNT_FAILED, reporting, WRONG_CALL } from '../../../terminal/report.ts';
import { newCommand, parse } from '../../command.ts';

interface VerifyFlags {
  readonly signature?: ByteString;
  readonly keys?: ByteString;
  readonly platform?: ByteString;
  readonly store?: ByteString;
}

export const define = (): Command =>
  newCommand('lowerdata verify')
    .description('Find the key that has signed the digest of an image.')
    .usage('[options] IMAGE --signature FILE | oci:DIR[:TAG] | NAME --store DIR')
    .argument('<image>', 'an image, an OCI image in a layout with its seal, or with --store the name of an image')
    .option('--signature <path>', 'the detached signature, as of `lowerdata seal` or fsverity-sign(1)')
    .option('--store <path>', 'the repository that has the image and its seals, as of `lowerdata pull`')
    .option('--platform <name>', 'with oci: which image of several, OS/ARCH or OS/ARCH/VARIANT (default: this machine)')
    .option('--keys <list>', 'the directories of keys that count, DIR[:DIR]...')
    .addHelpText('after', HELP);

const HELP = `
With oci: the seal has to be right for the manifest and the configuration, too. The digest that is printed is the one that
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
  const isLayout = image.startsWith('oci:');
  if (isLayout && signature !== undefined)
    throw new ErrnoError(EINVAL, '--signature goes with an image; with oci: the layout has the seal');
  if (!isLayout && platform !== undefined) throw new ErrnoError(EINVAL, '--platform goes with oci:DIR');
  if (isLayout) {
    const wanted = platform === undefined ? undefined : parsePlatform(platform);
    return () => verifyLayout(image, wanted, directories);
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

async function verifyLayout(
  text: ByteString,
  platform: Platform | undefined,
  directories: readonly ByteString[] | undefined,
): Promise<Voucher> {
  const image = await openLocalImage(parseReference(text) as LocalReference, platform);
  try {
    return await verifyInLayout(image, directories);
  } finally {
    image.source.close();
  }
}
