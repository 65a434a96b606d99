/** Applies the entries of layers to a tree, and puts the data of their files into a store. */
import { addXattr, newInode, setPayload, type TreeInode } from '../../composefs/tree.ts';
import type { ObjectStream } from '../../store/object-stream.ts';
import { type Added, objectPath } from '../../store/objects.ts';
import { type ByteString, byteStringOf, detached } from '../../sys/bytes.ts';
import { EFBIG, EINVAL, ErrnoError, EUCLEAN } from '../../sys/errno.ts';
import { makeRdev, S_IFBLK, S_IFCHR, S_IFDIR, S_IFIFO, S_IFLNK, S_IFREG } from '../../sys/stat.ts';
import type { TarEntry, TarType } from '../tar/entry.ts';
import type { TarVisitor } from '../tar/parser.ts';
import { type LayeredTree, type Parts, partsOf, type Whiteouts } from './tree.ts';

/** Names of markers. Source: OCI image-spec, layer.md, "Whiteouts". */
const WHITEOUT = '.wh.';
const OPAQUE = '.wh..wh..opq';

/** The largest file whose data the image itself holds. Source: composefs-rs, INLINE_CONTENT_MAX_V0. */
export const INLINE_BYTES_MAX = 64;
/** The largest size of all sparse files together: their holes take no space in an archive, but all of them are measured. */
const SPARSE_BYTES_MAX = 2 ** 36;
/** The memory that an entry takes besides its texts, and the most that all entries may take. Node.js ends near 4 GiB. */
const ENTRY_BYTES = 1024;
const METADATA_BYTES_MAX = 2 ** 31;
const PERMISSIONS = 0o7777;
const MAJOR_MAX = 0xfff;
const MINOR_MAX = 0xfffff;

const TYPE_BITS: Readonly<Record<Exclude<TarType, 'hard link'>, number>> = {
  file: S_IFREG,
  directory: S_IFDIR,
  symlink: S_IFLNK,
  'character device': S_IFCHR,
  'block device': S_IFBLK,
  fifo: S_IFIFO,
};

export interface MergeCounts {
  entries: number;
  /** Files whose data went into the store, by what the store did; and their bytes. */
  newObjects: number;
  knownObjects: number;
  replacedObjects: number;
  objectBytes: number;
  sparseFiles: number;
}

/** Takes the archives of all layers, one after the other: call `beginLayer` before each. */
export class Merge implements TarVisitor {
  readonly tree: LayeredTree;
  /** What the other rule for whiteouts makes, from the first one on where the rules differ. */
  other: LayeredTree | undefined;
  /** Why the other rule makes nothing. */
  otherFault: string | undefined;
  readonly counts: MergeCounts = {
    ...{ entries: 0, newObjects: 0, knownObjects: 0, replacedObjects: 0, objectBytes: 0, sparseFiles: 0 },
  };
  readonly #objects: ObjectStream;
  readonly #keepsXattr: (name: ByteString) => boolean;
  #sparseBytes = 0;
  #metadataBytes = 0;
  /** The file whose data comes, and its content if the image is to hold that. */
  #file: TreeInode | undefined;
  #content: ByteString | undefined;
  #hasBegun = false;

  /** @param keepsXattr which xattrs are kept, by name */
  constructor(tree: LayeredTree, objects: ObjectStream, keepsXattr: (name: ByteString) => boolean) {
    this.tree = tree;
    this.#objects = objects;
    this.#keepsXattr = keepsXattr;
  }

  beginLayer(): void {
    this.tree.beginLayer();
    this.other?.beginLayer();
  }

  /** Applies an entry. Throws ErrnoError for one that cannot be applied. */
  entry(entry: TarEntry): boolean {
    this.counts.entries++;
    this.#countMetadata(entry);
    const parts = partsOf(entry.name);
    const name = parts.at(-1);
    if (name === undefined) this.#setRoot(entry);
    else if (parts.some((part, i) => i < parts.length - 1 && part.startsWith(WHITEOUT)))
      return false; // left by aufs
    else if (name.startsWith(WHITEOUT)) this.#hide(parts.slice(0, -1), name);
    else if (entry.type === 'hard link') this.#link(parts, partsOf(entry.linkname));
    else return this.#add(parts, entry, TYPE_BITS[entry.type]);
    return false;
  }

  data(bytes: Uint8Array): void {
    if (this.#content === undefined) this.#begun().write(bytes);
    else this.#content += byteStringOf(bytes);
  }

  hole(bytes: number): void {
    if (this.#content === undefined) this.#begun().hole(bytes);
    else this.#content += '\0'.repeat(bytes);
  }

  /** @returns the digest of the object that has the file's data; undefined if the image holds it */
  end(): string | undefined {
    const file = this.#file as TreeInode;
    if (this.#content !== undefined) {
      file.content = detached(this.#content);
      return undefined;
    }
    const { digest, added } = this.#objects.end();
    this.#hasBegun = false;
    this.#setObject(file, digest, added);
    return digest;
  }

  object(digest: string): boolean {
    if (this.#content !== undefined) return false;
    this.#setObject(this.#file as TreeInode, digest, 'known');
    return true;
  }

  /** The object of the file, which begins with its first bytes. */
  #begun(): ObjectStream {
    if (!this.#hasBegun) this.#objects.begin((this.#file as TreeInode).sizeBytes);
    this.#hasBegun = true;
    return this.#objects;
  }

  #setObject(file: TreeInode, digest: string, added: Added): void {
    file.digest = digest;
    file.payload = objectPath(digest);
    this.counts[`${added}Objects`]++;
    this.counts.objectBytes += file.sizeBytes;
  }

  #setRoot(entry: TarEntry): void {
    if (entry.type !== 'directory') throw new ErrnoError(EUCLEAN, `the root is a ${entry.type}`);
    const inode = this.#inodeOf(entry, S_IFDIR);
    this.#apply(tree => tree.setRoot(inode));
  }

  #hide(parts: Parts, name: ByteString): void {
    const isOpaque = name === OPAQUE;
    const hidden = name.slice(WHITEOUT.length);
    const { tree } = this;
    const isSplit = isOpaque ? tree.isSplitByOpaque(parts) : tree.isSplitBy(parts, hidden);
    if (isSplit && this.other === undefined && this.otherFault === undefined)
      this.other = tree.fork(otherRule(tree.whiteouts));
    this.#apply(each => (isOpaque ? each.hideAll(parts) : each.hide(parts, hidden)));
  }

  #link(parts: Parts, target: Parts): void {
    this.#apply(tree => tree.link(parts, target));
  }

  #add(parts: Parts, entry: TarEntry, type: number): boolean {
    const inode = this.#inodeOf(entry, type);
    this.#apply(tree => tree.add(parts, inode));
    if (entry.sizeBytes === 0) return false;
    this.#file = inode;
    this.#content = entry.sizeBytes <= INLINE_BYTES_MAX ? '' : undefined;
    return true;
  }

  /** Applies a change to the tree, and to the other one, which a failure ends. */
  #apply(change: (tree: LayeredTree) => void): void {
    change(this.tree);
    if (this.other === undefined) return;
    try {
      change(this.other);
    } catch (error) {
      if (!(error instanceof ErrnoError)) throw error;
      this.other = undefined;
      this.otherFault = error.message;
    }
  }

  #inodeOf(entry: TarEntry, type: number): TreeInode {
    const { mode, uid, gid, mtime, mtimensec, linkname, sizeBytes, isSparse } = entry;
    const inode = newInode(type | (mode & PERMISSIONS));
    Object.assign(inode, { uid, gid, mtime, mtimensec, sizeBytes });
    if (isSparse) this.#countSparse(sizeBytes);
    if (type === S_IFLNK) {
      if (linkname === '' || linkname.includes('\0')) throw new ErrnoError(EUCLEAN, 'a symlink without a target');
      setPayload(inode, linkname);
      inode.sizeBytes = linkname.length;
    }
    if (type === S_IFCHR || type === S_IFBLK) inode.rdev = deviceOf(entry);
    this.#setXattrs(inode, entry.xattrs);
    return inode;
  }

  /** Limits the memory of the tree, and of the missing directories that paths make. */
  #countMetadata({ name, linkname, xattrs }: TarEntry): void {
    this.#metadataBytes += ENTRY_BYTES + name.length + linkname.length;
    for (const [key, value] of xattrs) if (this.#keepsXattr(key)) this.#metadataBytes += value.length;
    const bytes = this.#metadataBytes + this.tree.missingDirectories * ENTRY_BYTES;
    if (bytes > METADATA_BYTES_MAX)
      throw new ErrnoError(EFBIG, `the entries up to this one need ${bytes} bytes; ${METADATA_BYTES_MAX} are allowed`);
  }

  #countSparse(sizeBytes: number): void {
    this.counts.sparseFiles++;
    this.#sparseBytes += sizeBytes;
    if (this.#sparseBytes > SPARSE_BYTES_MAX)
      throw new ErrnoError(EFBIG, `the sparse files have ${this.#sparseBytes} bytes; ${SPARSE_BYTES_MAX} are allowed`);
  }

  #setXattrs(inode: TreeInode, xattrs: ReadonlyMap<ByteString, ByteString>): void {
    const kept = new Map<ByteString, ByteString>();
    for (const [name, value] of xattrs) if (this.#keepsXattr(name)) addXattr(kept, name, value);
    if (kept.size > 0) inode.xattrs = kept;
  }
}

const otherRule = (whiteouts: Whiteouts): Whiteouts => (whiteouts === 'spec' ? 'composefs-rs' : 'spec');

function deviceOf({ devmajor, devminor }: TarEntry): number {
  if (devmajor > MAJOR_MAX || devminor > MINOR_MAX)
    throw new ErrnoError(EINVAL, `device ${devmajor}:${devminor} is beyond the numbers of Linux`);
  return makeRdev(devmajor, devminor);
}
