/** A repository that exists, to read it and to change its names; see oci/repository.ts for what lies where. */

import { measureOpen, objectPath } from '../../store/objects.ts';
import {
  CONFINED,
  entriesIn,
  findBeneath,
  O_NOFOLLOW,
  O_NONBLOCK,
  openDirectory,
  openDirectoryBeneath,
  openIn,
} from '../../sys/beneath.ts';
import { type ByteString, byteStringOf, printable, type Seconds } from '../../sys/bytes.ts';
import {
  EAGAIN,
  EFBIG,
  EINVAL,
  ENOENT,
  ENOTDIR,
  ErrnoError,
  EUCLEAN,
  EXDEV,
  errnoText,
  must,
} from '../../sys/errno.ts';
import { holdersText, type LOCK_EX, LOCK_NB, LOCK_SH } from '../../sys/locks/flock.ts';
import { native } from '../../sys/native.ts';
import { DT_DIR, DT_LNK, DT_UNKNOWN, dtypeOf, isRegular, isSymlink } from '../../sys/stat.ts';
import { statx, statxAttr, statxMode, statxSize } from '../../sys/statx.ts';
import { type OpenBytes, readAt } from '../files.ts';
import { checkWritable, META, metaIn, type RepositoryMeta } from '../repository-meta.ts';

const TARGET_BYTES_MAX = 4096;

/** A name below a directory of a repository, and what has it: a symlink, or anything else. */
export interface StoredName {
  readonly name: ByteString;
  readonly isLink: boolean;
}

export class StoredRepository {
  readonly path: ByteString;
  readonly fd: number;
  readonly meta: RepositoryMeta;

  /**
   * Opens a repository; `close` has to be called later. Throws ErrnoError with the path: EINVAL if it is no repository, EOPNOTSUPP for
   * one that only others may change.
   * @param changes whether names will be changed: until it is closed, programs that collect garbage wait
   */
  constructor(path: ByteString, changes = false) {
    this.path = path;
    const shown = printable(path);
    this.fd = must(openDirectory(path, true), shown);
    try {
      if (changes) must(native.flock(this.fd, LOCK_SH), shown);
      const meta = metaIn(this.fd, shown);
      if (meta === undefined) throw new ErrnoError(EINVAL, `${shown}: no repository of composefs: it has no ${META}`);
      if (changes) checkWritable(meta, `${shown}/${META}`);
      this.meta = meta;
    } catch (error) {
      native.close(this.fd);
      throw error;
    }
  }

  close(): void {
    native.close(this.fd);
  }

  /**
   * Takes its lock until it is closed: shared, so that nothing is removed, or exclusive. @param waiting is called before a wait for
   * other processes. Throws ErrnoError with the path.
   */
  lock(kind: typeof LOCK_SH | typeof LOCK_EX, waiting: (holders: string) => void): void {
    if (native.flock(this.fd, kind | LOCK_NB) !== -EAGAIN) return;
    waiting(holdersText(this.fd));
    must(native.flock(this.fd, kind), printable(this.path));
  }

  /** A path in the repository, for messages. */
  shown(path: ByteString): string {
    return printable(`${this.path}/${path}`);
  }

  /**
   * Where a symlink leads, as a path from the root of the repository; undefined if there is none. Only its text is read. Throws
   * ErrnoError with its path: EUCLEAN if it is no symlink, EXDEV if it leads out of the repository.
   */
  target(path: ByteString): ByteString | undefined {
    const shown = this.shown(path);
    const link = findBeneath(this.fd, path);
    if (link === -ENOENT || link === -ENOTDIR) return undefined;
    must(link, shown);
    try {
      const bytes = new Uint8Array(TARGET_BYTES_MAX);
      const length = native.readlinkat(link, '', bytes);
      if (length === -EINVAL || length === -ENOENT) throw new ErrnoError(EUCLEAN, `${shown}: not a symlink`);
      const text = byteStringOf(bytes, 0, must(length, shown));
      const target = resolved(path, text);
      if (target !== undefined) return target;
      throw new ErrnoError(EXDEV, `${shown}: leads to ${printable(text)}, out of the repository`);
    } finally {
      native.close(link);
    }
  }

  /** When a name was made or last replaced; undefined if it cannot be read. */
  time(path: ByteString): readonly [seconds: Seconds, nanoseconds: number] | undefined {
    const found = findBeneath(this.fd, path);
    if (found < 0) return undefined;
    const known = statx(found, '');
    native.close(found);
    if (known !== 0) return undefined;
    const { mtime, mtimensec } = statxAttr(0);
    return [mtime, mtimensec];
  }

  /** Whether a path is that of a symlink; false if it cannot be read. */
  isLink(path: ByteString): boolean {
    const found = findBeneath(this.fd, path);
    if (found < 0) return false;
    const known = statx(found, '');
    native.close(found);
    return known === 0 && isSymlink(statxMode());
  }

  /** Whether a path is that of a directory; false if it cannot be opened. */
  isDirectory(path: ByteString): boolean {
    const fd = openDirectoryBeneath(this.fd, path);
    if (fd >= 0) native.close(fd);
    return fd >= 0;
  }

  /** Whether there is an object. Throws ErrnoError with its path: EUCLEAN if it is no file. */
  hasObject(digest: string): boolean {
    const path = pathOfObject(digest);
    const shown = this.shown(path);
    const found = findBeneath(this.fd, path);
    if (found === -ENOENT) return false;
    must(found, shown);
    try {
      must(statx(found, ''), shown);
      if (!isRegular(statxMode())) throw new ErrnoError(EUCLEAN, `${shown}: not a file`);
      return true;
    } finally {
      native.close(found);
    }
  }

  /** Opens an object, whose data is not checked. Throws ErrnoError with its path: EUCLEAN if it is no file. */
  openObject(digest: string): OpenBytes {
    const path = pathOfObject(digest);
    const shown = this.shown(path);
    const fd = must(openIn(this.fd, path, O_NONBLOCK | O_NOFOLLOW, CONFINED), shown);
    const close = (): void => void native.close(fd);
    const known = statx(fd, '');
    if (known === 0 && isRegular(statxMode())) return { fd, at: 0, sizeBytes: statxSize(), close };
    close();
    must(known, shown);
    throw new ErrnoError(EUCLEAN, `${shown}: not a file`);
  }

  /** Reads a whole object of a limited size. Throws ErrnoError with its path. */
  readObject(digest: string, bytesMax: number): Uint8Array {
    const shown = this.shown(pathOfObject(digest));
    const file = this.openObject(digest);
    try {
      if (file.sizeBytes > bytesMax)
        throw new ErrnoError(EFBIG, `${shown}: ${file.sizeBytes} bytes; ${bytesMax} are allowed`);
      return readAt(file, 0, file.sizeBytes, shown);
    } finally {
      file.close();
    }
  }

  /** All names below a directory, in byte order, those in directories below it with a slash; none if it is missing. */
  namesBelow(directory: ByteString): StoredName[] {
    const names: StoredName[] = [];
    for (const [name, type] of this.entries(directory)) {
      if (type === DT_DIR)
        names.push(
          ...this.namesBelow(`${directory}/${name}`).map(inner => ({ ...inner, name: `${name}/${inner.name}` })),
        );
      else names.push({ name, isLink: type === DT_LNK });
    }
    return names;
  }

  /** Compares the bytes of an open object with its digest. Throws ErrnoError with its path: EUCLEAN if it is damaged. */
  checkObject({ fd, sizeBytes }: OpenBytes, digest: string): void {
    const shown = this.shown(pathOfObject(digest));
    const found = measureOpen({ fd, sizeBytes, shown }, this.meta.algorithm);
    if (found !== digest) throw new ErrnoError(EUCLEAN, `${shown}: damaged: its digest is ${found}`);
  }

  /** The symlinks of a directory, in byte order, but for those in the making. */
  linksIn(directory: ByteString): ByteString[] {
    const names = this.entries(directory).map(([name]) => name);
    return names.filter(name => !isTemporary(name) && this.isLink(`${directory}/${name}`));
  }

  /** The entries of a directory with their DT_* types, in byte order; none if it is missing. Throws ErrnoError with its path. */
  entries(directory: ByteString): [name: ByteString, type: number][] {
    const shown = this.shown(directory);
    const fd = openDirectoryBeneath(this.fd, directory);
    if (fd === -ENOENT) return [];
    must(fd, shown);
    try {
      const entries = entriesIn(fd);
      if (typeof entries === 'number') throw new ErrnoError(-entries, `${shown}: ${errnoText(entries)}`);
      for (const entry of entries) if (entry[1] === DT_UNKNOWN) entry[1] = typeIn(fd, entry[0]);
      return entries.sort(([a], [b]) => (a < b ? -1 : 1));
    } finally {
      native.close(fd);
    }
  }
}

/** Whether a path is that of a name in the making, which an interrupted run, also of composefs-rs, may have left. */
export const isTemporary = (path: ByteString): boolean =>
  /(^|\/)\.(tmp-[0-9a-f]{16}|symlink-[0-9A-Za-z]{12}|tmp-object-[0-9A-Za-z]{12})$/.test(path);

/** The path of an object in a repository. */
export const pathOfObject = (digest: string): ByteString => `objects/${objectPath(digest)}`;

/** The DT_* type of a name, where the filesystem does not list it. */
const typeIn = (directory: number, name: ByteString): number =>
  statx(directory, name) === 0 ? dtypeOf(statxMode()) : DT_UNKNOWN;

/** The path that a symlink leads to, by its own path and its text; undefined if that is not below the root. */
function resolved(path: ByteString, text: ByteString): ByteString | undefined {
  if (text.startsWith('/')) return undefined;
  const parts = path.split('/').slice(0, -1);
  for (const part of text.split('/')) {
    if (part === '' || part === '.') continue;
    if (part !== '..') parts.push(part);
    else if (parts.pop() === undefined) return undefined;
  }
  return parts.join('/');
}
