/**
 * The last steps from merged layers to the tree of an image, by which everyone who merges the same layers gets the same digest.
 * Source: composefs-rs, doc/oci.md and transform_for_oci.
 */
import { newInode, type TreeInode, walkPlaces } from '../../composefs/tree.ts';
import type { ByteString } from '../../sys/bytes.ts';
import { isDirectory, S_IFDIR } from '../../sys/stat.ts';
import { type LayeredTree, setAttributes } from './tree.ts';

/** The root where no directory /usr lends its attributes. */
const ROOT_MODE = S_IFDIR | 0o755;

/**
 * Finishes a tree. The root takes the attributes of /usr, because layers often have none for it; /run is emptied, because it is a
 * mount point at run time.
 * @returns why the image has no canonical digest; none if it has one
 */
export function finishTree({ root, missingDirectories }: LayeredTree): string[] {
  const faults: string[] = [];
  const run = root.entries.get('run')?.inode;
  if (!directoryIn(root, 'usr')) faults.push('it has no directory /usr');
  if (run && !isDirectory(run.mode)) faults.push('/run is not a directory');
  if (missingDirectories > 0) faults.push(`${missingDirectories} directories have no entry`);
  finishRoot(root, root);
  countNames(root);
  return faults;
}

/** Gives a root the attributes and the mount points that the image of a tree has. @param merged the root of that tree, or the same */
export function finishRoot(root: TreeInode, merged: TreeInode): void {
  const run = directoryIn(merged, 'run');
  setAttributes(root, directoryIn(merged, 'usr') ?? newInode(ROOT_MODE));
  const { mtime, mtimensec } = root;
  if (run) root.entries.set('run', { inode: { ...run, mtime, mtimensec, entries: new Map() }, link: false });
}

function directoryIn({ entries }: TreeInode, name: ByteString): TreeInode | undefined {
  const inode = entries.get(name)?.inode;
  return inode && isDirectory(inode.mode) ? inode : undefined;
}

/** Sets link counts. The first name of an inode, in the order of paths, is where the image has it. */
export function countNames(root: TreeInode): void {
  for (const [, { inode }] of walkPlaces(root)) if (!isDirectory(inode.mode)) inode.nlink = 0;
  for (const [, entry] of walkPlaces(root)) {
    if (isDirectory(entry.inode.mode)) continue;
    entry.link = entry.inode.nlink > 0;
    entry.inode.nlink++;
  }
}
