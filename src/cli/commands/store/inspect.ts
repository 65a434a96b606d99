/** `lowerdata inspect`: shows what is known of one image of a repository. */
import type { Command } from 'commander';
import { type ImageConfig, platformOf } from '../../../oci/stored/config.ts';
import { unknownName } from '../../../oci/stored/images.ts';
import { describe, type ListedImage } from '../../../oci/stored/listing.ts';
import { hasStream } from '../../../oci/stored/oci-image.ts';
import type { StoredRepository } from '../../../oci/stored/repository.ts';
import { layerStream } from '../../../oci/streams/names.ts';
import { asOneLine, type ByteString, byteStringFromText, printable } from '../../../sys/bytes.ts';
import { secondsText } from '../../../terminal/attributes.ts';
import { documentLines } from '../../../terminal/json-lines.ts';
import { printLines } from '../../../terminal/output.ts';
import { reporting } from '../../../terminal/report.ts';
import { parse } from '../../command.ts';
import { inStore, mountByName, newStoreCommand, type StoreFlags, sizeText } from '../../store.ts';

const FAILED = 1;

export const define = (): Command =>
  newStoreCommand('inspect')
    .description('Show what is known of an image of a repository.')
    .usage('[options] NAME --store DIR')
    .argument('<name>', 'the name of the image, or its fs-verity digest')
    .option('--json', 'print JSON')
    .addHelpText('after', HELP);

const HELP = `
What an image says about running it is known if it was pulled with its manifest.
Exit status: 0, or 1 if the image is not there or cannot be read.`;

export async function run(args: readonly ByteString[]): Promise<number> {
  const command = define();
  const ended = parse(command, args);
  if (ended !== undefined) return ended;
  const [name] = command.args as [ByteString];
  const flags = command.opts<StoreFlags & { json?: true }>();
  return reporting(FAILED, () =>
    inStore(flags, false, async repository => {
      const image = await describe(repository, name);
      if (image.digest === undefined && image.oci === undefined) throw unknownName(repository, name);
      const facts = factsOf(repository, { name, ...image });
      printLines(flags.json ? documentLines(facts) : linesOf(facts));
      return 0;
    }),
  );
}

type Facts = ReturnType<typeof factsOf>;

function factsOf(repository: StoredRepository, { name = '', time, digest, oci, sizes }: ListedImage) {
  const { config } = oci ?? {};
  return {
    name: printable(name),
    digest: digest ?? null,
    named: secondsText(...time),
    created: config?.created ?? null,
    author: config?.author ?? null,
    platform: (config && platformOf(config)) ?? null,
    imageBytes: sizes?.imageBytes ?? null,
    entries: sizes?.names ?? null,
    objects: sizes?.objects ?? null,
    objectBytes: sizes?.objectBytes ?? null,
    manifest: oci?.digest ?? null,
    config: oci?.manifest.config.digest ?? null,
    layers: oci === undefined ? null : oci.manifest.layers.map((layer, i) => layerOf(repository, layer, config, i)),
    ...runningOf(config),
    annotations: oci?.annotations ?? null,
    mount: digest === undefined ? null : printable(mountByName(repository, name)),
  };
}

function layerOf(
  repository: StoredRepository,
  { digest, size, mediaType }: { digest: string; size: number; mediaType?: string | null | undefined },
  config: ImageConfig | undefined,
  position: number,
) {
  const diffId = config?.rootfs.diff_ids[position] ?? null;
  const stored = diffId !== null && hasStream(repository, layerStream(diffId));
  return { digest, size, mediaType: mediaType ?? null, diffId, stored };
}

/** What an image says about running it. */
function runningOf(image: ImageConfig | undefined) {
  const { User, WorkingDir, Entrypoint, Cmd, Env, ExposedPorts, Volumes, StopSignal, Labels } = image?.config ?? {};
  return {
    user: User ?? null,
    workingDir: WorkingDir ?? null,
    entrypoint: Entrypoint ?? null,
    cmd: Cmd ?? null,
    env: Env ?? null,
    exposedPorts: ExposedPorts ? Object.keys(ExposedPorts) : null,
    volumes: Volumes ? Object.keys(Volumes) : null,
    stopSignal: StopSignal ?? null,
    labels: Labels ?? null,
  };
}

/** The same for people: one fact a line, and nothing for what is not known. */
function linesOf(facts: Facts): ByteString[] {
  const { imageBytes, objectBytes, objects, entries, layers, named: _, ...others } = facts;
  const lines: string[] = [];
  const row = (key: string, value: string): void => void lines.push(`${key.padEnd(WIDTH)}${asOneLine(value)}`);
  for (const [key, value] of Object.entries(others)) {
    if (value === null) continue;
    if (typeof value === 'string') row(key, value);
    else if (Array.isArray(value)) row(key, value.map(word => JSON.stringify(word)).join(' '));
    else for (const [name, text] of Object.entries(value)) row(key, `${name}=${text}`);
    if (key === 'digest' && imageBytes !== null && objectBytes !== null)
      row('size', `${sizeText(imageBytes + objectBytes)}: ${entries} entries, ${objects} objects`);
    if (key === 'config') for (const [i, layer] of (layers ?? []).entries()) row(`layer ${i + 1}`, layerText(layer));
  }
  return lines.map(byteStringFromText);
}
const WIDTH = 14;

const layerText = ({ digest, size, diffId }: NonNullable<Facts['layers']>[number]): string =>
  `${digest} ${sizeText(size)}${diffId === null ? '' : ` of ${diffId}`}`;
