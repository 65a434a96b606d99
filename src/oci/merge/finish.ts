/**
 * The last steps from merged layers to the tree of an image, by which everyone who merges the same layers gets the same digest.
 * Source: composefs-rs, doc/oci.md, transform_for_oci and transform_for_boot.
 */
import { newInode, type TreeInode, walkPlaces } from '../../composefs/tree.ts';
import type { ByteString } from '../../sys/bytes.ts';
import { EINVAL, ErrnoError } from '../../sys/errno.ts';
import { isDirectory, S_IFDIR } from '../../sys/stat.ts';
import { type LayeredTree, setAttributes } from './tree.ts';

/** The root where no directory /usr lends its attributes. */
const ROOT_MODE = S_IFDIR | 0o755;

/** What an image of the tree is for. */
export interface Purpose {
  /**
   * Whether a machine boots from it: what /boot and /sysroot have is for the boot loader, and not for the running system; and labels of
   * SELinux are set by the policy in the tree (oci/selinux).
   */
  readonly bootable: boolean;
}
const BOOT: readonly ByteString[] = ['boot', 'sysroot'];

/**
 * Finishes a tree. The root takes the attributes of /usr, because layers often have none for it; /run is emptied, because it is a
 * mount point at run time; so are /boot and /sysroot where they have to be. Throws ErrnoError EINVAL for a tree that cannot be made
 * bootable.
 * @returns why the image has no canonical digest; none if it has one
 */
export function finishTree({ root, missingDirectories }: LayeredTree, purpose: Purpose): string[] {
  const faults: string[] = [];
  const run = root.entries.get('run')?.inode;
  if (!directoryIn(root, 'usr')) faults.push('it has no directory /usr');
  if (run && !isDirectory(run.mode)) faults.push('/run is not a directory');
  if (missingDirectories > 0) faults.push(`${missingDirectories} directories have no entry`);
  if (purpose.bootable) checkBootable(root);
  finishRoot(root, root, purpose);
  countNames(root);
  return faults;
}

/** Gives a root the attributes and the mount points that the image of a tree has. @param merged the root of that tree, or the same */
export function finishRoot(root: TreeInode, merged: TreeInode, { bootable }: Purpose): void {
  setAttributes(root, directoryIn(merged, 'usr') ?? newInode(ROOT_MODE));
  const { mtime, mtimensec } = root;
  const run = directoryIn(merged, 'run');
  if (run) putEmpty(root, 'run', { ...run, mtime, mtimensec });
  if (!bootable) return;
  for (const name of BOOT) {
    const inode = directoryIn(merged, name);
    if (inode) putEmpty(root, name, { ...inode, mtime }); // composefs-rs keeps the nanoseconds
  }
}

const putEmpty = ({ entries }: TreeInode, name: ByteString, inode: TreeInode): void =>
  void entries.set(name, { inode: { ...inode, entries: new Map() }, link: false });

/** Refuses what composefs-rs refuses. */
function checkBootable(root: TreeInode): void {
  for (const name of BOOT)
    if (!directoryIn(root, name))
      throw new ErrnoError(EINVAL, `the image is not bootable: it has no directory /${name}`);
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
