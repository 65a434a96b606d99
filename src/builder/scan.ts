/**
 * A directory as a tree. Without options it is the tree that mkcomposefs 1.0.8 makes of the directory, once the digests of the
 * files are in it.
 */
import { lstatSync, readdirSync, readlinkSync } from 'node:fs';
import { type Name, nameBytes, nameOf, printable, secondsOf } from '../sys/bytes.ts';
import { ENODATA, EOPNOTSUPP, ErrnoError, must } from '../sys/errno.ts';
import { native } from '../sys/native.ts';
import { isDirectory, isRegular, isSymlink, S_IFBLK, S_IFCHR, S_IFMT } from '../sys/stat.ts';
import { readContent } from './objects.ts';
import { newInode, setPayload, setXattr, type TreeInode } from './tree.ts';

/** What of a directory is taken into the tree; all of it, as mkcomposefs takes it, by default. */
export interface ScanOptions {
  /** mtime of everything is 0. */
  useEpoch?: boolean;
  /** Leaves block and character devices out, whiteouts among them. */
  skipDevices?: boolean;
  /** Leaves all xattrs out. */
  skipXattrs?: boolean;
  /** Takes `user.*` xattrs alone. */
  userXattrs?: boolean;
  /**
   * Names of one inode share an inode of the image; those of whiteouts, which overlayfs links to each other, never do. By default
   * each name gets its own, as in mkcomposefs.
   */
  hardLinks?: boolean;
  /** Opens no file: the image will not even hold the small ones. */
  metadataOnly?: boolean;
}

/** What a directory holds. */
export interface Scanned {
  root: TreeInode;
  /** The files whose data the image will not hold, without digest and payload yet. */
  files: ScannedFile[];
}

/** A regular file, and its inode in the tree: `digest` and `payload` are for whoever reads the data to set. */
export interface ScannedFile {
  /** Where it is: the path of the directory, and what is below it. */
  path: Name;
  inode: TreeInode;
}

/** The image itself holds files of up to this size. Source: composefs lcfs-writer.h, LCFS_RECOMMENDED_INLINE_CONTENT_MAX. */
const INLINE_BYTES_MAX = 64;
/** Neither a list of names nor a value is longer. Source: linux/limits.h, XATTR_LIST_MAX and XATTR_SIZE_MAX. */
const XATTR_BYTES_MAX = 65536;

/** Reads a directory and all below it. Throws what the system calls throw, and ErrnoError for xattrs that no image can hold. */
export function scanTree(path: Name, options: ScanOptions = {}): Scanned {
  return new Scan(options).read(path);
}

class Scan {
  readonly #options: ScanOptions;
  readonly #buffer = Buffer.alloc(XATTR_BYTES_MAX);
  /** Inodes with several names, by device and number. */
  readonly #known = new Map<string, TreeInode>();
  readonly #files: ScannedFile[] = [];

  constructor(options: ScanOptions) {
    this.#options = options;
  }

  read(path: Name): Scanned {
    const root = this.#read(path).inode;
    return { root, files: this.#files };
  }

  #read(path: Name): { inode: TreeInode; link: boolean } {
    const stat = lstatSync(nameBytes(path) as Buffer, { bigint: true });
    const isLinked = stat.nlink > 1n && !stat.isDirectory() && !(stat.isCharacterDevice() && stat.rdev === 0n);
    const shared = this.#options.hardLinks && isLinked;
    const key = `${stat.dev}:${stat.ino}`;
    const known = shared ? this.#known.get(key) : undefined;
    if (known) {
      known.nlink++;
      return { inode: known, link: true };
    }
    const inode = newInode(Number(stat.mode));
    inode.uid = Number(stat.uid);
    inode.gid = Number(stat.gid);
    inode.rdev = Number(BigInt.asUintN(32, stat.rdev));
    inode.sizeBytes = Number(stat.size);
    if (!this.#options.useEpoch) {
      inode.mtimensec = Number(((stat.mtimeNs % SECOND) + SECOND) % SECOND);
      inode.mtime = secondsOf((stat.mtimeNs - BigInt(inode.mtimensec)) / SECOND);
    }
    if (!this.#options.skipXattrs) this.#readXattrs(path, inode);
    this.#readData(path, inode);
    if (shared) this.#known.set(key, inode);
    return { inode, link: false };
  }

  #readData(path: Name, inode: TreeInode): void {
    if (isRegular(inode.mode)) this.#readFile(path, inode);
    if (isSymlink(inode.mode)) {
      setPayload(inode, nameOf(readlinkSync(nameBytes(path) as Buffer, 'buffer')));
      inode.sizeBytes = inode.payload?.length ?? 0;
    }
    if (isDirectory(inode.mode)) this.#readNames(path, inode);
  }

  #readFile(path: Name, inode: TreeInode): void {
    const { sizeBytes } = inode;
    if (sizeBytes === 0) return;
    if (sizeBytes <= INLINE_BYTES_MAX && !this.#options.metadataOnly) inode.content = readContent(path, sizeBytes);
    else this.#files.push({ path, inode });
  }

  #readNames(path: Name, directory: TreeInode): void {
    const names = readdirSync(nameBytes(path) as Buffer, 'buffer').map(bytes => nameOf(bytes));
    for (const name of names.sort()) {
      const entry = this.#read(`${path}/${name}`);
      const type = entry.inode.mode & S_IFMT;
      if (this.#options.skipDevices && (type === S_IFBLK || type === S_IFCHR)) continue;
      directory.entries.set(name, entry);
    }
  }

  #readXattrs(path: Name, inode: TreeInode): void {
    const length = native.llistxattr(path, this.#buffer);
    if (length === -EOPNOTSUPP) return;
    const names = nameOf(this.#buffer, 0, must(length, `llistxattr ${printable(path)}`));
    for (const name of names.split('\0').slice(0, -1)) {
      if (this.#options.userXattrs && !name.startsWith('user.')) continue;
      const n = native.lgetxattr(path, name, this.#buffer);
      if (n === -ENODATA) continue; // it went away meanwhile
      const value = nameOf(this.#buffer, 0, must(n, `lgetxattr ${name} of ${printable(path)}`));
      try {
        setXattr(inode, name, value);
      } catch (error) {
        if (!(error instanceof ErrnoError)) throw error;
        throw new ErrnoError(error.errno, `${printable(path)}: xattr ${name}: ${error.message}`);
      }
    }
  }
}
const SECOND = 1_000_000_000n;
