/**
 * Reads an image as a tree. The changes that `stage.ts` made for the overlay are undone, so the tree is the one that the image
 * was made from. Three details are lost: which name of a hard link came first (here, the first in byte order of paths), an empty
 * file's payload, and the sizes that a dump may state for directories and symlinks.
 */

import type { Nid } from '../erofs/format.ts';
import { LAYOUT_CHUNK_BASED } from '../erofs/format.ts';
import { ImageInode } from '../erofs/inode.ts';
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

/**
 * Reads the tree of an image.
 * Throws ErrnoError: EUCLEAN for a corrupt image or one that is no tree, EOPNOTSUPP for data that cannot be read.
 * @example
 * const root = readTree(openImage(readImageFile('image.cfs')));
 * assert.equal(root.entries.get('poem')?.inode.sizeBytes, 128);
 */
export function readTree(image: Image, options: ReadOptions = {}): TreeInode {
  return new TreeReader(image).read(options.toplevel);
}

/** The names of a directory that are still to be read, the last one first. */
interface Names {
  directory: TreeInode;
  left: [ByteString, Nid][];
}

class TreeReader {
  readonly #image: Image;
  readonly #values: ImageValues;
  readonly #seen = new Map<Nid, TreeInode>();
  readonly #treeNames = new Map<ByteString, ByteString>();

  constructor(image: Image) {
    this.#image = image;
    this.#values = new ImageValues(image);
  }

  read(toplevel: ReadonlySet<ByteString> | undefined): TreeInode {
    const { rootNid } = this.#image;
    const root = this.#inode(rootNid) as TreeInode;
    this.#seen.set(rootNid, root);
    const pending = [this.#names(rootNid, root, toplevel)];
    for (let names = pending.at(-1); names; names = pending.at(-1)) {
      const next = names.left.pop();
      if (!next) {
        pending.pop();
        continue;
      }
      const directory = this.#add(names.directory, ...next);
      if (directory) pending.push(this.#names(next[1], directory));
    }
    return root;
  }

  /** Adds an inode under its name. @returns the inode if it is a directory whose names are still to be read; else undefined */
  #add(parent: TreeInode, name: ByteString, nid: Nid): TreeInode | undefined {
    const known = this.#seen.get(nid);
    if (known && isDirectory(known.mode)) throw new ErrnoError(EUCLEAN, `nid ${nid}: a directory with two names`);
    const inode = known ?? this.#inode(nid);
    if (!inode) return undefined;
    if (parent.entries.has(name)) throw new ErrnoError(EUCLEAN, `nid ${nid}: a name occurs twice`);
    parent.entries.set(name, { inode, link: known !== undefined });
    this.#seen.set(nid, inode);
    return !known && isDirectory(inode.mode) ? inode : undefined;
  }

  #names(nid: Nid, directory: TreeInode, wanted?: ReadonlySet<ByteString>): Names {
    const left: [ByteString, Nid][] = [];
    this.#values.dirents(new ImageInode(this.#image, nid), (name, child) => {
      if (name !== '.' && name !== '..' && (wanted?.has(name) ?? true)) left.push([name, child]);
    });
    return { directory, left: left.reverse() };
  }

  /** Reads one inode, without its names; undefined for a whiteout, which hides an object directory. */
  #inode(nid: Nid): TreeInode | undefined {
    const stored = new ImageInode(this.#image, nid);
    const { mode, nlink, uid, gid, rdev, sizeBytes, mtime, mtimensec } = stored;
    const inode = { ...newInode(mode), nlink, uid, gid, rdev, sizeBytes, mtime, mtimensec };
    if (isWhiteout(inode)) return undefined;
    if (isSymlink(mode)) inode.payload = targetOf(nid, this.#values.data(stored, PATH_BYTES_MAX));
    if (isRegular(mode) && sizeBytes > 0 && stored.layout !== LAYOUT_CHUNK_BASED)
      inode.content = this.#values.data(stored, CONTENT_BYTES_MAX);
    this.#values.xattrs(stored, (name, value) => this.#takeXattr(inode, name, value));
    return inode;
  }

  /** Translates an xattr of the image into a field or an xattr of the tree. */
  #takeXattr(inode: TreeInode, name: ByteString, value: ByteString): void {
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
    if (name.startsWith('trusted.overlay.overlay.')) inode.xattrs.set(this.#unescaped(name), value);
    else if (!name.startsWith('trusted.overlay.')) inode.xattrs.set(name, value);
  }

  /** An xattr's name with one level of escape removed; all inodes share the string. */
  #unescaped(name: ByteString): ByteString {
    const known = this.#treeNames.get(name) ?? name.replace('overlay.', '');
    this.#treeNames.set(name, known);
    return known;
  }
}

/** A path in an image, which ends at the first NUL. */
const pathIn = (value: ByteString): ByteString => (value.includes('\0') ? value.slice(0, value.indexOf('\0')) : value);

function targetOf(nid: Nid, data: ByteString): ByteString {
  const target = pathIn(data);
  if (target === '') throw new ErrnoError(EUCLEAN, `nid ${nid}: a symlink without a target`);
  return target;
}
