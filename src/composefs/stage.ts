/**
 * Prepares a tree for an image that overlayfs mounts above its data layers. Whiteouts and `trusted.overlay.*` xattrs of the tree
 * are escaped, so that they stay visible through the overlay. Files whose data is outside the image become metacopies.
 * Source: kernel Documentation/filesystems/overlayfs.rst, "Nesting overlayfs mounts" and "Metadata only copy up"; the order and
 * the stubs are those of mkcomposefs 1.0.8.
 */
import type { ByteString } from '../sys/bytes.ts';
import { EFBIG, EINVAL, ErrnoError } from '../sys/errno.ts';
import { isDirectory, isRegular, S_IFCHR, S_IFMT, S_IFREG } from '../sys/stat.ts';
import { ALGORITHMS, algorithmOfHex } from '../verity/algorithms.ts';
import { FILE_BYTES_MAX, hasFileType, isWhiteout, newInode, type TreeEntry, type TreeInode } from './tree.ts';

/** The version of these rules, which the image's header records. Version 1 also marks directories of whiteouts as opaque=x. */
export type ComposefsVersion = 0 | 1;

/** An inode as it is written: a copy, with the xattrs of the image in byte order of names. */
export interface StagedInode extends TreeInode {
  /** The inode's position in the image, from 0; -1 until its first name is reached. */
  index: number;
  /** The directory of the inode's first name; undefined for the root. */
  parent: StagedInode | undefined;
  /** A directory's names in byte order, with `.` and `..`. */
  children: StagedChild[];
}

export interface StagedChild {
  name: ByteString;
  inode: StagedInode;
}

const OVERLAY = 'trusted.overlay.';
/** The xattrs of a file whose data is outside the image: its mark, the path of the data, and the inode that holds the data. */
export const METACOPY = `${OVERLAY}metacopy`;
export const REDIRECT = `${OVERLAY}redirect`;
export const ORIGIN = `${OVERLAY}origin`;
const ESCAPED = 'trusted.overlay.overlay.';
const USER = 'user.overlay.';

/**
 * Returns the inodes of an image in order: the root first, then breadth first, names in byte order.
 * Throws ErrnoError EINVAL for a malformed tree (a mode without file type, an inode with two first names, a link out of the
 * tree), and EFBIG for a file larger than FILE_BYTES_MAX.
 */
export function stageTree(root: TreeInode, version: ComposefsVersion): StagedInode[] {
  const stage = new Stage(root, version);
  for (const inode of stage.order) stage.expand(inode);
  (stage.order[0] as StagedInode).xattrs.set(`${OVERLAY}opaque`, 'y'); // hides names of the data layers
  stage.finish();
  return stage.order;
}

/** Whether a tree has whiteouts. Version 1 marks them in the form that kernels since 6.7 expect. */
export function hasWhiteouts(root: TreeInode): boolean {
  const pending = [root];
  for (const inode of pending) {
    if (isWhiteout(inode)) return true;
    for (const entry of inode.entries.values()) if (!entry.link) pending.push(entry.inode);
  }
  return false;
}

class Stage {
  /** Grows during iteration: a directory appends its children. */
  readonly order: StagedInode[] = [];
  readonly #version: ComposefsVersion;
  readonly #copies = new Map<TreeInode, StagedInode>();
  /**
   * Whiteouts that hide the 256 directories of an object store in the data layers. They are meant for the kernel, so they are
   * never escaped.
   */
  readonly #stubs: ReadonlyMap<ByteString, TreeEntry>;
  readonly #stubInodes: ReadonlySet<TreeInode>;

  constructor(root: TreeInode, version: ComposefsVersion) {
    this.#version = version;
    this.#stubs = whiteoutStubs(root);
    this.#stubInodes = new Set([...this.#stubs.values()].map(entry => entry.inode));
    this.#place(root, undefined);
  }

  /** Lists a directory's children, and places those whose first name is here. */
  expand(inode: StagedInode): void {
    if (!isDirectory(inode.mode)) {
      if (inode.entries.size > 0) throw new ErrnoError(EINVAL, 'only a directory can have entries');
      return;
    }
    const names = [...inode.entries, ...(inode.parent ? [] : this.#stubs)].sort(byName);
    inode.nlink = 2;
    for (const [name, entry] of names) {
      const child = entry.link ? this.#copy(entry.inode) : this.#place(entry.inode, inode);
      inode.children.push({ name, inode: child });
      if (!entry.link && isDirectory(child.mode)) inode.nlink++;
    }
    inode.children.push({ name: '.', inode }, { name: '..', inode: inode.parent ?? inode });
    inode.children.sort((a, b) => (a.name < b.name ? -1 : 1));
  }

  /** Checks that every link found its inode, and sorts the xattrs. */
  finish(): void {
    for (const inode of this.#copies.values()) {
      if (inode.index < 0) throw new ErrnoError(EINVAL, 'a hard link leads out of the tree');
      if (inode.xattrs.size > 1) inode.xattrs = new Map([...inode.xattrs].sort(byName));
    }
  }

  /** The copy of an inode; all its names share it. */
  #copy(source: TreeInode): StagedInode {
    const known = this.#copies.get(source);
    if (known) return known;
    const copy = { ...source, xattrs: escaped(source.xattrs), index: -1, parent: undefined, children: [] };
    this.#copies.set(source, copy);
    return copy;
  }

  #place(source: TreeInode, parent: StagedInode | undefined): StagedInode {
    const inode = this.#copy(source);
    if (inode.index >= 0) throw new ErrnoError(EINVAL, 'an inode has two first names');
    if (!hasFileType(inode.mode)) throw new ErrnoError(EINVAL, `mode ${inode.mode.toString(8)} has no file type`);
    if (isRegular(inode.mode) && inode.sizeBytes > FILE_BYTES_MAX)
      throw new ErrnoError(EFBIG, `a file of ${inode.sizeBytes} bytes; ${FILE_BYTES_MAX} are allowed`);
    inode.index = this.order.length;
    inode.parent = parent;
    this.order.push(inode);
    if (isRegular(inode.mode)) markMetacopy(inode);
    if (parent && isWhiteout(inode) && !this.#stubInodes.has(source)) escapeWhiteout(inode, parent, this.#version);
    return inode;
  }
}

const byName = ([a]: [ByteString, unknown], [b]: [ByteString, unknown]): number => (a < b ? -1 : 1);

/** A copy of xattrs in which names that overlayfs would interpret have one more level of escape. */
function escaped(xattrs: Map<ByteString, ByteString>): Map<ByteString, ByteString> {
  const copy = new Map<ByteString, ByteString>();
  for (const [name, value] of xattrs)
    copy.set(name.startsWith(OVERLAY) ? ESCAPED + name.slice(OVERLAY.length) : name, value);
  return copy;
}

/** Marks a file whose data is outside the image, with the digest and location of the data. */
function markMetacopy(inode: StagedInode): void {
  if (inode.sizeBytes === 0 || inode.content !== undefined) return;
  const { digest, payload, origin, xattrs } = inode;
  xattrs.set(METACOPY, metacopyOf(digest));
  if (payload) xattrs.set(REDIRECT, `/${payload}`);
  if (origin === undefined) return;
  xattrs.set(ORIGIN, origin);
  if (payload === '') xattrs.set(REDIRECT, ''); // without a path, only the origin leads to the data
}

/** The value of a metacopy xattr, struct ovl_metacopy: version, length, flags, algorithm, digest; empty without a digest. */
export function metacopyOf(digest: string | undefined): ByteString {
  const algorithm = algorithmOfHex(digest ?? '');
  if (digest === undefined || algorithm === undefined) return '';
  const { number, digestBytes } = ALGORITHMS[algorithm];
  const header = String.fromCharCode(0, METACOPY_HEADER_BYTES + digestBytes, 0, number);
  return header + Buffer.from(digest, 'hex').toString('latin1');
}
const METACOPY_HEADER_BYTES = 4;

/** The hex digest in a metacopy value, whose length determines the algorithm; undefined if it has none. */
export function digestInMetacopy(value: ByteString): string | undefined {
  const digest = Buffer.from(value.slice(METACOPY_HEADER_BYTES), 'latin1').toString('hex');
  return algorithmOfHex(digest) === undefined ? undefined : digest;
}

/** Turns a whiteout into an empty file that the next overlay treats as a whiteout, and marks its directory. */
function escapeWhiteout(inode: StagedInode, parent: StagedInode, version: ComposefsVersion): void {
  inode.mode = (inode.mode & ~S_IFMT) | S_IFREG;
  inode.sizeBytes = 0;
  for (const prefix of [ESCAPED, USER]) {
    inode.xattrs.set(`${prefix}whiteout`, '');
    parent.xattrs.set(`${prefix}whiteouts`, '');
    if (version >= 1) parent.xattrs.set(`${prefix}opaque`, 'x');
  }
}

/** A whiteout for each name from 00 to ff that the root lacks, with the root's owner, time and SELinux label. */
function whiteoutStubs(root: TreeInode): Map<ByteString, TreeEntry> {
  const stubs = new Map<ByteString, TreeEntry>();
  const label = root.xattrs.get('security.selinux');
  for (let i = 0; i < 256; i++) {
    const name = i.toString(16).padStart(2, '0');
    if (root.entries.has(name)) continue;
    const inode = {
      ...newInode(S_IFCHR | 0o644),
      uid: root.uid,
      gid: root.gid,
      mtime: root.mtime,
      mtimensec: root.mtimensec,
    };
    if (label !== undefined) inode.xattrs.set('security.selinux', label);
    stubs.set(name, { inode, link: false });
  }
  return stubs;
}
