/** An object of the overlay, as lookup found it in the layers. */
import type { Inode } from '../layers/layer.ts';
import type { ByteString } from '../sys/bytes.ts';

/**
 * One object of the overlay, shared by all names that lead to the same top inode.
 * A directory has a stack of real directories; any other object has its top inode and one place for its data.
 */
export interface Node {
  /** st_ino: unique in the overlay, the same for every lookup. See ino.ts. */
  readonly ino: number;
  /** The inode from which all attributes and xattrs come. */
  readonly top: Inode;
  /** For a directory: the real directories that take part, top first. For any other object: the top alone. */
  readonly stack: readonly Inode[];
  /**
   * Where a metacopy file's data is: an inode of a normal layer, or a path in the data-only layers; '' if it has no path.
   * undefined: the object is no metacopy file, so its data is its own.
   */
  readonly data: Inode | ByteString | undefined;
  /**
   * The metacopy inode by whose origin data may be found that is not found by path: the top, or the one in a layer below from
   * which the upper layer's was copied. undefined if no origin is followed.
   */
  readonly origin: Inode | undefined;
  /** Whether regular files in this directory may be xattr whiteouts: one of the real directories has opaque=x. */
  readonly xwhiteouts: boolean;
  /** Where the index of the upper layer has the file, which then is the top; absent if it has not. See hard-links/link-index.ts. */
  readonly indexed?: IndexEntry | undefined;
}

/** A file in the index of an upper layer. */
export interface IndexEntry {
  /** The name of the copy in the index. */
  readonly name: ByteString;
  /** The links of the file beyond those of the copy: its names that only layers below have, less the name in the index. */
  otherLinks: number;
}

/** Whether an inode that the node is made of is stale: its object was no longer where it had been found. */
export function isStale({ stack, data }: Node): boolean {
  for (const inode of stack) if (inode.isStale) return true;
  return typeof data === 'object' && data.isStale === true;
}
