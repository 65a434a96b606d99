/** A tree of inodes in memory: what a directory, a dump file or an image is read into, and what an image is made from. */
import type { ByteString, Seconds } from '../sys/bytes.ts';
import { E2BIG, ENAMETOOLONG, ERANGE, ErrnoError } from '../sys/errno.ts';
import { isDirectory, S_IFBLK, S_IFCHR, S_IFDIR, S_IFIFO, S_IFLNK, S_IFMT, S_IFREG, S_IFSOCK } from '../sys/stat.ts';

/** One inode. Its names are entries of directories; byte strings hold one character a byte. */
export interface TreeInode {
  /** Type and permission bits. */
  mode: number;
  /** As stat shows it; a directory's is computed when an image is written. */
  nlink: number;
  uid: number;
  gid: number;
  /** Device number as `makeRdev` packs it. */
  rdev: number;
  sizeBytes: number;
  /** Seconds since 1970, negative before; and nanoseconds. */
  mtime: Seconds;
  mtimensec: number;
  /** A symlink's target; the path of a regular file's data below the data layer, '' where the origin alone leads there. */
  payload: ByteString | undefined;
  /** The inode that has a regular file's data: a value of `trusted.overlay.origin`. */
  origin: ByteString | undefined;
  /** The bytes of a regular file that the image itself holds. */
  content: ByteString | undefined;
  /** The fs-verity digest of a regular file's data in lower-case hex: 64 digits of SHA-256, or 128 of SHA-512. */
  digest: string | undefined;
  /** Values by full name. */
  xattrs: Map<ByteString, ByteString>;
  /** A directory's names, in any order; without `.` and `..`. Empty for other types. */
  entries: Map<ByteString, TreeEntry>;
}

/** A name in a directory. */
export interface TreeEntry {
  inode: TreeInode;
  /** The inode has its place in the tree under another name: this is a further hard link. */
  link: boolean;
}

/** The longest name in a directory, the longest xattr name and the longest path: bytes, without the final NUL. */
export const NAME_BYTES_MAX = 255;
export const XATTR_NAME_BYTES_MAX = 255;
export const PATH_BYTES_MAX = 4095;
/** The most data that an image holds for a file of its own. Source: composefs lcfs-writer.h, LCFS_INLINE_CONTENT_MAX. */
export const CONTENT_BYTES_MAX = 5000;
/** The largest file: 1024 chunks of the largest chunk size, 2^43 bytes. Its map of holes fills one block. */
export const FILE_BYTES_MAX = 2 ** 53;
/**
 * What the xattrs of one inode may take: the other half of the 65,535 bytes is left for what the writer adds.
 * Source: composefs lcfs-writer.h, LCFS_INODE_EXTERNAL_XATTR_MAX.
 */
const XATTR_BYTES_MAX = 32767;
const XATTR_HEADER_BYTES = 12;
const XATTR_ENTRY_BYTES = 7; // 4 bytes of entry, 3 of alignment at worst

const TYPES = new Set([S_IFREG, S_IFDIR, S_IFLNK, S_IFBLK, S_IFCHR, S_IFSOCK, S_IFIFO]);

export const hasFileType = (mode: number): boolean => TYPES.has(mode & S_IFMT);
/** A character device 0:0, which hides its name in the layers below. Source: overlayfs.rst, "Whiteouts". */
export const isWhiteout = (inode: { mode: number; rdev: number }): boolean =>
  (inode.mode & S_IFMT) === S_IFCHR && inode.rdev === 0;

/** An inode of that mode with one name, owned by root, empty, of the epoch. */
export function newInode(mode: number): TreeInode {
  return {
    mode,
    nlink: 1,
    uid: 0,
    gid: 0,
    rdev: 0,
    sizeBytes: 0,
    mtime: 0,
    mtimensec: 0,
    payload: undefined,
    origin: undefined,
    content: undefined,
    digest: undefined,
    xattrs: new Map(),
    entries: isDirectory(mode) ? new Map() : NO_ENTRIES,
  };
}
/** One for all that is no directory and so never gets a name: a map of its own would be a third of a file's memory. */
const NO_ENTRIES: Map<ByteString, TreeEntry> = new Map();

/**
 * Sets an xattr, in place of one of the same name.
 * Throws ErrnoError: ERANGE for an empty or over-long name, E2BIG where the inode's xattrs would not fit.
 */
export function setXattr(inode: TreeInode, name: ByteString, value: ByteString): void {
  if (name.length === 0 || name.length > XATTR_NAME_BYTES_MAX)
    throw new ErrnoError(ERANGE, `a name of ${name.length} bytes; 1 to ${XATTR_NAME_BYTES_MAX} are allowed`);
  let bytes = XATTR_HEADER_BYTES + XATTR_ENTRY_BYTES + name.length + value.length;
  for (const [other, held] of inode.xattrs) if (other !== name) bytes += XATTR_ENTRY_BYTES + other.length + held.length;
  if (bytes > XATTR_BYTES_MAX)
    throw new ErrnoError(E2BIG, `the xattrs need up to ${bytes} bytes; ${XATTR_BYTES_MAX} are allowed`);
  inode.xattrs.set(name, value);
}

/** Sets a symlink's target, or the path of a file's data. Throws ErrnoError ENAMETOOLONG. */
export function setPayload(inode: TreeInode, payload: ByteString): void {
  if (payload.length > PATH_BYTES_MAX)
    throw new ErrnoError(ENAMETOOLONG, `${payload.length} bytes; ${PATH_BYTES_MAX} are allowed`);
  inode.payload = payload;
}

/** The names of a directory in the order of their bytes, which is the order on disk. */
export function sortedEntries(directory: TreeInode): [ByteString, TreeEntry][] {
  return [...directory.entries].sort(([a], [b]) => (a < b ? -1 : 1));
}

/** Where a name is: as a list, the paths of a deep tree share what they have in common. undefined is the root. */
export type Place = { readonly above: Place; readonly name: ByteString } | undefined;

/** The path of a place; the root's is "". */
export function pathOf(place: Place): ByteString {
  const names: ByteString[] = [];
  for (let at = place; at; at = at.above) names.push(`/${at.name}`);
  return names.reverse().join('');
}

/** Every name below `root`, a directory before its names, names in byte order. The root's path is "". */
export function* walk(root: TreeInode): Generator<[path: ByteString, entry: TreeEntry]> {
  for (const [place, entry] of walkPlaces(root)) yield [pathOf(place), entry];
}

/** The same with places, for what keeps them. */
export function* walkPlaces(root: TreeInode): Generator<[place: Place, entry: TreeEntry]> {
  const pending: [Place, TreeEntry][] = [[undefined, { inode: root, link: false }]];
  for (let next = pending.pop(); next; next = pending.pop()) {
    yield next;
    const [above, { inode, link }] = next;
    if (link || !isDirectory(inode.mode)) continue;
    for (const [name, entry] of sortedEntries(inode).reverse()) pending.push([{ above, name }, entry]);
  }
}
