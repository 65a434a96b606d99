/** A tree of inodes in memory: read from a directory, a dump file or an image, and written to an image. */
import type { ByteString, Seconds } from '../sys/bytes.ts';
import { E2BIG, ENAMETOOLONG, ERANGE, ErrnoError } from '../sys/errno.ts';
import { isDirectory, S_IFBLK, S_IFCHR, S_IFDIR, S_IFIFO, S_IFLNK, S_IFMT, S_IFREG, S_IFSOCK } from '../sys/stat.ts';

/** One inode. Its names are entries of directories. Byte strings hold one character per byte. */
export interface TreeInode {
  /** Type and permission bits. */
  mode: number;
  /** The link count as stat shows it; that of a directory is computed when an image is written. */
  nlink: number;
  uid: number;
  gid: number;
  /** Device number as `makeRdev` packs it. */
  rdev: number;
  sizeBytes: number;
  /** Seconds since 1970, negative before then; `mtimensec` is the nanoseconds. */
  mtime: Seconds;
  mtimensec: number;
  /** A symlink's target, or the path of a regular file's data relative to the data layer; '' if only the origin leads there. */
  payload: ByteString | undefined;
  /** The inode that holds a regular file's data, as a value of `trusted.overlay.origin`. */
  origin: ByteString | undefined;
  /** The bytes of a regular file that the image itself holds. */
  content: ByteString | undefined;
  /** The fs-verity digest of a regular file's data in lower-case hex: 64 digits of SHA-256, or 128 of SHA-512. */
  digest: string | undefined;
  /** Values by full name. Inodes may share a map: `setXattr` replaces it. */
  xattrs: ReadonlyMap<ByteString, ByteString>;
  /** A directory's names in any order, without `.` and `..`; empty for other types. */
  entries: Map<ByteString, TreeEntry>;
}

/** A name in a directory. */
export interface TreeEntry {
  inode: TreeInode;
  /** True for a further hard link: the inode's place in the tree is under another name. */
  link: boolean;
}

/** The longest name in a directory, the longest xattr name and the longest path, in bytes without the final NUL. */
export const NAME_BYTES_MAX = 255;
export const XATTR_NAME_BYTES_MAX = 255;
export const PATH_BYTES_MAX = 4095;
/** The most data that an image can hold for one file. Source: composefs lcfs-writer.h, LCFS_INLINE_CONTENT_MAX. */
export const CONTENT_BYTES_MAX = 5000;
/** The largest file: 1024 chunks of the largest chunk size, 2^43 bytes. Its map of holes fills one block. */
export const FILE_BYTES_MAX = 2 ** 53;
/**
 * The limit for the xattrs of one inode in a tree; the other half of the 65,535 bytes is reserved for xattrs that the writer
 * adds.
 * Source: composefs lcfs-writer.h, LCFS_INODE_EXTERNAL_XATTR_MAX.
 */
const XATTR_BYTES_MAX = 32767;
const XATTR_HEADER_BYTES = 12;
const XATTR_ENTRY_BYTES = 7; // 4 bytes of entry, and at most 3 of alignment

const TYPES = new Set([S_IFREG, S_IFDIR, S_IFLNK, S_IFBLK, S_IFCHR, S_IFSOCK, S_IFIFO]);

export const hasFileType = (mode: number): boolean => TYPES.has(mode & S_IFMT);
/** A whiteout, a character device 0:0, hides its name in the layers below. Source: overlayfs.rst, "Whiteouts". */
export const isWhiteout = (inode: { mode: number; rdev: number }): boolean =>
  (inode.mode & S_IFMT) === S_IFCHR && inode.rdev === 0;

/**
 * An empty inode of the given mode with one name, owned by root, with time 0.
 * @example
 * const root = newInode(0o40755);
 * root.entries.set('empty', { inode: newInode(0o100644), link: false });
 * assert.deepEqual([...walkTree(root)].map(([path]) => path), ['', '/empty']);
 */
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
    xattrs: NO_XATTRS,
    entries: isDirectory(mode) ? new Map() : NO_ENTRIES,
  };
}
// Shared by inodes: maps of its own would be half of a file's memory.
const NO_ENTRIES: Map<ByteString, TreeEntry> = new Map();
export const NO_XATTRS: ReadonlyMap<ByteString, ByteString> = new Map();

/**
 * Sets an xattr, replacing one of the same name.
 * Throws ErrnoError: ERANGE for an empty or over-long name, E2BIG if the inode's xattrs would not fit.
 * @example
 * const inode = newInode(0o100644);
 * setXattr(inode, 'user.colour', 'red');
 * assert.equal(inode.xattrs.get('user.colour'), 'red');
 * assert.throws(() => setXattr(inode, '', ''), { name: 'ERANGE' });
 */
export function setXattr(inode: TreeInode, name: ByteString, value: ByteString): void {
  const xattrs = new Map(inode.xattrs);
  addXattr(xattrs, name, value);
  inode.xattrs = xattrs;
}

/** Adds an xattr to those of an inode, as `setXattr` does. */
export function addXattr(xattrs: Map<ByteString, ByteString>, name: ByteString, value: ByteString): void {
  if (name.length === 0 || name.length > XATTR_NAME_BYTES_MAX)
    throw new ErrnoError(ERANGE, `a name of ${name.length} bytes; 1 to ${XATTR_NAME_BYTES_MAX} are allowed`);
  let bytes = XATTR_HEADER_BYTES + XATTR_ENTRY_BYTES + name.length + value.length;
  for (const [other, held] of xattrs) if (other !== name) bytes += XATTR_ENTRY_BYTES + other.length + held.length;
  if (bytes > XATTR_BYTES_MAX)
    throw new ErrnoError(E2BIG, `the xattrs need up to ${bytes} bytes; ${XATTR_BYTES_MAX} are allowed`);
  xattrs.set(name, value);
}

/**
 * Sets a symlink's target, or the path of a file's data. Throws ErrnoError ENAMETOOLONG.
 * @example
 * const link = newInode(0o120777);
 * setPayload(link, 'poem');
 * assert.equal(link.payload, 'poem');
 * assert.throws(() => setPayload(link, 'x'.repeat(5000)), { name: 'ENAMETOOLONG' });
 */
export function setPayload(inode: TreeInode, payload: ByteString): void {
  if (payload.length > PATH_BYTES_MAX)
    throw new ErrnoError(ENAMETOOLONG, `${payload.length} bytes; ${PATH_BYTES_MAX} are allowed`);
  inode.payload = payload;
}

/** The names of a directory in byte order, which is the order on disk. */
export function sortedEntries(directory: TreeInode): [ByteString, TreeEntry][] {
  return [...directory.entries].sort(([a], [b]) => (a < b ? -1 : 1));
}

/** The position of a name in the tree; undefined is the root. As a linked list, paths share their common parents. */
export type Place = { readonly above: Place; readonly name: ByteString } | undefined;

/** The path of a place; "" for the root. */
export function pathOf(place: Place): ByteString {
  const names: ByteString[] = [];
  for (let at = place; at; at = at.above) names.push(`/${at.name}`);
  return names.reverse().join('');
}

/**
 * Every name below `root`, each directory before its names, names in byte order. The root's path is "".
 * @example
 * const paths = [...walkTree(scanTree('tree').root)].map(([path]) => path);
 * assert.deepEqual(paths, ['', '/link', '/poem']);
 */
export function* walk(root: TreeInode): Generator<[path: ByteString, entry: TreeEntry]> {
  for (const [place, entry] of walkPlaces(root)) yield [pathOf(place), entry];
}

/** Like `walk`, but with places, for callers that keep them. */
export function* walkPlaces(root: TreeInode): Generator<[place: Place, entry: TreeEntry]> {
  const pending: [Place, TreeEntry][] = [[undefined, { inode: root, link: false }]];
  for (let next = pending.pop(); next; next = pending.pop()) {
    yield next;
    const [above, { inode, link }] = next;
    if (link || !isDirectory(inode.mode)) continue;
    for (const [name, entry] of sortedEntries(inode).reverse()) pending.push([{ above, name }, entry]);
  }
}
