/** Where the documents and blobs of an image come from. */
import { type Expected, readBlob, readDocument } from './blobs.ts';
import type { Descriptor } from './documents.ts';
import type { ImageFiles } from './files.ts';

export interface ImageSource {
  /** What stands in front of the names of documents and blobs in messages, with a slash. */
  readonly shown: string;
  /** A document as a whole, checked if something is expected of it. Throws ErrnoError with its name. */
  document(name: string, expected?: Expected): Uint8Array | Promise<Uint8Array>;
  /**
   * The bytes of a blob, piece by piece, checked by their end. Throws ErrnoError with its name.
   * @param count is called with the number of bytes that have come so far
   */
  blob(name: string, expected: Expected | undefined, count: (bytes: number) => void): AsyncIterable<Uint8Array>;
  /**
   * Prepares a source elsewhere for `blob`: layers will be wanted in this order.
   * @param makeFile returns the descriptor of a new file without a name, for the bytes of a blob
   */
  fetchAhead?(layers: readonly FetchedLayer[], makeFile: () => number): void;
  close(): void;
}

export interface FetchedLayer {
  readonly path: string;
  readonly blob: Descriptor | undefined;
}

/** Files on this machine as a source. */
export const localSource = (files: ImageFiles): ImageSource => ({
  shown: files.shown,
  document: (name, expected) => readDocument(files, name, expected),
  blob: (name, expected, count) => readBlob(files, name, expected, count),
  close: files.close,
});
