/**
 * An image as its inodes, the way `stage.ts` hands them to the writer: nothing that was done for the overlay is undone, and
 * they keep their order, so that an image of mkcomposefs is written again as the same bytes, and one of another tool with the
 * same names, attributes, xattrs and contents.
 */
import { seekData } from '../erofs/data.ts';
import { listDirents } from '../erofs/dirents.ts';
import { LAYOUT_CHUNK_BASED } from '../erofs/format.ts';
import type { Image } from '../erofs/image.ts';
import { Inode, type Nid } from '../erofs/inode.ts';
import { listXattrs, xattrValue } from '../erofs/xattrs.ts';
import { type Name, nameOf } from '../sys/bytes.ts';
import { EFBIG, ErrnoError, EUCLEAN } from '../sys/errno.ts';
import { isDirectory, isRegular, isSymlink } from '../sys/stat.ts';
import { readText } from './read.ts';
import { METACOPY, type StagedInode } from './stage.ts';
import { newInode, PATH_BYTES_MAX, XATTR_NAME_BYTES_MAX } from './tree.ts';

/** What the xattrs of one inode may take. Source: composefs lcfs-writer.h, LCFS_INODE_XATTR_MAX. */
const XATTRS_BYTES_MAX = 65535;

/**
 * Reads all inodes that the root leads to: the root first, the others as they lie in the image. Of a regular file's payload
 * and digest the xattrs alone are read. Throws ErrnoError: EUCLEAN for a corrupt image or one that is no tree, EOPNOTSUPP and
 * EFBIG for data that can not be read.
 */
export function readStaged(image: Image): StagedInode[] {
  return new StagedReader(image).read();
}

class StagedReader {
  readonly #image: Image;
  readonly #inodes = new Map<Nid, StagedInode>();

  constructor(image: Image) {
    this.#image = image;
  }

  read(): StagedInode[] {
    const { rootNid } = this.#image;
    this.#inodes.set(rootNid, readInode(this.#image, rootNid, undefined));
    for (const [nid, inode] of this.#inodes) if (isDirectory(inode.mode)) this.#readNames(nid, inode); // grows meanwhile
    const isRoot = (nid: Nid): number => (nid === rootNid ? 0 : 1);
    const order = [...this.#inodes].sort(([a], [b]) => isRoot(a) - isRoot(b) || a - b).map(([, inode]) => inode);
    for (const [index, inode] of order.entries()) inode.index = index;
    return order;
  }

  #readNames(nid: Nid, directory: StagedInode): void {
    const names = new Map<Name, StagedInode>();
    listDirents(this.#image, new Inode(this.#image, nid), (name, child) => {
      if (name === '.' || name === '..') return;
      if (names.has(name)) throw new ErrnoError(EUCLEAN, `nid ${nid}: a name that is there twice`);
      names.set(name, this.#child(child, directory));
    });
    names.set('.', directory).set('..', directory.parent ?? directory);
    directory.children = [...names].map(([name, inode]) => ({ name, inode }));
    directory.children.sort((a, b) => (a.name < b.name ? -1 : 1));
  }

  #child(nid: Nid, directory: StagedInode): StagedInode {
    const known = this.#inodes.get(nid);
    if (known && isDirectory(known.mode)) throw new ErrnoError(EUCLEAN, `nid ${nid}: a directory with two names`);
    const inode = known ?? readInode(this.#image, nid, directory);
    if (!known) this.#inodes.set(nid, inode);
    return inode;
  }
}

/** One inode, without its names. */
function readInode(image: Image, nid: Nid, parent: StagedInode | undefined): StagedInode {
  const stored = new Inode(image, nid);
  const { mode, nlink, uid, gid, rdev, sizeBytes, mtime, mtimensec } = stored;
  const attributes = { ...newInode(mode), nlink, uid, gid, rdev, sizeBytes, mtime, mtimensec };
  const inode: StagedInode = { ...attributes, index: -1, parent, children: [] };
  inode.xattrs = readXattrs(image, stored);
  if (isSymlink(mode)) inode.payload = readText(image, stored, PATH_BYTES_MAX);
  if (isRegular(mode) && holdsData(image, stored, inode.xattrs.has(METACOPY)))
    inode.content = readText(image, stored, image.sizeBytes);
  return inode;
}

/** The xattrs in byte order of names; the first of a name counts, as in lookup. */
function readXattrs(image: Image, stored: Inode): Map<Name, Name> {
  const found = new Map<Name, Name>();
  let bytes = 0;
  listXattrs(image, stored, (name, entry) => {
    if (found.has(name)) return;
    const value = nameOf(xattrValue(image, entry));
    found.set(name, value);
    bytes += name.length + value.length;
    if (name.length > XATTR_NAME_BYTES_MAX)
      throw new ErrnoError(EUCLEAN, `nid ${stored.nid}: an xattr name of ${name.length} bytes`);
  });
  if (bytes > XATTRS_BYTES_MAX)
    throw new ErrnoError(EFBIG, `nid ${stored.nid}: ${bytes} bytes of xattrs; ${XATTRS_BYTES_MAX} are allowed`);
  return found.size > 1 ? new Map([...found].sort(([a], [b]) => (a < b ? -1 : 1))) : found;
}

/** Whether a regular file's data is in the image; a metacopy's map of holes is not looked at, overlayfs never does. */
function holdsData(image: Image, stored: Inode, isMetacopy: boolean): boolean {
  if (stored.sizeBytes === 0 || (isMetacopy && stored.layout === LAYOUT_CHUNK_BASED)) return false;
  return seekData(image, stored, 0, false) < stored.sizeBytes;
}
