/**
 * Inodes with several names. A stack shows an inode for each layer that has it, with the names that this layer has. So a layer that
 * adds or removes one name of an inode has to have all of its names.
 */
import { type Place, pathOf, type TreeInode } from '../../composefs/tree.ts';
import { isDirectory } from '../../sys/stat.ts';
import type { Change, LayerChanges } from './changes.ts';

/** The names of an inode, by whether the layer has them. */
interface Names {
  own: number;
  readonly others: Place[];
}

export class LinkGroups {
  /** The number of names that each inode had at the end of the layer before; 0 for one that got its second name since. */
  readonly #counts = new Map<TreeInode, number>();
  #isChanged = false;

  /** Records that an inode gets one more name. */
  add(inode: TreeInode): void {
    if (!this.#counts.has(inode)) this.#counts.set(inode, 0);
    this.#isChanged = true;
  }

  /** Ends a layer: adds the names that it has to repeat to its changes. */
  complete(root: TreeInode, changes: LayerChanges): void {
    if (this.#counts.size === 0 || !(this.#isChanged || changes.covers)) return;
    this.#isChanged = false;
    const groups = this.#namesIn(root, changes.root);
    for (const [inode, before] of this.#counts) {
      const { own, others } = groups.get(inode) ?? NONE;
      const count = own + others.length;
      if (own > 0 || count < before) for (const place of others) changes.touch(pathOf(place).slice(1).split('/'));
      if (count > 1) this.#counts.set(inode, count);
      else this.#counts.delete(inode);
    }
  }

  /** Finds the names of all inodes that have, or had, several. */
  #namesIn(root: TreeInode, change: Change): Map<TreeInode, Names> {
    const groups = new Map<TreeInode, Names>();
    const pending: [Place, TreeInode, Change | undefined][] = [[undefined, root, change]];
    for (let next = pending.pop(); next; next = pending.pop()) {
      const [above, directory, changed] = next;
      for (const [name, { inode }] of directory.entries) {
        const own = changed?.names?.get(name);
        if (isDirectory(inode.mode)) pending.push([{ above, name }, inode, own]);
        if (!this.#counts.has(inode)) continue;
        const names = groups.get(inode) ?? { own: 0, others: [] };
        groups.set(inode, names);
        if (own?.isOwn) names.own++;
        else names.others.push({ above, name });
      }
    }
    return groups;
  }
}
const NONE: Names = { own: 0, others: [] };
