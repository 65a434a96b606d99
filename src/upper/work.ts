/** The work directory of an upper layer: objects are made and destroyed in it, out of sight. */
import { CONFINED, entriesIn, O_DIRECTORY, O_NOFOLLOW, O_PATH, openIn } from '../sys/beneath.ts';
import { type ByteString, printable } from '../sys/bytes.ts';
import { EEXIST, EINVAL, EISDIR, EMLINK, ENODATA, ENOENT, EOPNOTSUPP, EPERM, ErrnoError, must } from '../sys/errno.ts';
import { changeMode, removeXattr } from '../sys/found.ts';
import { native } from '../sys/native.ts';
import { S_IFCHR } from '../sys/stat.ts';

/** The directory that the kernel, too, makes in the work directory. Source: linux/fs/overlayfs/overlayfs.h. */
const WORK: ByteString = 'work';
/** Exists while a feature is in use that another mount must know. Source: kernel ovl_workdir_cleanup. */
const INCOMPATIBLE: ByteString = 'incompat';
const VOLATILE: ByteString = 'volatile';
// linux/fcntl.h, linux/fs.h
const AT_REMOVEDIR = 0x200;
const RENAME_NOREPLACE = 1;
const RENAME_EXCHANGE = 2;
const O_CREAT = 0o100;
const O_EXCL = 0o200;
const O_RDWR = 2;
/** ACLs that the directory has from the one above it. */
const INHERITED: readonly ByteString[] = ['system.posix_acl_default', 'system.posix_acl_access'];
/** How deep a tree of leftovers is removed: a directory that was emptied holds whiteouts at most. */
const DEPTH_MAX = 2;

export class WorkDirectory {
  /** A descriptor (O_PATH) of the directory for objects in the making. */
  readonly fd: number;
  /** The path of the work directory, for messages. */
  readonly path: string;
  private next = 0;
  /** The name of a whiteout that others are links of; undefined before the first one. */
  private whiteout: ByteString | undefined;

  /**
   * Makes the directory in the work directory, and removes what an earlier mount left there.
   * @param base a descriptor of the work directory; it is not closed
   * Throws ErrnoError that names the path: EINVAL after a volatile mount that did not end well
   */
  constructor(base: number, path: string) {
    this.path = path;
    const made = native.mkdirat(base, WORK, 0o700);
    if (made < 0 && made !== -EEXIST) must(made, `workdir ${path}`);
    this.fd = must(openIn(base, WORK, O_PATH | O_DIRECTORY | O_NOFOLLOW, CONFINED), `workdir ${path}/${WORK}`);
    try {
      makePlain(this.fd, `workdir ${path}/${WORK}`);
      this.clean();
    } catch (error) {
      native.close(this.fd);
      throw error;
    }
  }

  /** Removes leftovers. */
  private clean(): void {
    for (const [name, dtype] of this.entries(this.fd)) {
      if (name === INCOMPATIBLE) this.refuseIncompatible();
      else this.removeLeftover(this.fd, name, dtype);
    }
  }

  /** Removes an object that an earlier mount left in a directory of the work directory. */
  removeLeftover(directory: number, name: ByteString, dtype: number): void {
    this.removeFrom(directory, name, dtype === DT_DIR, DEPTH_MAX);
  }

  /** Leaves a mark which says that changes may be lost. Source: kernel ovl_create_volatile_dirty. */
  markVolatile(): void {
    let at = this.fd;
    for (const name of [INCOMPATIBLE, VOLATILE]) {
      const made = native.mkdirat(at, name, 0o700);
      if (made < 0 && made !== -EEXIST) must(made, `workdir ${this.path}`);
      const next = must(openIn(at, name, O_PATH | O_DIRECTORY | O_NOFOLLOW, CONFINED), `workdir ${this.path}`);
      if (at !== this.fd) native.close(at);
      at = next;
    }
    const dirty = native.openat(at, 'dirty', O_CREAT | O_RDWR | O_NOFOLLOW, 0o600);
    native.close(at);
    native.close(must(dirty, `workdir ${this.path}`));
  }

  private refuseIncompatible(): void {
    const found = must(openIn(this.fd, INCOMPATIBLE, O_PATH | O_DIRECTORY | O_NOFOLLOW, CONFINED), this.path);
    const features = this.entries(found).map(([name]) => printable(name));
    native.close(found);
    throw new ErrnoError(
      EINVAL,
      `workdir ${this.path}: a mount with the feature ${features.join(', ')} was not ended properly, so changes may be ` +
        `lost; remove ${this.path}/${WORK}/${INCOMPATIBLE} to mount it nevertheless`,
    );
  }

  /** The names in a directory of the work directory, and their types as DT_* numbers. */
  entries(directory: number): [ByteString, number][] {
    const fd = must(openIn(directory, '.', O_DIRECTORY, 0), `workdir ${this.path}`);
    const entries = entriesIn(fd);
    native.close(fd);
    if (typeof entries === 'number') throw new ErrnoError(-entries, `workdir ${this.path}`);
    return entries;
  }

  /** A name that nothing in the directory has. */
  name(): ByteString {
    return `#${(this.next++).toString(16)}`;
  }

  /** Makes an empty regular file. Returns a descriptor for reading and writing, or -errno. */
  makeFile(name: ByteString, permissions: number): number {
    return native.openat(this.fd, name, O_CREAT | O_EXCL | O_RDWR | O_NOFOLLOW, permissions);
  }

  /** Gives an object that was made here its name in a directory where nothing has it. Returns 0 or -errno. */
  place(name: ByteString, directory: number, placed: ByteString): number {
    return native.renameat2(this.fd, name, directory, placed, RENAME_NOREPLACE);
  }

  /** The same where something has the name: the object replaces it. */
  replace(name: ByteString, directory: number, placed: ByteString): number {
    return native.renameat2(this.fd, name, directory, placed, 0);
  }

  /** The same where the two change places, because the object is a directory or replaces one. */
  exchange(name: ByteString, directory: number, placed: ByteString): number {
    return native.renameat2(this.fd, name, directory, placed, RENAME_EXCHANGE);
  }

  /** Takes an object out of sight. Returns its name here, or -errno. */
  take(directory: number, placed: ByteString): ByteString | number {
    const name = this.name();
    const result = native.renameat2(directory, placed, this.fd, name, RENAME_NOREPLACE);
    return result < 0 ? result : name;
  }

  /** Makes a whiteout in a directory where nothing has the name. Returns 0 or -errno. */
  makeWhiteout(directory: number, placed: ByteString): number {
    if (this.whiteout === undefined) {
      const name = this.name();
      const made = native.mknodat(this.fd, name, S_IFCHR, 0, 0);
      if (made < 0) return made;
      this.whiteout = name;
    }
    const linked = native.linkat(this.fd, this.whiteout, directory, placed, 0);
    if (linked === 0 || linked === -EEXIST) return linked;
    const isGone = linked === -ENOENT;
    if (!isGone && linked !== -EMLINK && linked !== -EPERM) return linked;
    if (!isGone) native.unlinkat(this.fd, this.whiteout, 0);
    this.whiteout = undefined; // no more links fit: another one begins
    return native.mknodat(directory, placed, S_IFCHR, 0, 0);
  }

  /** Replaces an object by a whiteout, and removes it. Returns 0 or -errno. */
  whiteOut(directory: number, placed: ByteString, isDirectory: boolean): number {
    const name = this.name();
    const made = this.makeWhiteout(this.fd, name);
    if (made < 0) return made;
    const result = isDirectory ? this.exchange(name, directory, placed) : this.replace(name, directory, placed);
    if (result < 0 || isDirectory) this.remove(name);
    return result;
  }

  /** Removes an object that nobody sees any more, with its whiteouts if it is a directory. Failures leave it for later. */
  remove(name: ByteString): void {
    try {
      this.removeFrom(this.fd, name, false, DEPTH_MAX);
    } catch {} // it is removed when the next mount begins
  }

  private removeFrom(directory: number, name: ByteString, isDirectory: boolean, depth: number): void {
    const result = isDirectory ? -EISDIR : native.unlinkat(directory, name, 0);
    if (result === 0 || result === -ENOENT) return;
    if (result !== -EISDIR && result !== -EPERM) must(result, `workdir ${this.path}: ${printable(name)}`);
    if (native.unlinkat(directory, name, AT_REMOVEDIR) === 0) return;
    const fd = must(openIn(directory, name, O_PATH | O_DIRECTORY | O_NOFOLLOW, CONFINED), `workdir ${this.path}`);
    try {
      if (depth > 0) for (const [one, dtype] of this.entries(fd)) this.removeFrom(fd, one, dtype === DT_DIR, depth - 1);
    } finally {
      native.close(fd);
    }
    must(native.unlinkat(directory, name, AT_REMOVEDIR), `workdir ${this.path}: ${printable(name)}`);
  }

  /** Removes the whiteout that others were links of. */
  close(): void {
    if (this.whiteout !== undefined) native.unlinkat(this.fd, this.whiteout, 0);
    native.close(this.fd);
  }
}

/**
 * Takes away what objects made in a directory would inherit: a default ACL or a group from above. Gives the permissions that bind an
 * ordinary user: the kernel makes the directory without any. Source: kernel ovl_workdir_create.
 */
export function makePlain(fd: number, what: string): void {
  for (const name of INHERITED) {
    const removed = removeXattr(fd, name);
    if (removed !== -ENODATA && removed !== -EOPNOTSUPP) must(removed, what);
  }
  changeMode(fd, 0o700);
}

const DT_DIR = 4;
