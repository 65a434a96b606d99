/** The manifest and the configuration of an image, which a repository keeps as splitstreams. */
import { createHash } from 'node:crypto';
import type { ByteString } from '../../sys/bytes.ts';
import { ENOENT, ErrnoError, EUCLEAN } from '../../sys/errno.ts';
import { DOCUMENT_BYTES_MAX, type Manifest, readIndexOrManifest } from '../documents.ts';
import { isImageConfig } from '../media-types.ts';
import { configName, configStream, IMAGE, IMAGES, manifestStream } from '../streams/names.ts';
import { type References, readNames, readReferences } from '../streams/references.ts';
import { type ImageConfig, readAnnotations, readImageConfig } from './config.ts';
import { imageOfDigest } from './image-links.ts';
import { pathOfObject, type StoredRepository } from './repository.ts';

const STREAMS = 'streams';
/** An image with its documents. */
export interface OciImage {
  /** The digest of the manifest, `sha256:HEX`. */
  readonly digest: string;
  readonly manifest: Manifest;
  /** undefined for an artifact, which is no image of a container. */
  readonly config: ImageConfig | undefined;
  readonly annotations: Readonly<Record<string, string>> | undefined;
  /** The fs-verity digest of its composefs image; undefined if none was made. */
  readonly image: string | undefined;
}

/**
 * Reads the documents of an image by the digest of its manifest. Throws ErrnoError with the path: ENOENT for what is missing, EUCLEAN
 * for what is damaged.
 */
export async function readOciImage(repository: StoredRepository, digest: string): Promise<OciImage> {
  const path = `${STREAMS}/${manifestStream(digest)}`;
  const stream = streamObject(repository, path);
  const { bytes, names } = await readDocument(repository, stream, digest, path);
  const manifest = readIndexOrManifest(bytes, repository.shown(path));
  if (manifest.manifests !== undefined) throw new ErrnoError(EUCLEAN, `${repository.shown(path)}: an index`);
  const { config } = manifest;
  const configObject = names.get(configName(config.digest));
  const configPath = `${STREAMS}/${configStream(config.digest)}`;
  if (configObject === undefined)
    throw new ErrnoError(EUCLEAN, `${repository.shown(path)}: does not lead to its configuration`);
  const document = await readDocument(repository, configObject, config.digest, configPath);
  const image = document.names.get(IMAGE) ?? document.names.get(IMAGES);
  return {
    digest,
    manifest,
    config: isImageConfig(config) ? readImageConfig(document.bytes, repository.shown(configPath)) : undefined,
    annotations: readAnnotations(bytes, repository.shown(path)),
    image: image === undefined ? undefined : imageOfDigest(repository, image),
  };
}

/** Whether a layer is kept as a splitstream. */
export const hasStream = (repository: StoredRepository, name: ByteString): boolean =>
  repository.target(`${STREAMS}/${name}`) !== undefined;

/** The digest of the object that a stream is, by its path. Throws ErrnoError with the path. */
export function streamObject(repository: StoredRepository, path: ByteString): string {
  const target = repository.target(path);
  if (target === undefined) throw new ErrnoError(ENOENT, `${repository.shown(path)}: No such file or directory`);
  const [, first = '', rest = ''] = /^objects\/([0-9a-f]{2})\/([0-9a-f]{62}|[0-9a-f]{126})$/.exec(target) ?? [];
  if (first !== '') return first + rest;
  throw new ErrnoError(EUCLEAN, `${repository.shown(path)}: leads to ${target}, which is no object`);
}

/**
 * The bytes of a document or a blob that has a stream of its own. Throws ErrnoError with the path: ENOENT if it is missing, EUCLEAN if
 * it is damaged, EFBIG if it is too large.
 * @param path of the stream @param digest `sha256:HEX` or `sha512:HEX`
 */
export function readRecorded(
  repository: StoredRepository,
  path: ByteString,
  digest: string,
  bytesMax: number,
): Uint8Array {
  const file = repository.openObject(streamObject(repository, path));
  try {
    const references = readReferences(file, repository.shown(path));
    return readOnlyObject(repository, references, { digest, path, bytesMax });
  } finally {
    file.close();
  }
}

/** Reads the one object that a stream of a document refers to, and the digests that it has names for. */
async function readDocument(
  repository: StoredRepository,
  stream: string,
  digest: string,
  path: ByteString,
): Promise<{ bytes: Uint8Array; names: ReadonlyMap<ByteString, string> }> {
  const shown = repository.shown(path);
  const file = repository.openObject(stream);
  try {
    const references = readReferences(file, shown);
    const bytes = readOnlyObject(repository, references, { digest, path, bytesMax: DOCUMENT_BYTES_MAX });
    return { bytes, names: await readNames(file, references, shown) };
  } finally {
    file.close();
  }
}

function readOnlyObject(
  repository: StoredRepository,
  { objects }: References,
  { digest, path, bytesMax }: { digest: string; path: ByteString; bytesMax: number },
): Uint8Array {
  const object = objects.at(0);
  if (object === undefined || objects.length !== 1)
    throw new ErrnoError(EUCLEAN, `${repository.shown(path)}: ${objects.length} objects; a document is one`);
  const bytes = repository.readObject(object, bytesMax);
  checkDigest(bytes, digest, repository.shown(pathOfObject(object)));
  return bytes;
}

function checkDigest(bytes: Uint8Array, digest: string, shown: string): void {
  const [algorithm = '', hex] = digest.split(':');
  const found = createHash(algorithm).update(bytes).digest('hex');
  if (found !== hex) throw new ErrnoError(EUCLEAN, `${shown}: its digest is ${algorithm}:${found}, not ${digest}`);
}
