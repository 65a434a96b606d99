/** One side of `lowerdata compare`: an image, a dump, a directory or a stack, which is read as a tree. */
import { closeSync, openSync, readSync, statSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { linesOf, parseDump } from '../composefs/dumpfile.ts';
import { readTree } from '../composefs/read.ts';
import { scanTree } from '../composefs/scan.ts';
import { newInode, type TreeInode } from '../composefs/tree.ts';
import { SUPER_AT, SUPER_MAGIC } from '../erofs/format.ts';
import { openImage, readImageFile } from '../erofs/image.ts';
import { namesStore, planHere } from '../mount/plan.ts';
import type { Node } from '../overlay/node.ts';
import { openOverlay } from '../overlay/open.ts';
import { splitAt } from '../overlay/options/split.ts';
import type { Overlay } from '../overlay/overlay.ts';
import { digestFiles } from '../store/file-pool.ts';
import { type ByteString, bufferOf, byteStringOf, printable } from '../sys/bytes.ts';
import { EIO, ENOENT, ErrnoError, EUCLEAN, errnoName, errnoText } from '../sys/errno.ts';
import { realPath } from '../sys/real-path.ts';
import { isDirectory, isRegular, isSymlink } from '../sys/stat.ts';
import { readAll } from '../sys/streams.ts';
import { naming } from '../terminal/report.ts';
import { type Algorithm, algorithmOfHex, measure, parametersOf } from '../verity/digest.ts';

export interface Side {
  readonly root: TreeInode;
  /** True for an image or a dump, which records the place and the digest of data. False if the data itself was read. */
  readonly recorded: boolean;
}

export interface SideOptions {
  /** Mount options, for sides that are stacks. */
  readonly options: readonly ByteString[];
  /** Whether data is left unread. */
  readonly metadata?: boolean;
}

/**
 * Reads both sides by their names. Data that is read is measured by the algorithm of the digest that the other side has recorded
 * for it.
 * Throws ErrnoError that names the side, or the error of a system call.
 */
export async function readSides(names: readonly [ByteString, ByteString], options: SideOptions): Promise<[Side, Side]> {
  const [a, b] = [readRecorded(names[0], options), readRecorded(names[1], options)];
  return [a ?? (await readData(names[0], b?.root, options)), b ?? (await readData(names[1], a?.root, options))];
}

/** Whether a side is the name of an image in the repository of `store=`; with that option, a path begins with `/` or `.`. */
const isStored = (name: ByteString, { options }: SideOptions): boolean => namesStore(options) && !/^[./]/.test(name);

/** Reads a composefs image or a dump; undefined for a directory, a stack, and an image without a composefs header. */
function readRecorded(name: ByteString, options: SideOptions): Side | undefined {
  if (isStored(name, options)) return undefined;
  const bytes = bufferOf(name);
  if (splitAt(name, ':').length > 1 || statSync(bytes).isDirectory()) return undefined;
  return naming(name, () => {
    if (!hasSuperBlock(bytes)) return { root: readDump(bytes), recorded: true };
    const image = openImage(readImageFile(name));
    return image.composefs && { root: readTree(image), recorded: true };
  });
}

/** Reads a directory or a stack. @param other the tree of the other side, if that side is recorded */
async function readData(name: ByteString, other: TreeInode | undefined, options: SideOptions): Promise<Side> {
  const isPath = !isStored(name, options) && splitAt(name, ':').length === 1;
  const isTree = isPath && statSync(bufferOf(name)).isDirectory();
  const root = isTree ? await readDirectory(name, other, options) : await readStack(name, other, options);
  return { root, recorded: false };
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

async function readDirectory(
  path: ByteString,
  other: TreeInode | undefined,
  { metadata }: SideOptions,
): Promise<TreeInode> {
  const { root, files } = scanTree(realPath(path), { hardLinks: true, metadataOnly: metadata });
  if (metadata) return root;
  const algorithms = files.map(file => algorithmOf(inodeAt(other, `/${file.path}`)));
  for (const algorithm of ['sha256', 'sha512'] as const)
    await digestFiles(
      files.filter((_, i) => algorithms[i] === algorithm),
      { threads: availableParallelism(), algorithm },
    );
  return root;
}

/** The algorithm to measure a file by, so that its digest can be compared with the recorded one. */
const algorithmOf = (recorded: TreeInode | undefined): Algorithm => algorithmOfHex(recorded?.digest ?? '') ?? 'sha256';

function inodeAt(root: TreeInode | undefined, path: ByteString): TreeInode | undefined {
  let inode = root;
  for (const name of path.split('/')) if (name !== '') inode = inode?.entries.get(name)?.inode;
  return inode;
}

async function readStack(
  name: ByteString,
  other: TreeInode | undefined,
  { options, metadata = false }: SideOptions,
): Promise<TreeInode> {
  const overlay = openOverlay((await planHere(name, options)).stack);
  try {
    return new StackReader(overlay, metadata).read(other);
  } finally {
    overlay.close();
  }
}

/** Reads the tree that a stack shows, with the data of its files. */
class StackReader {
  readonly #overlay: Overlay;
  readonly #metadata: boolean;
  readonly #seen = new Map<number, TreeInode>();

  constructor(overlay: Overlay, metadata: boolean) {
    this.#overlay = overlay;
    this.#metadata = metadata;
  }

  /** @param other the tree of the other side, if that side is recorded */
  read(other: TreeInode | undefined): TreeInode {
    const root = this.#inode(this.#overlay.root, other);
    const pending: [Node, TreeInode, TreeInode | undefined][] = [[this.#overlay.root, root, other]];
    for (const [node, directory, recorded] of pending)
      for (const { name } of this.#overlay.list(node)) {
        const found = this.#overlay.lookup(node, name);
        if (found === -ENOENT) continue; // a whiteout, which is listed in a directory that is not merged
        if (typeof found === 'number') throw new ErrnoError(-found, `${printable(name)}: ${errnoText(found)}`);
        const known = this.#seen.get(found.ino);
        if (known && isDirectory(known.mode)) throw new ErrnoError(EUCLEAN, `${printable(name)}: a second name of it`);
        const its = recorded?.entries.get(name)?.inode;
        const inode = known ?? this.#inode(found, its);
        directory.entries.set(name, { inode, link: known !== undefined });
        if (isDirectory(inode.mode)) pending.push([found, inode, its]);
      }
    return root;
  }

  #inode(node: Node, recorded: TreeInode | undefined): TreeInode {
    const { mode, nlink, uid, gid, rdev, size, mtime, mtimensec } = this.#overlay.attr(node);
    const inode = { ...newInode(mode), nlink, uid, gid, rdev, sizeBytes: size, mtime, mtimensec };
    if (isSymlink(mode)) inode.payload = this.#overlay.readlink(node);
    if (isRegular(mode) && size > 0 && !this.#metadata) inode.digest = this.#digest(node, algorithmOf(recorded));
    const xattrs = new Map<ByteString, ByteString>();
    for (const name of this.#overlay.listxattr(node)) {
      const value = this.#overlay.getxattr(node, name);
      if (typeof value !== 'number') xattrs.set(name, byteStringOf(value));
    }
    inode.xattrs = xattrs;
    this.#seen.set(node.ino, inode);
    return inode;
  }

  /** The digest of a file's data, or the name of the error that a reader gets. */
  #digest(node: Node, algorithm: Algorithm): string {
    try {
      const data = this.#overlay.open(node);
      if (typeof data === 'number') return errnoName(data);
      const read = (out: Uint8Array, at: number, length: number, position: number): number =>
        data.read(out, at, length, position);
      try {
        return Buffer.from(measure(read, data.sizeBytes, parametersOf(algorithm))).toString('hex');
      } finally {
        data.close();
      }
    } catch (error) {
      if (error instanceof ErrnoError && error.errno === EIO) return 'EIO';
      throw error;
    }
  }
}
