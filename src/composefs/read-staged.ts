/**
 * Reads an image as staged inodes, the form in which `stage.ts` hands them to the writer. The overlay's xattrs and whiteouts stay
 * as they are, and the inodes keep their order. An image of mkcomposefs is therefore rewritten byte for byte; an image of another
 * tool keeps its names, attributes, xattrs and contents.
 */
import { seekData } from '../erofs/data.ts';
import type { Nid } from '../erofs/format.ts';
import { LAYOUT_CHUNK_BASED } from '../erofs/format.ts';
import { ImageInode } from '../erofs/inode.ts';
import type { Image } from '../erofs/superblock.ts';
import type { ByteString } from '../sys/bytes.ts';
import { ErrnoError, EUCLEAN } from '../sys/errno.ts';
import { isDirectory, isRegular, isSymlink } from '../sys/stat.ts';
import { ImageValues } from './image-values.ts';
import { METACOPY, type StagedInode } from './stage.ts';
import { newInode, PATH_BYTES_MAX } from './tree.ts';

/**
 * Reads all inodes reachable from the root: the root first, the others in the order of their nids. The payload and digest of a
 * regular file are read only as xattrs.
 * Throws ErrnoError: EUCLEAN for a corrupt image or one that is no tree, EOPNOTSUPP and EFBIG for data that cannot be read.
 */
export function readStaged(image: Image): StagedInode[] {
  return new StagedReader(image).read();
}

class StagedReader {
  readonly #image: Image;
  readonly #values: ImageValues;
  readonly #inodes = new Map<Nid, StagedInode>();

  constructor(image: Image) {
    this.#image = image;
    this.#values = new ImageValues(image);
  }

  read(): StagedInode[] {
    const { rootNid } = this.#image;
    this.#inodes.set(rootNid, this.#inode(rootNid, undefined));
    for (const [nid, inode] of this.#inodes) if (isDirectory(inode.mode)) this.#readNames(nid, inode); // grows while iterated
    const isRoot = (nid: Nid): number => (nid === rootNid ? 0 : 1);
    const order = [...this.#inodes].sort(([a], [b]) => isRoot(a) - isRoot(b) || a - b).map(([, inode]) => inode);
    for (const [index, inode] of order.entries()) inode.index = index;
    return order;
  }

  #readNames(nid: Nid, directory: StagedInode): void {
    const names = new Map<ByteString, StagedInode>();
    this.#values.dirents(new ImageInode(this.#image, nid), (name, child) => {
      if (name === '.' || name === '..') return;
      if (names.has(name)) throw new ErrnoError(EUCLEAN, `nid ${nid}: a name occurs twice`);
      names.set(name, this.#child(child, directory));
    });
    names.set('.', directory).set('..', directory.parent ?? directory);
    directory.children = [...names].map(([name, inode]) => ({ name, inode }));
    directory.children.sort((a, b) => (a.name < b.name ? -1 : 1));
  }

  #child(nid: Nid, directory: StagedInode): StagedInode {
    const known = this.#inodes.get(nid);
    if (known && isDirectory(known.mode)) throw new ErrnoError(EUCLEAN, `nid ${nid}: a directory with two names`);
    const inode = known ?? this.#inode(nid, directory);
    if (!known) this.#inodes.set(nid, inode);
    return inode;
  }

  /** Reads one inode, without its directory entries. */
  #inode(nid: Nid, parent: StagedInode | undefined): StagedInode {
    const stored = new ImageInode(this.#image, nid);
    const { mode, nlink, uid, gid, rdev, sizeBytes, mtime, mtimensec } = stored;
    const attributes = { ...newInode(mode), nlink, uid, gid, rdev, sizeBytes, mtime, mtimensec };
    const inode: StagedInode = { ...attributes, index: -1, parent, children: [] };
    inode.xattrs = this.#xattrs(stored);
    if (isSymlink(mode)) inode.payload = this.#values.data(stored, PATH_BYTES_MAX);
    if (isRegular(mode) && this.#holdsData(stored, inode.xattrs.has(METACOPY)))
      inode.content = this.#values.data(stored, this.#image.sizeBytes);
    return inode;
  }

  /** The xattrs in byte order of names. If a name occurs twice, the first value counts, as in lookup. */
  #xattrs(stored: ImageInode): Map<ByteString, ByteString> {
    const found = new Map<ByteString, ByteString>();
    this.#values.xattrs(stored, (name, value) => {
      if (!found.has(name)) found.set(name, value);
    });
    return found.size > 1 ? new Map([...found].sort(([a], [b]) => (a < b ? -1 : 1))) : found;
  }

  /** Whether the image holds a regular file's data. The chunk map of a metacopy is ignored, because overlayfs never reads it. */
  #holdsData(stored: ImageInode, isMetacopy: boolean): boolean {
    if (stored.sizeBytes === 0 || (isMetacopy && stored.layout === LAYOUT_CHUNK_BASED)) return false;
    this.#values.takeChunkMap(stored);
    return seekData(this.#image, stored, 0, false) < stored.sizeBytes;
  }
}
