/**
 * The inodes of an image that its names lead to. A number from outside, in a file handle, may be any number: the author of a file
 * can make bytes in the middle of it look like an inode.
 */
import { ErrnoError } from '../sys/errno.ts';
import { isDirectory } from '../sys/stat.ts';
import { listDirents } from './dirents.ts';
import type { Nid } from './format.ts';
import { ImageInode, modeOf } from './inode.ts';
import { NidSet } from './nid-set.ts';
import type { Image } from './superblock.ts';

/**
 * About how many names are read at most, at some 200 ns each: directories of a hostile image may share their blocks, and hold any
 * number of names.
 * Inodes that only further names lead to count as unreachable.
 */
const NAMES_MAX = 2 ** 24;

export class ReachableInodes {
  private readonly inodes: NidSet;

  /** Reads all names of an image; a damaged directory contributes only the names before the damage. */
  constructor(image: Image) {
    this.inodes = new NidSet(image);
    const directories: Nid[] = [];
    const reach = (nid: Nid): void => {
      if (nid < this.inodes.slots && this.inodes.add(nid) && isDirectory(modeOf(image, nid))) directories.push(nid);
    };
    reach(image.rootNid);
    let names = 0;
    for (let nid = directories.pop(); nid !== undefined && names < NAMES_MAX; nid = directories.pop()) {
      visitNames(image, nid, found => {
        names++;
        reach(found);
      });
    }
  }

  has(nid: number): boolean {
    return this.inodes.has(nid);
  }
}

/** Visits the names of a directory, up to the first damage. */
function visitNames(image: Image, directory: Nid, visit: (nid: Nid) => void): void {
  try {
    listDirents(image, new ImageInode(image, directory), (_, nid) => visit(nid));
  } catch (error) {
    if (!(error instanceof ErrnoError)) throw error;
  }
}
