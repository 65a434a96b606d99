/** All regular files of a stack, as a walk of the whole tree finds them. */

import type { Node } from '../overlay/node.ts';
import type { Overlay } from '../overlay/overlay.ts';
import type { ByteString } from '../sys/bytes.ts';
import { attempt, ENOENT, ErrnoError, errnoText } from '../sys/errno.ts';
import { isDirectory, isRegular } from '../sys/stat.ts';

/** A name in a directory of the overlay. */
interface NameInDirectory {
  readonly path: ByteString;
  readonly parent: Node;
  readonly name: ByteString;
}
/**
 * A regular file, by the first path that leads to it; or a name that cannot be looked up. With the name '', it is a directory
 * that cannot be listed.
 */
export type InventoryEntry = NameInDirectory & ({ readonly node: Node } | { readonly error: ErrnoError });

/**
 * Walks a stack depth first, each directory and each inode once, even if an image has loops. A name that is listed but missing (a
 * whiteout in a directory that is not merged) is skipped.
 * @example
 * const overlay = openStack('tree');
 * assert.deepEqual([...inventory(overlay)].map(({ path }) => path), ['/poem']);
 * overlay.close();
 */
export function* inventory(overlay: Overlay): Generator<InventoryEntry> {
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

/** Looks up all names of one directory. */
function* entries(overlay: Overlay, path: ByteString, directory: Node): Generator<InventoryEntry> {
  const listed = attempt(() => overlay.list(directory));
  if (listed instanceof ErrnoError) {
    yield { path: path || '/', parent: directory, name: '', error: listed };
    return;
  }
  for (const { name } of listed) {
    const place = { path: `${path}/${name}`, parent: directory, name };
    const node = attempt(() => overlay.lookup(directory, name));
    if (node instanceof ErrnoError) yield { ...place, error: node };
    else if (typeof node !== 'number') yield { ...place, node };
    else if (node !== -ENOENT) yield { ...place, error: new ErrnoError(-node, errnoText(node)) };
  }
}
