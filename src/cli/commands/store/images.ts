/** `lowerdata images`: lists the images of a repository. */
import type { Command } from 'commander';
import { platformOf } from '../../../oci/stored/config.ts';
import { type ListedImage, listImages } from '../../../oci/stored/listing.ts';
import type { ByteString } from '../../../sys/bytes.ts';
import { printable } from '../../../sys/bytes.ts';
import { ErrnoError } from '../../../sys/errno.ts';
import { secondsText } from '../../../terminal/attributes.ts';
import { listDocumentLines, valueLines } from '../../../terminal/json-lines.ts';
import { printLines } from '../../../terminal/output.ts';
import { report, reporting } from '../../../terminal/report.ts';
import { parse } from '../../command.ts';
import { inStore, newStoreCommand, type StoreFlags, sizeText, tableLines } from '../../store.ts';

const FAILED = 1;

export const define = (): Command =>
  newStoreCommand('images')
    .description('List the images of a repository: their names, and what is known of them.')
    .usage('[options] --store DIR')
    .option('--json', 'print JSON')
    .addHelpText('after', HELP);

const HELP = `
SIZE is that of the image and of all its objects, which other images may have, too. CREATED, LAYERS and PLATFORM are known of images
that were pulled with their manifest. Images without a name come last; \`lowerdata gc\` removes them unless they are mounted.
Exit status: 0, or 1 if an image cannot be read.`;

export async function run(args: readonly ByteString[]): Promise<number> {
  const command = define();
  const ended = parse(command, args);
  if (ended !== undefined) return ended;
  const flags = command.opts<StoreFlags & { json?: true }>();
  return reporting(FAILED, () =>
    inStore(flags, false, async repository => {
      let status = 0;
      const images: ListedImage[] = [];
      for await (const image of listImages(repository)) {
        if (image instanceof ErrnoError) status = Math.max(status, report(image, FAILED));
        else images.push(image);
      }
      printLines(
        flags.json
          ? listDocumentLines(
              'images',
              images.map(image => valueLines(asJson(image))),
            )
          : lines(images),
      );
      return status;
    }),
  );
}

const HEADER = ['NAME', 'CREATED', 'SIZE', 'LAYERS', 'PLATFORM', 'DIGEST'];

const lines = (images: readonly ListedImage[]): ByteString[] =>
  tableLines([
    HEADER,
    ...images.map(({ name, digest, oci, sizes }) => [
      name === undefined ? '-' : printable(name),
      createdText(oci?.config?.created),
      sizes === undefined ? '-' : sizeText(sizes.imageBytes + sizes.objectBytes),
      oci === undefined ? '-' : String(oci.manifest.layers.length),
      (oci?.config && platformOf(oci.config)) ?? '-',
      digest ?? '-',
    ]),
  ]);

/** The date of a time as RFC 3339 has it. */
const createdText = (time: string | null | undefined): string => /^\d{4}-\d\d-\d\d(?=T)/.exec(time ?? '')?.[0] ?? '-';

function asJson({ name, time, digest, oci, sizes }: ListedImage): object {
  return {
    name: name === undefined ? null : printable(name),
    digest: digest ?? null,
    named: secondsText(...time),
    created: oci?.config?.created ?? null,
    platform: (oci?.config && platformOf(oci.config)) ?? null,
    layers: oci?.manifest.layers.length ?? null,
    manifest: oci?.digest ?? null,
    imageBytes: sizes?.imageBytes ?? null,
    objects: sizes?.objects ?? null,
    objectBytes: sizes?.objectBytes ?? null,
  };
}
