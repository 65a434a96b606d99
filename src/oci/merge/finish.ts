/**
 * The last steps from merged layers to the tree of an image, by which everyone who merges the same layers gets the same digest.
 * Source: composefs-rs, doc/oci.md and transform_for_oci.
 */
import { type TreeInode, walkPlaces } from '../../composefs/tree.ts';
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
  const usr = root.entries.get('usr')?.inode;
  const run = root.entries.get('run')?.inode;
  if (usr && isDirectory(usr.mode)) setAttributes(root, usr);
  else {
    setAttributes(root, { ...root, mode: ROOT_MODE, uid: 0, gid: 0, mtime: 0, mtimensec: 0, xattrs: new Map() });
    faults.push('it has no directory /usr');
  }
  if (run && isDirectory(run.mode)) {
    run.entries.clear();
    Object.assign(run, { mtime: root.mtime, mtimensec: root.mtimensec });
  } else if (run) faults.push('/run is not a directory');
  if (missingDirectories > 0) faults.push(`${missingDirectories} directories have no entry`);
  countNames(root);
  return faults;
}

/** Sets link counts. The first name of an inode, in the order of paths, is where the image has it. */
function countNames(root: TreeInode): void {
  for (const [, { inode }] of walkPlaces(root)) if (!isDirectory(inode.mode)) inode.nlink = 0;
  for (const [, entry] of walkPlaces(root)) {
    if (isDirectory(entry.inode.mode)) continue;
    entry.link = entry.inode.nlink > 0;
    entry.inode.nlink++;
  }
}
