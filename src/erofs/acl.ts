/** Determines whether an image has any POSIX ACLs. If not, the kernel need not ask for the ACL of each object. */
import { ErrnoError } from '../sys/errno.ts';
import { isDirectory } from '../sys/stat.ts';
import { listDirentsFrom } from './dirents.ts';
import type { Nid } from './format.ts';
import { FT_DIR, XATTR_INDEX_POSIX_ACL_ACCESS, XATTR_INDEX_POSIX_ACL_DEFAULT, XATTR_PREFIXES } from './format.ts';
import { ImageInode } from './inode.ts';
import type { Image } from './superblock.ts';
import { findXattr } from './xattrs.ts';

const NAMES = [XATTR_INDEX_POSIX_ACL_ACCESS, XATTR_INDEX_POSIX_ACL_DEFAULT].map(
  index => XATTR_PREFIXES[index] as string,
);

/**
 * The maximum number of entries that the walk examines, in about 0.2 s. In a mount of a larger image, the ACLs are read one by
 * one.
 */
const ENTRIES_MAX = 500_000;

/**
 * Walks the tree until it finds an object with a POSIX ACL.
 * @returns false if no object has one; true if one has, and also if the image is damaged or too large to be walked
 */
export function mayHaveAcl(image: Image): boolean {
  const walk = new AclWalk(image);
  try {
    return walk.run();
  } catch (error) {
    if (error instanceof ErrnoError) return true;
    throw error;
  }
}

class AclWalk {
  private readonly image: Image;
  private readonly directories: Nid[];
  private readonly seen: Set<Nid>;
  private entries = 0;
  private found = false;

  constructor(image: Image) {
    this.image = image;
    this.directories = [image.rootNid];
    this.seen = new Set(this.directories);
  }

  run(): boolean {
    this.found = this.hasAcl(new ImageInode(this.image, this.image.rootNid));
    for (let nid = this.directories.pop(); nid !== undefined && !this.found; nid = this.directories.pop()) {
      const directory = new ImageInode(this.image, nid);
      listDirentsFrom(this.image, directory, 0, (_, child, fileType) => this.visit(child, fileType));
    }
    return this.found;
  }

  /** Examines an entry, `.` and `..` included. @returns whether the walk goes on */
  private visit(nid: Nid, fileType: number): boolean {
    this.found = ++this.entries > ENTRIES_MAX;
    if (this.found || (fileType === FT_DIR && this.seen.has(nid))) return !this.found;
    const inode = new ImageInode(this.image, nid);
    if (isDirectory(inode.mode) && !this.seen.has(nid)) {
      this.seen.add(nid); // otherwise a loop of directories would never end
      this.directories.push(nid);
    }
    this.found = this.hasAcl(inode);
    return !this.found;
  }

  private hasAcl(inode: ImageInode): boolean {
    return inode.xattrBytes > 0 && NAMES.some(name => findXattr(this.image, inode, name) >= 0);
  }
}
