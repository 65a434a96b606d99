/** All regular files of a stack, as whoever walks the whole tree finds them. */
import type { Name } from '../sys/bytes.ts';
import { ENOENT, ErrnoError, errnoName } from '../sys/errno.ts';
import { isDirectory, isRegular } from '../sys/stat.ts';
import type { Node } from './node.ts';
import type { Overlay } from './overlay.ts';

/** A regular file, by the first path that leads to it; or what can not be looked up or listed. */
export type Found = { readonly path: Name; readonly node: Node } | { readonly path: Name; readonly error: ErrnoError };

/**
 * Walks a stack depth first, each directory and each inode once, whatever loops an image has. A name that is listed but
 * missing (a whiteout in a directory that is not merged) is nothing.
 */
export function* inventory(overlay: Overlay): Generator<Found> {
  const seen = new Set<number>([overlay.root.ino]);
  const pending = [{ path: '', node: overlay.root }];
  for (let directory = pending.pop(); directory; directory = pending.pop()) {
    for (const found of entries(overlay, directory.path, directory.node)) {
      if ('error' in found) {
        yield found;
        continue;
      }
      const { ino, top } = found.node;
      if (seen.has(ino)) continue;
      seen.add(ino);
      if (isRegular(top.mode)) yield found;
      else if (isDirectory(top.mode)) pending.push(found);
    }
  }
}

/** What one directory holds. */
function* entries(overlay: Overlay, path: Name, directory: Node): Generator<Found> {
  const listed = attempt(() => overlay.list(directory));
  if (listed instanceof ErrnoError) {
    yield { path: path || '/', error: listed };
    return;
  }
  for (const { name } of listed) {
    const below = `${path}/${name}`;
    const node = attempt(() => overlay.lookup(directory, name));
    if (node instanceof ErrnoError) yield { path: below, error: node };
    else if (typeof node !== 'number') yield { path: below, node };
    else if (node !== -ENOENT) yield { path: below, error: new ErrnoError(-node, errnoName(node)) };
  }
}

function attempt<T>(action: () => T): T | ErrnoError {
  try {
    return action();
  } catch (error) {
    if (error instanceof ErrnoError) return error;
    throw error;
  }
}
