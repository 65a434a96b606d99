/** Finds paths in a stack, as a process does whose root directory is the mount. */
import { type ByteString, printable } from '../sys/bytes.ts';
import { ELOOP, ENOENT, ENOTDIR, ErrnoError, errnoText } from '../sys/errno.ts';
import { isDirectory, isSymlink } from '../sys/stat.ts';
import type { Node } from './node.ts';
import type { Overlay } from './overlay.ts';

/** The maximum number of symlinks in one path. Source: linux/namei.h, MAXSYMLINKS. */
const SYMLINKS_MAX = 40;

/**
 * Finds a path as the kernel does in a mount that is its own root: symlinks are followed, absolute ones from the root.
 * @param followLast whether a symlink in the last component is followed as well
 * Throws ErrnoError that names the path: ENOENT for a miss, ENOTDIR, ELOOP, ENAMETOOLONG, and the errors of Overlay.lookup.
 * @example
 * const overlay = openStack('tree');
 * assert.equal(findPath(overlay, '/link'), findPath(overlay, '/poem'));
 * assert.throws(() => findPath(overlay, '/absent'), { name: 'ENOENT' });
 * overlay.close();
 */
export function findPath(overlay: Overlay, path: ByteString, followLast = true): Node {
  const above: Node[] = [];
  let at = overlay.root;
  let links = 0;
  const rest = path.split('/').reverse();
  for (let name = rest.pop(); name !== undefined; name = rest.pop()) {
    const isLast = rest.length === 0;
    if (!isDirectory(at.top.mode)) throw failure(path, ENOTDIR);
    if (name === '' || name === '.') continue;
    if (name === '..') {
      at = above.pop() ?? overlay.root;
      continue;
    }
    const found = overlay.lookup(at, name);
    if (typeof found === 'number') throw failure(path, -found);
    if (!isSymlink(found.top.mode) || (isLast && !followLast)) {
      above.push(at);
      at = found;
      continue;
    }
    if (++links > SYMLINKS_MAX) throw failure(path, ELOOP);
    const target = overlay.readlink(found);
    if (target === '') throw failure(path, ENOENT);
    if (target.startsWith('/')) {
      at = overlay.root;
      above.length = 0;
    }
    rest.push(...target.split('/').reverse());
  }
  return at;
}

export function failure(path: ByteString, errno: number): ErrnoError {
  return new ErrnoError(errno, `${printable(path)}: ${errnoText(errno)}`);
}
