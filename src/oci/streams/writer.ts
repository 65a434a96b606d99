/** Writes a splitstream while the parts of its file come. */
import { type ByteString, bufferOf, putByteString, putU64 } from '../../sys/bytes.ts';
import { native } from '../../sys/native.ts';
import { writeAll } from '../../sys/streams.ts';
import { ALGORITHMS, type Algorithm } from '../../verity/digest.ts';
import { readAt } from '../files.ts';
import { BLOCK_BITS, CONTENT, type Content, Header, Info, MAGIC, Section, VERSION } from './format.ts';
import { ZstdEncoder } from './zstd-encoder.ts';

/** The most bytes of a chunk, and so of memory for it. Chunks of tar archives begin and end at blocks, as composefs-rs reads them. */
const INLINE_BYTES_MAX = 1 << 20;
const TAR_BLOCK_BYTES = 512;
const READ_BYTES = 1 << 18;

/** Takes the parts of a file in order, by `inline` and `object`; then `content` gives the splitstream. */
export class StreamWriter {
  readonly #algorithm: Algorithm;
  readonly #spool: number;
  readonly #shown: string;
  readonly #encoder: ZstdEncoder;
  #spoolBytes = 0;
  #fileBytes = 0;
  /** Digests, each with its index. */
  readonly #objects = new Map<string, number>();
  readonly #streams = new Map<string, number>();
  readonly #names = new Map<ByteString, string>();
  readonly #inline = new Uint8Array(INLINE_BYTES_MAX);
  #inlineBytes = 0;

  /**
   * @param spool an empty file, which takes the chunks, since their size is known at the end; `close` closes it
   * @param shown the path of the store, for messages
   */
  constructor(algorithm: Algorithm, spool: number, shown: string) {
    this.#algorithm = algorithm;
    this.#spool = spool;
    this.#shown = shown;
    this.#encoder = new ZstdEncoder(bytes => {
      this.#spoolBytes += bytes.length;
      writeAll(spool, bytes, shown);
    });
  }

  /** The size of the file so far. */
  get fileBytes(): number {
    return this.#fileBytes;
  }

  /** Names another stream, or an image. */
  name(name: ByteString, digest: string): void {
    indexOf(this.#streams, digest);
    this.#names.set(name, digest);
  }

  /** Takes the next bytes, which the stream will hold. Throws ErrnoError with the path of the store. */
  inline(bytes: Uint8Array): void {
    for (let at = 0; at < bytes.length; ) {
      const begin = this.#fileBytes - this.#inlineBytes;
      const part = bytes.subarray(at, at + INLINE_BYTES_MAX - (begin % TAR_BLOCK_BYTES) - this.#inlineBytes);
      this.#inline.set(part, this.#inlineBytes);
      this.#inlineBytes += part.length;
      this.#fileBytes += part.length;
      at += part.length;
      if (at < bytes.length) this.#endInline();
    }
  }

  /** Takes an object as the next part. Throws ErrnoError with the path of the store. */
  object(digest: string, sizeBytes: number): void {
    this.#endInline();
    this.#number(indexOf(this.#objects, digest));
    this.#fileBytes += sizeBytes;
  }

  /** Ends the stream. @returns its size, and its bytes, piece by piece. Throws ErrnoError with the path of the store. */
  finish(content: Content): { readonly sizeBytes: number; readonly pieces: Iterable<Uint8Array> } {
    this.#endInline();
    this.#encoder.finish();
    const sections = [this.#digests(this.#streams), this.#digests(this.#objects), this.#encodedNames()];
    const start = this.#start(content, sections);
    const sizeBytes = [start, ...sections].reduce((sum, { length }) => sum + length, this.#spoolBytes);
    return { sizeBytes, pieces: this.#pieces([start, ...sections]) };
  }

  close(): void {
    native.close(this.#spool);
  }

  #endInline(): void {
    if (this.#inlineBytes === 0) return;
    this.#number(-this.#inlineBytes);
    this.#encoder.write(this.#inline.subarray(0, this.#inlineBytes));
    this.#inlineBytes = 0;
  }

  #number(value: number): void {
    const bytes = new Uint8Array(8);
    putU64(new DataView(bytes.buffer), 0, value);
    this.#encoder.write(bytes);
  }

  #digests(digests: ReadonlyMap<string, number>): Uint8Array {
    const { digestBytes } = ALGORITHMS[this.#algorithm];
    const bytes = Buffer.alloc(digests.size * digestBytes);
    for (const [digest, index] of digests) bytes.write(digest, index * digestBytes, 'hex');
    return bytes;
  }

  #encodedNames(): Uint8Array {
    const names = [...this.#names].sort(([a], [b]) => (a < b ? -1 : 1));
    const parts: Uint8Array[] = [];
    const encoder = new ZstdEncoder(bytes => parts.push(bytes.slice()));
    for (const [name, digest] of names) encoder.write(bufferOf(`${this.#streams.get(digest)}:${name}\0`));
    encoder.finish();
    return Buffer.concat(parts);
  }

  /** The header and the info in front of sections: digests of streams, digests of objects, and names; the chunks follow them. */
  #start(content: Content, sections: readonly Uint8Array[]): Uint8Array {
    const bytes = new Uint8Array(Header.SIZE + Info.SIZE);
    const view = new DataView(bytes.buffer);
    putByteString(bytes, Header.magic, MAGIC);
    bytes[Header.version] = VERSION;
    bytes[Header.algorithm] = ALGORITHMS[this.#algorithm].number;
    bytes[Header.blockBits] = BLOCK_BITS;
    let at = Header.SIZE;
    const putSection = (place: number, length: number): void => {
      putU64(view, place + Section.start, at);
      at += length;
      putU64(view, place + Section.end, at);
    };
    putSection(Header.info, Info.SIZE);
    const places = [Info.streams, Info.objects, Info.names];
    for (const [i, { length }] of sections.entries()) putSection(Header.SIZE + (places[i] as number), length);
    putSection(Header.SIZE + Info.chunks, this.#spoolBytes);
    putByteString(bytes, Header.SIZE + Info.contentType, CONTENT[content]);
    putU64(view, Header.SIZE + Info.fileBytes, this.#fileBytes);
    return bytes;
  }

  *#pieces(sections: readonly Uint8Array[]): Generator<Uint8Array> {
    yield* sections;
    const spool = { fd: this.#spool, at: 0, sizeBytes: this.#spoolBytes, close: () => {} };
    for (let at = 0; at < this.#spoolBytes; at += READ_BYTES)
      yield readAt(spool, at, Math.min(READ_BYTES, this.#spoolBytes - at), this.#shown);
  }
}

/** The index of a digest, which is added if it is new. */
function indexOf(digests: Map<string, number>, digest: string): number {
  const known = digests.get(digest);
  if (known !== undefined) return known;
  digests.set(digest, digests.size);
  return digests.size - 1;
}
