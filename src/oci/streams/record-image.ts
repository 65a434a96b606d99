/** Records a whole image: the splitstreams of its configuration and its manifest, which lead to its layers and to what was made. */
import type { ByteString } from '../../sys/bytes.ts';
import { EFBIG, ENOENT, ErrnoError, EUCLEAN } from '../../sys/errno.ts';
import { sha256Of } from '../blobs.ts';
import type { OpenImage } from '../image.ts';
import type { Content } from './format.ts';
import { configName, configStream, IMAGES, manifestStream } from './names.ts';
import { readNames, readReferences } from './references.ts';
import type { RecordedLayer } from './replay.ts';
import type { Streams } from './stored.ts';

type Name = readonly [name: ByteString, digest: string];

/**
 * Records an image whose layers are recorded. Throws ErrnoError with the path in the store.
 * @param layers those of the image, in order @param made the name and the digest, in hex, of the image of composefs
 * @returns the digest of the manifest
 */
export async function recordImage(
  streams: Streams,
  image: OpenImage,
  layers: readonly RecordedLayer[],
  made: Name,
): Promise<string> {
  const config = await recordConfig(streams, image, layers, made);
  const bytes = image.manifestBytes ?? manifestOf(image, layers);
  const digest = image.manifest ?? sha256Of(bytes);
  addDocument(streams, manifestStream(digest), 'manifest', bytes, [
    [configName(image.config), config],
    ...namesOf(image, layers),
  ]);
  return digest;
}

async function recordConfig(
  streams: Streams,
  image: OpenImage,
  layers: readonly RecordedLayer[],
  made: Name,
): Promise<string> {
  const stream = configStream(image.config);
  const others = (await imagesOf(streams, stream)).filter(([name]) => name !== made[0]);
  return addDocument(streams, stream, 'config', image.configBytes, [...namesOf(image, layers), ...others, made]);
}

const namesOf = ({ layers }: OpenImage, recorded: readonly RecordedLayer[]): Name[] =>
  layers.map(({ diffId }, i) => [diffId, (recorded[i] as RecordedLayer).stream]);

/** The images that a configuration's stream has names for: those of other formats, which another program has made. */
async function imagesOf(streams: Streams, name: ByteString): Promise<Name[]> {
  const digest = streams.find(name);
  if (digest === undefined) return [];
  try {
    const file = streams.openMeasured(digest);
    try {
      const shown = streams.shown(digest);
      const names = await readNames(file, readReferences(file, shown), shown);
      return [...names].filter(([each]) => each.startsWith(IMAGES));
    } finally {
      file.close();
    }
  } catch (error) {
    if (error instanceof ErrnoError && [ENOENT, EUCLEAN, EFBIG].includes(error.errno)) return []; // it is replaced
    throw error;
  }
}

/** Adds a document as an object, and a stream of it. @returns the digest of the stream. Throws ErrnoError with the path in the store. */
export function addDocument(
  streams: Streams,
  name: ByteString,
  content: Exclude<Content, 'layer'>,
  bytes: Uint8Array,
  names: readonly Name[],
): string {
  const object = streams.repository.addObject(bytes);
  const writer = streams.begin();
  try {
    for (const [each, digest] of names) writer.name(each, digest);
    writer.object(object, bytes.length);
    return streams.add(name, content, writer);
  } finally {
    writer.close();
  }
}

/** A manifest for an image that has none: an archive of `docker save` has only a configuration and layers without compression. */
function manifestOf({ config, configBytes, layers }: OpenImage, recorded: readonly RecordedLayer[]): Uint8Array {
  const type = (name: string): string => `application/vnd.oci.image.${name}`;
  const document = {
    schemaVersion: 2,
    mediaType: type('manifest.v1+json'),
    config: { mediaType: type('config.v1+json'), digest: config, size: configBytes.length },
    layers: layers.map(({ diffId }, i) => {
      return { mediaType: type('layer.v1.tar'), digest: diffId, size: recorded[i]?.archiveBytes };
    }),
  };
  return Buffer.from(JSON.stringify(document));
}
