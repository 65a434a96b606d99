/** One side of `lowerdata compare`: an image, a dump, a directory or a stack, read as a tree. */
import { closeSync, openSync, readSync, statSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { linesOf, parseDump } from '../builder/dumpfile.ts';
import { digestFiles } from '../builder/file-pool.ts';
import { readTree } from '../builder/read.ts';
import { scanTree } from '../builder/scan.ts';
import { newInode, type TreeInode } from '../builder/tree.ts';
import { SUPER_AT, SUPER_MAGIC } from '../erofs/format.ts';
import { openImage, readImageFile } from '../erofs/image.ts';
import type { Node } from '../overlay/node.ts';
import { openOverlay } from '../overlay/open.ts';
import { splitAt } from '../overlay/options.ts';
import type { Overlay } from '../overlay/overlay.ts';
import { type Name, nameBytes, nameOf, printable } from '../sys/bytes.ts';
import { EIO, ENOENT, ErrnoError, EUCLEAN, errnoName } from '../sys/errno.ts';
import { realPath } from '../sys/real-path.ts';
import { isDirectory, isRegular, isSymlink } from '../sys/stat.ts';
import { readAll } from '../sys/streams.ts';
import { measure } from '../verity/digest.ts';
import { planHere } from './mount-options.ts';

export interface Side {
  readonly root: TreeInode;
  /** An image or dump, which records where data is and what its digest is; else the data itself was looked at. */
  readonly recorded: boolean;
}

export interface SideOptions {
  /** Mount options of stacks. */
  readonly options: readonly Name[];
  /** Leaves data alone. */
  readonly metadata?: boolean;
}

/** Reads a side by its name. Throws ErrnoError that names it, or what a system call threw. */
export async function readSide(name: Name, options: SideOptions): Promise<Side> {
  if (splitAt(name, ':').length > 1) return { root: readStack(name, options), recorded: false };
  const bytes = nameBytes(name) as Buffer;
  if (statSync(bytes).isDirectory()) return { root: await readDirectory(name, options), recorded: false };
  try {
    if (!hasSuperBlock(bytes)) return { root: readDump(bytes), recorded: true };
    const image = openImage(readImageFile(name));
    if (image.composefs) return { root: readTree(image), recorded: true };
  } catch (error) {
    if (!(error instanceof ErrnoError)) throw error;
    throw new ErrnoError(error.errno, `${printable(name)}: ${error.message}`);
  }
  return { root: readStack(name, options), recorded: false };
}

function readDump(path: Buffer): TreeInode {
  const fd = openSync(path, 'r');
  try {
    return parseDump(linesOf(readAll(fd, 'read')));
  } finally {
    closeSync(fd);
  }
}

function hasSuperBlock(path: Buffer): boolean {
  const fd = openSync(path, 'r');
  try {
    const magic = Buffer.alloc(4);
    return readSync(fd, magic, 0, magic.length, SUPER_AT) === magic.length && magic.readUInt32LE() === SUPER_MAGIC;
  } finally {
    closeSync(fd);
  }
}

async function readDirectory(path: Name, { metadata }: SideOptions): Promise<TreeInode> {
  const { root, files } = scanTree(realPath(path), { hardLinks: true, metadataOnly: metadata });
  if (!metadata) await digestFiles(files, { threads: availableParallelism() });
  return root;
}

function readStack(name: Name, { options, metadata = false }: SideOptions): TreeInode {
  const overlay = openOverlay(planHere(name, options).stack);
  try {
    return new StackReader(overlay, metadata).read();
  } finally {
    overlay.close();
  }
}

/** Reads what a stack shows, the data of its files included. */
class StackReader {
  readonly #overlay: Overlay;
  readonly #metadata: boolean;
  readonly #seen = new Map<number, TreeInode>();

  constructor(overlay: Overlay, metadata: boolean) {
    this.#overlay = overlay;
    this.#metadata = metadata;
  }

  read(): TreeInode {
    const root = this.#inode(this.#overlay.root);
    const pending: [Node, TreeInode][] = [[this.#overlay.root, root]];
    for (const [node, directory] of pending)
      for (const { name } of this.#overlay.list(node)) {
        const found = this.#overlay.lookup(node, name);
        if (found === -ENOENT) continue; // a whiteout, which is listed where directories are not merged
        if (typeof found === 'number') throw new ErrnoError(-found, `${printable(name)}: ${errnoName(found)}`);
        const known = this.#seen.get(found.ino);
        if (known && isDirectory(known.mode)) throw new ErrnoError(EUCLEAN, `${printable(name)}: a second name of it`);
        const inode = known ?? this.#inode(found);
        directory.entries.set(name, { inode, link: known !== undefined });
        if (isDirectory(inode.mode)) pending.push([found, inode]);
      }
    return root;
  }

  #inode(node: Node): TreeInode {
    const { mode, nlink, uid, gid, rdev, size, mtime, mtimensec } = this.#overlay.attr(node);
    const inode = { ...newInode(mode), nlink, uid, gid, rdev, sizeBytes: size, mtime, mtimensec };
    if (isSymlink(mode)) inode.payload = this.#overlay.readlink(node);
    if (isRegular(mode) && size > 0 && !this.#metadata) inode.digest = this.#digest(node);
    for (const name of this.#overlay.listxattr(node)) {
      const value = this.#overlay.getxattr(node, name);
      if (typeof value !== 'number') inode.xattrs.set(name, nameOf(value));
    }
    this.#seen.set(node.ino, inode);
    return inode;
  }

  /** The digest of a file's data, or the name of the error that a reader gets. */
  #digest(node: Node): string {
    try {
      const data = this.#overlay.open(node);
      if (typeof data === 'number') return errnoName(data);
      const read = (out: Uint8Array, at: number, length: number, position: number): number =>
        data.read(out, at, length, position);
      try {
        return Buffer.from(measure(read, data.sizeBytes)).toString('hex');
      } finally {
        data.close();
      }
    } catch (error) {
      if (error instanceof ErrnoError && error.errno === EIO) return 'EIO';
      throw error;
    }
  }
}
