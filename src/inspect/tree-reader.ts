/** Reads an overlay as a tree, to make an image of it: the parts that the whole tree and one layer of it have in common. */
import { INLINE_BYTES_MAX } from '../composefs/scan.ts';
import { newInode, setPayload, setXattr, type TreeInode } from '../composefs/tree.ts';
import type { Data } from '../layers/layer.ts';
import type { Node } from '../overlay/node.ts';
import type { Overlay } from '../overlay/overlay.ts';
import { measureOpen, type ObjectStore, objectPath } from '../store/objects.ts';
import type { OpenFile } from '../store/source.ts';
import { type ByteString, byteStringOf, printable } from '../sys/bytes.ts';
import { EIO, ErrnoError, errnoText } from '../sys/errno.ts';
import { isDirectory, isRegular, isSymlink } from '../sys/stat.ts';
import type { Algorithm } from '../verity/digest.ts';

/** The largest file that is read into memory, because its data is in an image: composefs writes none above 5,000 bytes. */
const COPIED_BYTES_MAX = 1 << 20;

export interface TreeOptions {
  /** Receives the data of files. */
  readonly store: ObjectStore;
  readonly algorithm: Algorithm;
  /** Called after each file with the number of files and bytes so far. */
  readonly progress: (files: number, bytes: number) => void;
}

/** A directory whose names are still to be read. */
export interface Waiting {
  readonly node: Node;
  readonly inode: TreeInode;
  readonly path: ByteString;
}

/** Reads names from the root down. Names of one object share an inode. */
export abstract class TreeReader {
  protected readonly overlay: Overlay;
  private readonly options: TreeOptions;
  /** Objects with several names, by st_ino. */
  private readonly shared = new Map<number, TreeInode>();
  private readonly waiting: Waiting[] = [];
  private files = 0;
  private bytes = 0;

  constructor(overlay: Overlay, options: TreeOptions) {
    this.overlay = overlay;
    this.options = options;
  }

  /** Throws ErrnoError with the path: of a lookup, of data that is missing or wrong, and of the store. */
  run(): TreeInode {
    const { overlay, waiting } = this;
    const root = this.inode(overlay.root, '');
    waiting.push({ node: overlay.root, inode: root, path: '' });
    for (let at = waiting.pop(); at; at = waiting.pop()) this.readNames(at);
    return root;
  }

  /** Calls `add` with each name of a directory that leads to an object. */
  protected abstract readNames(at: Waiting): void;

  /** Gives an inode the xattrs of its node. */
  protected abstract readXattrs(node: Node, inode: TreeInode, shown: string): void;

  /** Adds a name and what it leads to. */
  protected add({ node: directory, inode: above, path: parent }: Waiting, name: ByteString): void {
    const path = `${parent}/${name}`;
    const node = this.overlay.lookup(directory, name);
    if (typeof node === 'number') throw new ErrnoError(-node, `${printable(path)}: ${errnoText(node)}`);
    const known = this.shared.get(node.ino);
    if (known) known.nlink++;
    const inode = known ?? this.inode(node, path);
    if (!known && !isDirectory(inode.mode) && this.overlay.attr(node).nlink > 1) this.shared.set(node.ino, inode);
    above.entries.set(name, { inode, link: known !== undefined });
    if (isDirectory(inode.mode)) this.waiting.push({ node, inode, path });
  }

  private inode(node: Node, path: ByteString): TreeInode {
    const { overlay } = this;
    const { mode, uid, gid, rdev, size, mtime, mtimensec } = overlay.attr(node);
    const inode = Object.assign(newInode(mode), { uid, gid, rdev, sizeBytes: size, mtime, mtimensec });
    const shown = printable(path || '/');
    this.readXattrs(node, inode, shown);
    if (isSymlink(mode)) setPayload(inode, overlay.readlink(node));
    if (isRegular(mode) && size > 0) this.readFile(node, inode, shown);
    return inode;
  }

  /** Sets an xattr of the inode that an image cannot hold if it is too large. Throws ErrnoError with the path. */
  protected set(inode: TreeInode, name: ByteString, value: Uint8Array, shown: string): void {
    try {
      setXattr(inode, name, byteStringOf(value));
    } catch (error) {
      if (!(error instanceof ErrnoError)) throw error;
      throw new ErrnoError(error.errno, `${shown}: xattr ${printable(name)}: ${error.message}`);
    }
  }

  /** Takes over the data of a regular file with a size, after it was checked by its digest, if it has one. */
  protected readFile(node: Node, inode: TreeInode, shown: string): void {
    const data = this.overlay.open(node);
    if (typeof data === 'number') throw new ErrnoError(-data, `${shown}: ${errnoText(data)}`);
    try {
      this.take(data, inode, shown);
    } finally {
      data.close();
    }
    this.files++;
    this.bytes += inode.sizeBytes;
    this.options.progress(this.files, this.bytes);
  }

  private take(data: Data, inode: TreeInode, shown: string): void {
    const { sizeBytes } = inode;
    if (data.fd < 0 || sizeBytes <= INLINE_BYTES_MAX) {
      inode.content = contentOf(data, sizeBytes, shown);
      return;
    }
    const { store, algorithm } = this.options;
    const file: OpenFile = { fd: data.fd, shown, sizeBytes };
    inode.digest = measureOpen(file, algorithm);
    store.add(file, inode.digest);
    setPayload(inode, objectPath(inode.digest));
  }
}

function contentOf(data: Data, sizeBytes: number, shown: string): ByteString {
  if (sizeBytes > COPIED_BYTES_MAX)
    throw new ErrnoError(EIO, `${shown}: ${sizeBytes} bytes in an image, not in an object`);
  const bytes = new Uint8Array(sizeBytes);
  if (data.read(bytes, 0, sizeBytes, 0) !== sizeBytes)
    throw new ErrnoError(EIO, `${shown}: shorter than its inode says`);
  return byteStringOf(bytes);
}
