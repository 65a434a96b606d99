/**
 * A directory of the host as a layer. A lookup finds the object that a name leads to, and that object is the inode from then on.
 * All its data, names and attributes are read through a descriptor that was compared with the inode.
 * So renames, links and mounts inside the layer never make another object appear in its place.
 */
import { entriesIn, O_DIRECTORY, O_NOFOLLOW, O_NONBLOCK, O_PATH, openIn } from '../sys/beneath.ts';
import { type ByteString, byteStringOf, printable } from '../sys/bytes.ts';
import { openSparing } from '../sys/descriptors.ts';
import * as errno from '../sys/errno.ts';
import { ErrnoError, must } from '../sys/errno.ts';
import { getXattr, listXattrs, reopen } from '../sys/found.ts';
import { type Handle, type Origin, openHandle, readHandle, readUuid } from '../sys/handles.ts';
import { native } from '../sys/native.ts';
import { type Attr, isRegular, S_IFCHR, S_IFMT, type Statfs } from '../sys/stat.ts';
import * as sx from '../sys/statx.ts';
import { contextOfSingles, type LayerContext } from './context.ts';
import type { DirInode } from './dir-inode.ts';
import { DirObjects, type OpenedRoot, PATH_MAX, WITHIN } from './dir-objects.ts';
import { FileData } from './file-data.ts';
import { HANDLE_INDEX, HandleIndex, handleText, INDEX_BYTES_MAX } from './handle-index.ts';
import type { Data, Inode, Layer } from './layer.ts';
import { isOverridden, type StatSource } from './stored-stat.ts';

// linux/fcntl.h
const O_NOATIME = 0o1000000;

const XATTR_BYTES = 64 * 1024;

export class DirLayer implements Layer {
  readonly kind = 'directory';
  readonly hasAcl = true;
  readonly path: string;
  readonly filesystem: string;
  protected readonly objects: DirObjects;
  private readonly memoryMs: number;
  /** How long the names of an object's xattrs are known. */
  protected xattrNamesMs: number;
  /**
   * Read when the first file is to be opened by its handle and the process lacks the permission; 'none' if there is no usable
   * index.
   */
  private handleIndex: HandleIndex | 'none' | undefined;
  private knownUuid: ByteString | undefined;
  private readRoot: number | undefined;
  private readonly value = new Uint8Array(XATTR_BYTES);

  /**
   * Opens a directory as a layer. Mounts inside it are not visible if this process may clone a mount; otherwise a mount point
   * gives EXDEV.
   * @param attrSeconds how long attributes, and the names of trusted xattrs, may be out of date; 0: they are read each time
   * @param context that of the other layers of the stack
   * @param opened the directory, if it is open already
   * @param source where owners and modes are stored; undefined: in the inodes
   * Throws ErrnoError: ENOENT, ENOTDIR, EACCES as open(2) does.
   */
  constructor(
    path: ByteString,
    attrSeconds = 0,
    context: LayerContext = contextOfSingles(),
    opened?: OpenedRoot,
    source?: StatSource,
  ) {
    this.path = printable(path);
    this.memoryMs = attrSeconds * 1000;
    this.xattrNamesMs = this.memoryMs;
    this.objects = new DirObjects(this, path, context, opened, source);
    this.filesystem = this.objects.filesystem;
  }

  get root(): Inode {
    return this.objects.root;
  }

  lookup(directory: Inode, name: ByteString): Inode | undefined {
    return this.objects.find(directory as DirInode, name);
  }

  adopt(known: Inode, found: Inode): boolean {
    const [it, other] = [known as DirInode, found as DirInode];
    if (it === other) return true;
    if (!it.isSame(other) || it.isAbove(other)) return false; // the directory was moved below itself: an old path
    it.follow(other);
    return true;
  }

  attr(inode: Inode, openFd = -1, isFresh = false): Attr {
    const it = inode as DirInode;
    if (!isFresh && !this.isFresh(it.attrAtMs)) {
      if (this.isThere(it, openFd)) it.isStale = false;
      else if (this.isOpenAs(it, openFd)) it.isStale = true;
      else if (it.wasJustStale && this.objects.isOpen(it))
        return sx.statxAttr(it.ino); // for example of a working directory
      else throw this.objects.stale(it);
      const isChanged = this.objects.stats !== undefined && !sx.statxChangedIs(it.attr);
      it.refresh();
      if (isChanged) this.objects.readStored(it, it.isStale ? openFd : this.objects.descriptor(it));
    }
    return { ...it.attr }; // the caller may change it
  }

  /** Whether the object is where it was found. If no descriptor is free for this check, whether `openFd` is the object. */
  private isThere(it: DirInode, openFd: number): boolean {
    try {
      return this.objects.isThere(it);
    } catch (error) {
      const isFull = error instanceof ErrnoError && [errno.EMFILE, errno.ENFILE].includes(error.errno);
      if (isFull && this.isOpenAs(it, openFd)) return true;
      throw error;
    }
  }

  private isOpenAs(it: DirInode, openFd: number): boolean {
    return openFd >= 0 && this.objects.isOpenAs(openFd, it);
  }

  recheck(inode: Inode, fd: number, isInUse: boolean): void {
    const it = inode as DirInode;
    if (!it.isStale && this.isOpenAs(it, fd) && it.isUnchanged) return;
    const { mode, uid, gid } = it.attr;
    const isThere = this.objects.isThere(it);
    const isFound = isThere || (isInUse && it.wasJustStale && this.isOpenAs(it, fd));
    if (!isFound) throw this.objects.stale(it);
    const isSame = it.stored
      ? sx.statxChangedIs(it.attr)
      : sx.statxMode() === mode && sx.statxUid() === uid && sx.statxGid() === gid;
    if (isSame && this.hasSameAcl(it, isThere ? undefined : fd)) return;
    it.attrAtMs = Number.NEGATIVE_INFINITY; // so that the next lookup reports the new ones
    throw new ErrnoError(errno.ESTALE, `layer ${this.path}: ${it.path}: its owner, mode or ACL has changed`);
  }

  /**
   * Whether the object of the last statx has the ACL that was reported. @param openFd used instead of the name, if that leads
   * elsewhere
   */
  private hasSameAcl(it: DirInode, openFd: number | undefined): boolean {
    const { acl } = it;
    if (acl === undefined || sx.statxChangedIs(acl.changed)) return true;
    const changed = sx.statxChanged();
    const length = getXattr(openFd ?? this.objects.descriptor(it), ACL, this.value);
    const isSame = byteStringOf(this.value, 0, Math.max(length, 0)) === acl.value;
    it.acl = isSame ? { value: acl.value, changed } : undefined;
    return isSame;
  }

  private isFresh(sinceMs: number, memoryMs = this.memoryMs): boolean {
    return performance.now() - sinceMs < memoryMs;
  }

  readlink(inode: Inode): ByteString {
    const it = inode as DirInode;
    const length = native.readlinkat(this.objects.descriptor(it), '', this.value);
    if (length === -errno.ENOENT) throw this.failure(-errno.EINVAL, it); // an empty path is allowed only for symlinks
    if (length < 0) throw this.failure(length, it);
    return byteStringOf(this.value, 0, length);
  }

  readdir(directory: Inode, visit: (name: ByteString, dtype: number) => void): boolean {
    const at = directory as DirInode;
    const fd = openIn(this.objects.directory(at), '.', O_DIRECTORY, WITHIN);
    if (fd < 0) throw this.failure(fd, at);
    const entries = entriesIn(fd); // all are read before the first visit, because a visitor may call this layer again
    native.close(fd);
    if (typeof entries === 'number') throw this.failure(entries, at);
    for (const entry of entries) visit(entry[0], entry[1]);
    return false;
  }

  isDevice0(directory: Inode, name: ByteString): boolean {
    const result = sx.statx(this.objects.directory(directory as DirInode), name);
    return result === 0 && (sx.statxMode() & S_IFMT) === S_IFCHR && sx.statxRdev() === 0;
  }

  getxattr(inode: Inode, name: ByteString): Uint8Array | undefined {
    const length = this.xattrBytes(inode, name);
    if (name === ACL) (inode as DirInode).rememberAcl(byteStringOf(this.value, 0, Math.max(length, 0)));
    return length < 0 ? undefined : this.value.slice(0, length);
  }

  /** Also leaves the value in `value`. */
  xattrBytes(inode: Inode, name: ByteString): number {
    const it = inode as DirInode;
    if (this.objects.stats && isOverridden(name)) return -1;
    if (this.isListed(name) && this.lacksXattr(it, name)) return -1;
    const length = getXattr(this.objects.descriptor(it), name, this.value);
    if (length >= 0) return length;
    if (length === -errno.ENODATA || length === -errno.EOPNOTSUPP) return -1;
    throw this.failureByPath(length, it);
  }

  /** Whether to look for an xattr in the list of the object's xattrs first. */
  protected isListed(name: ByteString): boolean {
    return name.startsWith(TRUSTED);
  }

  /**
   * Whether the list of the object's xattrs lacks this one. One list call thus answers for all xattrs that an overlay reads. If
   * the list cannot be read, the value must be read itself.
   */
  private lacksXattr(it: DirInode, name: ByteString): boolean {
    if (it.xattrNames === undefined || !this.isFresh(it.xattrNamesAtMs, this.xattrNamesMs))
      this.listXattrs(it, this.objects.descriptor(it));
    return it.xattrNames === '' || (it.xattrNames !== undefined && !`\0${it.xattrNames}`.includes(`\0${name}\0`));
  }

  /** Reads the names of an object's xattrs. @param fd of the object */
  protected listXattrs(it: DirInode, fd: number): void {
    const length = listXattrs(fd, this.value);
    it.rememberXattrNames(length < 0 ? undefined : byteStringOf(this.value, 0, length));
  }

  listxattr(inode: Inode): ByteString[] {
    const it = inode as DirInode;
    const length = listXattrs(this.objects.descriptor(it), this.value);
    if (length === -errno.EOPNOTSUPP) return [];
    if (length < 0) throw this.failureByPath(length, it);
    const names = byteStringOf(this.value, 0, length).split('\0').slice(0, -1);
    return this.objects.stats ? names.filter(name => !isOverridden(name)) : names;
  }

  fileAttributes(inode: Inode, kind: 'flags' | 'fsxattr'): Uint8Array | number {
    const it = inode as DirInode;
    const isFile = isRegular(it.mode);
    const fd = isFile ? this.open(it).fd : openIn(this.objects.directory(it), '.', O_DIRECTORY, WITHIN);
    if (fd < 0) throw this.failure(fd, it);
    const value = attributesOf(fd, kind);
    native.close(fd);
    return value;
  }

  open(inode: Inode): Data {
    const it = inode as DirInode;
    if (!it.parent) throw this.failure(-errno.EISDIR, it);
    const data = this.openSeen(this.objects.described(it), it.path);
    if (typeof data === 'number') throw this.failure(data, it);
    return data;
  }

  openPath(path: ByteString): Data | number {
    if (path.length >= PATH_MAX) return -errno.ENAMETOOLONG; // the kernel counts the leading slash
    return this.openConfined(path.replace(/^\/+/, ''), path);
  }

  /** Opens a regular file below the root. @returns a negative errno on failure; -ENOENT for an object that is no regular file */
  private openConfined(path: ByteString, shown: ByteString): Data | number {
    const data = this.openPlain(path, shown);
    return typeof data === 'number' && data !== -errno.ENOENT ? this.openInTwoSteps(path, shown) : data;
  }

  /** Opens in one step, which has no effect on a device in that clone. Errors for objects that are no files may differ. */
  private openPlain(path: ByteString, shown: ByteString): Data | number {
    const { plainFd } = this.objects;
    if (plainFd < 0) return -errno.EOPNOTSUPP;
    const fd = openIn(plainFd, path, O_NONBLOCK | O_NOFOLLOW, WITHIN);
    if (fd < 0) return fd;
    const result = sx.statx(fd, '');
    if (result === 0 && isRegular(sx.statxMode())) return new FileData(fd, this.path, shown, true);
    native.close(fd);
    return result < 0 ? result : -errno.ENOENT;
  }

  /** Looks at the object before it is opened for reading, because opening a device has effects. */
  private openInTwoSteps(path: ByteString, shown: ByteString): Data | number {
    return this.openFound(openIn(this.objects.rootFd, path, O_PATH | O_NOFOLLOW, WITHIN), shown);
  }

  originOf(inode: Inode): Origin | undefined {
    const handle = readHandle(this.objects.descriptor(inode as DirInode), '');
    return typeof handle === 'number' ? undefined : { uuid: this.uuid, handle };
  }

  inodeOf({ uuid, handle }: Origin): Inode | undefined {
    if (uuid !== this.uuid) return undefined;
    const fd = openHandle(this.readableRoot(), handle, O_PATH | O_NOFOLLOW);
    if (fd < 0) return undefined;
    const inode = this.objects.named(this.objects.root, '', fd);
    native.close(fd);
    return inode;
  }

  openHandle(handle: Handle): Data | number {
    const found = openHandle(this.readableRoot(), handle, O_PATH | O_NOFOLLOW);
    if (found === -errno.EPERM) return this.openIndexed(handle);
    return this.openFound(found, `a file by its handle ${Buffer.from(handle.bytes).toString('hex')}`);
  }

  /**
   * Opens the file that the layer's index has for a handle, after it checked that the file has this handle. @returns -EPERM if
   * there is no index, -ESTALE for a file with another handle
   */
  private openIndexed(handle: Handle): Data | number {
    this.handleIndex ??= this.readHandleIndex();
    if (this.handleIndex === 'none') return -errno.EPERM;
    const path = this.handleIndex.find(handle);
    if (path === undefined) return -errno.ENOENT;
    const data = this.openConfined(path, path);
    if (typeof data === 'number') return data;
    const its = readHandle(data.fd, '');
    if (typeof its !== 'number' && handleText(its) === handleText(handle)) return data;
    data.close();
    return -errno.ESTALE;
  }

  private readHandleIndex(): HandleIndex | 'none' {
    const file = this.openConfined(HANDLE_INDEX, HANDLE_INDEX);
    if (typeof file === 'number') return 'none';
    const size = Math.min(file.sizeBytes, INDEX_BYTES_MAX);
    const bytes = Buffer.alloc(size);
    const read = file.read(bytes, 0, size, 0);
    file.close();
    return HandleIndex.parse(bytes.subarray(0, Math.max(read, 0)), this.uuid) ?? 'none';
  }

  /** Opens the object of a descriptor (O_PATH) for reading, and closes that descriptor. A negative errno is returned as it is. */
  private openFound(found: number, shown: ByteString): Data | number {
    if (found < 0) return found;
    try {
      must(sx.statx(found, ''), `layer ${this.path}`);
      return this.openSeen(found, shown);
    } finally {
      native.close(found);
    }
  }

  /** Opens the object of the last statx for reading. Its descriptor `found` stays open. */
  private openSeen(found: number, shown: ByteString): Data | number {
    if (!isRegular(sx.statxMode())) return -errno.ENOENT;
    let fd = openSparing(() => reopen(found, O_NONBLOCK | O_NOATIME));
    if (fd === -errno.EPERM) fd = openSparing(() => reopen(found, O_NONBLOCK)); // O_NOATIME is only for the owner
    return fd < 0 ? fd : new FileData(fd, this.path, shown, true);
  }

  get uuid(): ByteString {
    this.knownUuid ??= readUuid(this.readableRoot());
    return this.knownUuid;
  }

  /** A descriptor of the root that is open for reading, as handles need it. */
  private readableRoot(): number {
    this.readRoot ??= must(openIn(this.objects.rootFd, '.', O_DIRECTORY, 0), `layer ${this.path}`);
    return this.readRoot;
  }

  statfs(): Statfs {
    const out = new Float64Array(10);
    must(native.fstatfs(this.objects.rootFd, out), `statfs of layer ${this.path}`);
    const [, bsize = 0, blocks = 0, bfree = 0, bavail = 0, files = 0, ffree = 0, namelen = 0, frsize = 0, flags = 0] =
      out;
    return { bsize, blocks, bfree, bavail, files, ffree, namelen, frsize, flags };
  }

  close(): void {
    if (this.readRoot !== undefined) native.close(this.readRoot);
    this.objects.close();
  }

  private failure(result: number, { path }: DirInode): ErrnoError {
    return this.objects.failure(result, path);
  }

  /** The error of a call that used the path of a descriptor below /proc. */
  private failureByPath(result: number, it: DirInode): ErrnoError {
    if (result !== -errno.ENOENT) return this.failure(result, it);
    return new ErrnoError(errno.ENOENT, `layer ${this.path}: ${it.path}: reading xattrs needs /proc, which is missing`);
  }
}

/** Source: linux/fs.h. */
const FLAGS_BYTES = 4;
const FSXATTR_BYTES = 28;

function attributesOf(fd: number, kind: 'flags' | 'fsxattr'): Uint8Array | number {
  const value = new Uint8Array(kind === 'flags' ? FLAGS_BYTES : FSXATTR_BYTES);
  const result = kind === 'flags' ? native.fileFlags(fd, value) : native.fileXattr(fd, value);
  return result < 0 ? result : value;
}

const TRUSTED = 'trusted.';
/** The ACL that decides, besides the mode, who may open an object. */
const ACL = 'system.posix_acl_access';
