/**
 * A content store, which keeps the data of each file once, under its fs-verity digest, as composefs names it.
 *
 * ```
 * store/35/d02f81325122d77ec1d11baba655bc9bf8a891ab26119a41c50fa03ddfb408
 * store/.tmp-35d02f81325122d7/    unfinished copies of one run, accessible to the owner only
 * ```
 * Each run holds a lock (flock) on the directory of its copies for as long as it lives. A directory without a lock belongs to a
 * dead run, and the next run that opens the store removes it.
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
  renameSync,
  rmdirSync,
  statSync,
  unlinkSync,
} from 'node:fs';
import { findBeneath, namesIn, openDirectory, openDirectoryBeneath, openForReading } from '../sys/beneath.ts';
import { type ByteString, bufferOf, printable } from '../sys/bytes.ts';
import {
  EEXIST,
  EIO,
  ENOENT,
  ENOTDIR,
  ENOTEMPTY,
  ENOTTY,
  EOPNOTSUPP,
  ErrnoError,
  errnoText,
  must,
  systemError,
} from '../sys/errno.ts';
import { pathOfDescriptor } from '../sys/found.ts';
import { LOCK_EX, LOCK_NB } from '../sys/locks/flock.ts';
import { native } from '../sys/native.ts';
import { isRegular } from '../sys/stat.ts';
import { identityIn, statx, statxMode, statxSize, statxVersion } from '../sys/statx.ts';
import { ALGORITHMS, type Algorithm, measureFd, parametersOf } from '../verity/digest.ts';
import type { OpenFile } from './source.ts';

const BLOCK_BYTES = 4096;

/**
 * The path of an object below the store, by its digest in hex.
 * @example
 * assert.equal(objectPath('0123abcd'), '01/23abcd');
 * assert.equal(objectPath(measureFile('tree/poem', 128)).length, 65);
 */
export const objectPath = (digest: string): string => `${digest.slice(0, 2)}/${digest.slice(2)}`;

/**
 * The fs-verity digest (blocks of 4 KiB, no salt; hex) of the first `sizeBytes` bytes of a file. Symlinks are not followed.
 * @example
 * const digest = measureFile('tree/poem', statSync('tree/poem').size);
 * assert.equal(digest, Buffer.from(measureBytes(readFileSync('tree/poem'))).toString('hex'));
 */
export function measureFile(path: ByteString, sizeBytes: number, algorithm: Algorithm = 'sha256'): string {
  return withFile(path, constants.O_NOFOLLOW, fd => digestOf(fd, sizeBytes, algorithm));
}

/** The same digest of a whole file at its current size; symlinks are followed. */
export function measureWhole(path: ByteString, algorithm: Algorithm = 'sha256'): string {
  return withFile(path, 0, fd => digestOf(fd, fstatSync(fd).size, algorithm));
}

/** The same digest of an open file. Throws ErrnoError with the file's path: EIO if it has fewer bytes than `sizeBytes`. */
export function measureOpen({ fd, shown, sizeBytes }: OpenFile, algorithm: Algorithm): string {
  try {
    return digestOf(fd, sizeBytes, algorithm);
  } catch (error) {
    if (error instanceof ErrnoError) throw new ErrnoError(error.errno, `${shown}: ${error.message}`);
    throw error;
  }
}

function digestOf(fd: number, sizeBytes: number, algorithm: Algorithm): string {
  return Buffer.from(measureFd(fd, sizeBytes, parametersOf(algorithm))).toString('hex');
}

/** A store that a run adds to. All threads of the process share its descriptors. */
export interface Store {
  readonly path: ByteString;
  readonly fd: number;
  /** The name of the run's directory for copies, and a descriptor of it that holds the lock. */
  readonly staging: ByteString;
  readonly stagingFd: number;
}

const STAGING = /^\.tmp-[0-9a-f]{16}$/;

/**
 * Opens a store, or creates it, removes the directories of dead runs, and makes a directory for the copies of this run. That
 * directory is closed to other users, because a copy at first has the mode of its source, including set-user-ID, but another
 * owner.
 * The caller has to call `endStore` later. Throws ErrnoError with the path of the store.
 * @example
 * const store = beginStore('objects');
 * await digestFiles(scanTree('tree').files, { threads: 1, store });
 * endStore(store);
 * assert.ok(existsSync(`objects/${objectPath(measureFile('tree/poem', 128))}`));
 */
export function beginStore(path: ByteString): Store {
  makeDirectories(path);
  const fd = must(openDirectory(path, true), `store ${printable(path)}`);
  try {
    for (const name of listed(fd, path)) if (STAGING.test(name)) removeDead(fd, name);
    for (;;) {
      const staging = `.tmp-${randomBytes(8).toString('hex')}`;
      naming(path, () => mkdirSync(at(fd, staging), { mode: 0o700 }));
      const stagingFd = locked(fd, staging);
      if (stagingFd !== undefined) return { path, fd, staging, stagingFd };
    }
  } catch (error) {
    native.close(fd);
    throw error;
  }
}

function listed(store: number, path: ByteString): ByteString[] {
  const names = namesIn(store);
  if (typeof names === 'number') throw new ErrnoError(-names, `store ${printable(path)}: ${errnoText(names)}`);
  return names;
}

/** Makes a directory and its parents. node:fs would retry forever where nothing can be created, as in /proc. */
export function makeDirectories(path: ByteString): void {
  const ends = [...path.matchAll(/[^/]+/g)].map(({ index, 0: name }) => index + name.length);
  for (const end of ends) {
    const part = bufferOf(path.slice(0, end));
    try {
      mkdirSync(part, { mode: 0o755 });
    } catch (error) {
      const known = (error as NodeJS.ErrnoException).errno === -EEXIST;
      if (known && statSync(part, { throwIfNoEntry: false })?.isDirectory()) continue;
      throw known
        ? new ErrnoError(ENOTDIR, `store ${printable(path)}: ${errnoText(ENOTDIR)}`)
        : storeError(path, error);
    }
  }
}

/** A locked descriptor of a run's new directory; undefined if another run took it for that of a dead run and removed it. */
function locked(store: number, staging: ByteString): number | undefined {
  const fd = openDirectoryBeneath(store, staging);
  if (fd < 0) return undefined;
  native.flock(fd, LOCK_EX); // without locks here, others cannot lock either
  if (statx(fd, '') === 0) {
    const own = identityIn(statxVersion());
    if (statx(store, staging) === 0 && identityIn(statxVersion()) === own) return fd;
  }
  native.close(fd);
  return undefined;
}

/**
 * Removes the directory of a run if nobody holds its lock. A directory that cannot be opened, locked or removed is left alone.
 */
function removeDead(store: number, staging: ByteString): void {
  const fd = openDirectoryBeneath(store, staging);
  if (fd < 0) return;
  try {
    if (native.flock(fd, LOCK_EX | LOCK_NB) === 0) removeStaging(store, staging, fd);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).errno === undefined) throw error;
  } finally {
    native.close(fd);
  }
}

/** Removes the directory of a run with its contents; a missing directory is no error. */
function removeStaging(store: number, staging: ByteString, stagingFd: number): void {
  for (;;) {
    const names = namesIn(stagingFd);
    if (typeof names === 'number') return;
    for (const name of names) unlinkSync(bufferOf(at(stagingFd, name)));
    try {
      rmdirSync(at(store, staging));
      return;
    } catch (error) {
      const { errno } = error as NodeJS.ErrnoException;
      if (errno === -ENOENT) return;
      if (errno !== -ENOTEMPTY) throw error; // ENOTEMPTY: another thread began one more copy
    }
  }
}

/** Removes the copies of this run at once, so that threads that still copy fail. For a run that a signal ends. */
export function abandonStore({ fd, staging, stagingFd }: Store): void {
  removeStaging(fd, staging, stagingFd);
}

/**
 * Syncs the names of all objects to disk, removes the run's directory, and closes the store.
 * @example
 * endStore(beginStore('objects'));
 * assert.deepEqual(readdirSync('objects'), []); // the directory of the run is gone
 */
export function endStore({ path, fd, staging, stagingFd }: Store): void {
  try {
    removeStaging(fd, staging, stagingFd);
    for (const name of listed(fd, path)) {
      if (!/^[0-9a-f]{2}$/.test(name)) continue;
      const directory = must(openDirectoryBeneath(fd, name), `${printable(path)}/${name}`);
      try {
        fsyncSync(directory);
      } finally {
        native.close(directory);
      }
    }
    fsyncSync(fd);
  } finally {
    native.close(stagingFd);
    native.close(fd);
  }
}

/** The outcome for an object: it is new, it existed, or a wrong object was in its place and was replaced. */
export type Added = 'new' | 'known' | 'replaced';

/** The objects of a store. Several threads may add to one store, each through its own instance. */
export class ObjectStore {
  readonly #store: Store;
  readonly #algorithm: Algorithm;

  /** @param algorithm of the digests that name objects */
  constructor(store: Store, algorithm: Algorithm = 'sha256') {
    this.#store = store;
    this.#algorithm = algorithm;
  }

  /**
   * Copies a file's data into the store unless the store already has that object. An existing object is trusted only after its
   * data was measured, by the kernel if it has fs-verity; an object that does not match its name is replaced. A new object
   * appears complete and on disk, or not at all. It gets kernel fs-verity if the filesystem supports that.
   * Throws ErrnoError EIO if the file's data does not match the digest, or no longer does.
   */
  add(file: OpenFile, digest: string): Added {
    const found = this.find(digest, file.sizeBytes);
    if (found === 'known') return found;
    const shown = `${printable(this.#store.path)}/${objectPath(digest)}`;
    const directory = this.openDirectory(digest.slice(0, 2));
    const copy = at(this.#store.stagingFd, randomBytes(8).toString('hex'));
    try {
      storing(shown, () => copyFileSync(pathOfDescriptor(file.fd), copy, COPY_FLAGS));
      withFile(copy, constants.O_NOFOLLOW, fd => {
        if (fstatSync(fd).size !== file.sizeBytes || digestOf(fd, file.sizeBytes, this.#algorithm) !== digest)
          throw new ErrnoError(EIO, `${file.shown}: changed while it was stored`);
        storing(shown, () => settle(fd, this.#algorithm));
      });
      storing(shown, () => renameSync(copy, at(directory, digest.slice(2))));
    } catch (error) {
      removeCopy(copy);
      throw error;
    } finally {
      native.close(directory);
    }
    return found;
  }

  /** What adding an object would do. An existing object is measured. Throws ErrnoError with its path. */
  find(digest: string, sizeBytes: number): Added {
    const { fd: store, path } = this.#store;
    const found = findBeneath(store, objectPath(digest));
    if (found === -ENOENT) return 'new';
    const shown = `${printable(path)}/${objectPath(digest)}`;
    must(found, shown);
    try {
      must(statx(found, ''), shown);
      if (!isRegular(statxMode()) || statxSize() !== sizeBytes) return 'replaced';
      const fd = must(openForReading(found), shown);
      try {
        return hasDigest(fd, sizeBytes, digest, this.#algorithm) ? 'known' : 'replaced';
      } finally {
        native.close(fd);
      }
    } finally {
      native.close(found);
    }
  }

  /** A descriptor of a directory of objects, which is created if missing. */
  openDirectory(name: ByteString): number {
    const { fd: store, path } = this.#store;
    const known = openDirectoryBeneath(store, name);
    if (known !== -ENOENT) return must(known, `${printable(path)}/${name}`);
    try {
      mkdirSync(at(store, name), { mode: 0o755 });
    } catch (error) {
      if ((error as NodeJS.ErrnoException).errno !== -EEXIST) throw storeError(path, error);
    }
    return must(openDirectoryBeneath(store, name), `${printable(path)}/${name}`);
  }
}
const COPY_FLAGS = constants.COPYFILE_EXCL | constants.COPYFILE_FICLONE;

/** Whether an object's data has a digest. If the kernel's own measurement matches, the data is not read. */
function hasDigest(fd: number, sizeBytes: number, digest: string, algorithm: Algorithm): boolean {
  const measured = new Uint8Array(VerityDigest.SIZE);
  if (native.measureVerity(fd, measured) >= 0) {
    const { number, digestBytes } = ALGORITHMS[algorithm];
    const bytes = Buffer.from(measured.buffer, VerityDigest.digest, digestBytes);
    if (measured[VerityDigest.algorithm] === number && bytes.toString('hex') === digest) return true;
  }
  try {
    return digestOf(fd, sizeBytes, algorithm) === digest;
  } catch (error) {
    if (error instanceof ErrnoError && error.errno === EIO) return false; // the object's filesystem lost the data
    throw error;
  }
}
/** struct fsverity_digest. Source: linux/fsverity.h. */
const VerityDigest = { algorithm: 0 /* u16 */, size: 2 /* u16 */, digest: 4, SIZE: 4 + 64 } as const;

/** Makes an object readable by all, syncs it to disk, and protects it. */
function settle(fd: number, algorithm: Algorithm): void {
  fchmodSync(fd, OBJECT_MODE);
  fsyncSync(fd);
  protect(fd, algorithm);
}
/** The mode of objects, which are readable by all. */
export const OBJECT_MODE = 0o644;

/**
 * Enables fs-verity on a file that nobody has open for writing, if its filesystem supports that; many do not.
 * @returns whether it does
 */
export function protect(fd: number, algorithm: Algorithm): boolean {
  const result = native.enableVerity(fd, ALGORITHMS[algorithm].number, BLOCK_BYTES);
  return result !== -ENOTTY && result !== -EOPNOTSUPP;
}

/** The path of a name in an open directory. */
const at = (directory: number, name: ByteString): ByteString => `${pathOfDescriptor(directory)}/${name}`;

function removeCopy(copy: string): void {
  try {
    unlinkSync(copy);
  } catch {} // it was never made, or the run was abandoned
}

const storeError = (path: ByteString, error: unknown): unknown => systemError(error, `store ${printable(path)}`);
const naming = <T>(path: ByteString, action: () => T): T => storing(`store ${printable(path)}`, action);

/** Makes errors of Node.js system calls name the given part of the store. */
function storing<T>(shown: string, action: () => T): T {
  try {
    return action();
  } catch (error) {
    throw systemError(error, shown);
  }
}

function withFile<T>(path: ByteString, flags: number, use: (fd: number) => T): T {
  const fd = openSync(bufferOf(path), constants.O_RDONLY | flags);
  try {
    return use(fd);
  } finally {
    closeSync(fd);
  }
}
