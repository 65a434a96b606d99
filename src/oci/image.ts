/** An image in a local place: its manifest is chosen and checked, and its layers can be read. */
import { createHash } from 'node:crypto';
import { EINVAL, ENOENT, ErrnoError, EUCLEAN } from '../sys/errno.ts';
import { openFilesOfArchive } from './archive-files.ts';
import { DigestCheck, readBlob, readDocument } from './blobs.ts';
import { decompress } from './decompress.ts';
import { type Descriptor, type Manifest, readConfig, readDockerArchive, readIndexOrManifest } from './documents.ts';
import { type ImageFiles, openFilesIn } from './files.ts';
import { checkConfigType, checkLayerType } from './media-types.ts';
import { choosePlatform, ownPlatform, type Platform, platformText } from './platform.ts';
import type { Reference } from './reference.ts';

/** One layer: where it is, and its digests. */
export interface ImageLayer {
  readonly path: string;
  /** Its size and digest as it is stored; undefined if nothing says them. */
  readonly blob: Descriptor | undefined;
  /** The digest of its tar archive. */
  readonly diffId: string;
}

export interface LocalImage {
  /** The digest of the manifest; undefined for an archive of `docker save`, which has none. */
  readonly manifest: string | undefined;
  /** The digest of the configuration. */
  readonly config: string;
  /** From the lowest one upwards. */
  readonly layers: readonly ImageLayer[];
  readonly files: ImageFiles;
}

/**
 * Opens an image; its files have to be closed later. Throws ErrnoError with the path of what is missing, damaged or not supported.
 * @param platform the wanted one; by default that of this machine, where there are several
 */
export function openLocalImage(reference: Reference, platform: Platform | undefined): LocalImage {
  const { transport, path } = reference;
  const isArchive = transport === 'oci-archive' || transport === 'docker-archive';
  const files = isArchive ? openFilesOfArchive(path) : openFilesIn(path);
  try {
    if (transport === 'docker-archive') return dockerImage(files, reference, platform);
    return manifestImage(files, reference, platform);
  } catch (error) {
    files.close();
    throw error;
  }
}

/**
 * The tar archive of a layer, piece by piece. Throws ErrnoError with the layer's path: EUCLEAN if the blob or the archive has
 * another size or digest than the image says, which is known only at the end.
 * @param count is called with the number of bytes of the blob that have been read
 */
export async function* readLayer(
  files: ImageFiles,
  { path, blob, diffId }: ImageLayer,
  count: (bytes: number) => void,
): AsyncGenerator<Uint8Array> {
  const shown = `${files.shown}/${path}`;
  const archive = new DigestCheck({ digest: diffId }, `${shown}, decompressed`);
  for await (const piece of decompress(readBlob(files, path, blob, count), shown)) {
    archive.add(piece);
    yield piece;
  }
  archive.finish();
}

/** Where a kind of place keeps its documents and blobs. */
interface Places {
  readonly top: string;
  manifest(digest: string): string;
  blob(digest: string): string;
}
const inLayout = (digest: string): string => `blobs/${digest.replace(':', '/')}`;
const LAYOUT: Places = { top: 'index.json', manifest: inLayout, blob: inLayout };
const inDirectory = (digest: string): string => digest.replace(/^sha256:/, '').replace(':', '-');
/** A `dir:` of skopeo(1). */
const DIRECTORY: Places = {
  top: 'manifest.json',
  manifest: digest => `${inDirectory(digest)}.manifest.json`,
  blob: inDirectory,
};

/** How deep indexes may lead to each other. */
const INDEXES_MAX = 8;

/** An image of an OCI layout or of a `dir:`. */
function manifestImage(files: ImageFiles, reference: Reference, platform: Platform | undefined): LocalImage {
  const places = reference.transport === 'dir' ? DIRECTORY : LAYOUT;
  const { digest, manifest } = findManifest(files, places, reference, platform);
  const path = places.blob(manifest.config.digest);
  checkConfigType(manifest.config, files.shown);
  const { rootfs, ...own } = readConfig(readDocument(files, path, manifest.config), `${files.shown}/${path}`);
  checkPlatform(own, platform, files);
  const layers = manifest.layers.map(blob => ({ path: places.blob(blob.digest), blob }));
  for (const layer of layers) checkLayerType(layer.blob, `${files.shown}/${layer.path}`);
  return {
    manifest: digest,
    config: manifest.config.digest,
    layers: withDiffIds(layers, rootfs.diff_ids, files),
    files,
  };
}

/** Follows indexes from the top document to a manifest. */
function findManifest(
  files: ImageFiles,
  places: Places,
  { transport, name }: Reference,
  platform: Platform | undefined,
): { digest: string; manifest: Manifest } {
  const bytes = readDocument(files, places.top);
  let document = readIndexOrManifest(bytes, `${files.shown}/${places.top}`);
  let digest = sha256Of(bytes);
  for (let depth = 0; document.manifests !== undefined; depth++) {
    if (depth === INDEXES_MAX)
      throw new ErrnoError(EUCLEAN, `${files.shown}: more than ${INDEXES_MAX} indexes in a row`);
    const { manifests } = document;
    const isTagged = depth === 0 && transport !== 'dir';
    const chosen = choose(isTagged ? tagged(manifests, name, files) : manifests, platform, files);
    const path = places.manifest(chosen.digest);
    document = readIndexOrManifest(readDocument(files, path, chosen), `${files.shown}/${path}`);
    digest = chosen.digest;
  }
  return { digest, manifest: document };
}

const sha256Of = (bytes: Uint8Array): string => `sha256:${createHash('sha256').update(bytes).digest('hex')}`;

const TAG = 'org.opencontainers.image.ref.name';

/** The images with a tag; without one, all of them if they have one tag or none. */
function tagged(
  manifests: readonly Descriptor[],
  name: string | undefined,
  { shown }: ImageFiles,
): readonly Descriptor[] {
  const tagOf = ({ annotations }: Descriptor): string | undefined => annotations?.[TAG];
  const tags = [...new Set(manifests.map(tagOf))];
  const list =
    tags
      .filter(tag => tag !== undefined)
      .sort()
      .join(', ') || 'none';
  if (name === undefined) {
    if (tags.length > 1) throw new ErrnoError(EINVAL, `${shown}: several images; choose one by its tag: ${list}`);
    return manifests;
  }
  const found = manifests.filter(each => tagOf(each) === name);
  if (found.length === 0) throw new ErrnoError(ENOENT, `${shown}: no image has the tag ${name}; the tags are: ${list}`);
  return found;
}

/** One image of several: the only one, or that of the platform. */
function choose(manifests: readonly Descriptor[], platform: Platform | undefined, { shown }: ImageFiles): Descriptor {
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
  { shown }: ImageFiles,
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
  { shown }: ImageFiles,
): ImageLayer[] {
  if (layers.length !== diffIds.length)
    throw new ErrnoError(
      EUCLEAN,
      `${shown}: ${layers.length} layers, but its configuration has ${diffIds.length} digests of layers`,
    );
  return layers.map((layer, i) => ({ ...layer, diffId: diffIds[i] as string }));
}

/** An image of `docker save`. Its layers have digests in the configuration alone. */
function dockerImage(files: ImageFiles, { name }: Reference, platform: Platform | undefined): LocalImage {
  const images = readDockerArchive(readDocument(files, 'manifest.json'), `${files.shown}/manifest.json`);
  const names = images.flatMap(({ RepoTags }) => RepoTags ?? []);
  const found =
    name === undefined ? images : images.filter(({ RepoTags }) => RepoTags?.some(tag => isNamed(tag, name)));
  const [image, ...more] = found;
  const list = names.join(', ') || 'none';
  if (image === undefined)
    throw new ErrnoError(ENOENT, `${files.shown}: no image has the name ${name}; the names are: ${list}`);
  if (more.length > 0) throw new ErrnoError(EINVAL, `${files.shown}: several images; choose one by its name: ${list}`);
  const bytes = readDocument(files, image.Config);
  const { rootfs, ...own } = readConfig(bytes, `${files.shown}/${image.Config}`);
  checkPlatform(own, platform, files);
  const layers = image.Layers.map(path => ({ path, blob: undefined }));
  return { manifest: undefined, config: sha256Of(bytes), layers: withDiffIds(layers, rootfs.diff_ids, files), files };
}

/** Whether a name in an archive is the given one, which may lack its tag or the names of Docker's own registry. */
function isNamed(tag: string, name: string): boolean {
  const whole = /:[^/]*$/.test(name) ? name : `${name}:latest`;
  return [tag, tag.replace(/^docker\.io\/(library\/)?/, '')].includes(whole);
}
