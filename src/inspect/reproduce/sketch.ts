/** A stack drawn from scratch: trees in memory with only what a lookup reads, and layers that show them to an overlay. */
import type { Data, Inode, Layer } from '../../layers/layer.ts';
import { formatOrigin } from '../../overlay/origin.ts';
import { type ByteString, byteStringOf } from '../../sys/bytes.ts';
import { EINVAL, ELOOP, ENAMETOOLONG, ENOENT, ENOTDIR, EXDEV } from '../../sys/errno.ts';
import type { Handle } from '../../sys/handles.ts';
import type { Statfs } from '../../sys/stat.ts';
import { type Attr, isDirectory, isRegular, isSymlink } from '../../sys/stat.ts';

const NAME_MAX = 255;

/** The size of a file that is not empty: a letter and a newline. */
export const CONTENT_BYTES = 2;

/** One object. `xattrs` are by their full names. */
export interface Sketch {
  /** Type and permission bits. */
  readonly mode: number;
  readonly rdev: number;
  /** Of a regular file: 0, or CONTENT_BYTES. */
  sizeBytes: number;
  readonly xattrs: Map<ByteString, Uint8Array>;
  readonly entries: Map<ByteString, Sketch>;
}

/** One layer; `path` is the name of the layer in messages. */
export interface LayerSketch {
  readonly path: string;
  readonly dataOnly: boolean;
  readonly root: Sketch;
}

const DIRECTORY = 0o40755;

export const newSketch = (mode: number = DIRECTORY, rdev = 0, sizeBytes = 0): Sketch => ({
  ...{ mode, rdev, sizeBytes },
  ...{ xattrs: new Map(), entries: new Map() },
});

/** The origin that stands for every one that was followed to a file: a handle of no real filesystem. */
const UUID = '\x01'.repeat(16);
export const FOLLOWED: Uint8Array = formatOrigin({ uuid: UUID, handle: { type: 1, bytes: new Uint8Array(8) } });

export const isFollowed = (value: Uint8Array): boolean => byteStringOf(value) === byteStringOf(FOLLOWED);

interface SketchInode extends Inode {
  readonly sketch: Sketch;
}

/** What an inode of a SketchLayer was made from. */
export const sketchOf = (inode: Inode): Sketch => (inode as SketchInode).sketch;

/** The tree of a sketch as a layer. All sketches are on one filesystem. No data has bytes. */
export class SketchLayer implements Layer {
  readonly kind = 'directory';
  readonly filesystem = 'sketch';
  readonly hasAcl = false;
  readonly uuid: ByteString = UUID;
  readonly path: string;
  readonly root: Inode;
  private readonly inodes = new Map<Sketch, SketchInode>();

  constructor({ path, root }: LayerSketch) {
    this.path = path;
    this.root = this.inode(root);
  }

  private inode(sketch: Sketch): SketchInode {
    const known = this.inodes.get(sketch);
    if (known) return known;
    const { mode, rdev, sizeBytes } = sketch;
    const inode = { layer: this, ino: this.inodes.size + 1, mode, rdev, sizeBytes, sketch };
    this.inodes.set(sketch, inode);
    return inode;
  }

  lookup(directory: Inode, name: ByteString): Inode | undefined {
    const found = sketchOf(directory).entries.get(name);
    return found && this.inode(found);
  }

  attr({ ino, mode, rdev, sizeBytes: size }: Inode): Attr {
    const times = { atime: 0, atimensec: 0, mtime: 0, mtimensec: 0, ctime: 0, ctimensec: 0 };
    return { ino, mode, nlink: 1, uid: 0, gid: 0, rdev, size, blocks: 0, blksize: 4096, ...times };
  }

  readlink(): ByteString {
    return 'x';
  }

  readdir(directory: Inode, visit: (name: ByteString, dtype: number) => void): boolean {
    for (const [name, { mode }] of sketchOf(directory).entries) visit(name, mode >> 12);
    return true;
  }

  getxattr(inode: Inode, name: ByteString): Uint8Array | undefined {
    return sketchOf(inode).xattrs.get(name);
  }

  xattrBytes(inode: Inode, name: ByteString): number {
    return sketchOf(inode).xattrs.get(name)?.length ?? -1;
  }

  listxattr(inode: Inode): ByteString[] {
    return [...sketchOf(inode).xattrs.keys()];
  }

  open({ sizeBytes }: Inode): Data {
    return this.data(sizeBytes);
  }

  openPath(path: ByteString): Data | number {
    const end = followPath(this.root, path, (directory, name) => this.lookup(directory, name));
    if (typeof end === 'number') return end;
    return isRegular(end.mode) ? this.data(end.sizeBytes) : -ENOENT;
  }

  openHandle({ type, bytes }: Handle): Data | number {
    return type === 1 && bytes.every(byte => byte === 0) ? this.data(CONTENT_BYTES) : -ENOENT;
  }

  private data(sizeBytes: number): Data {
    const nothing = { read: () => 0, seek: () => -EINVAL, close: () => {} };
    return { fd: -1, place: `layer ${this.path}`, sizeBytes, version: '', ...nothing };
  }

  statfs(): Statfs {
    return { blocks: 0, bfree: 0, bavail: 0, files: 0, ffree: 0, bsize: 4096, namelen: NAME_MAX, frsize: 4096 };
  }

  close(): void {}
}

/**
 * Follows a path below the root of a data-only layer, through directories alone. @param lookup is asked for every component
 * @returns the object, or a negative errno as openat2(2) with RESOLVE_BENEATH and RESOLVE_NO_SYMLINKS gives it
 */
export function followPath(
  root: Inode,
  path: ByteString,
  lookup: (directory: Inode, name: ByteString) => Inode | undefined,
): Inode | number {
  const way: Inode[] = [];
  let at = root;
  for (const name of path.split('/')) {
    if (!isDirectory(at.mode)) return isSymlink(at.mode) ? -ELOOP : -ENOTDIR;
    if (name === '' || name === '.') continue;
    if (name === '..') {
      const above = way.pop();
      if (above === undefined) return -EXDEV;
      at = above;
      continue;
    }
    if (name.length > NAME_MAX) return -ENAMETOOLONG;
    const found = lookup(at, name);
    if (found === undefined) return -ENOENT;
    way.push(at);
    at = found;
  }
  return isSymlink(at.mode) ? -ELOOP : at;
}
