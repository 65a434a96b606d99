/** What a storage records of its images and layers. Source: containers/storage, images.go and layers.go. */
import * as v from 'valibot';
import { EINVAL, ENOENT, EOPNOTSUPP, ErrnoError, EUCLEAN } from '../../sys/errno.ts';
import { readDocument } from '../blobs.ts';
import { checked, parse } from '../documents.ts';
import type { ImageFiles } from '../files.ts';
import { namesOf } from './reference.ts';

/** Both files have about 1 KB for each image or layer. */
const RECORDS_BYTES_MAX = 1 << 27;
export const IMAGES = 'overlay-images/images.json';
export const LAYERS = 'overlay-layers/layers.json';

const Text = v.nullish(v.string());
const Image = v.object({
  id: v.string(),
  names: v.nullish(v.array(v.string())),
  layer: Text,
  digest: Text,
  'big-data-digests': v.nullish(v.record(v.string(), v.string())),
});
export type StoredImage = v.InferOutput<typeof Image>;
const Layer = v.object({ id: v.string(), parent: Text, 'diff-digest': Text });
type StoredLayer = v.InferOutput<typeof Layer>;

/** IDs are names of files. */
const ID = /^[0-9a-f]{64}$/;
const SHORT_ID = /^[0-9a-f]{4,64}$/;

function readRecords<T extends v.GenericSchema>(files: ImageFiles, name: string, schema: T) {
  const shown = `${files.shown}/${name}`;
  return checked(v.array(schema), parse(readDocument(files, name, undefined, RECORDS_BYTES_MAX), shown), shown);
}

/** Finds an image by its name or ID. Throws ErrnoError ENOENT, or EINVAL for the start of several IDs. */
export function findImage(files: ImageFiles, wanted: string): StoredImage {
  const images = readRecords(files, IMAGES, Image);
  const found = byName(images, wanted) ?? byId(images, wanted.replace(/^.*@(?=[0-9a-f]+$)/, ''), files);
  if (found === undefined) {
    const names = images.flatMap(({ names }) => names ?? []).join(', ') || 'none';
    throw new ErrnoError(ENOENT, `${files.shown}: no image has the name ${wanted}; the names are: ${names}`);
  }
  if (!ID.test(found.id))
    throw new ErrnoError(EUCLEAN, `${files.shown}/${IMAGES}: ${JSON.stringify(found.id)} is no ID`);
  return found;
}

function byName(images: readonly StoredImage[], wanted: string): StoredImage | undefined {
  for (const name of namesOf(wanted)) {
    const [, repository = '', digest] = /^([^@]*?)(?::[^/:@]*)?@(sha(?:256|512):[0-9a-f]+)$/.exec(name) ?? [];
    const found = images.find(
      ({ names, digest: own, 'big-data-digests': digests }) =>
        names?.includes(name) ||
        (digest !== undefined &&
          (own === digest || digests?.[`manifest-${digest}`] === digest) &&
          names?.some(each => each.replace(/[:@][^/]*$/, '') === repository)),
    );
    if (found) return found;
  }
  return undefined;
}

function byId(images: readonly StoredImage[], wanted: string, { shown }: ImageFiles): StoredImage | undefined {
  if (!SHORT_ID.test(wanted)) return undefined;
  const [found, ...more] = images.filter(({ id }) => id.startsWith(wanted));
  if (more.length > 0) throw new ErrnoError(EINVAL, `${shown}: the IDs of several images begin with ${wanted}`);
  return found;
}

/**
 * The IDs of an image's layers, from the lowest one upwards, as many as there are digests. Throws ErrnoError if the storage has not
 * these layers.
 */
export function layersOf(files: ImageFiles, { layer }: StoredImage, diffIds: readonly string[]): string[] {
  const layers = new Map(readRecords(files, LAYERS, Layer).map(each => [each.id, each]));
  const ids: string[] = [];
  for (let id = layer; id; id = layers.get(id)?.parent) {
    if (ids.length === diffIds.length) throw new ErrnoError(EUCLEAN, `${files.shown}: ${tooMany(diffIds)}`);
    checkLayer(files, id, layers.get(id), diffIds[diffIds.length - ids.length - 1] as string);
    ids.push(id);
  }
  if (ids.length < diffIds.length)
    throw new ErrnoError(
      EUCLEAN,
      `${files.shown}: ${ids.length} layers, but the configuration has ${diffIds.length} digests of layers`,
    );
  return ids.reverse();
}

const tooMany = ({ length }: readonly string[]): string =>
  `more layers than the ${length} digests of layers that the configuration has`;

function checkLayer({ shown }: ImageFiles, id: string, layer: StoredLayer | undefined, diffId: string): void {
  const what = `${shown}: layer ${JSON.stringify(id)}`;
  if (!ID.test(id)) throw new ErrnoError(EUCLEAN, `${what} is no ID`);
  if (layer === undefined) throw new ErrnoError(ENOENT, `${what} is not in ${LAYERS}`);
  const digest = layer['diff-digest'];
  if (!digest)
    throw new ErrnoError(
      EOPNOTSUPP,
      `${what} was pulled in parts (zstd:chunked), and its archive cannot be made again; ${COPY}`,
    );
  if (digest !== diffId)
    throw new ErrnoError(EUCLEAN, `${what} has the digest ${digest}, but the configuration has ${diffId}`);
}

/** What to do with an image that cannot be read from its storage. */
export const COPY = 'take the image from where it was pulled';
