/** `lowerdata tag`: gives an image of a repository another name. */
import type { Command } from 'commander';
import { tagImage } from '../../../oci/stored/tag.ts';
import type { ByteString } from '../../../sys/bytes.ts';
import { reporting } from '../../../terminal/report.ts';
import { parse } from '../../command.ts';
import { inStore, newStoreCommand, type StoreFlags } from '../../store.ts';

const FAILED = 1;

export const define = (): Command =>
  newStoreCommand('tag')
    .description('Give an image of a repository another name, in place of the image that has it.')
    .usage('[options] NAME NEW --store DIR')
    .argument('<name>', 'the name of the image, or its fs-verity digest')
    .argument('<new>', 'the other name')
    .addHelpText('after', '\nExit status: 0, or 1 if nothing was named.');

export async function run(args: readonly ByteString[]): Promise<number> {
  const command = define();
  const ended = parse(command, args);
  if (ended !== undefined) return ended;
  const [name, other] = command.args as [ByteString, ByteString];
  return reporting(FAILED, () =>
    inStore(command.opts<StoreFlags>(), true, async repository => {
      await tagImage(repository, name, other);
      return 0;
    }),
  );
}
