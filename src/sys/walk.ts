/** A walk through everything below a directory, by descriptors. */
import { findBeneath, namesIn, openFoundDirectory, openParent } from './beneath.ts';
import { type ByteString, printable } from './bytes.ts';
import { ErrnoError, ESTALE, errnoText } from './errno.ts';
import { native } from './native.ts';
import { identityIn, statx, statxVersion } from './statx.ts';

/** The number of directories on the way that are kept open. Others are opened again as the parents of their subdirectories. */
const OPEN_MAX = 64;

/** An object that a walk has found. */
export interface WalkEntry {
  /** An O_PATH descriptor of the object, closed when the visitor returns. The functions of statx.ts read its attributes. */
  readonly fd: number;
  readonly name: ByteString;
  /** The path relative to the directory of the walk. */
  readonly path: ByteString;
}

/**
 * Visits one object.
 * @param parent the value for the directory that holds the object
 * @returns the value for the objects in it, if this is a directory to walk through; otherwise undefined
 */
export type Visit<T> = (found: WalkEntry, parent: T) => T | undefined;

/** A directory on the way. */
interface WalkLevel<T> {
  /** undefined if it was closed because OPEN_MAX directories below are open. */
  fd: number | undefined;
  identity: string;
  readonly path: ByteString;
  names: readonly ByteString[];
  next: number;
  readonly value: T;
}

/**
 * Visits all objects below an open directory. A directory comes before its contents, and names are in byte order. Depth is not
 * limited; symlinks are visited, not followed.
 * @param shown the path of the directory, for messages
 * Throws ErrnoError for an object that cannot be opened; ESTALE if a directory was moved meanwhile.
 */
export function walkTree<T>(root: number, shown: ByteString, value: T, visit: Visit<T>): void {
  new TreeWalk(shown, visit).run(root, value);
}

class TreeWalk<T> {
  readonly #shown: ByteString;
  readonly #visit: Visit<T>;
  readonly #levels: WalkLevel<T>[] = [];

  constructor(shown: ByteString, visit: Visit<T>) {
    this.#shown = shown;
    this.#visit = visit;
  }

  run(root: number, value: T): void {
    try {
      this.#enter(root, '', value);
      for (let level = this.#levels.at(-1); level; level = this.#levels.at(-1)) {
        const name = level.names[level.next++];
        if (name === undefined) this.#leave(level);
        else this.#see(level, name);
      }
    } finally {
      for (const { fd } of this.#levels) if (fd !== undefined) native.close(fd);
    }
  }

  #see({ fd: directory, path: place, value }: WalkLevel<T>, name: ByteString): void {
    const path = place === '' ? name : `${place}/${name}`;
    const fd = this.#must(findBeneath(directory as number, name), path);
    try {
      this.#must(statx(fd, ''), path);
      const below = this.#visit({ fd, name, path }, value);
      if (below !== undefined) this.#enter(fd, path, below);
    } finally {
      native.close(fd);
    }
  }

  #enter(found: number, path: ByteString, value: T): void {
    const fd = this.#must(openFoundDirectory(found), path);
    const level: WalkLevel<T> = { fd, identity: '', path, names: [], next: 0, value };
    this.#levels.push(level);
    this.#must(statx(fd, ''), path);
    level.identity = identityIn(statxVersion());
    const names = namesIn(fd);
    if (typeof names === 'number') throw this.#failure(names, path);
    level.names = names;
    const spare = this.#levels.at(-1 - OPEN_MAX);
    if (spare?.fd === undefined) return;
    native.close(spare.fd);
    spare.fd = undefined;
  }

  /** Goes up. A closed parent is opened again, and must be the same directory as before. */
  #leave(level: WalkLevel<T>): void {
    const above = this.#levels.at(-2);
    if (above && above.fd === undefined) {
      above.fd = this.#must(openParent(level.fd as number), above.path);
      this.#must(statx(above.fd, ''), above.path);
      if (identityIn(statxVersion()) !== above.identity)
        throw new ErrnoError(ESTALE, `${this.#words(level.path)}: moved while its directory was read`);
    }
    this.#levels.pop();
    native.close(level.fd as number);
  }

  /** Takes the parts of a path, which are joined only for messages: there are as many paths as objects, and they may be long. */
  #must(result: number, path: ByteString): number {
    if (result < 0) throw this.#failure(result, path);
    return result;
  }

  #failure(result: number, path: ByteString): ErrnoError {
    return new ErrnoError(-result, `${this.#words(path)}: ${errnoText(result)}`);
  }

  #words(path: ByteString): string {
    return printable(path === '' ? this.#shown : `${this.#shown}/${path}`);
  }
}
