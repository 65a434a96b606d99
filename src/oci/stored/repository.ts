/** A repository that exists, to read it and to change its names; see oci/repository.ts for what lies where. */
import { entriesIn, findBeneath, openDirectory, openDirectoryBeneath } from '../../sys/beneath.ts';
import { type ByteString, byteStringOf, printable } from '../../sys/bytes.ts';
import { EINVAL, ENOENT, ENOTDIR, ErrnoError, EUCLEAN, EXDEV, errnoText, must } from '../../sys/errno.ts';
import { native } from '../../sys/native.ts';
import { isRegular } from '../../sys/stat.ts';
import { statx, statxMode } from '../../sys/statx.ts';
import { META, metaIn, type RepositoryMeta } from '../repository-meta.ts';

const TARGET_BYTES_MAX = 4096;
// dirent.h
const DT_UNKNOWN = 0;
const DT_DIR = 4;
const DT_LNK = 10;

/** A name below a directory of a repository, and what has it: a symlink, or anything else. */
export interface StoredName {
  readonly name: ByteString;
  readonly isLink: boolean;
}

export class StoredRepository {
  readonly path: ByteString;
  readonly fd: number;
  readonly meta: RepositoryMeta;

  /** Opens a repository; `close` has to be called later. Throws ErrnoError with the path: EINVAL if it is no repository. */
  constructor(path: ByteString) {
    this.path = path;
    const shown = printable(path);
    this.fd = must(openDirectory(path, true), shown);
    try {
      const meta = metaIn(this.fd, shown);
      if (meta === undefined) throw new ErrnoError(EINVAL, `${shown}: no repository of composefs: it has no ${META}`);
      this.meta = meta;
    } catch (error) {
      native.close(this.fd);
      throw error;
    }
  }

  close(): void {
    native.close(this.fd);
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

/** The path of an object in a repository. */
export const pathOfObject = (digest: string): ByteString => `objects/${digest.slice(0, 2)}/${digest.slice(2)}`;

/** The DT_* type of a name, where the filesystem does not list it. */
const typeIn = (directory: number, name: ByteString): number =>
  statx(directory, name) === 0 ? statxMode() >> 12 : DT_UNKNOWN;

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
