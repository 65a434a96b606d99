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
import { METACOPY } from './stage.ts';
import { type Row, StagedInodes } from './staged.ts';
import { PATH_BYTES_MAX } from './tree.ts';

/**
 * Reads all inodes reachable from the root: the root first, the others in the order of their nids. The payload and digest of a
 * regular file are read only as xattrs.
 * Throws ErrnoError: EUCLEAN for a corrupt image or one that is no tree, EOPNOTSUPP and EFBIG for data that cannot be read.
 */
export function readStaged(image: Image): StagedInodes {
  return new StagedReader(image).read();
}

class StagedReader {
  readonly #image: Image;
  readonly #values: ImageValues;
  readonly #staged = new StagedInodes();
  readonly #rows = new Map<Nid, Row>();

  constructor(image: Image) {
    this.#image = image;
    this.#values = new ImageValues(image);
  }

  read(): StagedInodes {
    this.#add(this.#image.rootNid, 0);
    for (const [nid, row] of this.#rows) if (this.#isDirectory(row)) this.#readNames(nid, row); // grows while iterated
    const nids = [...this.#rows.keys()]; // by row
    const order = new Uint32Array(nids.length).map((_, row) => row);
    order.subarray(1).sort((a, b) => (nids[a] as Nid) - (nids[b] as Nid));
    this.#staged.order = order;
    this.#staged.composefsVersion = this.#image.composefs?.composefsVersion ?? 0;
    return this.#staged;
  }

  #isDirectory(row: Row): boolean {
    return isDirectory(this.#staged.mode[row] as number);
  }

  #readNames(nid: Nid, directory: Row): void {
    const names = new Map<ByteString, Row>();
    this.#values.dirents(new ImageInode(this.#image, nid), (name, child) => {
      if (name === '.' || name === '..') return;
      if (names.has(name)) throw new ErrnoError(EUCLEAN, `nid ${nid}: a name occurs twice`);
      names.set(name, this.#child(child, directory));
    });
    names.set('.', directory).set('..', this.#staged.parent[directory] as Row);
    for (const name of [...names.keys()].sort()) this.#staged.addName(directory, name, names.get(name) as Row);
  }

  #child(nid: Nid, directory: Row): Row {
    const known = this.#rows.get(nid);
    if (known === undefined) return this.#add(nid, directory);
    if (this.#isDirectory(known)) throw new ErrnoError(EUCLEAN, `nid ${nid}: a directory with two names`);
    return known;
  }

  /** Reads one inode, without its directory entries. */
  #add(nid: Nid, parent: Row): Row {
    const stored = new ImageInode(this.#image, nid);
    const xattrs = this.#xattrs(stored);
    const row = this.#staged.add(stored, this.#data(stored, xattrs.has(METACOPY)), parent);
    this.#staged.setXattrs(row, xattrs);
    this.#rows.set(nid, row);
    return row;
  }

  #data(stored: ImageInode, isMetacopy: boolean): ByteString | undefined {
    if (isSymlink(stored.mode)) return this.#values.data(stored, PATH_BYTES_MAX);
    if (!isRegular(stored.mode) || !this.#holdsData(stored, isMetacopy)) return undefined;
    return this.#values.data(stored, this.#image.sizeBytes);
  }

  /** The xattrs. If a name occurs twice, the first value counts, as in lookup. */
  #xattrs(stored: ImageInode): Map<ByteString, ByteString> {
    const found = new Map<ByteString, ByteString>();
    this.#values.xattrs(stored, (name, value) => {
      if (!found.has(name)) found.set(name, value);
    });
    return found;
  }

  /** Whether the image holds a regular file's data. The chunk map of a metacopy is ignored, because overlayfs never reads it. */
  #holdsData(stored: ImageInode, isMetacopy: boolean): boolean {
    if (stored.sizeBytes === 0 || (isMetacopy && stored.layout === LAYOUT_CHUNK_BASED)) return false;
    this.#values.takeChunkMap(stored);
    return seekData(this.#image, stored, 0, false) < stored.sizeBytes;
  }
}
