/**
 * Walks through the names of an image, one inode at a time. The changes that `stage.ts` made for the overlay are undone, so the
 * names and inodes are those of the tree that the image was made from. Three details are lost: which name of a hard link came
 * first (here, the first in byte order of paths), an empty file's payload, and the sizes that a dump may state for directories
 * and symlinks.
 */
import type { Nid } from '../erofs/format.ts';
import { LAYOUT_CHUNK_BASED } from '../erofs/format.ts';
import { ImageInode, modeOf } from '../erofs/inode.ts';
import { NidSet } from '../erofs/nid-set.ts';
import type { Image } from '../erofs/superblock.ts';
import type { ByteString } from '../sys/bytes.ts';
import { ErrnoError, EUCLEAN } from '../sys/errno.ts';
import { isDirectory, isRegular, isSymlink, S_IFCHR, S_IFMT } from '../sys/stat.ts';
import { ImageValues } from './image-values.ts';
import { digestInMetacopy, METACOPY, ORIGIN, REDIRECT } from './stage.ts';
import { CONTENT_BYTES_MAX, isWhiteout, newInode, PATH_BYTES_MAX, type TreeInode } from './tree.ts';

/** Selects the parts of an image to read. */
export interface ReadOptions {
  /** The names of the root to read; all of them by default. */
  toplevel?: ReadonlySet<ByteString>;
}

/** A name of an image. */
export interface ImageName {
  /** The path; "" for the root. */
  readonly path: ByteString;
  readonly name: ByteString;
  /** The directory; undefined for the root. */
  readonly directory: TreeInode | undefined;
  /** The inode, without entries. */
  readonly inode: TreeInode;
  /** For a further hard link, the path of the inode's first name. */
  readonly linkTo: ByteString | undefined;
}

/**
 * Visits every name, each directory before its names, names in byte order. Only inodes with several names stay in memory.
 * Throws ErrnoError: EUCLEAN for a corrupt image or one that is no tree, EOPNOTSUPP for data that cannot be read.
 */
export function walkImage(image: Image, options: ReadOptions = {}): Iterable<ImageName> {
  return new ImageWalk(image, options.toplevel).names();
}

/** An inode with several names: its first name. */
type First = Pick<Level, 'prefix'> & Pick<ImageName, 'name' | 'inode'>;

/** A directory whose names are still to be visited, the last one first. */
interface Level {
  /**
   * The directory's path with a slash at its end. V8 keeps it as a chain of parts, as long as nothing reads it: the paths of deep
   * directories, written out, take memory of the square of their depth.
   */
  readonly prefix: ByteString;
  readonly inode: TreeInode;
  readonly left: [name: ByteString, nid: Nid][];
}

class ImageWalk {
  readonly #image: Image;
  readonly #values: ImageValues;
  readonly #toplevel: ReadonlySet<ByteString> | undefined;
  /** The first names of inodes with several. */
  readonly #first = new Map<Nid, First>();
  readonly #treeNames = new Map<ByteString, ByteString>();

  constructor(image: Image, toplevel: ReadonlySet<ByteString> | undefined) {
    this.#image = image;
    this.#values = new ImageValues(image);
    this.#toplevel = toplevel;
  }

  *names(): Generator<ImageName> {
    const { rootNid } = this.#image;
    const linked = linkedInodes(this.#image, this.#toplevel);
    const root = this.#inode(rootNid) as TreeInode;
    yield { path: '', name: '', directory: undefined, inode: root, linkTo: undefined };
    const levels: Level[] = [{ prefix: '/', inode: root, left: this.#namesIn(rootNid) }];
    for (let level = levels.at(-1); level; level = levels.at(-1)) {
      const next = level.left.pop();
      if (next === undefined) {
        levels.pop();
        continue;
      }
      const [name, nid] = next;
      const found = this.#visit(level, name, nid, linked.has(nid));
      if (found === undefined) continue;
      yield found;
      if (isDirectory(found.inode.mode))
        levels.push({ prefix: `${level.prefix}${name}/`, inode: found.inode, left: this.#namesIn(nid) });
    }
  }

  /** @returns undefined for a whiteout, which hides an object directory */
  #visit({ prefix, inode: directory }: Level, name: ByteString, nid: Nid, linked: boolean): ImageName | undefined {
    const path = prefix + name;
    const first = linked ? this.#first.get(nid) : undefined;
    if (first) return { path, name, directory, inode: first.inode, linkTo: first.prefix + first.name };
    const inode = this.#inode(nid);
    if (inode === undefined) return undefined;
    if (linked) this.#first.set(nid, { prefix, name, inode });
    return { path, name, directory, inode, linkTo: undefined };
  }

  #namesIn(nid: Nid): [ByteString, Nid][] {
    const wanted = nid === this.#image.rootNid ? this.#toplevel : undefined;
    const names: [ByteString, Nid][] = [];
    let inOrder = true;
    this.#values.dirents(new ImageInode(this.#image, nid), (name, child) => {
      if (name === '.' || name === '..' || wanted?.has(name) === false) return;
      inOrder &&= names.length === 0 || (names.at(-1) as [ByteString, Nid])[0] < name;
      names.push([name, child]);
    });
    if (!inOrder) sortNames(names);
    return names.reverse();
  }

  /** Reads one inode, without its names; undefined for a whiteout, which hides an object directory. */
  #inode(nid: Nid): TreeInode | undefined {
    const stored = new ImageInode(this.#image, nid);
    if (isWhiteout(stored)) return undefined;
    const { mode, sizeBytes } = stored;
    const inode = newInode(mode);
    inode.nlink = stored.nlink;
    inode.uid = stored.uid;
    inode.gid = stored.gid;
    inode.rdev = stored.rdev;
    inode.sizeBytes = sizeBytes;
    inode.mtime = stored.mtime;
    inode.mtimensec = stored.mtimensec;
    if (isSymlink(mode)) inode.payload = targetOf(nid, this.#values.data(stored, PATH_BYTES_MAX));
    if (isRegular(mode) && sizeBytes > 0 && stored.layout !== LAYOUT_CHUNK_BASED)
      inode.content = this.#values.data(stored, CONTENT_BYTES_MAX);
    if (stored.xattrBytes > 0) this.#readXattrs(stored, inode);
    return inode;
  }

  #readXattrs(stored: ImageInode, inode: TreeInode): void {
    const xattrs = new Map<ByteString, ByteString>();
    this.#values.xattrs(stored, (name, value) => this.#takeXattr(inode, xattrs, name, value));
    if (xattrs.size > 0) inode.xattrs = xattrs;
  }

  /** Translates an xattr of the image into a field or an xattr of the tree. */
  #takeXattr(inode: TreeInode, xattrs: Map<ByteString, ByteString>, name: ByteString, value: ByteString): void {
    switch (name) {
      case ORIGIN:
        if (isRegular(inode.mode)) inode.origin = value;
        return;
      case REDIRECT:
        if (isRegular(inode.mode))
          inode.payload = pathIn(value.length > 1 && value[0] === '/' ? value.slice(1) : value);
        return;
      case METACOPY:
        if (isRegular(inode.mode)) inode.digest = digestInMetacopy(value);
        return;
      case 'trusted.overlay.overlay.whiteout':
        if (isRegular(inode.mode)) {
          inode.mode = (inode.mode & ~S_IFMT) | S_IFCHR;
          inode.sizeBytes = 0;
          if (inode.content !== undefined) inode.content = ''; // composefs-info prints it so
          return;
        }
        break;
      case 'trusted.overlay.overlay.whiteouts':
      case 'user.overlay.whiteout':
      case 'user.overlay.whiteouts':
        return;
    }
    if (name.startsWith('trusted.overlay.overlay.')) xattrs.set(this.#unescaped(name), value);
    else if (!name.startsWith('trusted.overlay.')) xattrs.set(name, value);
  }

  /** An xattr's name with one level of escape removed; all inodes share the string. */
  #unescaped(name: ByteString): ByteString {
    const known = this.#treeNames.get(name) ?? name.replace('overlay.', '');
    this.#treeNames.set(name, known);
    return known;
  }
}

/** Sorts names by their bytes. Throws ErrnoError EUCLEAN for a name that occurs twice. */
function sortNames(names: [ByteString, Nid][]): void {
  names.sort(([a], [b]) => (a < b ? -1 : 1));
  let last: ByteString | undefined;
  for (const [name, nid] of names) {
    if (name === last) throw new ErrnoError(EUCLEAN, `nid ${nid}: a name occurs twice`);
    last = name;
  }
}

/**
 * The inodes that have several names. Lists all directories for that, because link counts may be wrong.
 * Throws ErrnoError EUCLEAN for a directory with two names, and for what makes a directory unreadable.
 */
function linkedInodes(image: Image, toplevel: ReadonlySet<ByteString> | undefined): ReadonlySet<Nid> {
  const { rootNid } = image;
  const values = new ImageValues(image);
  const linked = new Set<Nid>();
  const seen = new NidSet(image);
  const directories = [rootNid];
  seen.add(rootNid);
  for (const directory of directories)
    values.dirents(new ImageInode(image, directory), (name, nid) => {
      if (name === '.' || name === '..' || (directory === rootNid && toplevel?.has(name) === false)) return;
      if (nid >= seen.slots) return; // an error when it is read
      const isNew = seen.add(nid);
      if (!isDirectory(modeOf(image, nid))) {
        if (!isNew) linked.add(nid);
      } else if (isNew) directories.push(nid);
      else throw new ErrnoError(EUCLEAN, `nid ${nid}: a directory with two names`);
    });
  return linked;
}

/** A path in an image, which ends at the first NUL. */
const pathIn = (value: ByteString): ByteString => (value.includes('\0') ? value.slice(0, value.indexOf('\0')) : value);

function targetOf(nid: Nid, data: ByteString): ByteString {
  const target = pathIn(data);
  if (target === '') throw new ErrnoError(EUCLEAN, `nid ${nid}: a symlink without a target`);
  return target;
}
