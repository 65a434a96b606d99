/**
 * The tree of one layer, for an image that is a layer of an overlay: what the layer adds, and marks for what it hides. Over the images
 * of the layers below, it shows what the merged image of all these layers shows.
 *
 * - A directory that goes on from a layer below has its attributes, also where the archive has no entry for it.
 * - The root and the mount points are those of the merged image.
 * - A directory that does not go on is opaque, and has no whiteouts: overlayfs would list them.
 * - What looks like a whiteout or a mark of overlayfs in the archive is escaped, as in the merged image.
 *
 * Source: kernel Documentation/filesystems/overlayfs.rst, "Whiteouts and opaque directories".
 */
import { escapedMode, escapedXattrs, markDirectory, markWhiteout } from '../../composefs/stage.ts';
import { isWhiteout, newInode, type TreeInode } from '../../composefs/tree.ts';
import type { ByteString } from '../../sys/bytes.ts';
import { isDirectory, S_IFCHR, S_IFDIR } from '../../sys/stat.ts';
import type { Change } from './changes.ts';
import { countNames, finishRoot, type Purpose } from './finish.ts';
import type { LayeredTree } from './tree.ts';

const OPAQUE = 'trusted.overlay.opaque';
const YES = 'y';

/** The tree of the layer that was applied last, to be staged as a layer. Its changes must have been recorded. */
export function layerTree(tree: LayeredTree, purpose: Purpose): TreeInode {
  tree.endLayer();
  const builder = new LayerBuilder(tree.whiteoutDirectories);
  const root = newInode(S_IFDIR);
  if (tree.changes) builder.add(root, tree.root, tree.changes.root);
  finishRoot(root, tree.root, purpose);
  root.xattrs = builder.xattrsOf(tree.root, root.xattrs);
  countNames(root);
  return root;
}

/** A directory of the layer, with what it is made of. */
interface Pending {
  readonly to: TreeInode;
  readonly from: TreeInode;
  readonly change: Change;
  /** Whether the layers below have no part in the directory. */
  readonly isAlone: boolean;
}

class LayerBuilder {
  readonly #whiteoutDirectories: ReadonlySet<TreeInode>;
  /** Escaped copies of inodes, which may have several names. */
  readonly #copies = new Map<TreeInode, TreeInode>();

  /** @param whiteoutDirectories the directories in which archives put character devices 0:0 */
  constructor(whiteoutDirectories: ReadonlySet<TreeInode>) {
    this.#whiteoutDirectories = whiteoutDirectories;
  }

  /** Adds what changed in a directory, and in those below it. */
  add(to: TreeInode, from: TreeInode, change: Change): void {
    const pending: Pending[] = [{ to, from, change, isAlone: false }];
    for (let next = pending.pop(); next; next = pending.pop())
      for (const [name, below] of next.change.names ?? []) {
        const directory = this.#addName(next, name, below);
        if (directory) pending.push(directory);
      }
  }

  /** The xattrs of a directory, escaped. */
  xattrsOf(directory: TreeInode, xattrs = directory.xattrs): Map<ByteString, ByteString> {
    const escaped = escapedXattrs(xattrs);
    const hasWhiteouts =
      this.#whiteoutDirectories.has(directory) &&
      [...directory.entries.values()].some(({ inode }) => isWhiteout(inode));
    if (hasWhiteouts) markDirectory(escaped, 1);
    return escaped;
  }

  /** Adds a name. @returns the directory, if it is one, whose names are still to be added */
  #addName({ to, from, isAlone }: Pending, name: ByteString, change: Change): Pending | undefined {
    const inode = from.entries.get(name)?.inode;
    const put = (added: TreeInode): void => void to.entries.set(name, { inode: added, link: false });
    if (inode === undefined) {
      if (change.covers && !isAlone) put(newInode(S_IFCHR));
      return undefined;
    }
    if (!isDirectory(inode.mode)) {
      put(this.#escaped(inode));
      return undefined;
    }
    const xattrs = this.xattrsOf(inode);
    if (change.covers && !isAlone) xattrs.set(OPAQUE, YES);
    const copy = { ...inode, xattrs, entries: new Map() };
    put(copy);
    return { to: copy, from: inode, change, isAlone: isAlone || change.covers };
  }

  /** What is not a directory, escaped where it needs that. */
  #escaped(inode: TreeInode): TreeInode {
    const isDevice = isWhiteout(inode);
    if (inode.xattrs.size === 0 && !isDevice) return inode;
    const known = this.#copies.get(inode);
    if (known) return known;
    const xattrs = escapedXattrs(inode.xattrs);
    if (isDevice) markWhiteout(xattrs);
    const copy = { ...inode, xattrs, ...(isDevice && { mode: escapedMode(inode.mode) }) };
    this.#copies.set(inode, copy);
    return copy;
  }
}
