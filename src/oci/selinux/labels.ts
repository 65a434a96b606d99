/** Gives each inode of a tree the label that the policy of SELinux in the tree has for its path. Source: composefs-rs, selabel.rs. */
import { NO_XATTRS, setXattr, sortedEntries, type TreeInode } from '../../composefs/tree.ts';
import { type ByteString, printable } from '../../sys/bytes.ts';
import { ErrnoError } from '../../sys/errno.ts';
import { S_IFBLK, S_IFCHR, S_IFDIR, S_IFIFO, S_IFLNK, S_IFMT, S_IFREG, S_IFSOCK } from '../../sys/stat.ts';
import type { TypeLetter } from './contexts.ts';
import type { SelinuxPolicy } from './policy.ts';

const LABEL = 'security.selinux';
const LETTERS = new Map<number, TypeLetter>([
  ...[[S_IFREG, '-'] as const, [S_IFDIR, 'd'] as const, [S_IFLNK, 'l'] as const, [S_IFIFO, 'p'] as const],
  ...[[S_IFSOCK, 's'] as const, [S_IFBLK, 'b'] as const, [S_IFCHR, 'c'] as const],
]);
/** How long other work waits, such as that of a signal. */
const TURN_MS = 50;

/** What has a label, and the path that counts for it, which aliases may have changed. */
interface Labelled {
  readonly path: ByteString;
  readonly inode: TreeInode;
}

/**
 * Sets the labels of all inodes, none of which has one. Of an inode with several names, the last one in the order of paths counts.
 * Throws ErrnoError with the path.
 */
export async function labelTree(root: TreeInode, { contexts, aliases }: SelinuxPolicy): Promise<void> {
  const shared = new Map<ByteString, TreeInode['xattrs']>();
  const pending: Labelled[] = [{ path: '/', inode: root }];
  let turn = performance.now();
  for (let next = pending.pop(); next; next = pending.pop()) {
    const { path, inode } = next;
    setLabel(inode, path, contexts.labelOf(path, LETTERS.get(inode.mode & S_IFMT) as TypeLetter), shared);
    if (performance.now() - turn > TURN_MS) {
      await new Promise(setImmediate);
      turn = performance.now();
    }
    for (const [name, entry] of sortedEntries(inode).reverse()) {
      const below = path.endsWith('/') ? `${path}${name}` : `${path}/${name}`;
      pending.push({ path: aliases.get(below) ?? below, inode: entry.inode });
    }
  }
}

/** @param shared the xattrs of inodes that have nothing but a label */
function setLabel(
  inode: TreeInode,
  path: ByteString,
  label: ByteString | undefined,
  shared: Map<ByteString, TreeInode['xattrs']>,
): void {
  const isAlone = inode.xattrs.size === 0 || (inode.xattrs.size === 1 && inode.xattrs.has(LABEL));
  const known = label === undefined ? NO_XATTRS : shared.get(label);
  if (isAlone && known) inode.xattrs = known;
  else if (label === undefined) inode.xattrs = new Map([...inode.xattrs].filter(([name]) => name !== LABEL));
  else {
    try {
      setXattr(inode, LABEL, label);
    } catch (error) {
      throw new ErrnoError((error as ErrnoError).errno, `${printable(path)}: its label: ${(error as Error).message}`);
    }
    if (isAlone) shared.set(label, inode.xattrs);
  }
}
