/** The chunks of a splitstream: parts of its file that it holds, and objects that are the other parts. */
import { getI64 } from '../../sys/bytes.ts';
import { ErrnoError, EUCLEAN } from '../../sys/errno.ts';

/** Receives the parts of a file in order. */
export interface ChunkVisitor {
  /** The next bytes, valid during the call. */
  inline(bytes: Uint8Array): void;
  /** The next part is a whole object. @returns its size */
  object(index: number): number;
}

const NUMBER_BYTES = 8;

/** Takes the bytes of chunks by calls of `push`, and then `finish`. */
export class ChunkParser {
  readonly #objects: number;
  readonly #fileBytes: number;
  readonly #visitor: ChunkVisitor;
  readonly #shown: string;
  readonly #number = new Uint8Array(NUMBER_BYTES);
  #numberBytes = 0;
  /** Bytes of the chunk that are still to come. */
  #left = 0;
  /** The offset in the file of the next byte. */
  #at = 0;

  /**
   * @param objects how many objects the stream has @param fileBytes the size of the file
   * @param shown the path of the stream, for messages
   */
  constructor(objects: number, fileBytes: number, visitor: ChunkVisitor, shown: string) {
    this.#objects = objects;
    this.#fileBytes = fileBytes;
    this.#visitor = visitor;
    this.#shown = shown;
  }

  /** Takes the next bytes. Throws ErrnoError EUCLEAN with the path and the offset in the file; and what the visitor throws. */
  push(bytes: Uint8Array): void {
    for (let at = 0; at < bytes.length; ) {
      const part = bytes.subarray(at, at + (this.#left || NUMBER_BYTES - this.#numberBytes));
      at += part.length;
      if (this.#left > 0) {
        this.#left -= part.length;
        this.#at += part.length;
        this.#visitor.inline(part);
        continue;
      }
      this.#number.set(part, this.#numberBytes);
      this.#numberBytes += part.length;
      if (this.#numberBytes < NUMBER_BYTES) continue;
      this.#numberBytes = 0;
      this.#begin(getI64(new DataView(this.#number.buffer), 0));
    }
  }

  /** Ends the chunks. Throws ErrnoError EUCLEAN with the path if they are not the whole file. */
  finish(): void {
    if (this.#left > 0 || this.#numberBytes > 0) this.#refuse('the chunks are cut off');
    if (this.#at !== this.#fileBytes) this.#refuse(`the file ends, but it should have ${this.#fileBytes} bytes`);
  }

  #begin(number: number): void {
    if (number < 0) this.#left = this.#checked(-number);
    else if (number < this.#objects) this.#at += this.#checked(this.#visitor.object(number));
    else this.#refuse(`object ${number} of ${this.#objects}`);
  }

  #checked(bytes: number): number {
    const left = this.#fileBytes - this.#at;
    return bytes <= left ? bytes : this.#refuse(`a chunk of ${bytes} bytes, where the file has ${left}`);
  }

  #refuse(why: string): never {
    throw new ErrnoError(EUCLEAN, `${this.#shown}: byte ${this.#at}: ${why}`);
  }
}
