/**
 * An image as a tree: what `stage.ts` did for the overlay is undone, so the tree is the one that the image was made from.
 * What is lost is which name of a hard link came first (here, the first in byte order of paths), an empty file's payload and
 * the sizes that a dump may claim for directories and symlinks.
 */
import { readData } from '../erofs/data.ts';
import { listDirents } from '../erofs/dirents.ts';
import { LAYOUT_CHUNK_BASED } from '../erofs/format.ts';
import type { Image } from '../erofs/image.ts';
import { Inode, type Nid } from '../erofs/inode.ts';
import { listXattrs, xattrValue } from '../erofs/xattrs.ts';
import { type Name, nameOf } from '../sys/bytes.ts';
import { ErrnoError, EUCLEAN } from '../sys/errno.ts';
import { isDirectory, isRegular, isSymlink, S_IFCHR, S_IFMT } from '../sys/stat.ts';
import { digestInMetacopy, METACOPY, ORIGIN, REDIRECT } from './stage.ts';
import { CONTENT_BYTES_MAX, isWhiteout, newInode, PATH_BYTES_MAX, type TreeInode } from './tree.ts';

/** What of an image is read. */
export interface ReadOptions {
  /** The names of the root to read; all of them by default. */
  toplevel?: ReadonlySet<Name>;
}

/**
 * Reads the whole tree of an image.
 * Throws ErrnoError: EUCLEAN for a corrupt image or one that is no tree, EOPNOTSUPP for data that can not be read.
 */
export function readTree(image: Image, options: ReadOptions = {}): TreeInode {
  const seen = new Map<Nid, TreeInode>();
  const { inode: root } = readInode(image, image.rootNid);
  seen.set(image.rootNid, root);
  const pending = [readNames(image, image.rootNid, root, options.toplevel)];
  for (let names = pending.at(-1); names; names = pending.at(-1)) {
    const next = names.left.pop();
    if (!next) {
      pending.pop();
      continue;
    }
    const [name, nid] = next;
    const known = seen.get(nid);
    if (known && isDirectory(known.mode)) throw new ErrnoError(EUCLEAN, `nid ${nid}: a directory with two names`);
    const { inode, stub } = known ? { inode: known, stub: false } : readInode(image, nid);
    if (stub) continue;
    if (names.directory.entries.has(name)) throw new ErrnoError(EUCLEAN, `nid ${nid}: a name that is there already`);
    names.directory.entries.set(name, { inode, link: known !== undefined });
    seen.set(nid, inode);
    if (!known && isDirectory(inode.mode)) pending.push(readNames(image, nid, inode));
  }
  return root;
}

/** A directory's names that are still to be read, the last one first. */
interface Names {
  directory: TreeInode;
  left: [Name, Nid][];
}

function readNames(image: Image, nid: Nid, directory: TreeInode, wanted?: ReadonlySet<Name>): Names {
  const left: [Name, Nid][] = [];
  listDirents(image, new Inode(image, nid), (name, child) => {
    if (name !== '.' && name !== '..' && (wanted?.has(name) ?? true)) left.push([name, child]);
  });
  return { directory, left: left.reverse() };
}

/** One inode, without its names; `stub` for a whiteout that was put over an object directory. */
function readInode(image: Image, nid: Nid): { inode: TreeInode; stub: boolean } {
  const stored = new Inode(image, nid);
  const { mode, nlink, uid, gid, rdev, sizeBytes, mtime, mtimensec } = stored;
  const inode = { ...newInode(mode), nlink, uid, gid, rdev, sizeBytes, mtime, mtimensec };
  if (isWhiteout(inode)) return { inode, stub: true };
  if (isSymlink(mode)) inode.payload = readText(image, stored, PATH_BYTES_MAX);
  if (isRegular(mode) && sizeBytes > 0 && stored.layout !== LAYOUT_CHUNK_BASED)
    inode.content = readText(image, stored, CONTENT_BYTES_MAX);
  listXattrs(image, stored, (name, entry) => takeXattr(inode, name, nameOf(xattrValue(image, entry))));
  return { inode, stub: false };
}

/** The data of an inode, which has at most `max` bytes. Throws ErrnoError EUCLEAN where it has more. */
export function readText(image: Image, inode: Inode, max: number): Name {
  if (inode.sizeBytes > max)
    throw new ErrnoError(EUCLEAN, `nid ${inode.nid}: ${inode.sizeBytes} bytes; ${max} are allowed`);
  const bytes = new Uint8Array(inode.sizeBytes);
  readData(image, inode, bytes, 0, bytes.length, 0);
  return nameOf(bytes);
}

/** Gives an xattr of the image its meaning for the tree. */
function takeXattr(inode: TreeInode, name: Name, value: Name): void {
  switch (name) {
    case ORIGIN:
      if (isRegular(inode.mode)) inode.origin = value;
      return;
    case REDIRECT:
      if (isRegular(inode.mode)) inode.payload = value.length > 1 && value[0] === '/' ? value.slice(1) : value;
      return;
    case METACOPY:
      if (isRegular(inode.mode)) inode.digest = digestInMetacopy(value);
      return;
    case 'trusted.overlay.overlay.whiteout':
      if (isRegular(inode.mode)) {
        inode.mode = (inode.mode & ~S_IFMT) | S_IFCHR;
        inode.sizeBytes = 0;
        return;
      }
      break;
    case 'trusted.overlay.overlay.whiteouts':
    case 'user.overlay.whiteout':
    case 'user.overlay.whiteouts':
      return;
  }
  if (name.startsWith('trusted.overlay.overlay.')) inode.xattrs.set(name.replace('overlay.', ''), value);
  else if (!name.startsWith('trusted.overlay.')) inode.xattrs.set(name, value);
}
