/**
 * The inodes of an image that its names lead to. A number from outside, in a file handle, may be any number: the author of a file
 * can make bytes in the middle of it look like an inode.
 */
import { ErrnoError } from '../sys/errno.ts';
import { isDirectory } from '../sys/stat.ts';
import { listDirents } from './dirents.ts';
import type { Nid } from './format.ts';
import { InodeCompact, SLOT_BYTES } from './format.ts';
import { ImageInode } from './inode.ts';
import type { Image } from './superblock.ts';

/**
 * About how many names are read at most, at some 200 ns each: directories of a hostile image may share their blocks, and hold any
 * number of names.
 * Inodes that only further names lead to count as unreachable.
 */
const NAMES_MAX = 2 ** 24;

export class ReachableInodes {
  private readonly image: Image;
  /** One bit for each inode slot. */
  private readonly bits: Uint8Array;

  /** Reads all names of an image; a damaged directory contributes only the names before the damage. */
  constructor(image: Image) {
    this.image = image;
    const slots = Math.max(0, Math.floor((image.sizeBytes - image.metaAt) / SLOT_BYTES));
    this.bits = new Uint8Array(Math.ceil(slots / 8));
    const directories: Nid[] = [];
    const reach = (nid: Nid): void => {
      if (nid < slots && this.add(nid) && this.isDirectory(nid)) directories.push(nid);
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
    return ((this.bits[Math.floor(nid / 8)] ?? 0) & (1 << (nid % 8))) !== 0;
  }

  /** Marks an inode as reachable. @returns whether it was not marked before */
  private add(nid: Nid): boolean {
    if (this.has(nid)) return false;
    const at = Math.floor(nid / 8);
    this.bits[at] = (this.bits[at] as number) | (1 << (nid % 8));
    return true;
  }

  /** Reads the type of an inode without the checks that `new Inode` makes. */
  private isDirectory(nid: Nid): boolean {
    const { view, metaAt } = this.image;
    return isDirectory(view.getUint16(metaAt + nid * SLOT_BYTES + InodeCompact.i_mode, true));
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
