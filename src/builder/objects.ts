/**
 * A content store: each file's data once, under its fs-verity digest, as composefs names it.
 *
 * ```
 * store/35/d02f81325122d77ec1d11baba655bc9bf8a891ab26119a41c50fa03ddfb408
 * store/.tmp-35d02f81325122d7/    copies in the making, of one run; for its owner alone
 * ```
 */
import { randomBytes } from 'node:crypto';
import {
  closeSync,
  constants,
  copyFileSync,
  fchmodSync,
  fstatSync,
  fsyncSync,
  mkdirSync,
  openSync,
  readdirSync,
  readSync,
  renameSync,
  rmSync,
  statSync,
} from 'node:fs';
import { type Name, nameBytes, printable } from '../sys/bytes.ts';
import { EIO, ErrnoError } from '../sys/errno.ts';
import { native } from '../sys/native.ts';
import { ALGORITHMS, type Algorithm, measureFd, parametersOf } from '../verity/digest.ts';

const BLOCK_BYTES = 4096;

/** Where a store keeps the object of a digest (hex), below the store. */
export const objectPath = (digest: string): string => `${digest.slice(0, 2)}/${digest.slice(2)}`;

/** The fs-verity digest (blocks of 4 KiB, no salt; hex) of the first `sizeBytes` bytes of a file. */
export function measureFile(path: Name, sizeBytes: number, algorithm: Algorithm = 'sha256'): string {
  return withFile(path, constants.O_NOFOLLOW, fd => digestOf(fd, sizeBytes, algorithm));
}

/** The same of all that is in a file now; symlinks are followed. */
export function measureWhole(path: Name, algorithm: Algorithm = 'sha256'): string {
  return withFile(path, 0, fd => digestOf(fd, fstatSync(fd).size, algorithm));
}

function digestOf(fd: number, sizeBytes: number, algorithm: Algorithm): string {
  return Buffer.from(measureFd(fd, sizeBytes, parametersOf(algorithm))).toString('hex');
}

/** The first `sizeBytes` bytes of a file. Throws ErrnoError EIO where it has fewer. */
export function readContent(path: Name, sizeBytes: number): Name {
  return withFile(path, constants.O_NOFOLLOW, fd => {
    const bytes = Buffer.alloc(sizeBytes);
    if (readSync(fd, bytes, 0, sizeBytes, 0) < sizeBytes)
      throw new ErrnoError(EIO, `${printable(path)} has fewer than ${sizeBytes} bytes`);
    return bytes.toString('latin1');
  });
}

const STAGING = '.tmp-';
/** A run that has not touched its copies for so long is dead. */
const ABANDONED_MS = 3_600_000;

/**
 * Makes a store where there is none, removes what dead runs have left in it, and makes a directory for the copies of this
 * run. Nobody else may enter that: a copy has the mode of its source at first, set-user-ID included, and another owner.
 */
export function beginStore(store: Name): Name {
  mkdirSync(bytesOf(store), { recursive: true, mode: 0o755 });
  for (const name of readdirSync(bytesOf(store), 'latin1')) {
    const path = `${store}/${name}`;
    if (name.startsWith(STAGING) && lastTouched(path) < Date.now() - ABANDONED_MS) remove(path);
  }
  const staging = `${store}/${STAGING}${randomBytes(8).toString('hex')}`;
  mkdirSync(bytesOf(staging), { mode: 0o700 });
  return staging;
}

/** Puts the names of all objects on disk, and removes the directory of the run. */
export function endStore(store: Name, staging: Name): void {
  remove(staging);
  const directories = readdirSync(bytesOf(store), 'latin1').filter(name => /^[0-9a-f]{2}$/.test(name));
  for (const name of ['.', ...directories]) withFile(`${store}/${name}`, constants.O_DIRECTORY, fsyncSync);
}

function lastTouched(staging: Name): number {
  const modified = (path: Name): number => statSync(bytesOf(path), { throwIfNoEntry: false })?.mtimeMs ?? 0;
  const names = readdirSync(bytesOf(staging), 'latin1');
  return Math.max(modified(staging), ...names.map(name => modified(`${staging}/${name}`)));
}

/** The objects of a store. Several threads may add to one, each through its own. */
export class ObjectStore {
  readonly #directory: Name;
  readonly #staging: Name;
  readonly #algorithm: Algorithm;
  /** Directories that are there for sure. */
  readonly #made = new Set<string>();

  /** @param staging the directory that `beginStore` has made in the store @param algorithm of the digests that name objects */
  constructor(directory: Name, staging: Name, algorithm: Algorithm = 'sha256') {
    this.#directory = directory;
    this.#staging = staging;
    this.#algorithm = algorithm;
  }

  /**
   * Copies a file's data into the store, unless it has that object. The object appears whole, on disk, or not at all; it has
   * kernel fs-verity where the filesystem can. Throws ErrnoError EIO where the data does not have the digest (any more).
   * @returns whether the object is new
   */
  add(source: Name, sizeBytes: number, digest: string): boolean {
    const object = `${this.#directory}/${objectPath(digest)}`;
    if (statSync(bytesOf(object), { throwIfNoEntry: false })?.size === sizeBytes) return false;
    this.#makeDirectory(digest.slice(0, 2));
    const copy = `${this.#staging}/${randomBytes(8).toString('hex')}`;
    try {
      copyFileSync(bytesOf(source), bytesOf(copy), COPY_FLAGS);
      withFile(copy, constants.O_NOFOLLOW, fd => {
        if (fstatSync(fd).size !== sizeBytes || digestOf(fd, sizeBytes, this.#algorithm) !== digest)
          throw new ErrnoError(EIO, `${printable(source)} changed while it was stored`);
        settle(fd, this.#algorithm);
      });
      renameSync(bytesOf(copy), bytesOf(object));
    } catch (error) {
      remove(copy);
      throw error;
    }
    return true;
  }

  #makeDirectory(name: string): void {
    if (this.#made.has(name)) return;
    mkdirSync(bytesOf(`${this.#directory}/${name}`), { recursive: true, mode: 0o755 });
    this.#made.add(name);
  }
}
const COPY_FLAGS = constants.COPYFILE_EXCL | constants.COPYFILE_FICLONE;

/** Makes an object readable by all, puts it on disk, and asks the kernel to guard it; many filesystems can not. */
function settle(fd: number, algorithm: Algorithm): void {
  fchmodSync(fd, 0o644);
  fsyncSync(fd);
  native.enableVerity(fd, ALGORITHMS[algorithm].number, BLOCK_BYTES);
}

const bytesOf = (path: Name): Buffer => nameBytes(path) as Buffer;
const remove = (path: Name): void => rmSync(bytesOf(path), { recursive: true, force: true });

function withFile<T>(path: Name, flags: number, use: (fd: number) => T): T {
  const fd = openSync(bytesOf(path), constants.O_RDONLY | flags);
  try {
    return use(fd);
  } finally {
    closeSync(fd);
  }
}
