/** An object of the overlay: what lookup found in the layers. */
import type { Inode } from '../layers/layer.ts';
import type { ByteString } from '../sys/bytes.ts';

/**
 * One object of the overlay, shared by all names that lead to the same top inode.
 * A directory has a stack of real directories; a non-directory has its top and one place for its data.
 */
export interface Node {
  /** st_ino: unique in the overlay, the same for every lookup. See ino.ts. */
  readonly ino: number;
  /** All attributes and xattrs are those of the top. */
  readonly top: Inode;
  /** The real directories that take part, top first; the top alone for anything else. */
  readonly stack: readonly Inode[];
  /**
   * Where a metacopy file's data is: an inode of a normal layer, or a path in the data-only layers, '' where it has none.
   * undefined: its own.
   */
  readonly data: Inode | ByteString | undefined;
  /** Whether data that is not at the path may be found by the top's origin. */
  readonly followsOrigin: boolean;
  /** Whether regular files of this directory may be xattr whiteouts: seen with opaque=x. */
  readonly xwhiteouts: boolean;
}

/** Whether an object that the node is made of was found not to be where it was. */
export function isStale({ stack, data }: Node): boolean {
  for (const inode of stack) if (inode.isStale) return true;
  return typeof data === 'object' && data.isStale === true;
}
