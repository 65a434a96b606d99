/**
 * A directory of the host that a mount writes to. It gives descriptors, and follows its inodes through changes that this process
 * makes; the changes themselves are made by its caller.
 */
import { openIn } from '../sys/beneath.ts';
import { type ByteString, bufferOf } from '../sys/bytes.ts';
import { openSparing } from '../sys/descriptors.ts';
import { must } from '../sys/errno.ts';
import { removeXattr, reopen, setXattr } from '../sys/found.ts';
import { native } from '../sys/native.ts';
import { isSymlink } from '../sys/stat.ts';
import { AufsLayer } from './aufs.ts';
import type { LayerContext } from './context.ts';
import type { DirInode } from './dir-inode.ts';
import type { OpenedRoot } from './dir-objects.ts';
import type { Inode } from './layer.ts';
import { formatStoredStat, type StatSource, type StoredStat } from './stored-stat.ts';

// linux/fcntl.h
const O_RDWR = 2;
const O_NONBLOCK = 0o4000;
const O_DIRECTORY = 0o200000;
/** Other xattrs than trusted ones that each new file, or each change of an owner, asks for. */
const LISTED: readonly ByteString[] = ['security.capability', 'system.posix_acl_access', 'system.posix_acl_default'];

export class UpperLayer extends AufsLayer {
  readonly isUpper = true;
  /** Whether this process alone changes the directory. */
  private readonly isOwn: boolean;

  /**
   * @param opened the directory, on a mount that also has the work directory; undefined if nothing will be written
   * @param opaque as for AufsLayer
   * @param source as for a directory
   */
  constructor(
    path: ByteString,
    context: LayerContext,
    opened: OpenedRoot | undefined,
    opaque: readonly ByteString[],
    source: StatSource | undefined,
  ) {
    super(path, 0, context, opaque, opened, source);
    this.isOwn = opened !== undefined;
    if (this.isOwn) this.xattrNamesMs = Number.POSITIVE_INFINITY;
  }

  protected override isListed(name: ByteString): boolean {
    return super.isListed(name) || (this.isOwn && LISTED.includes(name));
  }

  /** Sets an xattr; `flags` are XATTR_CREATE and XATTR_REPLACE. Returns 0 or -errno. Throws as `descriptor` does. */
  setXattr(inode: Inode, openFd: number, name: ByteString, value: Uint8Array, flags = 0): number {
    (inode as DirInode).xattrNames = undefined;
    return setXattr(openFd >= 0 ? openFd : this.descriptor(inode), name, value, flags);
  }

  /** Where owners and modes are stored, as for the constructor. */
  get statSource(): StatSource | undefined {
    return this.objects.stats?.source;
  }

  /** Whether owners and modes are stored in xattrs. */
  get storesStats(): boolean {
    return this.objects.stats !== undefined;
  }

  /**
   * Stores the owner, mode and device number of an open object. Symlinks, which cannot have user xattrs, stay as they are.
   * @returns 0 or -errno
   */
  storeStat(fd: number, stat: StoredStat): number {
    if (this.objects.stats === undefined || isSymlink(stat.mode)) return 0;
    const { written, others } = this.objects.stats;
    const result = setXattr(fd, written, bufferOf(formatStoredStat(stat)), 0);
    if (result === 0) for (const other of others) removeXattr(fd, other);
    return result;
  }

  /** Must be called when other attributes of an object were stored. */
  showStat(inode: Inode, stat: StoredStat): void {
    (inode as DirInode).show(stat);
  }

  override adopt(known: Inode, found: Inode): boolean {
    const isSame = super.adopt(known, found);
    if (isSame && known !== found) this.release(known); // its new name is known
    return isSame;
  }

  /** Nobody else changes the layer. */
  override recheck(): void {}

  /** A descriptor (O_PATH) of a directory, which must be used at once. Throws ErrnoError ESTALE if it is not where it was. */
  directory(inode: Inode): number {
    return this.objects.directory(inode as DirInode);
  }

  /** The object that a directory itself has under a name; a lookup may find it hidden. */
  objectAt(directory: Inode, name: ByteString): Inode | undefined {
    return this.objects.find(directory as DirInode, name);
  }

  /** Whether an object that was found just now may have an xattr, by the list of names that the lookup has read. */
  mayHave(inode: Inode, xattr: ByteString): boolean {
    const { xattrNames } = inode as DirInode;
    return xattrNames === undefined || `\0${xattrNames}`.includes(`\0${xattr}\0`);
  }

  /** A descriptor (O_PATH) of an object, which must be used at once. Throws as `directory` does. */
  descriptor(inode: Inode): number {
    return this.objects.descriptor(inode as DirInode);
  }

  /** Opens a regular file for reading and writing, or only for reading. Returns a descriptor or -errno. */
  openFile(inode: Inode, isWritten = true): number {
    const found = this.objects.described(inode as DirInode);
    return openSparing(() => reopen(found, (isWritten ? O_RDWR : 0) | O_NONBLOCK));
  }

  /** Opens a directory, to synchronize or to list it. Returns a descriptor or -errno. */
  openDirectory(inode: Inode): number {
    return openIn(this.directory(inode), '.', O_DIRECTORY, 0);
  }

  /** The inode of an open object that was given a name in a directory just now. */
  named(parent: Inode, name: ByteString, fd: number): Inode {
    const inode = this.objects.named(parent as DirInode, name, fd);
    this.listXattrs(inode, fd);
    return inode;
  }

  /** Takes over a descriptor of an object that is likely to be used next. */
  hold(inode: Inode, fd: number): void {
    this.objects.hold(inode as DirInode, fd);
  }

  /**
   * The inode of an open object without a name, or of a directory beside the layer, which keeps a descriptor of its own.
   * @param shown its name in messages
   */
  unnamed(parent: Inode, fd: number, shown: ByteString = ''): Inode {
    const inode = this.objects.named(parent as DirInode, shown, fd);
    inode.keptFd = must(native.duplicate(fd, 0), 'dup');
    return inode;
  }

  /** Must be called when an object has been given another name. */
  moved(inode: Inode, parent: Inode, name: ByteString): void {
    const it = inode as DirInode;
    it.parent = parent as DirInode;
    it.name = name;
    it.moves++;
    this.release(it);
  }

  /** Keeps an object usable that is about to lose its name. Throws ErrnoError if it cannot be opened. */
  keep(inode: Inode): void {
    this.objects.keep(inode as DirInode);
  }

  /** Must be called when an inode that was kept has a name again, or is used no more. */
  release(inode: Inode): void {
    const it = inode as DirInode;
    if (it.keptFd >= 0) native.close(it.keptFd);
    it.keptFd = -1;
  }
}
