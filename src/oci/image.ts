/** An image where it is: its manifest is chosen and checked, and its layers can be read. */
import { EINVAL, ENOENT, ErrnoError, EUCLEAN } from '../sys/errno.ts';
import { openFilesOfArchive } from './archive-files.ts';
import { DigestCheck, sha256Of } from './blobs.ts';
import { decompress } from './decompress.ts';
import { type Descriptor, type Manifest, readConfig, readDockerArchive, readIndexOrManifest } from './documents.ts';
import { openFilesIn } from './files.ts';
import { checkConfigType, checkLayerType } from './media-types.ts';
import { choosePlatform, ownPlatform, type Platform, platformText } from './platform.ts';
import type { LocalReference } from './reference.ts';
import { ARTIFACT_TYPE, artifactsIn } from './seals/artifact.ts';
import { type ImageSource, localSource } from './source.ts';

/** One layer: where it is, and its digests. */
export interface ImageLayer {
  readonly path: string;
  /** Its size and digest as it is stored; undefined if nothing says them. */
  readonly blob: Descriptor | undefined;
  /** The digest of its tar archive. */
  readonly diffId: string;
}

export interface OpenImage {
  /** The digest of the manifest; undefined for an archive of `docker save`, which has none. */
  readonly manifest: string | undefined;
  /** The digest of the configuration. */
  readonly config: string;
  /** The bytes of both. */
  readonly manifestBytes: Uint8Array | undefined;
  readonly configBytes: Uint8Array;
  /** From the lowest one upwards. */
  readonly layers: readonly ImageLayer[];
  readonly source: ImageSource;
  /** Where the source has documents and blobs; undefined for an archive of `docker save`. */
  readonly places: Places | undefined;
}

/**
 * Opens an image on this machine; its source has to be closed later. Throws ErrnoError with the path of what is missing, damaged or
 * not supported.
 * @param platform the wanted one; by default that of this machine, where there are several
 */
export async function openLocalImage(reference: LocalReference, platform: Platform | undefined): Promise<OpenImage> {
  const { transport, path, name } = reference;
  const isArchive = transport === 'oci-archive' || transport === 'docker-archive';
  const source = localSource(isArchive ? openFilesOfArchive(path) : openFilesIn(path));
  return closingIfFailed(source, () => {
    if (transport === 'docker-archive') return dockerImage(source, reference, platform);
    return manifestImage(source, transport === 'dir' ? DIRECTORY : layoutPlaces(name), platform);
  });
}

/** Opens an image in a source, which is closed if that fails. */
export async function closingIfFailed(source: ImageSource, open: () => Promise<OpenImage>): Promise<OpenImage> {
  try {
    return await open();
  } catch (error) {
    source.close();
    throw error;
  }
}

/**
 * The tar archive of a layer, piece by piece. Throws ErrnoError with the layer's path: EUCLEAN if the blob or the archive has
 * another size or digest than the image says, which is known only at the end.
 * @param count is called with the number of bytes of the blob that have been read
 */
export async function* readLayer(
  source: ImageSource,
  { path, blob, diffId }: ImageLayer,
  count: (bytes: number) => void,
): AsyncGenerator<Uint8Array> {
  const shown = `${source.shown}/${path}`;
  const archive = new DigestCheck({ digest: diffId }, `${shown}, decompressed`);
  for await (const piece of decompress(source.blob(path, blob, count), shown)) {
    archive.add(piece);
    yield piece;
  }
  archive.finish();
}

/** Where a kind of place keeps its documents and blobs. */
export interface Places {
  /** The first document, with its digest if that is known. */
  readonly top: string;
  readonly topDigest?: string | undefined;
  /** Chooses from the first document, if that is an index of all that is there. */
  readonly choose?: (manifests: readonly Descriptor[], source: ImageSource) => readonly Descriptor[];
  manifest(digest: string): string;
  blob(digest: string): string;
  /** What may refer to a manifest, such as its seals; undefined where nothing does. Throws ErrnoError. */
  readonly referrers?: (subject: string, source: ImageSource) => Promise<readonly Descriptor[]>;
}
const inLayout = (digest: string): string => `blobs/${digest.replace(':', '/')}`;
const layoutPlaces = (name: string | undefined): Places => ({
  top: 'index.json',
  choose: (manifests, source) => tagged(manifests, name, source),
  manifest: inLayout,
  blob: inLayout,
  referrers: async (_, source) => artifactsIn(await source.document('index.json'), `${source.shown}/index.json`),
});
const inDirectory = (digest: string): string => digest.replace(/^sha256:/, '').replace(':', '-');
/** A `dir:` of skopeo(1). */
const DIRECTORY: Places = {
  top: 'manifest.json',
  manifest: digest => `${inDirectory(digest)}.manifest.json`,
  blob: inDirectory,
};

/** How deep indexes may lead to each other. */
const INDEXES_MAX = 8;

/** An image by its manifest. Throws ErrnoError with the name of what is missing, damaged or not supported. */
export async function manifestImage(
  source: ImageSource,
  places: Places,
  platform: Platform | undefined,
): Promise<OpenImage> {
  const { digest, bytes: manifestBytes, manifest } = await findManifest(source, places, platform);
  const path = places.blob(manifest.config.digest);
  checkConfigType(manifest.config, source.shown);
  const configBytes = await source.document(path, manifest.config);
  const { rootfs, ...own } = readConfig(configBytes, `${source.shown}/${path}`);
  checkPlatform(own, platform, source);
  const layers = manifest.layers.map(blob => ({ path: places.blob(blob.digest), blob }));
  for (const layer of layers) checkLayerType(layer.blob, `${source.shown}/${layer.path}`);
  return {
    manifest: digest,
    config: manifest.config.digest,
    manifestBytes,
    configBytes,
    layers: withDiffIds(layers, rootfs.diff_ids, source),
    ...{ source, places },
  };
}

/** Follows indexes from the top document to a manifest. */
async function findManifest(
  source: ImageSource,
  { top, topDigest, choose, manifest: pathOf }: Places,
  platform: Platform | undefined,
): Promise<{ digest: string; bytes: Uint8Array; manifest: Manifest }> {
  let bytes = await source.document(top, topDigest === undefined ? undefined : { digest: topDigest });
  let document = readIndexOrManifest(bytes, `${source.shown}/${top}`);
  let digest = topDigest ?? sha256Of(bytes);
  for (let depth = 0; document.manifests !== undefined; depth++) {
    if (depth === INDEXES_MAX)
      throw new ErrnoError(EUCLEAN, `${source.shown}: more than ${INDEXES_MAX} indexes in a row`);
    const { manifests } = document;
    const chosen = chooseImage(depth === 0 && choose ? choose(manifests, source) : manifests, platform, source);
    const path = pathOf(chosen.digest);
    bytes = await source.document(path, chosen);
    document = readIndexOrManifest(bytes, `${source.shown}/${path}`);
    digest = chosen.digest;
  }
  return { digest, bytes, manifest: document };
}

/** The annotation that has the tag of an image in a layout. */
export const TAG = 'org.opencontainers.image.ref.name';

/** The images with a tag; without one, all of them if they have one tag or none. */
function tagged(
  manifests: readonly Descriptor[],
  name: string | undefined,
  { shown }: ImageSource,
): readonly Descriptor[] {
  const images = manifests.filter(({ artifactType }) => artifactType !== ARTIFACT_TYPE);
  const tagOf = ({ annotations }: Descriptor): string | undefined => annotations?.[TAG];
  const tags = [...new Set(images.map(tagOf))];
  const list =
    tags
      .filter(tag => tag !== undefined)
      .sort()
      .join(', ') || 'none';
  if (name === undefined) {
    if (tags.length > 1) throw new ErrnoError(EINVAL, `${shown}: several images; choose one by its tag: ${list}`);
    return images;
  }
  const found = images.filter(each => tagOf(each) === name);
  if (found.length === 0) throw new ErrnoError(ENOENT, `${shown}: no image has the tag ${name}; the tags are: ${list}`);
  return found;
}

/** One image of several: the only one, or that of the platform. */
function chooseImage(
  manifests: readonly Descriptor[],
  platform: Platform | undefined,
  { shown }: ImageSource,
): Descriptor {
  const [only] = manifests;
  if (only === undefined) throw new ErrnoError(ENOENT, `${shown}: no image`);
  if (manifests.length === 1 && !only.platform) return only;
  const wanted = platform ?? ownPlatform();
  const found = choosePlatform(manifests, wanted);
  if (found) return found;
  if (manifests.length === 1 && platform === undefined) return only;
  const others = manifests.flatMap(each => (each.platform ? [platformText(each.platform)] : []));
  const list = [...new Set(others)].filter(text => !text.startsWith('unknown/')).join(', ') || 'none';
  throw new ErrnoError(ENOENT, `${shown}: no image for ${platformText(wanted)}; choose with --platform: ${list}`);
}

/** Refuses an image that is not for the platform that was asked for. */
function checkPlatform(
  {
    os,
    architecture,
    variant,
  }: { os?: string | null | undefined; architecture?: string | null | undefined; variant?: string | null | undefined },
  wanted: Platform | undefined,
  { shown }: ImageSource,
): void {
  if (wanted === undefined) return;
  const own = { os: os ?? '', architecture: architecture ?? '', variant: variant ?? undefined };
  if (choosePlatform([{ platform: own }], wanted) === undefined)
    throw new ErrnoError(
      ENOENT,
      `${shown}: no image for ${platformText(wanted)}; the only one is for ${platformText(own)}`,
    );
}

/** Pairs the layers of a manifest with the digests that the configuration has for them. */
function withDiffIds(
  layers: readonly { path: string; blob: Descriptor | undefined }[],
  diffIds: readonly string[],
  { shown }: ImageSource,
): ImageLayer[] {
  if (layers.length !== diffIds.length)
    throw new ErrnoError(
      EUCLEAN,
      `${shown}: ${layers.length} layers, but its configuration has ${diffIds.length} digests of layers`,
    );
  return layers.map((layer, i) => ({ ...layer, diffId: diffIds[i] as string }));
}

/** An image of `docker save`. Its layers have digests in the configuration alone. */
async function dockerImage(
  source: ImageSource,
  { name }: LocalReference,
  platform: Platform | undefined,
): Promise<OpenImage> {
  const images = readDockerArchive(await source.document('manifest.json'), `${source.shown}/manifest.json`);
  const names = images.flatMap(({ RepoTags }) => RepoTags ?? []);
  const found =
    name === undefined ? images : images.filter(({ RepoTags }) => RepoTags?.some(tag => isNamed(tag, name)));
  const [image, ...more] = found;
  const list = names.join(', ') || 'none';
  if (image === undefined)
    throw new ErrnoError(ENOENT, `${source.shown}: no image has the name ${name}; the names are: ${list}`);
  if (more.length > 0) throw new ErrnoError(EINVAL, `${source.shown}: several images; choose one by its name: ${list}`);
  const configBytes = await source.document(image.Config);
  const { rootfs, ...own } = readConfig(configBytes, `${source.shown}/${image.Config}`);
  checkPlatform(own, platform, source);
  const layers = image.Layers.map(path => ({ path, blob: undefined }));
  return {
    ...{ manifest: undefined, manifestBytes: undefined, config: sha256Of(configBytes), configBytes },
    ...{ layers: withDiffIds(layers, rootfs.diff_ids, source), source, places: undefined },
  };
}

/** Whether a name in an archive is the given one, which may lack its tag or the names of Docker's own registry. */
function isNamed(tag: string, name: string): boolean {
  const whole = /:[^/]*$/.test(name) ? name : `${name}:latest`;
  return [tag, tag.replace(/^docker\.io\/(library\/)?/, '')].includes(whole);
}
