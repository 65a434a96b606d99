/**
 * The tree to which layers are applied, one after the other. Every name knows the layer that touched it last, by itself or by a
 * name below it, because a whiteout hides what lower layers have, and not what its own layer adds.
 * Source: OCI image-spec, layer.md, "Applying Changesets" and "Whiteouts".
 */
import {
  isWhiteout,
  NAME_BYTES_MAX,
  newInode,
  PATH_BYTES_MAX,
  type TreeEntry,
  type TreeInode,
} from '../../composefs/tree.ts';
import { type ByteString, detached, printable } from '../../sys/bytes.ts';
import { ENAMETOOLONG, ENOENT, ENOTDIR, ErrnoError, EUCLEAN } from '../../sys/errno.ts';
import { isDirectory, S_IFDIR } from '../../sys/stat.ts';
import { LayerChanges } from './changes.ts';
import { LinkGroups } from './links.ts';

/**
 * What a whiteout hides: what lower layers have (`spec`), or all that is there when the archive comes to it, as composefs-rs does
 * it (`composefs-rs`).
 */
export type Whiteouts = 'spec' | 'composefs-rs';
export const WHITEOUTS: readonly string[] = ['spec', 'composefs-rs'];

/** A name in a directory; `layer` is the number of the layer that touched it last. */
interface LayeredEntry extends TreeEntry {
  layer: number;
}

/** The names on the way to an object, from the root; empty for the root. */
export type Parts = readonly ByteString[];

/**
 * The names of a path, without empty ones and `.`. Throws ErrnoError: EUCLEAN for `..`, ENAMETOOLONG for what no filesystem
 * takes.
 */
export function partsOf(path: ByteString): ByteString[] {
  if (path.length > PATH_BYTES_MAX)
    throw new ErrnoError(ENAMETOOLONG, `a path of ${path.length} bytes; ${PATH_BYTES_MAX} are allowed`);
  const parts = path.split('/').filter(part => part !== '' && part !== '.');
  if (parts.includes('..')) throw new ErrnoError(EUCLEAN, 'the path has ..');
  if (path.includes('\0')) throw new ErrnoError(EUCLEAN, 'the path has a NUL');
  const long = parts.find(part => part.length > NAME_BYTES_MAX);
  if (long !== undefined)
    throw new ErrnoError(ENAMETOOLONG, `a name of ${long.length} bytes; ${NAME_BYTES_MAX} are allowed`);
  return parts;
}

export class LayeredTree {
  readonly whiteouts: Whiteouts;
  /** A directory without permissions, owner and time, until a layer has an entry for it. */
  readonly root: TreeInode;
  /** How many directories were made because a layer has names below them, but no entry for them. */
  missingDirectories = 0;
  /** What the current layer does to those below it; undefined unless `recordChanges` was called. */
  changes: LayerChanges | undefined;
  /** Directories in which archives put character devices 0:0, which are not meant as whiteouts; kept while changes are recorded. */
  readonly whiteoutDirectories = new Set<TreeInode>();
  #links: LinkGroups | undefined;
  #layer = 0;

  constructor(whiteouts: Whiteouts, root: TreeInode = newInode(S_IFDIR)) {
    this.whiteouts = whiteouts;
    this.root = root;
  }

  /** From the next layer on, `changes` has what each layer does. Forks have none. */
  recordChanges(): void {
    this.#links = new LinkGroups();
  }

  /** Begins the next layer. */
  beginLayer(): void {
    this.#layer++;
    if (this.#links) this.changes = new LayerChanges();
  }

  /** Completes the changes of a layer whose entries have all been applied. */
  endLayer(): void {
    if (this.changes) this.#links?.complete(this.root, this.changes);
  }

  /**
   * A tree of the same names and inodes, to which whiteouts are applied in another way from here on. Directories are copies, so
   * that the trees can differ.
   */
  fork(whiteouts: Whiteouts): LayeredTree {
    const fork = new LayeredTree(whiteouts, copyTree(this.root));
    fork.missingDirectories = this.missingDirectories;
    fork.#layer = this.#layer;
    return fork;
  }

  /** Sets the attributes of the root. */
  setRoot(inode: TreeInode): void {
    setAttributes(this.root, inode);
  }

  /** Adds an inode under a name. A directory over a directory gives it its attributes; all else replaces. Throws ErrnoError. */
  add(parts: Parts, inode: TreeInode): void {
    const directory = this.#touchParent(parts);
    const name = parts.at(-1) as ByteString;
    const entry = directory.entries.get(name) as LayeredEntry | undefined;
    if (entry && isDirectory(inode.mode) && isDirectory(entry.inode.mode)) {
      setAttributes(entry.inode, inode);
      entry.layer = this.#layer;
      this.changes?.touch(parts);
    } else this.#set(directory, parts, isDirectory(inode.mode) ? copyOf(inode) : inode); // trees share no directory
  }

  /** Adds a name for the inode that another name leads to now, in this layer or a lower one. Throws ErrnoError. */
  link(parts: Parts, target: Parts): void {
    const found = this.#find(target);
    if (found === undefined) throw new ErrnoError(ENOENT, `a hard link to ${shown(target)}, which does not exist`);
    if (isDirectory(found.mode)) throw new ErrnoError(EUCLEAN, `a hard link to ${shown(target)}, which is a directory`);
    this.#set(this.#touchParent(parts), parts, found);
    this.#links?.add(found);
  }

  /** Whether the whiteout of a name would do something else by the other rule: its own layer has the name already. */
  isSplitBy(parts: Parts, name: ByteString): boolean {
    return this.#isTouched(this.#findDirectory(parts)?.entries.get(name));
  }

  /** The same for the whiteout of all that a directory has. */
  isSplitByOpaque(parts: Parts): boolean {
    return [...(this.#findDirectory(parts)?.entries.values() ?? [])].some(entry => this.#isTouched(entry));
  }

  /** Applies the whiteout of a name in a directory, which may be missing. */
  hide(parts: Parts, name: ByteString): void {
    const directory = this.#findDirectory(parts);
    const entry = directory?.entries.get(name);
    if (!directory || !entry) return;
    this.changes?.hide([...parts, name]);
    if (this.whiteouts !== 'spec' || !this.#isTouched(entry)) directory.entries.delete(name);
    else this.#hideBelow(entry.inode);
  }

  /** Applies the whiteout of all that a directory has. */
  hideAll(parts: Parts): void {
    const directory = this.#findDirectory(parts);
    if (directory === undefined) return;
    if (parts.length > 0) this.changes?.hide(parts);
    else for (const name of directory.entries.keys()) this.changes?.hide([name]); // overlayfs reads no mark of the root
    if (this.whiteouts === 'spec') this.#hideBelow(directory);
    else directory.entries.clear();
  }

  /** Removes what this layer did not touch. */
  #hideBelow(directory: TreeInode): void {
    const pending = [directory];
    for (let next = pending.pop(); next; next = pending.pop())
      for (const [name, entry] of next.entries)
        if (!this.#isTouched(entry)) next.entries.delete(name);
        else if (isDirectory(entry.inode.mode)) pending.push(entry.inode);
  }

  #isTouched(entry: TreeEntry | undefined): boolean {
    return (entry as LayeredEntry | undefined)?.layer === this.#layer;
  }

  #set(directory: TreeInode, parts: Parts, inode: TreeInode): void {
    const name = parts.at(-1) as ByteString;
    this.changes?.set(parts, directory.entries.has(name));
    const entry: LayeredEntry = { inode, link: false, layer: this.#layer };
    directory.entries.set(detached(name), entry);
    if (this.changes && isWhiteout(inode)) this.whiteoutDirectories.add(directory);
  }

  /** What a path leads to; undefined if there is nothing. Throws ErrnoError ENOTDIR for a path through a file or symlink. */
  #find(parts: Parts): TreeInode | undefined {
    let found: TreeInode | undefined = this.root;
    for (const [i, name] of parts.entries()) {
      if (found === undefined) return undefined;
      demandDirectory(found, parts, i);
      found = found.entries.get(name)?.inode;
    }
    return found;
  }

  /** A directory; undefined if there is nothing. Throws ErrnoError ENOTDIR for what is not a directory. */
  #findDirectory(parts: Parts): TreeInode | undefined {
    const found = this.#find(parts);
    if (found) demandDirectory(found, parts, parts.length);
    return found;
  }

  /** The directory of a name, whose way is touched. A missing one is made, as programs that unpack layers do. */
  #touchParent(parts: Parts): TreeInode {
    let directory = this.root;
    for (let i = 0; i < parts.length - 1; i++) {
      const name = parts[i] as ByteString;
      let entry = directory.entries.get(name) as LayeredEntry | undefined;
      if (entry === undefined) {
        this.missingDirectories++;
        this.#set(directory, parts.slice(0, i + 1), newInode(S_IFDIR | 0o755));
        entry = directory.entries.get(name) as LayeredEntry;
      }
      demandDirectory(entry.inode, parts, i + 1);
      entry.layer = this.#layer;
      directory = entry.inode;
    }
    return directory;
  }
}

/** @param count how many names lead to the inode */
function demandDirectory({ mode }: TreeInode, parts: Parts, count: number): void {
  if (!isDirectory(mode)) throw new ErrnoError(ENOTDIR, `${shown(parts.slice(0, count))} is not a directory`);
}

const shown = (parts: Parts): string => `/${parts.map(printable).join('/')}`;

/** Gives an inode the attributes of another one, and keeps its names. */
export function setAttributes(inode: TreeInode, { mode, uid, gid, mtime, mtimensec, xattrs }: TreeInode): void {
  Object.assign(inode, { mode, uid, gid, mtime, mtimensec, xattrs });
}

/** A directory with the attributes of another one, and without its names. */
const copyOf = (inode: TreeInode): TreeInode => ({ ...inode, entries: new Map<ByteString, TreeEntry>() });

/** A copy of a directory and all directories below it. Other inodes are shared. */
function copyTree(directory: TreeInode): TreeInode {
  const copies = new Map<TreeInode, TreeInode>();
  const copied = (inode: TreeInode): TreeInode => {
    const copy = copyOf(inode);
    copies.set(inode, copy);
    return copy;
  };
  const root = copied(directory);
  for (const [original, copy] of copies) // grows while it is walked
    for (const [name, entry] of original.entries)
      copy.entries.set(name, { ...entry, inode: isDirectory(entry.inode.mode) ? copied(entry.inode) : entry.inode });
  return root;
}
