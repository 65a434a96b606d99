/** st_ino that stays put: one number for each object of any layer, the same at every lookup and in every thread. */
import type { Inode } from '../layers/layer.ts';
import { ENFILE, ErrnoError } from '../sys/errno.ts';

/** An object's number on its filesystem is below 2^44, and there are at most 2^9 filesystems: 53 bits in all. */
const INO_BITS = 44;
const INO_LIMIT = 2 ** INO_BITS;
const FILESYSTEMS_MAX = 2 ** (53 - INO_BITS);

/**
 * Numbers the objects of a stack. Where all layers share a filesystem, its own numbers are shown, as the kernel does;
 * further filesystems have theirs from 2^44, 2 * 2^44 and so on, because FUSE has one st_dev for all.
 */
export class InodeNumbers {
  private readonly positions = new Map<string, number>();

  /** @param filesystems those of the layers, in the order of the stack, so that every thread counts alike */
  constructor(filesystems: Iterable<string>) {
    for (const filesystem of filesystems) {
      if (!this.positions.has(filesystem)) this.positions.set(filesystem, this.positions.size);
    }
    if (this.positions.size > FILESYSTEMS_MAX) throw new ErrnoError(ENFILE, `more than ${FILESYSTEMS_MAX} filesystems`);
  }

  /** st_ino of an object. */
  of(inode: Inode): number {
    return (this.positions.get(inode.layer.filesystem) as number) * INO_LIMIT + inode.ino;
  }
}
