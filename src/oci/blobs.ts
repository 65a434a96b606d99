/** Blobs and documents of an image, which are read from start to end and checked by size and digest. */
import { createHash } from 'node:crypto';
import { ErrnoError, EUCLEAN } from '../sys/errno.ts';
import { DOCUMENT_BYTES_MAX } from './documents.ts';
import { type ImageFiles, readAt } from './files.ts';

/** What a file has to be. */
export interface Expected {
  /** `sha256:HEX` or `sha512:HEX`. */
  readonly digest: string;
  /** undefined if nobody says. */
  readonly size?: number | undefined;
}

/** Bytes of one read of a blob. */
const READ_BYTES = 1 << 18;

/** A document as a whole, checked if something is expected of it. Throws ErrnoError with its path. */
export function readDocument(
  files: ImageFiles,
  name: string,
  expected?: Expected,
  bytesMax = DOCUMENT_BYTES_MAX,
): Uint8Array {
  const shown = `${files.shown}/${name}`;
  const file = files.open(name);
  try {
    if (file.sizeBytes > bytesMax)
      throw new ErrnoError(EUCLEAN, `${shown}: ${file.sizeBytes} bytes; ${bytesMax} are allowed`);
    const bytes = readAt(file, 0, file.sizeBytes, shown);
    if (expected) {
      const check = new DigestCheck(expected, shown);
      check.add(bytes);
      check.finish();
    }
    return bytes;
  } finally {
    file.close();
  }
}

/**
 * The bytes of a blob, piece by piece, and checked at the end. Throws ErrnoError with its path: EUCLEAN if its size or digest is
 * not the expected one.
 * @param count is called with the number of bytes read so far
 */
export async function* readBlob(
  files: ImageFiles,
  name: string,
  expected: Expected | undefined,
  count: (bytes: number) => void,
): AsyncGenerator<Uint8Array> {
  const shown = `${files.shown}/${name}`;
  const file = files.open(name);
  try {
    const check = expected && new DigestCheck(expected, shown);
    for (let at = 0; at < file.sizeBytes; ) {
      const piece = readAt(file, at, Math.min(READ_BYTES, file.sizeBytes - at), shown);
      check?.add(piece);
      yield piece;
      at += piece.length;
      count(at);
    }
    check?.finish();
  } finally {
    file.close();
  }
}

/** Compares bytes that come in pieces with the size and the digest that they should have. */
export class DigestCheck {
  readonly #expected: Expected;
  readonly #what: string;
  readonly #hash;
  #bytes = 0;

  /** @param what names the bytes, for messages */
  constructor(expected: Expected, what: string) {
    this.#expected = expected;
    this.#what = what;
    this.#hash = createHash(algorithmOf(expected));
  }

  /** Throws ErrnoError EUCLEAN if there are more bytes than expected. */
  add(bytes: Uint8Array): void {
    this.#bytes += bytes.length;
    const { size } = this.#expected;
    if (size !== undefined && this.#bytes > size)
      throw new ErrnoError(EUCLEAN, `${this.#what}: more than the ${size} bytes that it should have`);
    this.#hash.update(bytes);
  }

  /** Throws ErrnoError EUCLEAN if the bytes are not the expected ones. */
  finish(): void {
    const { size, digest } = this.#expected;
    if (size !== undefined && this.#bytes !== size)
      throw new ErrnoError(EUCLEAN, `${this.#what}: ${this.#bytes} bytes, but it should have ${size}`);
    const found = `${algorithmOf(this.#expected)}:${this.#hash.digest('hex')}`;
    if (found !== digest)
      throw new ErrnoError(EUCLEAN, `${this.#what}: its digest is ${found}, but it should be ${digest}`);
  }
}

const algorithmOf = ({ digest }: Expected): string => digest.slice(0, digest.indexOf(':'));

/** The digest of bytes, as descriptors have it. */
export const sha256Of = (bytes: Uint8Array): string => `sha256:${createHash('sha256').update(bytes).digest('hex')}`;
