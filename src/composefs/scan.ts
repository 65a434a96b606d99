/**
 * Reads a directory as a tree. Without options, and once the files' digests are filled in, it is the tree that mkcomposefs 1.0.8
 * makes.
 */

import { openSource, readContent, readFound, type SourceFile, type SourceTree } from '../store/source.ts';
import { type ByteString, byteStringOf, printable } from '../sys/bytes.ts';
import { EFBIG, ENODATA, EOPNOTSUPP, ErrnoError, errnoText } from '../sys/errno.ts';
import { getXattr, listXattrs } from '../sys/found.ts';
import { native } from '../sys/native.ts';
import { isDirectory, isRegular, isSymlink, S_IFBLK, S_IFCHR, S_IFMT } from '../sys/stat.ts';
import { identityIn, statxAttr, statxVersion } from '../sys/statx.ts';
import { type WalkEntry, walkTree } from '../sys/walk.ts';
import { newInode, setPayload, setXattr, type TreeInode } from './tree.ts';

/** Selects the parts of a directory that the tree contains; by default everything, as in mkcomposefs. */
export interface ScanOptions {
  /** Sets every mtime to 0. */
  useEpoch?: boolean;
  /** Leaves out block and character devices, including whiteouts. */
  skipDevices?: boolean;
  /** Leaves out all xattrs. */
  skipXattrs?: boolean;
  /** Keeps only `user.*` xattrs. */
  userXattrs?: boolean;
  /**
   * Names of one inode share an inode of the image, except whiteouts, which overlayfs hard-links to each other. By default each
   * name gets an inode of its own, as in mkcomposefs.
   */
  hardLinks?: boolean;
  /** Opens no file: even small files are left out of the image. */
  metadataOnly?: boolean;
  /** The most objects below the directory; by default any number. */
  entriesMax?: number;
}

/** The result of a scan. */
export interface Scanned {
  root: TreeInode;
  /** The files whose data is not in the image; digest and payload are not set yet. */
  files: ScannedFile[];
}

/** A regular file and its inode in the tree. The reader of the data sets `digest` and `payload`. */
export interface ScannedFile extends SourceFile {
  readonly tree: SourceTree;
  readonly inode: TreeInode;
}

/** The largest file that the image itself holds. Source: composefs lcfs-writer.h, LCFS_RECOMMENDED_INLINE_CONTENT_MAX. */
export const INLINE_BYTES_MAX = 64;
/** The largest list of xattr names, and the largest value. Source: linux/limits.h, XATTR_LIST_MAX and XATTR_SIZE_MAX. */
const XATTR_BYTES_MAX = 65536;

/**
 * Reads a directory and everything below it. Each object is opened relative to the descriptor of its directory, so a directory
 * that its owner replaces meanwhile cannot redirect the scan. Only regular files are opened for reading, to read small ones.
 * Throws ErrnoError with the object's path: errors of the system, EIO for a file that changes while it is read, E2BIG for
 * xattrs that no image can hold, and EFBIG for too many objects.
 * @example
 * const { root, files } = scanTree('tree');
 * assert.deepEqual([...root.entries.keys()].sort(), ['link', 'poem']);
 * assert.deepEqual(files.map(({ path }) => path), ['poem']);
 */
export function scanTree(path: ByteString, options: ScanOptions = {}): Scanned {
  const { tree, fd } = openSource(path);
  try {
    return new Scan(tree, options).read(fd);
  } finally {
    native.close(fd);
  }
}

class Scan {
  readonly #tree: SourceTree;
  readonly #options: ScanOptions;
  readonly #buffer = Buffer.alloc(XATTR_BYTES_MAX);
  /** Inodes with several names, keyed by device and inode number. */
  readonly #known = new Map<string, TreeInode>();
  readonly #files: ScannedFile[] = [];
  #entries = 0;

  constructor(tree: SourceTree, options: ScanOptions) {
    this.#tree = tree;
    this.#options = options;
  }

  /** @param fd the directory, which was the subject of the last statx */
  read(fd: number): Scanned {
    const root = this.#inode({ fd, path: '', name: '' });
    walkTree(fd, this.#tree.path, root, (found, directory) => this.#see(found, directory));
    return { root, files: this.#files };
  }

  /** Adds an object to its directory. @returns the inode if the object is a directory; else undefined */
  #see(found: WalkEntry, directory: TreeInode): TreeInode | undefined {
    const { mode, nlink, rdev } = statxAttr(0);
    const { entriesMax = Number.POSITIVE_INFINITY } = this.#options;
    if (++this.#entries > entriesMax)
      throw new ErrnoError(EFBIG, `${this.#shown(found.path)}: more than ${entriesMax} objects`);
    const type = mode & S_IFMT;
    const isWhiteout = type === S_IFCHR && rdev === 0; // overlayfs hard-links whiteouts at will
    if (this.#options.skipDevices && (type === S_IFBLK || type === S_IFCHR)) return undefined;
    const isShared = this.#options.hardLinks && nlink > 1 && !isDirectory(mode) && !isWhiteout;
    const key = identityIn(statxVersion());
    const known = isShared ? this.#known.get(key) : undefined;
    if (known) known.nlink++;
    const inode = known ?? this.#inode(found);
    if (isShared) this.#known.set(key, inode);
    directory.entries.set(found.name, { inode, link: known !== undefined });
    return isDirectory(mode) ? inode : undefined;
  }

  /** Reads the inode of the object that was the subject of the last statx. */
  #inode(found: WalkEntry): TreeInode {
    const { mode, uid, gid, rdev, size, mtime, mtimensec } = statxAttr(0);
    const version = statxVersion();
    const inode = newInode(mode);
    inode.uid = uid;
    inode.gid = gid;
    inode.rdev = rdev;
    inode.sizeBytes = size;
    if (!this.#options.useEpoch) {
      inode.mtime = mtime;
      inode.mtimensec = mtimensec;
    }
    if (!this.#options.skipXattrs) this.#readXattrs(found, inode);
    if (isRegular(mode) && size > 0) this.#readFile(found, version, inode);
    if (isSymlink(mode)) this.#readTarget(found, inode);
    return inode;
  }

  #readFile({ fd, path }: WalkEntry, version: string, inode: TreeInode): void {
    const { sizeBytes } = inode;
    if (sizeBytes > INLINE_BYTES_MAX || this.#options.metadataOnly)
      this.#files.push({ tree: this.#tree, path, version, inode });
    else inode.content = readFound(fd, version, { shown: this.#shown(path), sizeBytes }, readContent);
  }

  #readTarget({ fd, path }: WalkEntry, inode: TreeInode): void {
    const length = native.readlinkat(fd, '', this.#buffer);
    if (length < 0) throw this.#failure(length, path, 'target');
    setPayload(inode, byteStringOf(this.#buffer, 0, length));
    inode.sizeBytes = length;
  }

  #readXattrs({ fd, path }: WalkEntry, inode: TreeInode): void {
    const length = listXattrs(fd, this.#buffer);
    if (length === -EOPNOTSUPP || length === 0) return;
    if (length < 0) throw this.#failure(length, path, 'list of xattrs');
    const names = byteStringOf(this.#buffer, 0, length);
    for (const name of names.split('\0').slice(0, -1)) {
      if (this.#options.userXattrs && !name.startsWith('user.')) continue;
      const n = getXattr(fd, name, this.#buffer);
      if (n === -ENODATA) continue; // removed after it was listed
      if (n < 0) throw this.#failure(n, path, `xattr ${printable(name)}`);
      const value = byteStringOf(this.#buffer, 0, n);
      try {
        setXattr(inode, name, value);
      } catch (error) {
        if (!(error instanceof ErrnoError)) throw error;
        throw new ErrnoError(error.errno, `${this.#shown(path)}: xattr ${printable(name)}: ${error.message}`);
      }
    }
  }

  #failure(result: number, path: ByteString, what: string): ErrnoError {
    return new ErrnoError(-result, `${this.#shown(path)}: ${what}: ${errnoText(result)}`);
  }

  #shown(path: ByteString): string {
    return printable(path === '' ? this.#tree.path : `${this.#tree.path}/${path}`);
  }
}
