/** Reads an image as a tree. `walk-image.ts` says what of the tree is lost in an image. */
import type { Image } from '../erofs/superblock.ts';
import type { TreeInode } from './tree.ts';
import { type ReadOptions, walkImage } from './walk-image.ts';

/**
 * Reads the tree of an image.
 * Throws ErrnoError: EUCLEAN for a corrupt image or one that is no tree, EOPNOTSUPP for data that cannot be read.
 * @example
 * const root = readTree(openImage(readImageFile('image.cfs')));
 * assert.equal(root.entries.get('poem')?.inode.sizeBytes, 128);
 */
export function readTree(image: Image, options: ReadOptions = {}): TreeInode {
  let root: TreeInode | undefined;
  for (const { name, directory, inode, linkTo } of walkImage(image, options)) {
    root ??= inode;
    directory?.entries.set(name, { inode, link: linkTo !== undefined });
  }
  return root as TreeInode;
}
