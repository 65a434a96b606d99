/**
 * A content store: each file's data once, under its fs-verity digest, as composefs names it.
 *
 * ```
 * store/35/d02f81325122d77ec1d11baba655bc9bf8a891ab26119a41c50fa03ddfb408
 * ```
 */

import { randomBytes } from 'node:crypto';
import {
  closeSync,
  constants,
  copyFileSync,
  existsSync,
  fchmodSync,
  fsyncSync,
  mkdirSync,
  openSync,
  readSync,
  renameSync,
  rmSync,
} from 'node:fs';
import { type Name, nameBytes, printable } from '../sys/bytes.ts';
import { EIO, ErrnoError } from '../sys/errno.ts';
import { native } from '../sys/native.ts';
import { measure } from '../verity/digest.ts';

const SHA256 = 1;
const BLOCK_BYTES = 4096;

/** Where a store keeps the object of a digest (hex), below the store. */
export const objectPath = (digest: string): string => `${digest.slice(0, 2)}/${digest.slice(2)}`;

/** The fs-verity digest (SHA-256, blocks of 4 KiB, no salt; hex) of the first `sizeBytes` bytes of a file. */
export function measureFile(path: Name, sizeBytes: number): string {
  return withFile(path, fd => {
    const digest = measure((out, at, length, position) => readSync(fd, out, at, length, position), sizeBytes);
    return Buffer.from(digest).toString('hex');
  });
}

/** The first `sizeBytes` bytes of a file. Throws ErrnoError EIO where it has fewer. */
export function readContent(path: Name, sizeBytes: number): Name {
  return withFile(path, fd => {
    const bytes = Buffer.alloc(sizeBytes);
    if (readSync(fd, bytes, 0, sizeBytes, 0) < sizeBytes)
      throw new ErrnoError(EIO, `${printable(path)} has fewer than ${sizeBytes} bytes`);
    return bytes.toString('latin1');
  });
}

/** A store in a directory, which is made when the first object comes. */
export class ObjectStore {
  readonly #directory: Name;

  constructor(directory: Name) {
    this.#directory = directory;
  }

  /**
   * Copies a file's data into the store, unless it has that object. The object appears whole, on disk, or not at all; it has
   * kernel fs-verity where the filesystem can. Throws ErrnoError EIO where the data does not have the digest (any more).
   * @returns whether the object is new
   */
  add(source: Name, sizeBytes: number, digest: string): boolean {
    const object = `${this.#directory}/${objectPath(digest)}`;
    if (existsSync(nameBytes(object) as Buffer)) return false;
    mkdirSync(nameBytes(object.slice(0, object.lastIndexOf('/'))) as Buffer, { recursive: true, mode: 0o755 });
    const temporary = `${this.#directory}/.tmp-${randomBytes(8).toString('hex')}`;
    try {
      copyFileSync(nameBytes(source) as Buffer, nameBytes(temporary) as Buffer, COPY_FLAGS);
      const copied = measureFile(temporary, sizeBytes);
      if (copied !== digest) throw new ErrnoError(EIO, `${printable(source)} changed while it was stored`);
      withFile(temporary, settle);
      renameSync(nameBytes(temporary) as Buffer, nameBytes(object) as Buffer);
    } catch (error) {
      rmSync(nameBytes(temporary) as Buffer, { force: true });
      throw error;
    }
    return true;
  }
}
const COPY_FLAGS = constants.COPYFILE_EXCL | constants.COPYFILE_FICLONE;

/** Makes an object readable by all, puts it on disk, and asks the kernel to guard it; many filesystems can not. */
function settle(fd: number): void {
  fchmodSync(fd, 0o644);
  fsyncSync(fd);
  native.enableVerity(fd, SHA256, BLOCK_BYTES);
}

function withFile<T>(path: Name, use: (fd: number) => T): T {
  const fd = openSync(nameBytes(path) as Buffer, constants.O_RDONLY | constants.O_NOFOLLOW);
  try {
    return use(fd);
  } finally {
    closeSync(fd);
  }
}
