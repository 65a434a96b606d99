/** From the layers of an image to a composefs image in a repository. */
import { type StageOptions, stageTree } from '../composefs/stage.ts';
import { writeStaged } from '../composefs/write.ts';
import type { ByteString } from '../sys/bytes.ts';
import { EINVAL, ErrnoError } from '../sys/errno.ts';
import { measureBytes, parametersOf } from '../verity/digest.ts';
import { type OpenImage, readLayer } from './image.ts';
import { finishTree } from './merge/finish.ts';
import { Merge, type MergeCounts } from './merge/layer.ts';
import { LayeredTree, type Whiteouts } from './merge/tree.ts';
import type { Repository } from './repository.ts';
import { TarParser } from './tar/parser.ts';

/** The most entries of all layers together. */
const ENTRIES_MAX = 2_000_000;

export interface PullOptions {
  readonly whiteouts: Whiteouts;
  /** The digest that the image must have, in hex. */
  readonly expected?: string | undefined;
  readonly name?: ByteString | undefined;
  /** Is called when a layer begins. @returns is called with the number of bytes of its blob that have been read */
  readonly progress: (layer: number) => { update(bytes: number): void; stop(): void };
}

export interface Pulled {
  /** The fs-verity digest of the image, in hex. */
  readonly digest: string;
  readonly imageBytes: number;
  /** Why the image has no canonical digest; none if it has one. */
  readonly faults: readonly string[];
  /** What the other rule for whiteouts makes, if it differs: the digest of its image, or why there is none. */
  readonly other: { readonly digest: string } | { readonly fault: string } | undefined;
  readonly counts: MergeCounts;
}

/**
 * Merges the layers of an image, and adds the result and the data of its files to a repository. Throws ErrnoError: for a layer that
 * is damaged or cannot be applied, with its path and the entry; EINVAL for an image that has not the expected digest, which is not
 * added.
 */
export async function pull(image: OpenImage, repository: Repository, options: PullOptions): Promise<Pulled> {
  const merge = new Merge(new LayeredTree(options.whiteouts), repository.objects, name => name === CAPABILITY);
  image.source.fetchAhead?.(image.layers, () => repository.makeUnnamedFile());
  for (const [number, layer] of image.layers.entries()) {
    const progress = options.progress(number);
    try {
      await applyLayer(merge, image, layer, progress.update);
    } finally {
      progress.stop();
    }
  }
  repository.objects.finish();
  const staging: StageOptions = { minVersion: repository.imageVersion };
  const faults = finishTree(merge.tree);
  const bytes = writeStaged(stageTree(merge.tree.root, staging));
  const digest = hexDigest(bytes, repository);
  const { expected, name } = options;
  if (expected !== undefined && digest !== expected)
    throw new ErrnoError(EINVAL, `the image has the digest ${digest}, but ${expected} is expected`);
  const other = otherDigest(merge, digest, repository, staging);
  repository.addImage(bytes);
  if (name !== undefined) repository.nameImage(digest, name);
  return { digest, imageBytes: bytes.length, faults, other, counts: merge.counts };
}

/** The xattr that is kept: all others are of the machine that made the layer. Source: composefs-rs, is_allowed_container_xattr. */
const CAPABILITY = 'security.capability';

const hexDigest = (bytes: Uint8Array, { algorithm }: Repository): string =>
  Buffer.from(measureBytes(bytes, parametersOf(algorithm))).toString('hex');

async function applyLayer(
  merge: Merge,
  { source }: OpenImage,
  layer: OpenImage['layers'][number],
  count: (bytes: number) => void,
): Promise<void> {
  merge.beginLayer();
  const shown = `${source.shown}/${layer.path}`;
  const parser = new TarParser(merge, ENTRIES_MAX - merge.counts.entries);
  const naming = (apply: () => void): void => {
    try {
      apply();
    } catch (error) {
      if (error instanceof ErrnoError) throw new ErrnoError(error.errno, `${shown}: ${error.message}`);
      throw error;
    }
  };
  for await (const piece of readLayer(source, layer, count)) naming(() => parser.push(piece));
  naming(() => parser.finish());
}

/** What the other rule for whiteouts makes, unless that is the same. */
function otherDigest(merge: Merge, digest: string, repository: Repository, staging: StageOptions): Pulled['other'] {
  const { other, otherFault } = merge;
  if (otherFault !== undefined) return { fault: otherFault };
  if (other === undefined) return undefined;
  finishTree(other);
  const otherHex = hexDigest(writeStaged(stageTree(other.root, staging)), repository);
  return otherHex === digest ? undefined : { digest: otherHex };
}
