/** `lowerdata gc`: removes from a repository what no name and no mount needs. */
import type { Command } from 'commander';
import { imagesInUse } from '../../../inspect/images-in-use.ts';
import { type Collected, collectGarbage } from '../../../oci/stored/gc.ts';
import { type ByteString, byteStringFromText, printable } from '../../../sys/bytes.ts';
import { documentLines } from '../../../terminal/json-lines.ts';
import { printLines } from '../../../terminal/output.ts';
import { reporting } from '../../../terminal/report.ts';
import { parse } from '../../command.ts';
import { inStore, newStoreCommand, reportWait, type StoreFlags, sizeText } from '../../store.ts';

const FAILED = 1;

interface GcFlags extends StoreFlags {
  readonly dryRun?: true;
  readonly json?: true;
}

export const define = (): Command =>
  newStoreCommand('gc')
    .description('Remove the images, streams and objects of a repository that no name and no mount leads to.')
    .usage('[options] --store DIR')
    .option('--dry-run', 'say what would be removed, and remove nothing')
    .option('--json', 'print JSON')
    .addHelpText('after', HELP);

const HELP = `
Mounted images stay with their objects, and so do those of the kernel's mounts. While others add to the repository, it waits.
If something that a name leads to is missing or damaged, nothing is removed.
Exit status: 0, or 1 after an error.`;

export async function run(args: readonly ByteString[]): Promise<number> {
  const command = define();
  const ended = parse(command, args);
  if (ended !== undefined) return ended;
  const { dryRun = false, json, ...flags } = command.opts<GcFlags>();
  return reporting(FAILED, () =>
    inStore(flags, false, repository => {
      const inUse = () => imagesInUse(repository.path);
      const collected = collectGarbage(repository, { inUse, dryRun, waiting: reportWait });
      printLines(json ? documentLines(asJson(collected, dryRun)) : linesOf(collected, dryRun));
      return 0;
    }),
  );
}

function linesOf(
  { images, streams, leftovers, mounted, objects, objectBytes }: Collected,
  dryRun: boolean,
): ByteString[] {
  const row = (what: string) => (name: ByteString) =>
    `${dryRun ? 'would remove' : 'removed'} ${what} ${printable(name)}`;
  const counted = `${images.length} images, ${streams.length} streams, ${objects} objects: ${sizeText(objectBytes)}`;
  return [
    ...images.map(row('image')),
    ...streams.map(row('stream')),
    ...leftovers.map(row('leftover')),
    ...mounted.map(digest => `kept image ${digest}: it is mounted, and has no name`),
    `${dryRun ? 'would remove' : 'removed'} ${counted}`,
  ].map(byteStringFromText);
}

const asJson = ({ images, streams, leftovers, mounted, objects, objectBytes }: Collected, dryRun: boolean): object => ({
  dryRun,
  images,
  streams: streams.map(printable),
  leftovers: leftovers.map(printable),
  mounted,
  objects,
  objectBytes,
});
