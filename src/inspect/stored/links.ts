/** What leads to the objects of a repository: names, streams and images. */
import { setImmediate } from 'node:timers/promises';
import type { OpenBytes } from '../../oci/files.ts';
import { IMAGES, isDigest } from '../../oci/stored/image-links.ts';
import { streamObject } from '../../oci/stored/oci-image.ts';
import { kindOf, objectsOfImage } from '../../oci/stored/reach.ts';
import { isTemporary, pathOfObject, type StoredRepository } from '../../oci/stored/repository.ts';
import { ChunkParser } from '../../oci/streams/chunks.ts';
import { decodeSection, type References, readNames, readReferences } from '../../oci/streams/references.ts';
import { type ByteString, printable } from '../../sys/bytes.ts';
import { ENOENT, ErrnoError, EUCLEAN } from '../../sys/errno.ts';
import type { StoredObjects } from './objects.ts';
import { type Problems, PULL, REMOVE, REMOVE_NAME } from './problems.ts';

const STREAMS = 'streams';

export interface LinksOptions {
  readonly repository: StoredRepository;
  readonly objects: StoredObjects;
  readonly signal: AbortSignal;
  readonly problems: Problems;
}

/** Checks all links; an object that is missing is reported once, with the first thing that needs it. */
export class LinkCheck {
  streams = 0;
  images = 0;
  names = 0;
  readonly #options: LinksOptions;
  readonly #read = new Set<string>();
  readonly #missing = new Set<string>();

  constructor(options: LinksOptions) {
    this.#options = options;
  }

  /** The promise resolves early when the signal aborts. Rejects with ErrnoError for a directory that cannot be read. */
  async run(): Promise<void> {
    const { repository } = this.#options;
    for (const name of repository.linksIn(STREAMS)) {
      if (await this.#isCancelled()) return;
      this.streams++;
      await this.#attempt(`${STREAMS}/${name}`, REMOVE, path => this.#checkStream(path));
    }
    for (const name of repository.linksIn(IMAGES)) {
      if (!isDigest(name)) continue;
      if (await this.#isCancelled()) return;
      this.images++;
      await this.#attempt(`${IMAGES}/${name}`, REMOVE, path => this.#checkImage(path, name));
    }
    for (const directory of [STREAMS, IMAGES])
      for (const { name, isLink } of repository.namesBelow(`${directory}/refs`)) {
        if (!isLink || isTemporary(name)) continue;
        this.names++;
        await this.#attempt(`${directory}/refs/${name}`, REMOVE_NAME, path => this.#checkName(path, directory));
      }
  }

  /** Whether a signal has come; it can come only while this waits. */
  async #isCancelled(): Promise<boolean> {
    await setImmediate();
    return this.#options.signal.aborted;
  }

  async #attempt(path: ByteString, help: string, check: (path: ByteString) => void | Promise<void>): Promise<void> {
    try {
      await check(path);
    } catch (error) {
      this.#options.problems.addError(path, error, help);
    }
  }

  async #checkStream(path: ByteString): Promise<void> {
    const digest = streamObject(this.#options.repository, path);
    if (this.#isGood(digest, path)) await this.#readAll(digest, 'stream', path);
  }

  async #checkImage(path: ByteString, digest: string): Promise<void> {
    const target = this.#options.repository.target(path) ?? '';
    if (target !== pathOfObject(digest))
      throw new ErrnoError(EUCLEAN, `leads to ${printable(target)}, not to ${pathOfObject(digest)}`);
    if (this.#isGood(digest, path)) await this.#readAll(digest, 'image', path);
  }

  #checkName(path: ByteString, directory: ByteString): void {
    const { repository } = this.#options;
    const target = repository.target(path) ?? '';
    const [first, name, ...more] = target.split('/');
    const what = directory === STREAMS ? 'stream' : 'image';
    if (first !== directory || name === undefined || name === 'refs' || more.length > 0)
      throw new ErrnoError(EUCLEAN, `leads to ${printable(target)}, which is no ${what} of the repository`);
    if (!repository.isLink(target)) throw new ErrnoError(ENOENT, `leads to ${printable(target)}, which does not exist`);
  }

  /** Whether an object can be read; one that is missing is reported. @param from the path of what needs it */
  #isGood(digest: string, from: ByteString): boolean {
    const { objects, problems } = this.#options;
    if (objects.isGood(digest)) return true;
    if (!objects.damaged.has(digest) && !this.#missing.has(digest)) {
      this.#missing.add(digest);
      problems.add(pathOfObject(digest), 'ENOENT', `it does not exist, but ${printable(from)} needs it`, PULL);
    }
    return false;
  }

  /** Reads a stream or an image, and all streams and images that it leads to. Throws ErrnoError EUCLEAN for another kind of object. */
  async #readAll(first: string, wanted: 'stream' | 'image', from: ByteString): Promise<void> {
    const { repository } = this.#options;
    const pending = [first];
    for (let digest = pending.pop(); digest !== undefined; digest = pending.pop()) {
      const path = pathOfObject(digest);
      const shown = repository.shown(path);
      const file = repository.openObject(digest);
      try {
        const kind = kindOf(file.fd, shown);
        if (digest === first && kind !== wanted)
          throw new ErrnoError(EUCLEAN, `${repository.shown(from)}: leads to ${path}, which is no ${wanted}`);
        if (this.#read.has(digest)) continue;
        this.#read.add(digest);
        await this.#attempt(path, REMOVE, async () => {
          const user = digest === first ? from : path;
          if (kind === 'image') for (const object of objectsOfImage(file.fd, shown)) this.#isGood(object, user);
          if (kind === 'stream') for (const stream of await this.#readStream(file, path, user)) pending.push(stream);
        });
      } finally {
        file.close();
      }
    }
  }

  /** Reads a stream. @returns the digests of the streams and images that it leads to. Throws ErrnoError with its path. */
  async #readStream(file: OpenBytes, path: ByteString, user: ByteString): Promise<string[]> {
    const { repository } = this.#options;
    const shown = repository.shown(path);
    const references = readReferences(file, shown);
    const { algorithm } = repository.meta;
    if (references.algorithm !== algorithm)
      throw new ErrnoError(EUCLEAN, `its digests are those of ${references.algorithm}, not of ${algorithm}`);
    const streams = [...references.streams].filter(digest => this.#isGood(digest, user));
    let isWhole = true;
    for (const object of references.objects) isWhole = this.#isGood(object, user) && isWhole;
    await readNames(file, references, shown);
    if (isWhole) await this.#readChunks(file, references, shown);
    return streams;
  }

  /** Reads the chunks of a stream whose objects are all good: together they have to have the size of its file. */
  async #readChunks(file: OpenBytes, { objects, fileBytes, chunks }: References, shown: string): Promise<void> {
    const { sizes } = this.#options.objects;
    const visitor = { inline: () => {}, object: (index: number) => sizes.get(objects.at(index) as string) as number };
    const parser = new ChunkParser(objects.length, fileBytes, visitor, shown);
    for await (const piece of decodeSection(file, chunks, shown)) parser.push(piece);
    parser.finish();
  }
}
