/** All that roots of a repository lead to: streams, images, and the data of files. */
import { walkImage } from '../../composefs/walk-image.ts';
import { SUPER_AT, SuperBlock } from '../../erofs/format.ts';
import { openImage, readImageFile } from '../../erofs/image.ts';
import { isErofs } from '../../erofs/superblock.ts';
import { type ByteString, byteStringOf } from '../../sys/bytes.ts';
import { ENOENT, ErrnoError, must } from '../../sys/errno.ts';
import { native } from '../../sys/native.ts';
import { isRegular } from '../../sys/stat.ts';
import type { OpenBytes } from '../files.ts';
import { Header, MAGIC, OldHeader } from '../streams/format.ts';
import { readReferences } from '../streams/references.ts';
import { pathOfObject, type StoredRepository } from './repository.ts';

/** The digest in the path of an object in a store. */
const OBJECT = /^\/*([0-9a-f]{2})\/([0-9a-f]{62}|[0-9a-f]{126})$/;

/** What the bytes of an object are, by their magic. */
export type Kind = 'stream' | 'image' | 'other';

/** Bytes up to the end of the magic of an image. */
const START_BYTES = SUPER_AT + SuperBlock.SIZE;
const start = new Uint8Array(START_BYTES);

/** The kind of an open file. Throws ErrnoError with the path. */
export function kindOf(fd: number, shown: string): Kind {
  const count = must(native.pread(fd, start, 0, START_BYTES, 0), shown);
  const bytes = start.subarray(0, count);
  if (count < Header.SIZE) return 'other';
  const isStream = [Header, OldHeader].some(({ magic }) => byteStringOf(bytes, magic, magic + MAGIC.length) === MAGIC);
  return isStream ? 'stream' : isErofs(bytes) ? 'image' : 'other';
}

export class Reach {
  /** The digests of all objects that have been reached. */
  readonly objects = new Set<string>();
  readonly #repository: StoredRepository;
  readonly #read = new Set<string>();

  constructor(repository: StoredRepository) {
    this.#repository = repository;
  }

  /**
   * Adds an object with all that it leads to. Streams and images have to be whole: what a damaged one leads to is not known.
   * Throws ErrnoError with the path: ENOENT if it is missing, EUCLEAN if it is damaged.
   * @param from what leads to it, for messages
   */
  add(digest: string, from: string): void {
    const pending: [digest: string, from: string][] = [[digest, from]];
    for (let next = pending.pop(); next; next = pending.pop()) {
      this.objects.add(next[0]);
      if (this.#read.has(next[0])) continue;
      this.#read.add(next[0]);
      const shown = this.#repository.shown(pathOfObject(next[0]));
      for (const stream of this.#readObject(...next)) pending.push([stream, shown]);
    }
  }

  /** Adds what an image file leads to, wherever it is. Throws ErrnoError with the path. */
  addImage(fd: number, shown: string): void {
    for (const digest of objectsOfImage(fd, shown)) this.objects.add(digest);
  }

  /** Reads one object. @returns the digests of streams and images that it leads to */
  #readObject(digest: string, from: string): Iterable<string> {
    const shown = this.#repository.shown(pathOfObject(digest));
    const file = this.#open(digest, from);
    try {
      const kind = kindOf(file.fd, shown);
      if (kind === 'other') return [];
      this.#repository.checkObject(file, digest);
      if (kind === 'image') {
        this.addImage(file.fd, shown);
        return [];
      }
      const { streams, objects } = readReferences(file, shown);
      for (const object of objects) this.objects.add(object);
      return streams;
    } finally {
      file.close();
    }
  }

  #open(digest: string, from: string): OpenBytes {
    try {
      return this.#repository.openObject(digest);
    } catch (error) {
      if (!(error instanceof ErrnoError) || error.errno !== ENOENT) throw error;
      throw new ErrnoError(ENOENT, `${from}: leads to ${pathOfObject(digest)}, which does not exist`);
    }
  }
}

/** The digests of the data of an image's files, which may occur again; none for an image without objects. Throws ErrnoError with the path. */
export function* objectsOfImage(fd: number, shown: string): Generator<string> {
  try {
    const image = openImage(readImageFile(fd, shown));
    if (!image.composefs) return;
    for (const { inode } of walkImage(image)) {
      if (!isRegular(inode.mode)) continue;
      if (inode.digest !== undefined) yield inode.digest;
      const [, first, rest] = OBJECT.exec(inode.payload ?? '') ?? [];
      if (first !== undefined) yield `${first}${rest}`;
    }
  } catch (error) {
    if (!(error instanceof ErrnoError) || error.message.startsWith(shown)) throw error;
    throw new ErrnoError(error.errno, `${shown}: ${error.message}`);
  }
}

/** The path of a stream by its name. */
export const streamPath = (name: ByteString): ByteString => `streams/${name}`;
