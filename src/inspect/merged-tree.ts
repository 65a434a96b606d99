/** Reads what a stack shows as a tree, to make one image of it. */
import type { TreeInode } from '../composefs/tree.ts';
import type { Node } from '../overlay/node.ts';
import type { Overlay } from '../overlay/overlay.ts';
import { type TreeOptions, TreeReader, type Waiting } from './tree-reader.ts';

/**
 * Reads the merged tree, and adds the data of each file to a store after it was checked by its digest, if it has one.
 * Throws ErrnoError with the path: of a lookup, of data that is missing or wrong, and of the store.
 */
export function readMerged(overlay: Overlay, options: TreeOptions): TreeInode {
  return new MergedReader(overlay, options).run();
}

class MergedReader extends TreeReader {
  protected override readNames(at: Waiting): void {
    for (const { name } of this.overlay.list(at.node)) this.add(at, name);
  }

  protected override readXattrs(node: Node, inode: TreeInode, shown: string): void {
    for (const name of this.overlay.listxattr(node)) {
      const value = this.overlay.getxattr(node, name);
      if (typeof value !== 'number') this.set(inode, name, value, shown);
    }
  }
}
