/** Decompresses layers: gzip, zstd, or neither, as their first bytes say. */
import { Readable, type Transform } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import zlib from 'node:zlib';
import { ErrnoError, EUCLEAN } from '../sys/errno.ts';
import { ZstdFrames } from './zstd-frames.ts';

const GZIP = [0x1f, 0x8b];
const ZSTD = [0x28, 0xb5, 0x2f, 0xfd];
/** Frames that hold no data, such as those of zstd:chunked, have 16 magics. */
const ZSTD_SKIPPABLE = [0x2a, 0x4d, 0x18];
const OTHERS: readonly (readonly [name: string, magic: readonly number[]])[] = [
  ['xz', [0xfd, 0x37, 0x7a, 0x58, 0x5a, 0]],
  ['bzip2', [0x42, 0x5a, 0x68]],
];
/** The most bytes of a magic. */
const MAGIC_BYTES = 6;
/** Bytes of one piece of output. */
const CHUNK_BYTES = 1 << 18;

/**
 * Decompresses bytes. Throws ErrnoError EUCLEAN for damaged ones, and what the source throws. The source is read to its end, also
 * where a decoder ends before.
 * @param what names the bytes, for messages
 */
export async function* decompress(chunks: AsyncIterable<Uint8Array>, what: string): AsyncGenerator<Uint8Array> {
  const source = new Source(chunks);
  try {
    const start = await source.firstBytes();
    yield* decoderOf(start, what)(source.rest(start), what);
    await source.drain();
  } finally {
    await source.close();
  }
}

/** The source, which stays open if a decoder stops reading, and whose failure is kept for a decoder that does not pass it on. */
class Source {
  readonly #chunks: AsyncIterator<Uint8Array>;
  #failure: { readonly error: unknown } | undefined;

  constructor(chunks: AsyncIterable<Uint8Array>) {
    this.#chunks = chunks[Symbol.asyncIterator]();
  }

  async #next(): Promise<Uint8Array | undefined> {
    try {
      const { done, value } = await this.#chunks.next();
      return done ? undefined : value;
    } catch (error) {
      this.#failure = { error };
      throw error;
    }
  }

  /** The first chunks, up to as many bytes as a magic has. */
  async firstBytes(): Promise<Uint8Array> {
    let start: Uint8Array = new Uint8Array();
    while (start.length < MAGIC_BYTES) {
      const next = await this.#next();
      if (next === undefined) break;
      start = start.length === 0 ? next : Buffer.concat([start, next]);
    }
    return start;
  }

  /** All chunks, the first ones included. */
  async *rest(start: Uint8Array): AsyncGenerator<Uint8Array> {
    if (start.length > 0) yield start;
    for (let next = await this.#next(); next !== undefined; next = await this.#next()) yield next;
  }

  /** Reads what is left. Throws the failure of the source, if it had one. */
  async drain(): Promise<void> {
    while (this.#failure === undefined && (await this.#next()) !== undefined);
    if (this.#failure) throw this.#failure.error;
  }

  async close(): Promise<void> {
    await this.#chunks.return?.();
  }
}

type Decoder = (chunks: AsyncIterable<Uint8Array>, what: string) => AsyncIterable<Uint8Array>;

function decoderOf(start: Uint8Array, what: string): Decoder {
  const begins = (magic: readonly number[], at = 0): boolean => magic.every((byte, i) => start[at + i] === byte);
  if (begins(GZIP)) return gunzip;
  if (begins(ZSTD) || (begins(ZSTD_SKIPPABLE, 1) && ((start[0] as number) & 0xf0) === 0x50)) return unzstd;
  const other = OTHERS.find(([, magic]) => begins(magic));
  if (other)
    throw new ErrnoError(EUCLEAN, `${what}: compressed with ${other[0]}, which is not supported; gzip and zstd are`);
  return chunks => chunks;
}

const gunzip: Decoder = (chunks, what) =>
  through(zlib.createGunzip({ chunkSize: CHUNK_BYTES }), chunks, `${what}: gzip`);

/** What Node.js has since 22.15 and its types have not. */
interface ZlibWithZstd {
  createZstdDecompress?(options: { chunkSize: number }): Transform;
  zstdDecompressSync?(bytes: Uint8Array): Uint8Array;
}
const { createZstdDecompress: createZstd, zstdDecompressSync }: ZlibWithZstd = zlib as ZlibWithZstd;

/** A frame that holds `x`. */
const FRAME = Buffer.from('28b52ffd04580900007823110483', 'hex');
/** Whether Node.js decodes zstd to its end: early versions stop after one frame. */
const decodesAllFrames = (): boolean => zstdDecompressSync?.(Buffer.concat([FRAME, FRAME])).length === 2;

/** Decodes zstd by Node.js, or else by a package. Throws ErrnoError EUCLEAN for bytes that are damaged or cut off. */
export const unzstd: Decoder = (chunks, what) =>
  createZstd && decodesAllFrames()
    ? through(createZstd({ chunkSize: CHUNK_BYTES }), chunks, `${what}: zstd`)
    : unzstdByPackage(chunks, `${what}: zstd`);

/** Pipes chunks through a stream of node:zlib. */
async function* through(
  stream: Transform,
  chunks: AsyncIterable<Uint8Array>,
  what: string,
): AsyncGenerator<Uint8Array> {
  const piped = pipeline(Readable.from(chunks, { objectMode: true, highWaterMark: 1 }), stream);
  piped.catch(() => {}); // iterating the stream throws it, too, unless it comes after the end
  try {
    yield* stream as AsyncIterable<Uint8Array>;
  } catch (error) {
    throw damaged(error, what);
  }
}

/** An error of a decoder as an ErrnoError. */
function damaged(error: unknown, what: string): unknown {
  const { code, message } = error as NodeJS.ErrnoException;
  return code !== undefined && /^(Z_|ZSTD_)/.test(code) ? new ErrnoError(EUCLEAN, `${what}: ${message}`) : error;
}

/** Decodes zstd by fzstd, block by block. */
export async function* unzstdByPackage(chunks: AsyncIterable<Uint8Array>, what: string): AsyncGenerator<Uint8Array> {
  const { Decompress } = await import('fzstd');
  let output: Uint8Array[] = [];
  const decoder = new Decompress(piece => output.push(piece));
  const take = (bytes: Uint8Array, isLast: boolean): Uint8Array[] => {
    output = [];
    try {
      decoder.push(bytes, isLast);
    } catch (error) {
      throw new ErrnoError(EUCLEAN, `${what}: ${(error as Error).message}`);
    }
    return output;
  };
  const frames = new ZstdFrames(what);
  for await (const chunk of chunks) for (const piece of frames.split(chunk)) yield* take(piece, false);
  yield* take(new Uint8Array(), true);
}
