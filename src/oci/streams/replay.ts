/** Layers that a repository has as splitstreams. */
import { EFBIG, ENOENT, ErrnoError, EUCLEAN } from '../../sys/errno.ts';
import { type OpenBytes, readAt } from '../files.ts';
import { TarParser, type TarVisitor } from '../tar/parser.ts';
import { ChunkParser } from './chunks.ts';
import { CONTENT } from './format.ts';
import { layerStream } from './names.ts';
import { decodeSection, type References, readReferences } from './references.ts';
import type { Streams } from './stored.ts';

/** A layer that a repository has. */
export interface RecordedLayer {
  /** The digest of its splitstream. */
  readonly stream: string;
  /** The size of its archive. */
  readonly archiveBytes: number;
  /** The sizes of its objects, by their index in the stream; undefined if nobody has looked. */
  readonly objectBytes?: Float64Array;
}

const READ_BYTES = 1 << 18;

/**
 * Finds a layer, if all of it is there: its stream has the digest of its name, all objects are there, and their sizes are those
 * that the headers in the stream say. Their data is not read. @returns undefined for a layer that is not there or is damaged.
 * @param entriesMax how many entries it may have
 */
export async function findLayer(
  streams: Streams,
  diffId: string,
  entriesMax: number,
): Promise<RecordedLayer | undefined> {
  const stream = streams.find(layerStream(diffId));
  if (stream === undefined) return undefined;
  try {
    return await replayLayer(streams, { stream }, NOTHING, entriesMax);
  } catch (error) {
    if (error instanceof ErrnoError && [ENOENT, EUCLEAN, EFBIG].includes(error.errno)) return undefined;
    throw error;
  }
}

/** Takes all data without doing anything. */
const NOTHING: TarVisitor = { entry: () => true, data: () => {}, hole: () => {}, end: () => {}, object: () => true };

/**
 * Gives the entries of a layer to a visitor. Objects are taken by their digests; only what is not all data of a file, such as the
 * parts of a sparse file, is read. Throws ErrnoError with the path of the stream or the object: ENOENT for one that is missing,
 * EUCLEAN for one that is damaged; and what the parser and the visitor throw, without a path.
 */
export async function replayLayer(
  streams: Streams,
  { stream, objectBytes }: Pick<RecordedLayer, 'stream' | 'objectBytes'>,
  visitor: TarVisitor,
  entriesMax: number,
): Promise<RecordedLayer> {
  const shown = streams.shown(stream);
  const file = streams.openMeasured(stream);
  try {
    const references = readReferences(file, shown);
    const { contentType, algorithm, fileBytes: archiveBytes } = references;
    if (contentType !== CONTENT.layer || algorithm !== streams.algorithm)
      throw new ErrnoError(EUCLEAN, `${shown}: not the splitstream of a layer with ${streams.algorithm}`);
    const sizes = objectBytes ?? sizesOf(streams, references);
    await replayChunks(streams, file, references, sizes, new TarParser(visitor, entriesMax), shown);
    return { stream, archiveBytes, objectBytes: sizes };
  } finally {
    file.close();
  }
}

const sizesOf = (streams: Streams, { objects }: References): Float64Array =>
  Float64Array.from(objects, digest => streams.sizeOf(digest));

async function replayChunks(
  streams: Streams,
  file: OpenBytes,
  { objects, fileBytes, chunks }: References,
  sizes: Float64Array,
  archive: TarParser,
  shown: string,
): Promise<void> {
  const visitor = {
    inline: (bytes: Uint8Array) => archive.push(bytes),
    object: (index: number) => {
      const digest = objects.at(index) as string;
      const bytes = sizes[index] as number;
      if (!archive.pushObject(digest, bytes)) pushData(streams, digest, archive);
      return bytes;
    },
  };
  const parser = new ChunkParser(objects.length, fileBytes, visitor, shown);
  for await (const piece of decodeSection(file, chunks, shown)) parser.push(piece);
  parser.finish();
  archive.finish();
}

/** Reads an object into an archive. */
function pushData(streams: Streams, digest: string, archive: TarParser): void {
  const shown = streams.shown(digest);
  const file = streams.open(digest);
  try {
    for (let at = 0; at < file.sizeBytes; at += READ_BYTES)
      archive.push(readAt(file, at, Math.min(READ_BYTES, file.sizeBytes - at), shown));
  } finally {
    file.close();
  }
}
