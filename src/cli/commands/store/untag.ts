/** `lowerdata untag`: takes a name from an image of a repository. */
import type { Command } from 'commander';
import { untagImage } from '../../../oci/stored/tag.ts';
import type { ByteString } from '../../../sys/bytes.ts';
import { reporting } from '../../../terminal/report.ts';
import { parse } from '../../command.ts';
import { inStore, newStoreCommand, type StoreFlags } from '../../store.ts';

const FAILED = 1;

export const define = (): Command =>
  newStoreCommand('untag')
    .description(
      'Take a name from an image of a repository. The image stays until `lowerdata gc` removes what has no name.',
    )
    .usage('[options] NAME --store DIR')
    .argument('<name>', 'the name')
    .addHelpText('after', '\nExit status: 0, or 1 if no name was taken away.');

export async function run(args: readonly ByteString[]): Promise<number> {
  const command = define();
  const ended = parse(command, args);
  if (ended !== undefined) return ended;
  const [name] = command.args as [ByteString];
  return reporting(FAILED, () =>
    inStore(command.opts<StoreFlags>(), true, repository => {
      untagImage(repository, name);
      return 0;
    }),
  );
}
