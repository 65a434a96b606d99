/** `lowerdata verify`: whether a known key has signed the digest of an image. */
import type { Command } from 'commander';
import { pathList } from '../../../mount/options.ts';
import { verifyImage } from '../../../seal/image.ts';
import { labelled, labelOf } from '../../../seal/verify.ts';
import { type ByteString, byteStringFromText } from '../../../sys/bytes.ts';
import { EINVAL, ErrnoError } from '../../../sys/errno.ts';
import { printLines } from '../../../terminal/output.ts';
import { MOUNT_FAILED, reporting, WRONG_CALL } from '../../../terminal/report.ts';
import { newCommand, parse } from '../../command.ts';

interface VerifyFlags {
  readonly signature?: ByteString;
  readonly keys?: ByteString;
}

export const define = (): Command =>
  newCommand('lowerdata verify')
    .description('Find the key that has signed the digest of an image.')
    .usage('[options] IMAGE --signature FILE')
    .argument('<image>', 'an image')
    .option('--signature <path>', 'the detached signature, as of `lowerdata seal` or fsverity-sign(1)')
    .option('--keys <list>', 'the directories of keys that count, DIR[:DIR]...')
    .addHelpText('after', HELP);

const HELP = `
A key is a file NAME.pem with one certificate or public key, in /etc/lowerdata/keys.d or /usr/lib/lowerdata/keys.d, or else in
the directories of --keys. A name in the first directory hides the same name in the next; a link to /dev/null revokes it.
Exit status: 0, or 1 if the call is wrong, or 32 if no key that counts has signed the digest, as of a mount with
\`-o signature=FILE\`.`;

export async function run(args: readonly ByteString[]): Promise<number> {
  const command = define();
  const ended = parse(command, args);
  if (ended !== undefined) return ended;
  const { signature, keys } = command.opts<VerifyFlags>();
  return reporting(WRONG_CALL, () => {
    if (signature === undefined) throw new ErrnoError(EINVAL, '--signature is missing: the file with the signature');
    const directories = keys === undefined ? undefined : pathList(keys);
    if (directories?.includes('')) throw new ErrnoError(EINVAL, '--keys: an empty path');
    return reporting(MOUNT_FAILED, () => verify(command.args[0] as ByteString, signature, directories));
  });
}

function verify(image: ByteString, signature: ByteString, keys: readonly ByteString[] | undefined): number {
  const { digest, key } = verifyImage(image, { signature, keys });
  printLines([byteStringFromText(`${labelled(digest)}  ${labelOf(key)}`)]);
  return 0;
}
