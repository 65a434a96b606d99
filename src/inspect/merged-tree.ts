/** Reads what a stack shows as a tree, to make one image of it. */
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

export interface MergeOptions {
  /** Receives the data of all files. */
  readonly store: ObjectStore;
  readonly algorithm: Algorithm;
  /** Called after each file with the number of files and bytes so far. */
  readonly progress: (files: number, bytes: number) => void;
}

/**
 * Reads the merged tree, and adds the data of each file to a store after it was checked by its digest, if it has one. Names of
 * one object share an inode.
 * Throws ErrnoError with the path: of a lookup, of data that is missing or wrong, and of the store.
 */
export function readMerged(overlay: Overlay, options: MergeOptions): TreeInode {
  return new Merge(overlay, options).run();
}

interface Waiting {
  readonly node: Node;
  readonly inode: TreeInode;
  readonly path: ByteString;
}

class Merge {
  private readonly overlay: Overlay;
  private readonly options: MergeOptions;
  /** Objects with several names, by st_ino. */
  private readonly shared = new Map<number, TreeInode>();
  private files = 0;
  private bytes = 0;

  constructor(overlay: Overlay, options: MergeOptions) {
    this.overlay = overlay;
    this.options = options;
  }

  run(): TreeInode {
    const { overlay } = this;
    const root = this.inode(overlay.root, '');
    const waiting: Waiting[] = [{ node: overlay.root, inode: root, path: '' }];
    for (let at = waiting.pop(); at; at = waiting.pop()) {
      for (const { name } of overlay.list(at.node)) {
        const path = `${at.path}/${name}`;
        const node = overlay.lookup(at.node, name);
        if (typeof node === 'number') throw new ErrnoError(-node, `${printable(path)}: ${errnoText(node)}`);
        const inode = this.add(at.inode, name, node, path);
        if (isDirectory(inode.mode)) waiting.push({ node, inode, path });
      }
    }
    return root;
  }

  private add(directory: TreeInode, name: ByteString, node: Node, path: ByteString): TreeInode {
    const known = this.shared.get(node.ino);
    if (known) known.nlink++;
    const inode = known ?? this.inode(node, path);
    if (!known && !isDirectory(inode.mode) && this.overlay.attr(node).nlink > 1) this.shared.set(node.ino, inode);
    directory.entries.set(name, { inode, link: known !== undefined });
    return inode;
  }

  private inode(node: Node, path: ByteString): TreeInode {
    const { overlay } = this;
    const { mode, uid, gid, rdev, size, mtime, mtimensec } = overlay.attr(node);
    const inode = Object.assign(newInode(mode), { uid, gid, rdev, sizeBytes: size, mtime, mtimensec });
    for (const name of overlay.listxattr(node)) {
      const value = overlay.getxattr(node, name);
      if (typeof value !== 'number') setXattr(inode, name, byteStringOf(value));
    }
    if (isSymlink(mode)) setPayload(inode, overlay.readlink(node));
    if (isRegular(mode) && size > 0) this.readFile(node, inode, printable(path));
    return inode;
  }

  private readFile(node: Node, inode: TreeInode, shown: string): void {
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
