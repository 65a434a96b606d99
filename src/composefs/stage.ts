/**
 * Prepares a tree for an image that overlayfs mounts above its data layers. Whiteouts and `trusted.overlay.*` xattrs of the tree
 * are escaped, so that they stay visible through the overlay, unless the image is a layer whose whiteouts are to be obeyed. Files
 * whose data is outside the image become metacopies.
 * Source: kernel Documentation/filesystems/overlayfs.rst, "Nesting overlayfs mounts" and "Metadata only copy up"; the order and
 * the stubs are those of mkcomposefs 1.0.8.
 */
import { type ByteString, byteStringOf, putByteString, type Seconds } from '../sys/bytes.ts';
import { EFBIG, EINVAL, ErrnoError } from '../sys/errno.ts';
import { isDirectory, isRegular, isSymlink, S_IFCHR, S_IFMT, S_IFREG } from '../sys/stat.ts';
import { ALGORITHMS, algorithmOfHex } from '../verity/algorithms.ts';
import { type Row, StagedInodes } from './staged.ts';
import { FILE_BYTES_MAX, hasFileType, isWhiteout, NO_XATTRS, newInode, type TreeInode } from './tree.ts';

/** The version of these rules, which the image's header records. Version 1 also marks directories of whiteouts as opaque=x. */
export type ComposefsVersion = 0 | 1;

const OVERLAY = 'trusted.overlay.';
/** The xattrs of a file whose data is outside the image: its mark, the path of the data, and the inode that holds the data. */
export const METACOPY = `${OVERLAY}metacopy`;
export const REDIRECT = `${OVERLAY}redirect`;
export const ORIGIN = `${OVERLAY}origin`;
const ESCAPED = 'trusted.overlay.overlay.';
const USER = 'user.overlay.';

/** How a tree is staged. */
export interface StageOptions {
  /** The version to write, unless whiteouts raise it to maxVersion. Default 0. */
  minVersion?: ComposefsVersion;
  /** Default 1; at least minVersion. */
  maxVersion?: ComposefsVersion;
  /** Gives the path of every file's data one slash in front, or two; by default one is put before the payload as it is. */
  redirects?: 'absolute' | 'data-only';
  /**
   * The image is a layer over others instead of a whole tree: whiteouts and `trusted.overlay.*` xattrs of the tree are written as
   * they are, for the overlay that has the image as a layer, and the root hides nothing.
   */
  asLayer?: boolean;
}

/**
 * Stages a tree. Throws ErrnoError EINVAL for a malformed tree (a mode without file type, an inode with two first names, a link
 * out of the tree), and EFBIG for a file larger than FILE_BYTES_MAX.
 */
export function stageTree(root: TreeInode, options: StageOptions = {}): StagedInodes {
  const stage = new Stage(options);
  const rows = new Map<TreeInode, Row>([[root, stage.addRoot(root)]]);
  const links: [link: Name, inode: TreeInode][] = [];
  for (const [{ mode, entries }, directory] of rows) {
    if (!isDirectory(mode) && entries.size > 0) throw new ErrnoError(EINVAL, 'only a directory can have entries');
    for (const [name, { inode, link }] of entries)
      if (link) links.push([stage.addLink(directory, name), inode]);
      else if (rows.has(inode)) throw new ErrnoError(EINVAL, 'an inode has two first names');
      else rows.set(inode, stage.addUnder(directory, name, inode));
  }
  for (const [link, inode] of links) {
    const row = rows.get(inode);
    if (row === undefined) throw new ErrnoError(EINVAL, 'a hard link leads out of the tree');
    stage.point(link, row);
  }
  return stage.finish();
}

/** What a name in a directory leads to: a row, or, below 0, a hard link whose inode is not known yet. */
export type Name = number;

/** Stages inodes one by one, each after its directory. */
export class Stage {
  readonly #staged = new StagedInodes();
  readonly #options: StageOptions;
  /** The names of each directory, by row. */
  readonly #names: (Map<ByteString, Name> | undefined)[] = [];
  /** The row of each hard link: that of link -1 comes first. */
  readonly #links: Row[] = [];
  readonly #whiteouts: Row[] = [];

  constructor(options: StageOptions) {
    this.#options = options;
  }

  isDirectory(name: Name): boolean {
    return name >= 0 && this.#names[name] !== undefined;
  }

  /** What a name leads to; undefined if there is none, or `directory` is no directory. */
  find(directory: Name, name: ByteString): Name | undefined {
    return this.#names[directory]?.get(name);
  }

  /** Adds the root, which comes first. Throws as `stageTree` does. */
  addRoot(source: TreeInode): Row {
    return this.#add(source, 0);
  }

  /** Adds an inode and its first name. Throws as `stageTree` does. */
  addUnder(directory: Row, name: ByteString, source: TreeInode): Row {
    const row = this.#add(source, directory);
    this.#names[directory]?.set(name, row);
    return row;
  }

  #add(source: TreeInode, parent: Row): Row {
    const { mode, sizeBytes } = source;
    if (!hasFileType(mode)) throw new ErrnoError(EINVAL, `mode ${mode.toString(8)} has no file type`);
    if (isRegular(mode) && sizeBytes > FILE_BYTES_MAX)
      throw new ErrnoError(EFBIG, `a file of ${sizeBytes} bytes; ${FILE_BYTES_MAX} are allowed`);
    const row = this.#staged.add(source, isSymlink(mode) ? source.payload : source.content, parent);
    this.#names.push(isDirectory(mode) ? new Map() : undefined);
    const { asLayer, redirects } = this.#options;
    const xattrs = asLayer ? new Map(source.xattrs) : escapedXattrs(source.xattrs);
    if (isRegular(mode)) markMetacopy(source, xattrs, redirects);
    if (isWhiteout(source) && !asLayer) this.#whiteouts.push(row);
    if (row === 0 && !asLayer) xattrs.set(`${OVERLAY}opaque`, 'y'); // hides names of the data layers
    this.#staged.setXattrs(row, xattrs);
    return row;
  }

  /** Adds a further hard link, whose inode is still to be given to `point`. */
  addLink(directory: Row, name: ByteString): Name {
    const link = -this.#links.push(0);
    this.#names[directory]?.set(name, link);
    return link;
  }

  /** Gives a hard link its inode. */
  point(link: Name, row: Row): void {
    this.#links[-link - 1] = row;
  }

  /** Returns the inodes of the image in order: the root first, then breadth first, names in byte order. */
  finish(): StagedInodes {
    const { minVersion = 0, maxVersion = 1 } = this.#options;
    const staged = this.#staged;
    staged.composefsVersion = minVersion === 0 && maxVersion === 1 && this.#whiteouts.length > 0 ? 1 : minVersion;
    this.#escapeWhiteouts();
    if (!this.#options.asLayer) this.#addStubs();
    const order = new Uint32Array(staged.count);
    let end = 1; // the root has row 0
    for (let i = 0; i < end; i++) end = this.#listNames(order[i] as Row, order, end);
    staged.order = order;
    return staged;
  }

  /** Adds a directory's names in byte order, and appends the inodes whose first name is here to the order. @returns its end */
  #listNames(directory: Row, order: Uint32Array, end: number): number {
    const names = this.#names[directory];
    if (names === undefined) return end;
    const staged = this.#staged;
    let subdirectories = 0;
    let next = end;
    for (const name of [...names.keys(), '.', '..'].sort()) {
      const found = names.get(name) ?? (name === '.' ? directory : (staged.parent[directory] as Row));
      const row = found < 0 ? (this.#links[-found - 1] as Row) : found;
      staged.addName(directory, name, row);
      if (found < 0 || !names.has(name)) continue;
      order[next++] = row;
      if (this.#names[row]) subdirectories++;
    }
    staged.nlink[directory] = 2 + subdirectories;
    return next;
  }

  /** Turns whiteouts into empty files that the next overlay treats as whiteouts, and marks their directories. */
  #escapeWhiteouts(): void {
    const { mode, sizeBytes, parent, composefsVersion } = this.#staged;
    for (const row of this.#whiteouts) {
      mode[row] = escapedMode(mode[row] as number);
      sizeBytes[row] = 0;
      this.#mark(row, markWhiteout);
    }
    for (const directory of new Set(this.#whiteouts.map(row => parent[row] as Row)))
      this.#mark(directory, xattrs => markDirectory(xattrs, composefsVersion as ComposefsVersion));
  }

  #mark(row: Row, mark: (xattrs: Map<ByteString, ByteString>) => void): void {
    const xattrs = this.#staged.xattrsOf(row);
    mark(xattrs);
    this.#staged.setXattrs(row, xattrs);
  }

  /**
   * Adds a whiteout for each name from 00 to ff that the root lacks, with the root's owner, time and SELinux label. They hide the
   * 256 directories of an object store in the data layers, and are meant for the kernel, so they are not escaped.
   */
  #addStubs(): void {
    const { uid, gid, mtime, mtimensec } = this.#staged;
    const label = this.#staged.xattrsOf(0).get('security.selinux');
    const stub = {
      ...newInode(S_IFCHR | 0o644),
      uid: uid[0] as number,
      gid: gid[0] as number,
      mtime: mtime[0] as Seconds,
      mtimensec: mtimensec[0] as number,
      xattrs: label === undefined ? NO_XATTRS : new Map([['security.selinux', label]]),
    };
    for (let i = 0; i < 256; i++) {
      const name = i.toString(16).padStart(2, '0');
      if (this.find(0, name) === undefined) this.addUnder(0, name, stub);
    }
  }
}

/** The mode of an empty file that stands for a whiteout. */
export const escapedMode = (mode: number): number => (mode & ~S_IFMT) | S_IFREG;

/** Marks an empty file as a whiteout for the next overlay. */
export const markWhiteout = (xattrs: Map<ByteString, ByteString>): void => mark(xattrs, 'whiteout', '');

/** Marks a directory of such files. */
export function markDirectory(xattrs: Map<ByteString, ByteString>, version: ComposefsVersion): void {
  mark(xattrs, 'whiteouts', '');
  if (version >= 1) mark(xattrs, 'opaque', 'x');
}

/** Sets an xattr in both forms that the next overlay may look for. */
function mark(xattrs: Map<ByteString, ByteString>, what: string, value: ByteString): void {
  for (const prefix of [ESCAPED, USER]) xattrs.set(prefix + what, value);
}

/** A copy of xattrs in which names that overlayfs would interpret have one more level of escape. */
export function escapedXattrs(xattrs: ReadonlyMap<ByteString, ByteString>): Map<ByteString, ByteString> {
  const copy = new Map<ByteString, ByteString>();
  for (const [name, value] of xattrs)
    copy.set(name.startsWith(OVERLAY) ? ESCAPED + name.slice(OVERLAY.length) : name, value);
  return copy;
}

/** Marks a file whose data is outside the image, with the digest and location of the data. */
function markMetacopy(
  { sizeBytes, content, digest, payload, origin }: TreeInode,
  xattrs: Map<ByteString, ByteString>,
  redirects: StageOptions['redirects'],
): void {
  if (sizeBytes === 0 || content !== undefined) return;
  xattrs.set(METACOPY, metacopyOf(digest));
  const path = payload && redirects ? SLASHES[redirects] + payload.replace(/^\/+/, '') : payload;
  if (origin !== undefined) xattrs.set(ORIGIN, origin);
  if (path) xattrs.set(REDIRECT, `/${path}`);
  else if (path === '' && origin !== undefined) xattrs.set(REDIRECT, ''); // without a path, only the origin leads to the data
}
/** What stands between the slash that every redirect begins with and the path. */
const SLASHES = { absolute: '', 'data-only': '/' } as const;

/** The value of a metacopy xattr, struct ovl_metacopy: version, length, flags, algorithm, digest; empty without a digest. */
export function metacopyOf(digest: string | undefined): ByteString {
  const algorithm = algorithmOfHex(digest ?? '');
  if (digest === undefined || algorithm === undefined) return '';
  const { number, digestBytes } = ALGORITHMS[algorithm];
  const end = METACOPY_HEADER_BYTES + digestBytes;
  metacopy.fill(0, 0, METACOPY_HEADER_BYTES);
  metacopy[1] = end;
  metacopy[3] = number;
  metacopy.write(digest, METACOPY_HEADER_BYTES, 'hex');
  return byteStringOf(metacopy, 0, end);
}
const METACOPY_HEADER_BYTES = 4;
/** Room for one value at a time. */
const metacopy = Buffer.alloc(METACOPY_HEADER_BYTES + ALGORITHMS.sha512.digestBytes);

/** The hex digest in a metacopy value, whose length determines the algorithm; undefined if it has none. */
export function digestInMetacopy(value: ByteString): string | undefined {
  if (!ALL_DIGEST_BYTES.includes(value.length - METACOPY_HEADER_BYTES)) return undefined;
  putByteString(metacopy, 0, value);
  return metacopy.toString('hex', METACOPY_HEADER_BYTES, value.length);
}
const ALL_DIGEST_BYTES = Object.values(ALGORITHMS).map(({ digestBytes }): number => digestBytes);
