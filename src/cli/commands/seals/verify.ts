/** `lowerdata verify`: whether a known key has signed the digest of an image. */
import type { Command } from 'commander';
import { pathList } from '../../../mount/options.ts';
import { openLocalImage } from '../../../oci/image.ts';
import { type Platform, parsePlatform } from '../../../oci/platform.ts';
import { type LocalReference, parseReference } from '../../../oci/reference.ts';
import { verifyInLayout } from '../../../oci/seals/layout.ts';
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
}

export const define = (): Command =>
  newCommand('lowerdata verify')
    .description('Find the key that has signed the digest of an image.')
    .usage('[options] IMAGE --signature FILE | oci:DIR[:TAG]')
    .argument('<image>', 'an image, or an OCI image in a layout with its seal')
    .option('--signature <path>', 'the detached signature, as of `lowerdata seal` or fsverity-sign(1)')
    .option('--platform <name>', 'with oci: which image of several, OS/ARCH or OS/ARCH/VARIANT (default: this machine)')
    .option('--keys <list>', 'the directories of keys that count, DIR[:DIR]...')
    .addHelpText('after', HELP);

const HELP = `
With oci: the seal has to be right for the manifest and the configuration, too. The digest that is printed is the one that
\`lowerdata pull --expect\` has to come to.

A key is a file NAME.pem with one certificate or public key, in /etc/lowerdata/keys.d or /usr/lib/lowerdata/keys.d, or else in
the directories of --keys. A name in the first directory hides the same name in the next; a link to /dev/null revokes it.
Exit status: 0, or 1 if the call is wrong, or 32 if no key that counts has signed the digest, as of a mount with
\`-o signature=FILE\`.`;

export async function run(args: readonly ByteString[]): Promise<number> {
  const command = define();
  const ended = parse(command, args);
  if (ended !== undefined) return ended;
  const { signature, keys, platform } = command.opts<VerifyFlags>();
  const [image = ''] = command.args;
  return reporting(WRONG_CALL, () => {
    const isLayout = image.startsWith('oci:');
    if (isLayout && signature !== undefined)
      throw new ErrnoError(EINVAL, '--signature goes with an image; with oci: the layout has the seal');
    if (!isLayout && platform !== undefined) throw new ErrnoError(EINVAL, '--platform goes with oci:DIR');
    if (!isLayout && signature === undefined)
      throw new ErrnoError(EINVAL, '--signature is missing: the file with the signature');
    const directories = keys === undefined ? undefined : pathList(keys);
    if (directories?.includes('')) throw new ErrnoError(EINVAL, '--keys: an empty path');
    const wanted = platform === undefined ? undefined : parsePlatform(platform);
    return reporting(MOUNT_FAILED, async () => {
      const { digest, key } = isLayout
        ? await verifyLayout(image, wanted, directories)
        : verifyImage(image, { signature: signature ?? '', keys: directories });
      printLines([byteStringFromText(`${labelled(digest)}  ${labelOf(key)}`)]);
      return 0;
    });
  });
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
