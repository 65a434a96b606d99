/**
 * A repository of composefs images, as composefs-rs lays it out, so that both can use one.
 *
 * ```
 * meta.json           {"version": 1, "algorithm": "fsverity-sha256-12", …}
 * objects/35/d02f…    files and images, named by their fs-verity digests
 * images/35d02f…      -> ../objects/35/d02f…
 * images/refs/NAME    -> ../35d02f…
 * images/refs/NAME.layers/1    the same for the image of a layer
 * streams/…           what images were made of; see oci/streams
 * ```
 * Source: composefs-rs, crates/composefs/src/repository_format.rs.
 */
import { ObjectStream } from '../store/object-stream.ts';
import {
  abandonStore,
  beginStore,
  endStore,
  makeDirectories,
  objectPath,
  protect,
  type Store,
} from '../store/objects.ts';
import { namesIn, openDirectory, openIn } from '../sys/beneath.ts';
import { type ByteString, bufferOf, printable } from '../sys/bytes.ts';
import { EEXIST, EINVAL, ErrnoError, errnoText, must } from '../sys/errno.ts';
import { LOCK_SH } from '../sys/locks/flock.ts';
import { native } from '../sys/native.ts';
import { writeAll } from '../sys/streams.ts';
import type { Algorithm } from '../verity/digest.ts';
import { LAYERS, removeLayerNames, replaceLink, TEMPORARY, temporaryName } from './links.ts';
import { checkAlgorithm, checkWritable, META, metaIn, newMeta, type RepositoryMeta } from './repository-meta.ts';
import { encodeTag } from './streams/names.ts';

/** The longest name of a file. */
const NAME_BYTES_MAX = 255;
const DEFAULT_ALGORITHM: Algorithm = 'sha256';
// fcntl.h
const O_CREAT = 0o100;
const O_EXCL = 0o200;
const O_WRONLY = 0o1;
const O_RDWR = 0o2;

/** A repository that a run adds to. While it is open, programs that collect garbage wait. */
export class Repository {
  readonly path: ByteString;
  readonly algorithm: Algorithm;
  /** The version of composefs that its images have. */
  readonly imageVersion: 0 | 1;
  readonly fd: number;
  readonly store: Store;
  readonly objects: ObjectStream;

  /**
   * Opens a repository, or makes one where there is nothing or an empty directory. `close` has to be called later.
   * Throws ErrnoError with the path.
   * @param algorithm of a new repository; one that exists must have it
   */
  constructor(path: ByteString, algorithm: Algorithm | undefined) {
    this.path = path;
    makeDirectories(path);
    this.fd = must(openDirectory(path, true), printable(path));
    try {
      must(native.flock(this.fd, LOCK_SH), printable(path));
      const meta = this.#openMeta(algorithm);
      this.algorithm = meta.algorithm;
      this.imageVersion = meta.imageVersion;
      this.store = beginStore(`${path}/objects`);
    } catch (error) {
      native.close(this.fd);
      throw error;
    }
    this.objects = new ObjectStream(this.store, this.algorithm);
  }

  /** Makes a file without a name. @returns its descriptor. Throws ErrnoError with the path. */
  makeUnnamedFile(): number {
    const { stagingFd } = this.store;
    const shown = printable(this.path);
    const name = temporaryName();
    const fd = must(native.openat(stagingFd, name, O_RDWR | O_CREAT | O_EXCL, 0o600), shown);
    native.unlinkat(stagingFd, name, 0);
    return fd;
  }

  /** Removes what is incomplete, at once. For a run that a signal ends. */
  abandon(): void {
    abandonStore(this.store);
  }

  /** Syncs the names of all objects to disk, and closes the repository. */
  close(): void {
    this.objects.abandon();
    endStore(this.store);
    native.close(this.fd);
  }

  /** Adds an object, which gets its name by `objects.finish`. @returns its digest in hex. Throws ErrnoError with the path. */
  addObject(bytes: Uint8Array): string {
    this.objects.begin(bytes.length);
    this.objects.write(bytes);
    return this.objects.end().digest;
  }

  /** Adds an image whose bytes are an object with its name. Throws ErrnoError with the path. */
  addImage(digest: string): void {
    this.link(`images/${digest}`, `../objects/${objectPath(digest)}`);
  }

  /** Names an image, by a name that `checkName` accepts, in place of the one that had the name. Throws ErrnoError with the path. */
  nameImage(digest: string, name: ByteString): void {
    this.link(`images/refs/${name}`, `${'../'.repeat(name.split('/').length)}${digest}`);
  }

  /**
   * Names the images of layers, which stand below the name of the image: `NAME.layers/1` for the lowest one. Names of more layers, which
   * another image had, are removed; without digests, all. Throws ErrnoError with the path.
   */
  nameLayers(digests: readonly string[], name: ByteString): void {
    for (const [i, digest] of digests.entries()) this.nameImage(digest, `${name}${LAYERS}/${i + 1}`);
    removeLayerNames(this.fd, name, digests.length + 1, this.path);
  }

  /** Makes a symlink, and the directories that it needs, in place of one that is there. Throws ErrnoError with the path. */
  link(path: ByteString, target: ByteString): void {
    replaceLink(this.fd, path, target, printable(`${this.path}/${path}`));
  }

  /** Reads meta.json, or makes it in an empty directory. */
  #openMeta(wanted: Algorithm | undefined): RepositoryMeta {
    const shown = printable(this.path);
    const found = metaIn(this.fd, shown);
    if (found === undefined) this.#makeMeta(wanted ?? DEFAULT_ALGORITHM, `${shown}/${META}`);
    const meta = found ?? (metaIn(this.fd, shown) as RepositoryMeta);
    checkWritable(meta, `${shown}/${META}`);
    checkAlgorithm(meta, wanted, `${shown}/${META}`);
    return meta;
  }

  /** Makes meta.json; that of a run that was faster stays. */
  #makeMeta(algorithm: Algorithm, shown: string): void {
    const others = namesIn(this.fd);
    if (typeof others === 'number') throw new ErrnoError(-others, `${shown}: ${errnoText(others)}`);
    if (others.some(name => !name.startsWith(TEMPORARY)))
      throw new ErrnoError(
        EINVAL,
        `${printable(this.path)}: neither empty nor a repository of composefs: it has no ${META}`,
      );
    const temporary = temporaryName();
    const fd = must(native.openat(this.fd, temporary, O_WRONLY | O_CREAT | O_EXCL, 0o644), shown);
    try {
      writeAll(fd, bufferOf(newMeta(algorithm)), shown);
      must(native.fsync(fd), shown);
    } finally {
      native.close(fd);
    }
    const file = must(openIn(this.fd, temporary, 0, 0), shown);
    protect(file, algorithm);
    native.close(file);
    const linked = native.linkat(this.fd, temporary, this.fd, META, 0);
    native.unlinkat(this.fd, temporary, 0);
    if (linked !== -EEXIST) must(linked, shown);
    must(native.fsync(this.fd), shown);
  }
}

/** Refuses a name for an image that is no path of its own, or no tag for composefs-rs. Throws ErrnoError EINVAL. */
export function checkName(name: ByteString): void {
  const refuse = (why: string): never => {
    throw new ErrnoError(EINVAL, `--name=${printable(name)}: ${why}`);
  };
  if (!name.split('/').every(part => /^[^.\0][^\0]{0,254}$/s.test(part)))
    refuse('parts that are empty, begin with a dot, or are too long');
  if (name.startsWith('@')) refuse('begins with @, as digests do');
  const { length } = encodeTag(name);
  if (length > NAME_BYTES_MAX) refuse(`as a file name, it has ${length} bytes; ${NAME_BYTES_MAX} are allowed`);
}
