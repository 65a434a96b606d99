/** Finds the names of changed files that only layers below the upper one have: the index of the upper layer leads them to the change. */
import type { Node } from '../overlay/node.ts';
import type { Overlay } from '../overlay/overlay.ts';
import type { ByteString } from '../sys/bytes.ts';
import { isDirectory } from '../sys/stat.ts';

interface Directory {
  readonly node: Node;
  readonly path: ByteString;
  readonly name: ByteString;
  readonly above: Directory | undefined;
}

/**
 * Looks at the whole tree, unless the index says that there is no such name, or that all are found.
 * @returns for the path of a directory, the names that its upper directory lacks: those of such files, and of directories above them
 * Throws ErrnoError as a listing and a lookup do.
 */
export function lowerLinks(overlay: Overlay): ReadonlyMap<ByteString, ReadonlySet<ByteString>> {
  const names = new Map<ByteString, Set<ByteString>>();
  const need = (path: ByteString, name: ByteString): void => {
    names.set(path, (names.get(path) ?? new Set()).add(name));
  };
  let missing = overlay.index?.lowerNames() ?? 0;
  const pending: Directory[] = [{ node: overlay.root, path: '', name: '', above: undefined }];
  for (let at = pending.pop(); at && missing > 0; at = pending.pop()) {
    for (const { name } of overlay.list(at.node)) {
      const node = overlay.lookup(at.node, name);
      if (typeof node === 'number') continue; // no file that has changed
      if (isDirectory(node.top.mode)) pending.push({ node, path: `${at.path}/${name}`, name, above: at });
      else if (node.indexed && !isInUpper(at.node, name)) {
        missing--;
        need(at.path, name);
        for (let one = at; one.above && !one.node.top.layer.isUpper; one = one.above) need(one.above.path, one.name);
      }
    }
  }
  return names;
}

const isInUpper = ({ top }: Node, name: ByteString): boolean =>
  top.layer.isUpper === true && top.layer.lookup(top, name) !== undefined;
