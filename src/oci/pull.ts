/** From the layers of an image to a composefs image in a repository. */
import { type StageOptions, stageTree } from '../composefs/stage.ts';
import { writeStaged } from '../composefs/write.ts';
import type { ByteString } from '../sys/bytes.ts';
import { EINVAL, ErrnoError } from '../sys/errno.ts';
import { measureHex } from '../verity/digest.ts';
import { type ImageLayer, type OpenImage, readLayer } from './image.ts';
import { finishTree, type Purpose } from './merge/finish.ts';
import { Merge, type MergeCounts } from './merge/layer.ts';
import { layerTree } from './merge/layer-image.ts';
import { LayeredTree, type Whiteouts } from './merge/tree.ts';
import type { Repository } from './repository.ts';
import { checkNamed } from './seals/named.ts';
import { type PulledSeals, pullSeals } from './seals/pulled.ts';
import { labelTree } from './selinux/labels.ts';
import { readPolicy } from './selinux/policy.ts';
import type { ImageSource } from './source.ts';
import { BOOT_IMAGE, IMAGE, layerStream, manifestStream } from './streams/names.ts';
import { recordImage } from './streams/record-image.ts';
import { LayerRecorder } from './streams/recorder.ts';
import { findLayer, type RecordedLayer, replayLayer } from './streams/replay.ts';
import { Streams } from './streams/stored.ts';
import { TarParser } from './tar/parser.ts';

/** The most entries of all layers together. */
const ENTRIES_MAX = 2_000_000;

/** Which xattrs are kept; all others are of the machine that made the layer. Source: composefs-rs, XattrFiltering. */
export type KeptXattrs = 'capability' | 'user';
const KEPT: Readonly<Record<KeptXattrs, (name: ByteString) => boolean>> = {
  capability: name => name === CAPABILITY,
  user: name => name === CAPABILITY || name.startsWith('user.'),
};
export const KEPT_XATTRS: readonly string[] = Object.keys(KEPT);
const CAPABILITY = 'security.capability';

export interface PullOptions extends Partial<Purpose> {
  readonly whiteouts: Whiteouts;
  readonly xattrs?: KeptXattrs;
  /** The digest that the image must have, in hex. */
  readonly expected?: string | undefined;
  readonly name?: ByteString | undefined;
  /** Whether each layer becomes an image, too, as a layer of an overlay. */
  readonly layers?: boolean;
  /** Whether the seals of the image are taken, too. */
  readonly seals?: boolean;
  /** Is called with the digest of the image once its seals are there, before it gets a name; throws if it may not have one. */
  readonly admit?: ((digest: string) => Promise<void>) | undefined;
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
  /** How many layers the repository had before. */
  readonly knownLayers: number;
  /** The images of the layers, from the lowest one upwards; undefined unless they were asked for. */
  readonly layers: readonly LayerImage[] | undefined;
  readonly seals: PulledSeals;
}

export interface LayerImage {
  readonly digest: string;
  readonly imageBytes: number;
}

/**
 * Merges the layers of an image, and adds the result and the data of its files to a repository, and what it was made of. Layers that
 * the repository has are not read from the source. Throws ErrnoError: for a layer that is damaged or cannot be applied, with its path
 * and the entry; EINVAL for an image that has not the expected digest, which is not added.
 */
export async function pull(image: OpenImage, repository: Repository, options: PullOptions): Promise<Pulled> {
  const streams = new Streams(repository);
  try {
    return await pullInto(streams, image, options);
  } finally {
    streams.close();
  }
}

async function pullInto(streams: Streams, image: OpenImage, options: PullOptions): Promise<Pulled> {
  const { repository } = streams;
  const { expected, name, bootable = false, xattrs = 'capability' } = options;
  const merge = new Merge(new LayeredTree(options.whiteouts), repository.objects, KEPT[xattrs]);
  const { layers: isLayered = false } = options;
  const output = { repository, staging: { minVersion: repository.imageVersion }, purpose: { bootable }, isLayered };
  const images = isLayered ? beginLayers(image, merge) : undefined;
  const { layers, knownLayers } = await applyLayers(streams, merge, image, options, () =>
    images?.push(addLayer(merge, output)),
  );
  repository.objects.finish();
  const faults = await finish(merge.tree, output, streams);
  const bytes = writeStaged(stageTree(merge.tree.root, output.staging));
  const digest = hexDigest(bytes, repository);
  if (expected !== undefined && digest !== expected)
    throw new ErrnoError(EINVAL, `the image has the digest ${digest}, but ${expected} is expected`);
  const other = await otherDigest(merge, digest, output, streams);
  const digests = images?.map(each => each.digest) ?? [];
  const made = { digest, isBootable: bootable, layers: digests };
  if (options.seals && expected === undefined && xattrs === 'capability')
    checkNamed(image, made, otherBy(options, other));
  const object = repository.addObject(bytes);
  repository.objects.finish();
  for (const each of [...digests, object]) repository.addImage(each);
  const manifest = await recordImage(streams, image, layers, [imageName(bootable, xattrs), digest]);
  const seals = options.seals ? await pullSeals(streams, image, made) : { seals: [], faults: [] };
  await options.admit?.(digest);
  if (name !== undefined) {
    repository.nameLayers(digests, name);
    streams.tag(name, manifestStream(manifest));
    repository.nameImage(digest, name); // of both names, the one made last counts
  }
  const own = { digest, imageBytes: bytes.length, faults, other };
  return { ...own, counts: merge.counts, knownLayers, layers: images, seals };
}

/** The most layers of an overlay, without its objects. Source: Linux fs/overlayfs/params.c, OVL_MAX_STACK. */
const LAYERS_MAX = 499;

function beginLayers({ layers, source }: OpenImage, merge: Merge): LayerImage[] {
  if (layers.length > LAYERS_MAX)
    throw new ErrnoError(EINVAL, `${source.shown}: ${layers.length} layers; overlayfs takes ${LAYERS_MAX}`);
  merge.tree.recordChanges();
  return [];
}

/** Adds the image of the layer that was applied last; without its name, because the merged image may still fail. */
function addLayer(merge: Merge, { repository, staging, purpose }: Output): LayerImage {
  const bytes = writeStaged(stageTree(layerTree(merge.tree, purpose), { ...staging, asLayer: true }));
  return { digest: repository.addObject(bytes), imageBytes: bytes.length };
}

/** The name that the configuration's stream has for an image. Source: composefs-rs, boot_image_ref_key. */
function imageName(bootable: boolean, xattrs: KeptXattrs): ByteString {
  if (!bootable) return IMAGE;
  return xattrs === 'user' ? `${BOOT_IMAGE}.xattrs=keep-user-xattrs` : BOOT_IMAGE;
}

/** How images are written, and where to. */
interface Output {
  readonly repository: Repository;
  readonly staging: StageOptions;
  readonly purpose: Purpose;
  /** Whether each layer becomes an image, too. */
  readonly isLayered: boolean;
}

/** Finishes a tree, and labels it. @returns why its image has no canonical digest. Throws ErrnoError. */
async function finish(tree: LayeredTree, { purpose, isLayered }: Output, streams: Streams): Promise<string[]> {
  const faults = finishTree(tree, purpose);
  const policy = purpose.bootable ? await readPolicy(tree.root, streams) : undefined;
  if (policy && isLayered)
    throw new ErrnoError(
      EINVAL,
      'images of layers cannot have the labels of SELinux that an image to boot from has: the policy is of all layers together',
    );
  if (policy) await labelTree(tree.root, policy);
  return faults;
}

const hexDigest = (bytes: Uint8Array, { algorithm }: Repository): string => measureHex(bytes, algorithm);

/** Applies all layers, and calls `endLayer` after each. @returns what the repository has of each, and of how many layers it had that before */
async function applyLayers(
  streams: Streams,
  merge: Merge,
  { source, layers }: OpenImage,
  options: PullOptions,
  endLayer: () => void,
): Promise<{ layers: RecordedLayer[]; knownLayers: number }> {
  const recorded = new Map<string, RecordedLayer>();
  const missing = new Map<string, ImageLayer>();
  for (const layer of layers) {
    if (recorded.has(layer.diffId) || missing.has(layer.diffId)) continue;
    const found = await findLayer(streams, layer.diffId, ENTRIES_MAX);
    if (found) recorded.set(layer.diffId, found);
    else missing.set(layer.diffId, layer);
  }
  const knownLayers = layers.filter(({ diffId }) => recorded.has(diffId)).length;
  source.fetchAhead?.([...missing.values()], () => streams.repository.makeUnnamedFile());
  for (const [number, layer] of layers.entries()) {
    merge.beginLayer();
    const known = recorded.get(layer.diffId);
    if (known) await applyKnown(streams, merge, known, `${source.shown}/${layer.path}`);
    else recorded.set(layer.diffId, await applyNew(streams, merge, source, layer, options.progress(number)));
    endLayer();
  }
  return { layers: layers.map(({ diffId }) => recorded.get(diffId) as RecordedLayer), knownLayers };
}

const entriesLeft = ({ counts }: Merge): number => ENTRIES_MAX - counts.entries;

async function applyKnown(streams: Streams, merge: Merge, layer: RecordedLayer, shown: string): Promise<void> {
  try {
    await replayLayer(streams, layer, merge, entriesLeft(merge));
  } catch (error) {
    throw named(error, shown);
  }
}

/** Reads a layer from its source, and records it when it has been checked. */
async function applyNew(
  streams: Streams,
  merge: Merge,
  source: ImageSource,
  layer: ImageLayer,
  progress: ReturnType<PullOptions['progress']>,
): Promise<RecordedLayer> {
  const writer = streams.begin();
  try {
    const recorder = new LayerRecorder(merge, writer, streams.parts);
    const parser = new TarParser(recorder, entriesLeft(merge));
    const naming = (apply: () => void): void => {
      try {
        apply();
      } catch (error) {
        throw named(error, `${source.shown}/${layer.path}`);
      }
    };
    for await (const piece of readLayer(source, layer, progress.update)) {
      naming(() => parser.push(piece));
      recorder.record(piece);
    }
    naming(() => parser.finish());
    return { archiveBytes: writer.fileBytes, stream: streams.add(layerStream(layer.diffId), 'layer', writer) };
  } finally {
    writer.close();
    progress.stop();
  }
}

/** An error with what it is about in front. */
const named = (error: unknown, shown: string): unknown =>
  error instanceof ErrnoError ? new ErrnoError(error.errno, `${shown}: ${error.message}`) : error;

/** What the other rule makes, with the option for it. */
function otherBy({ whiteouts }: PullOptions, other: Pulled['other']): { digest: string; option: string } | undefined {
  const option = `--whiteouts=${whiteouts === 'spec' ? 'composefs-rs' : 'spec'}`;
  return other && 'digest' in other ? { digest: other.digest, option } : undefined;
}

/** What the other rule for whiteouts makes, unless that is the same. */
async function otherDigest(
  { other, otherFault }: Merge,
  digest: string,
  output: Output,
  streams: Streams,
): Promise<Pulled['other']> {
  if (otherFault !== undefined) return { fault: otherFault };
  if (other === undefined) return undefined;
  try {
    await finish(other, output, streams);
  } catch (error) {
    if (error instanceof ErrnoError) return { fault: error.message };
    throw error;
  }
  const otherHex = hexDigest(writeStaged(stageTree(other.root, output.staging)), output.repository);
  return otherHex === digest ? undefined : { digest: otherHex };
}
