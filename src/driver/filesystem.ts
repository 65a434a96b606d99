/** A FUSE filesystem over an overlay, with one method for each operation. */

import { DirentPacker } from '../fuse/dirents.ts';
import {
  type Caller,
  type FileAttributes,
  type Filesystem,
  type Nodeid,
  ROOT,
  type Settled,
  type Unique,
} from '../fuse/filesystem.ts';
import type { InitResult } from '../fuse/init.ts';
import type { Out } from '../fuse/reply.ts';
import * as reply from '../fuse/reply.ts';
import { Fopen } from '../fuse/wire/abi.ts';
import type { Listing } from '../overlay/listing.ts';
import type { Node } from '../overlay/node.ts';
import type { Overlay } from '../overlay/overlay.ts';
import type { Entry } from '../overlay/readdir.ts';
import { isAcl } from '../overlay/xattrs.ts';
import { type ByteString, bufferOf } from '../sys/bytes.ts';
import { type Counters, count, newCounters } from '../sys/counters.ts';
import { EINVAL, ENOENT, ENOSYS, ENOTDIR, EOPNOTSUPP, EROFS, ErrnoError, ESTALE } from '../sys/errno.ts';
import { type Attr, DT_DIR, dtypeOf, isDirectory, isSymlink } from '../sys/stat.ts';
import type { UpperNode } from '../upper/node.ts';
import { NameCount, putNodeCount } from './activity.ts';
import type { CachePolicy } from './cache.ts';
import { Directories } from './directories.ts';
import { FileOperations } from './file-operations.ts';
import type { Files } from './files.ts';
import { isRoot, MERGED, MERGED_NAME, type NodeTable, newNodeTable } from './nodes.ts';
import type { Owners } from './owners.ts';
import type { OverlayChanges } from './writable/changes.ts';
import type { Writable } from './writable/open.ts';

const W_OK = 2;
/** d_ino of an entry that cannot be looked up; 0 would hide the entry. Source: libfuse, FUSE_UNKNOWN_INO. */
const UNKNOWN_INO = 0xffffffff;
/** `.` and `..` come first, at positions 0 and 1. The other entries' positions are those of the listing plus DOTS. */
const DOTS = 2;

export interface Visibility {
  /** Whether POSIX ACLs exist here at all. */
  acl: boolean;
  /** Whether root's listings include trusted.* names: only if this process could read them on any filesystem. */
  trusted: boolean;
  /** The layer whose numbers statfs(2) shows. */
  statfs?: 'top' | 'data' | undefined;
  /** Owners that are shown in place of the stored ones. */
  owners?: Owners | undefined;
}

export class OverlayFilesystem implements Filesystem {
  /** Numbers at the indices of NameCount. */
  readonly counters = newCounters(NameCount.SIZE);
  readonly changes: OverlayChanges | undefined;
  private readonly overlay: Overlay;
  private readonly cache: CachePolicy;
  private readonly visible: Visibility;
  private readonly nodes: NodeTable;
  private readonly files: Files;
  private readonly directories = new Directories();
  /** For each directory, the inode number of the one where it was last found. Used only if the overlay does not know parents. */
  private readonly parents = new Map<Nodeid, number>();
  /** Whether the kernel opens directories without asking. It starts after the first OPENDIR was answered ENOSYS. */
  private opensDirectoriesItself = false;
  private readonly data: FileOperations;
  /** Whether file handles stay valid after the kernel has forgotten their inodes. */
  private hasHandles = false;
  private readonly packer = new DirentPacker();

  /** @param writable the nodes and the changes of a tree that is written to */
  constructor(overlay: Overlay, files: Files, cache: CachePolicy, visible: Visibility, writable?: Writable) {
    this.overlay = overlay;
    this.files = files;
    this.cache = cache;
    this.visible = visible;
    this.nodes = writable?.nodes ?? newNodeTable(overlay);
    this.changes = writable?.changes;
    this.data = new FileOperations(overlay, this.nodes, files, this.changes);
    putNodeCount(this.counters, this.nodes.size);
  }

  /** The counters of this filesystem's caches and of those below it. */
  get caches(): Readonly<Record<string, Counters>> {
    const { directories, files, overlay } = this;
    return { ...overlay.caches, files: files.cacheCounts.counters, listings: directories.counts.counters };
  }

  /**
   * Unopened directories save two messages each. If the tree can change, the kernel reads a listing again when the mtime does.
   */
  init({ flags, minor }: InitResult): void {
    const seesChanges = this.overlay.immutable || flags.has('AUTO_INVAL_DATA') || this.changes !== undefined;
    this.opensDirectoriesItself = flags.has('NO_OPENDIR_SUPPORT') && seesChanges;
    this.data.opensFilesItself = !this.cache.asksToOpen && flags.has('NO_OPEN_SUPPORT');
    this.changes?.begin(minor, flags.has('SETXATTR_EXT'));
    this.hasHandles = flags.has('EXPORT_SUPPORT');
    this.files.begin(flags.has('PASSTHROUGH'));
  }

  // ---- names -------------------------------------------------------------------------------------------------------

  lookup(parent: Nodeid, name: ByteString, out: Out): number {
    if (parent === ROOT && this.nodes.holdsMerged) return this.lookupMerged(name, out);
    const directory = this.nodes.get(parent);
    if (directory === undefined) return -ESTALE;
    if (!isDirectory(directory.top.mode)) return -ENOTDIR;
    const found = this.find(directory, name);
    if (typeof found === 'number') return found === -ENOENT ? this.missing(out) : found;
    const nodeid = this.remember(found.node, directory);
    const attrSeconds = this.changes?.attrSeconds(nodeid) ?? this.cache.attrSeconds;
    return reply.putEntryOut(out.view, 0, nodeid, 0, this.cache.entrySeconds, attrSeconds, found.attr);
  }

  /** Makes the kernel's root a directory with the single name MERGED_NAME for the root of the tree, or that root itself. */
  holdMerged(isHeld: boolean): void {
    this.nodes.holdsMerged = isHeld;
  }

  get holdsMerged(): boolean {
    return this.nodes.holdsMerged;
  }

  /** The name is not cached: it may become a name of the tree again. */
  private lookupMerged(name: ByteString, out: Out): number {
    if (name !== MERGED_NAME) return -ENOENT;
    const { overlay, cache } = this;
    return reply.putEntryOut(out.view, 0, MERGED, 0, 0, cache.attrSeconds, this.attrOf(overlay.root));
  }

  /** Looks up a name, and again if the remembered object is stale. */
  private find(directory: Node, name: ByteString): { node: Node; attr: Attr } | number {
    try {
      return this.findOnce(directory, name);
    } catch (error) {
      if (error instanceof ErrnoError && error.errno === ESTALE) return this.findOnce(directory, name);
      throw error;
    }
  }

  private findOnce(directory: Node, name: ByteString): { node: Node; attr: Attr } | number {
    const found = this.overlay.lookup(directory, name);
    if (typeof found === 'number') return found;
    const node = this.nodes.canonical(found, directory, name);
    if (node !== found) this.overlay.remember(directory, name, node);
    const isFresh = found.top.layer.isUpper === true; // nothing remembers what it finds there
    return { node, attr: this.attrOf(node, -1, isFresh) };
  }

  lookupHandle(nodeid: Nodeid, isParent: boolean, out: Out): number {
    if (!this.hasHandles || this.nodes.ofHandle === undefined) return -EINVAL;
    const node = this.nodes.ofHandle(nodeid, isParent);
    if (node === undefined) return -ESTALE;
    const { entrySeconds, attrSeconds } = this.cache;
    const attr = this.attrOf(node);
    return reply.putEntryOut(out.view, 0, this.nodes.remember(node), 0, entrySeconds, attrSeconds, attr);
  }

  /** A negative entry, which the kernel caches; -ENOENT if `negativeSeconds` is 0. */
  private missing(out: Out): number {
    count(this.counters, NameCount.missing);
    const { negativeSeconds } = this.cache;
    return negativeSeconds > 0 ? reply.putNegativeEntryOut(out.view, 0, negativeSeconds) : -ENOENT;
  }

  private remember(node: Node, parent: Node): Nodeid {
    const nodeid = this.nodes.remember(node);
    if (!this.overlay.recalls && !this.changes && isDirectory(node.top.mode)) this.parents.set(nodeid, parent.ino);
    putNodeCount(this.counters, this.nodes.size);
    return nodeid;
  }

  forget(nodeid: Nodeid, lookups: number): void {
    if (this.nodes.forget(nodeid, lookups)) {
      this.files.drop(nodeid);
      this.directories.forget(nodeid);
      this.parents.delete(nodeid);
    }
    putNodeCount(this.counters, this.nodes.size);
  }

  opendir(nodeid: Nodeid, out: Out): number {
    const node = this.nodes.get(nodeid);
    if (node === undefined) return -ESTALE;
    if (!isDirectory(node.top.mode)) return -ENOTDIR;
    if (this.opensDirectoriesItself) return -ENOSYS; // and the kernel stops asking
    const keep = this.overlay.immutable ? Fopen.KEEP_CACHE : 0;
    return reply.putOpenOut(out.view, 0, 0, Fopen.CACHE_DIR | keep);
  }

  readdir(nodeid: Nodeid, _fh: number, position: number, length: number, plus: boolean, out: Out): number {
    const node = this.nodes.get(nodeid);
    if (node === undefined) return -ESTALE;
    if (!isDirectory(node.top.mode)) return -ENOTDIR;
    const listing = this.listing(nodeid, node, position);
    this.packer.begin(out, length);
    for (let at = position; at < DOTS; at++) if (!this.addDot(nodeid, node, at, plus)) return this.packer.length;
    listing.from(Math.max(position - DOTS, 0), (entry, next) => this.addEntry(node, entry, next + DOTS, plus));
    return this.packer.length;
  }

  /** The kernel reads from position 0 if it has no listing or an outdated one. */
  private listing(nodeid: Nodeid, node: Node, position: number): Listing {
    const isStale = position === 0 && !this.overlay.immutable;
    return this.directories.listing(nodeid, isStale, before => this.overlay.listing(node, before));
  }

  private addDot(nodeid: Nodeid, node: Node, at: number, plus: boolean): boolean {
    const name = at === 0 ? '.' : '..';
    const ino = at === 0 ? node.ino : this.parentIno(nodeid, node);
    return this.addUnasked(ino, name, DT_DIR, at + 1, plus);
  }

  /** The root is its own parent here: the kernel replaces its `..` with the directory above the mount. */
  private parentIno(nodeid: Nodeid, node: Node): number {
    if (isRoot(nodeid)) return node.ino;
    if (this.changes) return this.changes.parentOf(node)?.ino ?? UNKNOWN_INO;
    return this.overlay.parentIno(node) ?? this.parents.get(nodeid) ?? UNKNOWN_INO;
  }

  /** Adds an entry. @returns whether there was room for it */
  private addEntry(directory: Node, entry: Entry, next: number, plus: boolean): boolean {
    const { name, dtype } = entry;
    if (plus ? !this.packer.hasRoom(name) : !this.packer.hasRoomPlain(name)) return false;
    const known = this.changes?.known(directory, name);
    if (known) return this.addUnasked(known.ino, name, dtypeOf(known.top.mode), next, plus);
    const found = this.tryLookup(directory, entry);
    if (found === 'gone') return true;
    const type = found ? dtypeOf(found.attr.mode) : dtype; // a layer may store another one than its files have
    if (!plus) return this.packer.add(name, found?.node.ino ?? UNKNOWN_INO, next, type);
    if (found === undefined) return this.addUnasked(UNKNOWN_INO, name, dtype, next, plus);
    const { node, attr } = found;
    const nodeid = this.remember(node, directory);
    const attrSeconds = this.changes?.attrSeconds(nodeid) ?? this.cache.attrSeconds;
    const { entrySeconds } = this.cache;
    return this.packer.addPlus(name, next, type, node.ino, nodeid, entrySeconds, attrSeconds, attr);
  }

  /** Adds an entry without attributes: the kernel asks for them, unless it knows them. */
  private addUnasked(ino: number, name: ByteString, dtype: number, next: number, plus: boolean): boolean {
    if (!plus) return this.packer.add(name, ino, next, dtype);
    return this.packer.addPlus(name, next, dtype, ino, 0 as Nodeid, 0, 0, undefined);
  }

  /** Looks up a listed entry. A broken object is listed only by name and type; its error shows at the lookup. */
  private tryLookup(directory: Node, { name, ino }: Entry): { node: Node; attr: Attr } | 'gone' | undefined {
    const { overlay } = this;
    try {
      if (ino === undefined || !overlay.recalls) {
        const found = this.find(directory, name);
        if (found === -ENOENT && this.changes) return 'gone'; // removed since the listing began
        return typeof found === 'number' ? undefined : found;
      }
      const recalled = overlay.recall(ino);
      if (typeof recalled === 'number') return undefined;
      const node = this.nodes.canonical(recalled, directory, name);
      return { node, attr: this.attrOf(node) };
    } catch (error) {
      if (error instanceof ErrnoError) return undefined;
      throw error;
    }
  }

  releasedir(): void {} // listings are kept by node

  // ---- attributes --------------------------------------------------------------------------------------------------

  getattr(nodeid: Nodeid, out: Out): number {
    const attr = this.attr(nodeid);
    return typeof attr === 'number' ? attr : reply.putAttrOut(out.view, 0, this.attrSeconds(nodeid), attr);
  }

  statx(nodeid: Nodeid, out: Out): number {
    const attr = this.attr(nodeid);
    return typeof attr === 'number' ? attr : reply.putStatxOut(out.view, 0, this.attrSeconds(nodeid), attr);
  }

  /** 0 for a stale object, so that a walk to its old name fails at once. */
  private attrSeconds(nodeid: Nodeid): number {
    if (this.nodes.get(nodeid)?.top.isStale) return 0;
    return this.changes?.attrSeconds(nodeid) ?? this.cache.attrSeconds;
  }

  private attr(nodeid: Nodeid): Attr | number {
    const node = this.nodes.get(nodeid);
    return node === undefined ? -ESTALE : this.attrOf(node, this.files.openFd(nodeid));
  }

  /** The attributes of a node, with the owner that is shown. */
  private attrOf(node: Node, openFd?: number, isFresh?: boolean): Attr {
    const attr = this.overlay.attr(node, openFd, isFresh);
    return this.visible.owners?.show(attr) ?? attr;
  }

  access(nodeid: Nodeid, mask: number): number {
    if (this.nodes.get(nodeid) === undefined) return -ESTALE;
    return mask & W_OK && !this.changes ? -EROFS : 0;
  }

  readlink(nodeid: Nodeid, out: Out): number {
    const node = this.nodes.get(nodeid);
    if (node === undefined) return -ESTALE;
    if (!isSymlink(node.top.mode)) return -EINVAL;
    const target = bufferOf(this.overlay.readlink(node));
    out.bytes.set(target);
    return target.length;
  }

  statfs(_nodeid: Nodeid, out: Out): number {
    return reply.putStatfsOut(out.view, 0, this.overlay.statfs(this.visible.statfs));
  }

  getxattr(nodeid: Nodeid, name: ByteString, _caller: Caller): Uint8Array | number {
    const node = this.nodes.get(nodeid);
    if (node === undefined) return -ESTALE;
    if (!this.visible.acl && isAcl(name)) return -EOPNOTSUPP;
    const value = this.overlay.getxattr(node, name);
    const { owners } = this.visible;
    return owners && typeof value !== 'number' && isAcl(name) ? owners.showAcl(value) : value;
  }

  fileAttributes(nodeid: Nodeid, kind: FileAttributes): Uint8Array | number {
    const node = this.nodes.get(nodeid);
    if (node === undefined) return -ESTALE;
    const value = this.overlay.fileAttributes(node, kind);
    return this.changes && typeof value !== 'number' ? this.changes.showFlags(node as UpperNode, kind, value) : value;
  }

  listxattr(nodeid: Nodeid, caller: Caller): Uint8Array | number {
    const node = this.nodes.get(nodeid);
    if (node === undefined) return -ESTALE;
    const seesTrusted = this.visible.trusted && caller.uid === 0;
    const names = this.overlay
      .listxattr(node)
      .filter(name => (seesTrusted || !name.startsWith('trusted.')) && (this.visible.acl || !isAcl(name)));
    return bufferOf(names.map(name => `${name}\0`).join(''));
  }

  // ---- data --------------------------------------------------------------------------------------------------------

  open(nodeid: Nodeid, flags: number, out: Out, unique: Unique, killsPrivileges: boolean): number {
    return this.data.open(nodeid, flags, out, unique, killsPrivileges);
  }

  settled(): Settled | undefined {
    return this.data.settled();
  }

  interrupt(unique: Unique): void {
    this.files.interrupt(unique);
    this.changes?.interrupt(unique);
  }

  read(nodeid: Nodeid, fh: number, position: number, length: number, out: Out, unique: Unique): number {
    return this.data.read(nodeid, fh, position, length, out, unique);
  }

  lseek(nodeid: Nodeid, fh: number, offset: number, whence: number, out: Out): number {
    return this.data.lseek(nodeid, fh, offset, whence, out);
  }

  release(_nodeid: Nodeid, fh: number): void {
    this.data.release(fh);
  }

  destroy(): void {
    this.changes?.close();
    this.files.close();
    this.overlay.close();
  }
}
