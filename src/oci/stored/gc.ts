/** Removes from a repository what no name and no mount leads to. */

import { O_NOFOLLOW, O_NONBLOCK, openDirectoryBeneath } from '../../sys/beneath.ts';
import { type ByteString, printable } from '../../sys/bytes.ts';
import { EAGAIN, EBUSY, ENOENT, ErrnoError, must } from '../../sys/errno.ts';
import { holdersText, LOCK_EX, LOCK_NB, LOCK_SH } from '../../sys/locks/flock.ts';
import { native } from '../../sys/native.ts';
import { DT_DIR, DT_REG } from '../../sys/stat.ts';
import { identityIn, statx, statxSize, statxVersion } from '../../sys/statx.ts';
import { checkWritable, META } from '../repository-meta.ts';
import { IMAGES, isDigest } from './image-links.ts';
import { streamObject } from './oci-image.ts';
import { kindOf, Reach, streamPath } from './reach.ts';
import { isTemporary, pathOfObject, type StoredRepository } from './repository.ts';
import { addNamed } from './roots.ts';

const AT_REMOVEDIR = 0x200;

/** An image that is in use without a lock that shows it, such as one that the kernel has mounted. */
export interface ImageInUse {
  /** A descriptor of its file. */
  readonly fd: number;
  readonly shown: string;
  /** Whether it is known to have objects of the repository, even if it lies elsewhere. */
  readonly hasObjects: boolean;
}

export interface Collected {
  /** The digests of images that were removed, and of those that stay only because they are mounted. */
  readonly images: readonly string[];
  readonly mounted: readonly string[];
  /** The names of streams. */
  readonly streams: readonly ByteString[];
  /** What interrupted runs have left. */
  readonly leftovers: readonly ByteString[];
  readonly objects: number;
  readonly objectBytes: number;
}

export interface GcOptions {
  /** Finds the images in use; called when the repository is locked. */
  readonly inUse: () => readonly ImageInUse[];
  readonly dryRun: boolean;
  /** Is called before the wait for other processes. */
  readonly waiting: (holders: string) => void;
}

/**
 * Collects garbage. Nothing is removed before all that names and mounts lead to has been read. Throws ErrnoError, and has removed
 * nothing then: as `addNamed` and `Reach.add`; EBUSY while a process adds objects without the lock of the repository.
 */
export function collectGarbage(repository: StoredRepository, { inUse, dryRun, waiting }: GcOptions): Collected {
  checkWritable(repository.meta, repository.shown(META));
  repository.lock(dryRun ? LOCK_SH : LOCK_EX, waiting);
  const mounted = inUse();
  try {
    const collection = new Collection(repository, mounted);
    const found = collection.find();
    if (!dryRun) collection.remove(found);
    return found;
  } finally {
    for (const { fd } of mounted) native.close(fd);
  }
}

type Found = Collected & { readonly referrers: readonly ByteString[] };

class Collection {
  readonly #repository: StoredRepository;
  readonly #reach: Reach;
  readonly #inUse: readonly ImageInUse[];
  /** Device and inode of images that the kernel has mounted. */
  readonly #identities = new Set<string>();
  readonly #mounted = new Set<string>();

  constructor(repository: StoredRepository, inUse: readonly ImageInUse[]) {
    this.#repository = repository;
    this.#reach = new Reach(repository);
    this.#inUse = inUse;
  }

  find(): Found {
    const leftovers = this.#leftovers();
    const referrers = addNamed(this.#repository, this.#reach);
    for (const { fd, shown, hasObjects } of this.#inUse) {
      must(statx(fd, ''), shown);
      this.#identities.add(identityIn(statxVersion()));
      if (hasObjects) this.#reach.addImage(fd, shown);
    }
    this.#addMounted();
    const { objects, objectBytes } = this.#count();
    return {
      images: this.#repository.linksIn(IMAGES).filter(name => this.#isImage(name) && !this.#reach.objects.has(name)),
      mounted: [...this.#mounted].sort(),
      streams: this.#repository.linksIn('streams').filter(name => !this.#isStreamKept(name)),
      ...{ leftovers, referrers, objects, objectBytes },
    };
  }

  /** Removes what was found, in an order in which an interruption leaves nothing that refers to what is gone. */
  remove({ images, streams, leftovers, referrers }: Found): void {
    const { fd, path } = this.#repository;
    for (const name of referrers) this.#unlink(name);
    for (const name of streams) this.#unlink(streamPath(name));
    for (const digest of images) this.#removeObject(digest, `${IMAGES}/${digest}`);
    for (const leftover of leftovers) this.#removeLeftover(leftover);
    must(native.syncfs(fd), printable(path));
    for (const [digest] of this.#dead()) this.#removeObject(digest);
    this.#removeEmpty('images/refs');
    this.#removeEmpty('streams/refs');
  }

  /** Whether a symlink is that of an image; one that leads elsewhere is left alone. */
  #isImage(name: ByteString): boolean {
    if (!isDigest(name)) return false;
    try {
      return this.#repository.target(`${IMAGES}/${name}`) === pathOfObject(name);
    } catch (error) {
      if (error instanceof ErrnoError) return false;
      throw error;
    }
  }

  /** A stream that leads out of the repository is left alone. */
  #isStreamKept(name: ByteString): boolean {
    try {
      return this.#reach.objects.has(streamObject(this.#repository, streamPath(name)));
    } catch (error) {
      if (error instanceof ErrnoError) return true;
      throw error;
    }
  }

  /** Adds the images among what nothing leads to that are in use. */
  #addMounted(): void {
    for (const [digest, directory, name] of this.#dead()) {
      if (this.#reach.objects.has(digest)) continue; // an image before it leads there
      const shown = this.#repository.shown(pathOfObject(digest));
      const fd = native.openat2(directory, name, O_NOFOLLOW | O_NONBLOCK, 0);
      if (fd === -ENOENT) continue;
      must(fd, shown);
      try {
        must(statx(fd, ''), shown);
        const isInKernel = this.#identities.has(identityIn(statxVersion()));
        if (!isInKernel && (kindOf(fd, shown) !== 'image' || isUnlocked(fd, shown))) continue;
      } finally {
        native.close(fd);
      }
      this.#mounted.add(digest);
      this.#reach.add(digest, shown);
    }
  }

  /** The objects that have not been reached, with a descriptor of their directory and the name there. */
  *#dead(): Generator<[digest: string, directory: number, name: ByteString]> {
    for (const [first, type] of this.#repository.entries('objects')) {
      if (type !== DT_DIR || !/^[0-9a-f]{2}$/.test(first)) continue;
      const path = `objects/${first}`;
      const directory = must(openDirectoryBeneath(this.#repository.fd, path), this.#repository.shown(path));
      try {
        for (const [rest, type] of this.#repository.entries(path))
          if (type === DT_REG && isDigest(first + rest) && !this.#reach.objects.has(first + rest))
            yield [first + rest, directory, rest];
      } finally {
        native.close(directory);
      }
    }
  }

  #count(): { objects: number; objectBytes: number } {
    let [objects, objectBytes] = [0, 0];
    for (const [, directory, name] of this.#dead()) {
      if (statx(directory, name) !== 0) continue;
      objects++;
      objectBytes += statxSize();
    }
    return { objects, objectBytes };
  }

  /**
   * Removes an object, and before it the symlink that makes it an image. An image that is in use by now stays, with all that it leads
   * to; while its lock is held here, nobody can begin to use it.
   */
  #removeObject(digest: string, link?: ByteString): void {
    if (this.#reach.objects.has(digest)) return;
    const path = pathOfObject(digest);
    const shown = this.#repository.shown(path);
    const file = this.#repository.hasObject(digest) ? this.#repository.openObject(digest) : undefined;
    try {
      if (file && kindOf(file.fd, shown) === 'image' && !isUnlocked(file.fd, shown)) {
        this.#reach.add(digest, shown);
        return;
      }
      if (link !== undefined) this.#unlink(link);
      this.#unlink(path);
    } finally {
      file?.close();
    }
  }

  /** Removes a name by a descriptor of its directory; one that is gone is no error. */
  #unlink(path: ByteString, flags = 0): void {
    const at = path.lastIndexOf('/');
    const { fd } = this.#repository;
    const directory = openDirectoryBeneath(fd, at < 0 ? '.' : path.slice(0, at));
    if (directory === -ENOENT) return;
    const shown = this.#repository.shown(path);
    must(directory, shown);
    const removed = native.unlinkat(directory, path.slice(at + 1), flags);
    native.close(directory);
    if (removed !== -ENOENT) must(removed, shown);
  }

  /** The names in the making, and the directories of runs that are over. Throws ErrnoError EBUSY for one that is not over. */
  #leftovers(): ByteString[] {
    const found: ByteString[] = [];
    for (const directory of ['', 'images/', 'streams/'])
      for (const [name] of this.#repository.entries(directory || '.'))
        if (isTemporary(name)) found.push(`${directory}${name}`);
    for (const directory of ['images/refs', 'streams/refs'])
      for (const { name } of this.#repository.namesBelow(directory))
        if (isTemporary(name)) found.push(`${directory}/${name}`);
    for (const [name, type] of this.#repository.entries('objects')) {
      if (type !== DT_DIR || !isTemporary(name)) continue;
      const path = `objects/${name}`;
      const shown = this.#repository.shown(path);
      const fd = must(openDirectoryBeneath(this.#repository.fd, path), shown);
      try {
        if (!isUnlocked(fd, shown)) throw new ErrnoError(EBUSY, `${shown}: ${holdersText(fd)} adds objects`);
      } finally {
        native.close(fd);
      }
      found.push(path);
    }
    return found;
  }

  #removeLeftover(path: ByteString): void {
    if (this.#repository.isDirectory(path)) {
      for (const [name] of this.#repository.entries(path)) this.#unlink(`${path}/${name}`);
      this.#unlink(path, AT_REMOVEDIR);
    } else this.#unlink(path);
  }

  /** Removes the directories below one that have no names any more. */
  #removeEmpty(directory: ByteString): void {
    for (const [name, type] of this.#repository.entries(directory)) {
      if (type !== DT_DIR) continue;
      const path = `${directory}/${name}`;
      this.#removeEmpty(path);
      if (this.#repository.entries(path).length === 0) this.#unlink(path, AT_REMOVEDIR);
    }
  }
}
/** Whether nobody has locked a file or a directory. */
function isUnlocked(fd: number, shown: string): boolean {
  const locked = native.flock(fd, LOCK_EX | LOCK_NB);
  if (locked === -EAGAIN) return false;
  must(locked, shown);
  return true;
}
