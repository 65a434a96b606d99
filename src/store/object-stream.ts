/**
 * Adds objects to a store whose data comes in pieces, and whose digests are known only at the end.
 *
 * A small object stays in memory until its digest is known, and is written only if the store lacks it. A large one is written to
 * the run's own directory as it comes. Objects get their names in batches, after one sync of the filesystem: a sync for each
 * would take most of the time. Until then they are in the run's directory, so that no name ever leads to incomplete data.
 */
import { randomBytes } from 'node:crypto';
import { openIn } from '../sys/beneath.ts';
import { type ByteString, printable } from '../sys/bytes.ts';
import { ENOSPC, ErrnoError, must } from '../sys/errno.ts';
import { native } from '../sys/native.ts';
import { type Algorithm, Measurement, measureBytes, parametersOf } from '../verity/digest.ts';
import { type Added, OBJECT_MODE, ObjectStore, objectPath, protect, type Store } from './objects.ts';

/** An object that was added. */
export interface AddedObject {
  readonly digest: string;
  readonly added: Added;
}

/** An object that is on disk without its name. */
interface Unnamed {
  readonly file: ByteString;
  readonly digest: string;
}

/** Data up to this size is kept in memory. */
const MEMORY_BYTES = 1 << 20;
/** A batch ends with this many objects, or this much data. */
const BATCH_OBJECTS = 1000;
const BATCH_BYTES = 1 << 28;
const zeros = new Uint8Array(1 << 16);

const O_WRONLY = 0o1;
const O_CREAT = 0o100;
const O_EXCL = 0o200;

/** Takes one object after the other: `begin`, `write` and `hole` for its data in order, `end`; and `finish` after the last one. */
export class ObjectStream {
  readonly #store: Store;
  readonly #algorithm: Algorithm;
  readonly #objects: ObjectStore;
  readonly #memory = new Uint8Array(MEMORY_BYTES);
  readonly #measurement: Measurement;
  #sizeBytes = 0;
  #at = 0;
  /** The file of a large object. */
  #file: { readonly name: ByteString; readonly fd: number } | undefined;
  /** Whether holes are the last of what a large object has. */
  #endsInHole = false;
  readonly #unnamed: Unnamed[] = [];
  #unnamedBytes = 0;
  /** Whether the filesystem has fs-verity, as far as is known. */
  #hasVerity = true;
  /** Whether files are made with their mode. */
  readonly #makesMode = (process.umask() & OBJECT_MODE) === 0;
  /** Objects that this run found or added, which are not looked at again. */
  readonly #seen = new Set<string>();

  constructor(store: Store, algorithm: Algorithm) {
    this.#store = store;
    this.#algorithm = algorithm;
    this.#objects = new ObjectStore(store, algorithm);
    this.#measurement = new Measurement(parametersOf(algorithm));
  }

  /** Begins an object of a size. Throws ErrnoError with the path of the store. */
  begin(sizeBytes: number): void {
    this.#sizeBytes = sizeBytes;
    this.#at = 0;
    this.#endsInHole = false;
    if (sizeBytes <= MEMORY_BYTES) return;
    this.#file = this.#create();
    this.#measurement.restart();
  }

  /** Takes the next bytes. */
  write(bytes: Uint8Array): void {
    if (this.#file) {
      this.#measurement.update(bytes);
      this.#writeTo(this.#file.fd, bytes, this.#at);
      this.#endsInHole = false;
    } else this.#memory.set(bytes, this.#at);
    this.#at += bytes.length;
  }

  /** Takes zeros, which take no space on disk in a large object. */
  hole(bytes: number): void {
    if (this.#file)
      for (let left = bytes; left > 0; left -= zeros.length)
        this.#measurement.update(zeros.subarray(0, Math.min(left, zeros.length)));
    else this.#memory.fill(0, this.#at, this.#at + bytes);
    this.#at += bytes;
    this.#endsInHole = true;
  }

  /** Ends the object. Throws ErrnoError with the path of the store or the object. */
  end(): AddedObject {
    const file = this.#file;
    this.#file = undefined;
    const memory = this.#memory.subarray(0, this.#sizeBytes);
    const bytes = file ? this.#measurement.digest() : measureBytes(memory, parametersOf(this.#algorithm));
    const digest = Buffer.from(bytes).toString('hex');
    if (file) this.#close(file.name, file.fd);
    const added = this.#seen.has(digest) ? 'known' : this.#objects.find(digest, this.#sizeBytes);
    this.#seen.add(digest);
    if (added !== 'known') this.#keep(file?.name ?? this.#createWith(memory), digest);
    else if (file) native.unlinkat(this.#store.stagingFd, file.name, 0);
    return { digest, added };
  }

  /** Gives all objects their names. Throws ErrnoError with the path of the store. */
  finish(): void {
    const { fd, path, stagingFd } = this.#store;
    if (this.#unnamed.length === 0) return;
    must(native.syncfs(fd), `store ${printable(path)}`);
    const byDirectory = new Map<string, Unnamed[]>();
    for (const object of this.#unnamed) {
      const name = object.digest.slice(0, 2);
      byDirectory.set(name, [...(byDirectory.get(name) ?? []), object]);
    }
    for (const [name, objects] of byDirectory) {
      const directory = this.#objects.openDirectory(name);
      try {
        for (const { file, digest } of objects) {
          const shown = `${printable(path)}/${objectPath(digest)}`;
          if (this.#hasVerity) this.#protect(file, shown);
          must(native.renameat2(stagingFd, file, directory, digest.slice(2), 0), shown);
        }
      } finally {
        native.close(directory);
      }
    }
    this.#unnamed.length = 0;
    this.#unnamedBytes = 0;
  }

  #protect(file: ByteString, shown: string): void {
    const object = must(openIn(this.#store.stagingFd, file, 0, 0), shown);
    this.#hasVerity = protect(object, this.#algorithm);
    native.close(object);
  }

  /** Closes the file of an object that will not be ended. */
  abandon(): void {
    if (this.#file) native.close(this.#file.fd);
    this.#file = undefined;
  }

  #keep(file: ByteString, digest: string): void {
    this.#unnamed.push({ file, digest });
    this.#unnamedBytes += this.#sizeBytes;
    if (this.#unnamed.length >= BATCH_OBJECTS || this.#unnamedBytes >= BATCH_BYTES) this.finish();
  }

  #create(): { name: ByteString; fd: number } {
    const { path, stagingFd } = this.#store;
    const name = randomBytes(8).toString('hex');
    const flags = O_WRONLY | O_CREAT | O_EXCL;
    return { name, fd: must(native.openat(stagingFd, name, flags, OBJECT_MODE), `store ${printable(path)}`) };
  }

  #createWith(bytes: Uint8Array): ByteString {
    const { name, fd } = this.#create();
    this.#writeTo(fd, bytes, 0);
    this.#close(name, fd);
    return name;
  }

  #writeTo(fd: number, bytes: Uint8Array, at: number): void {
    const what = `store ${printable(this.#store.path)}`;
    const written = must(native.pwrite(fd, bytes, 0, bytes.length, at), what);
    if (written < bytes.length) {
      must(native.pwrite(fd, bytes, written, bytes.length - written, at + written), what); // tells why
      throw new ErrnoError(ENOSPC, `${what}: nothing more is taken`);
    }
  }

  /** Gives a complete file its size and mode, and closes it. */
  #close(name: ByteString, fd: number): void {
    const what = `store ${printable(this.#store.path)}`;
    try {
      if (this.#endsInHole) must(native.ftruncate(fd, this.#sizeBytes), what);
      if (!this.#makesMode) must(native.fchmodat(this.#store.stagingFd, name, OBJECT_MODE), what);
    } finally {
      native.close(fd);
    }
  }
}
