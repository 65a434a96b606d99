/** Records a layer as a splitstream while it is applied. */
import type { ObjectStream } from '../../store/object-stream.ts';
import { INLINE_BYTES_MAX, type Merge } from '../merge/layer.ts';
import type { TarEntry } from '../tar/entry.ts';
import type { TarVisitor } from '../tar/parser.ts';
import type { StreamWriter } from './writer.ts';

/** A range of the archive that is an object. */
interface Part {
  readonly from: number;
  readonly to: number;
  /** Whether no file of the image has this data: it is that of a sparse file without the holes, or of an entry that is ignored. */
  readonly isOwn: boolean;
  digest: string | undefined;
}

/**
 * Stands between a parser and the merge. The data of files of more than 64 bytes become objects, and all else is held by the
 * stream, as composefs-rs does it. Each piece of the archive goes to the parser first, and then to `record`.
 */
export class LayerRecorder implements TarVisitor {
  readonly #merge: Merge;
  readonly #writer: StreamWriter;
  readonly #objects: ObjectStream;
  /** Parts that are not recorded yet, in order. */
  readonly #parts: Part[] = [];
  /** The part whose object the merge is making. */
  #merged: Part | undefined;
  /** The offset in the archive of the next byte. */
  #at = 0;

  /** @param objects takes the data that no file of the image has */
  constructor(merge: Merge, writer: StreamWriter, objects: ObjectStream) {
    this.#merge = merge;
    this.#writer = writer;
    this.#objects = objects;
  }

  entry(entry: TarEntry): boolean {
    const isWanted = this.#merge.entry(entry);
    this.#merged = undefined;
    const { type, dataAt: from, storedBytes, isSparse } = entry;
    if (type !== 'file' || storedBytes <= INLINE_BYTES_MAX) return isWanted;
    const part = { from, to: from + storedBytes, isOwn: isSparse || !isWanted, digest: undefined };
    this.#parts.push(part);
    if (!part.isOwn) this.#merged = part;
    return isWanted;
  }

  data(bytes: Uint8Array): void {
    this.#merge.data(bytes);
  }

  hole(bytes: number): void {
    this.#merge.hole(bytes);
  }

  end(): void {
    const digest = this.#merge.end();
    if (this.#merged) this.#merged.digest = digest;
  }

  /** Takes the next piece of the archive, of which the parser knows already. Throws ErrnoError with the path of the store. */
  record(piece: Uint8Array): void {
    for (let at = 0; at < piece.length; ) {
      const [part] = this.#parts;
      const isInPart = part !== undefined && this.#at >= part.from;
      const end = part === undefined ? Number.POSITIVE_INFINITY : isInPart ? part.to : part.from;
      const bytes = piece.subarray(at, at + end - this.#at);
      if (!isInPart) this.#writer.inline(bytes);
      else if (part.isOwn) this.#recordOwn(part, bytes);
      at += bytes.length;
      this.#at += bytes.length;
      if (isInPart && this.#at === end) this.#endPart(part);
    }
  }

  #recordOwn(part: Part, bytes: Uint8Array): void {
    if (this.#at === part.from) this.#objects.begin(part.to - part.from);
    this.#objects.write(bytes);
    if (this.#at + bytes.length === part.to) part.digest = this.#objects.end().digest;
  }

  #endPart({ digest, from, to }: Part): void {
    this.#writer.object(digest as string, to - from);
    this.#parts.shift();
  }
}
