/** What a splitstream refers to, read without its chunks: all that a collection of garbage needs. */
import { type ByteString, byteStringOf, getU64 } from '../../sys/bytes.ts';
import { EFBIG, ErrnoError, EUCLEAN } from '../../sys/errno.ts';
import { ALGORITHMS, type Algorithm } from '../../verity/digest.ts';
import { unzstd } from '../decompress.ts';
import { type OpenBytes, readAt } from '../files.ts';
import { BLOCK_BITS, Header, Info, MAGIC, OldHeader, Section, VERSION } from './format.ts';

/** The most bytes of the digests of one section: 2^22 of SHA-256. */
const DIGESTS_BYTES_MAX = 1 << 27;
/** The most bytes of all names. */
const NAMES_BYTES_MAX = 1 << 23;
/** Bytes of one read of a compressed section. */
const READ_BYTES = 1 << 18;

/** A part of a file that has been checked to be inside it. */
export interface Range {
  readonly at: number;
  readonly bytes: number;
}

export interface References {
  readonly algorithm: Algorithm;
  /** Eight characters, such as those of CONTENT. */
  readonly contentType: ByteString;
  /** The size of the file that the stream is of. */
  readonly fileBytes: number;
  /** The digests of other streams, or of images, which names lead to. */
  readonly streams: Digests;
  /** The digests of the objects that are parts of the file. */
  readonly objects: Digests;
  readonly names: Range;
  readonly chunks: Range;
}

/**
 * Reads what a splitstream refers to. Throws ErrnoError with its path: EUCLEAN for what is none, EFBIG for one beyond a limit.
 * @param shown the path, for messages
 */
export function readReferences(file: OpenBytes, shown: string): References {
  const refuse: Refuse = why => {
    throw new ErrnoError(EUCLEAN, `${shown}: ${why}`);
  };
  if (file.sizeBytes < Header.SIZE) refuse('not a splitstream: it has no header');
  const { algorithm, info: at } = readHeader(readAt(file, 0, Header.SIZE, shown), file, refuse);
  if (at.bytes < Info.SIZE) refuse(`an info of ${at.bytes} bytes; ${Info.SIZE} are needed`);
  const info = readAt(file, at.at, Info.SIZE, shown);
  const view = new DataView(info.buffer);
  const { digestBytes } = ALGORITHMS[algorithm];
  const digestsOf = (section: number, what: string): Digests => {
    const { at, bytes } = rangeOf(view, section, file, what, refuse);
    if (bytes % digestBytes !== 0) refuse(`${what}: ${bytes} bytes are no whole number of digests`);
    if (bytes > DIGESTS_BYTES_MAX)
      throw new ErrnoError(EFBIG, `${shown}: ${what}: ${bytes} bytes; ${DIGESTS_BYTES_MAX} are allowed`);
    return new Digests(readAt(file, at, bytes, shown), digestBytes);
  };
  const fileBytes = getU64(view, Info.fileBytes);
  if (!Number.isSafeInteger(fileBytes)) refuse('it is of a file of 2^53 bytes or more');
  return {
    algorithm,
    contentType: byteStringOf(info, Info.contentType, Info.fileBytes),
    fileBytes,
    streams: digestsOf(Info.streams, 'digests of streams'),
    objects: digestsOf(Info.objects, 'digests of objects'),
    names: rangeOf(view, Info.names, file, 'names', refuse),
    chunks: rangeOf(view, Info.chunks, file, 'chunks', refuse),
  };
}

type Refuse = (why: string) => never;

/** Digests one after the other, as bytes. */
export class Digests implements Iterable<string> {
  readonly #bytes: Uint8Array;
  readonly #digestBytes: number;

  constructor(bytes: Uint8Array, digestBytes: number) {
    this.#bytes = bytes;
    this.#digestBytes = digestBytes;
  }

  get length(): number {
    return this.#bytes.length / this.#digestBytes;
  }

  /** The digest in hex; undefined beyond the last one. */
  at(index: number): string | undefined {
    if (index >= this.length) return undefined;
    const from = index * this.#digestBytes;
    return Buffer.from(this.#bytes.buffer, this.#bytes.byteOffset + from, this.#digestBytes).toString('hex');
  }

  *[Symbol.iterator](): Generator<string> {
    for (let i = 0; i < this.length; i++) yield this.at(i) as string;
  }
}

/** Reads a header of either kind. */
function readHeader(
  bytes: Uint8Array,
  file: OpenBytes,
  refuse: Refuse,
): { readonly algorithm: Algorithm; readonly info: Range } {
  const layout = [Header, OldHeader].find(({ magic }) => byteStringOf(bytes, magic, magic + MAGIC.length) === MAGIC);
  if (layout === undefined) return refuse('not a splitstream: it has no magic');
  const { [layout.version]: version, [layout.algorithm]: number, [layout.blockBits]: blockBits } = bytes;
  if (version !== VERSION) refuse(`version ${version} of splitstreams is not supported; version ${VERSION} is`);
  const names = Object.keys(ALGORITHMS) as Algorithm[];
  const algorithm = names.find(name => ALGORITHMS[name].number === number);
  if (algorithm === undefined) return refuse(`fs-verity has no algorithm ${number}`);
  if (blockBits !== BLOCK_BITS) refuse(`blocks of 2^${blockBits} bytes are not supported; 2^${BLOCK_BITS} are`);
  const view = new DataView(bytes.buffer, bytes.byteOffset);
  return { algorithm, info: rangeOf(view, layout.info, file, 'info', refuse) };
}

/** A section, which has to be inside the file. */
function rangeOf(view: DataView, at: number, { sizeBytes }: OpenBytes, what: string, refuse: Refuse): Range {
  const start = getU64(view, at + Section.start);
  const end = getU64(view, at + Section.end);
  if (start > end || end > sizeBytes) refuse(`${what}: from ${start} to ${end}, but the stream has ${sizeBytes} bytes`);
  return { at: start, bytes: end - start };
}

/**
 * Reads the names of other streams, which lead to their digests. Throws ErrnoError with the path: EUCLEAN for names that are
 * damaged, EFBIG for too many.
 */
export async function readNames(
  file: OpenBytes,
  { names, streams }: References,
  shown: string,
): Promise<ReadonlyMap<ByteString, string>> {
  const parts: Uint8Array[] = [];
  let bytes = 0;
  for await (const part of decodeSection(file, names, shown)) {
    bytes += part.length;
    if (bytes > NAMES_BYTES_MAX) throw new ErrnoError(EFBIG, `${shown}: names of more than ${NAMES_BYTES_MAX} bytes`);
    parts.push(part);
  }
  const records = byteStringOf(Buffer.concat(parts)).split('\0');
  if (records.pop() !== '') throw new ErrnoError(EUCLEAN, `${shown}: the names are cut off`);
  const found = new Map<ByteString, string>();
  for (const record of records) {
    const [, index, name] = /^(\d{1,10}):(.*)$/s.exec(record) ?? [];
    const digest = name === undefined ? undefined : streams.at(Number(index));
    if (name === undefined || digest === undefined)
      throw new ErrnoError(EUCLEAN, `${shown}: a name without the index of a stream`);
    found.set(name, digest);
  }
  return found;
}

/** The bytes of a section that is compressed. Throws ErrnoError EUCLEAN with the path. */
export async function* decodeSection(file: OpenBytes, { at, bytes }: Range, shown: string): AsyncGenerator<Uint8Array> {
  if (bytes === 0) return;
  yield* unzstd(pieces(file, at, bytes, shown), shown);
}

async function* pieces(file: OpenBytes, at: number, bytes: number, shown: string): AsyncGenerator<Uint8Array> {
  for (let from = 0; from < bytes; from += READ_BYTES)
    yield readAt(file, at + from, Math.min(READ_BYTES, bytes - from), shown);
}
