/**
 * Places of mounts, held by descriptors. The directories above a mount point may belong to users who can rename them or replace
 * them with symlinks at any moment. A name that is resolved twice can therefore lead to two directories.
 */
import { readFileSync } from 'node:fs';
import { O_DIRECTORY, O_NOFOLLOW, O_PATH } from '../sys/beneath.ts';
import { type ByteString, byteStringOf, printable } from '../sys/bytes.ts';
import { EACCES, EINVAL, ENOTDIR, ErrnoError, ESTALE, errnoText, must } from '../sys/errno.ts';
import { native } from '../sys/native.ts';
import { AT_FDCWD } from '../sys/statx.ts';
import { mountAt, readMounts } from './mountinfo.ts';

const RESOLVE_NO_SYMLINKS = 4;
const PATH_MAX = 4096;

/** A name in a directory that is held by a descriptor. */
export class MountPlace {
  /** O_PATH descriptor of the directory that contains the place. */
  readonly directory: number;
  /** The place's name in that directory; `.` for the root directory. */
  readonly name: ByteString;

  protected constructor(directory: number, name: ByteString) {
    this.directory = directory;
    this.name = name;
  }

  /**
   * The place at an absolute path without symlinks, as mountinfo spells it. Throws ErrnoError if its directory cannot be opened.
   */
  static at(path: ByteString): MountPlace {
    const slash = path.lastIndexOf('/');
    const above = path.slice(0, slash) || '/';
    const directory = native.openat2(AT_FDCWD, above, O_PATH | O_DIRECTORY, RESOLVE_NO_SYMLINKS);
    return new MountPlace(must(directory, printable(above)), path.slice(slash + 1) || '.');
  }

  /**
   * The ID of the mount that is visible there, as in mountinfo; undefined if nothing is there. Sends no request to its
   * filesystem.
   */
  get mountId(): number | undefined {
    const fd = native.openat2(this.directory, this.name, O_PATH | O_NOFOLLOW, 0);
    if (fd < 0) return undefined;
    const id = mountIdOf(fd);
    native.close(fd);
    return id;
  }

  /** The place as a path for system calls that take no descriptor. */
  get path(): ByteString {
    return `${pathOf(this.directory)}/${this.name}`;
  }

  close(): void {
    native.close(this.directory);
  }
}

/** A directory to mount on. */
export class MountPoint extends MountPlace {
  /** Its absolute path without symlinks at the time it was found. */
  readonly shown: ByteString;
  /** O_PATH descriptor of the directory itself. */
  private readonly fd: number;

  private constructor(fd: number, shown: ByteString) {
    const above = native.openat2(fd, '..', O_PATH | O_DIRECTORY, 0);
    if (above < 0)
      throw new ErrnoError(-above, `mount point ${printable(shown)}: ${errnoText(above)}${whyClosed(shown, above)}`);
    super(above, nameIn(shown));
    this.fd = fd;
    this.shown = shown;
  }

  /** Finds a directory, following symlinks. Throws ErrnoError: ENOTDIR, ENOENT and so on; ESTALE if it is renamed meanwhile. */
  static find(path: ByteString): MountPoint {
    const fd = native.openat2(AT_FDCWD, path, O_PATH | O_DIRECTORY, 0);
    if (fd === -ENOTDIR) throw new ErrnoError(ENOTDIR, `mount point ${printable(path)}: not a directory`);
    if (fd < 0) throw new ErrnoError(-fd, `mount point ${printable(path)}: ${errnoText(fd)}`);
    const point = new MountPoint(fd, linkOf(fd));
    if (point.isThere) return point;
    throw new ErrnoError(ESTALE, `mount point ${printable(path)}: it was moved or removed while it was looked up`);
  }

  /** Whether the directory is still visible at its name. */
  private get isThere(): boolean {
    const fd = native.openat2(this.directory, this.name, O_PATH | O_NOFOLLOW, 0);
    if (fd < 0) return false;
    const isSame = linkOf(fd) === this.shown && mountIdOf(fd) === mountIdOf(this.fd);
    native.close(fd);
    return isSame;
  }

  /** The path of the directory itself, for mount(2); valid until `release`. */
  get target(): ByteString {
    return pathOf(this.fd);
  }

  /** Closes the directory under the mount, so that it is not kept busy. */
  release(): void {
    native.close(this.fd);
  }
}

/** Explains EACCES at a FUSE mount that only its own user may enter. Source: linux/fs/fuse/dir.c, fuse_allow_current_process. */
function whyClosed(path: ByteString, result: number): string {
  const user = result === -EACCES ? mountAt(readMounts(), path)?.user : undefined;
  const isOther = user !== undefined && user !== process.geteuid?.();
  return isOther
    ? `: a FUSE mount of user ${user}, which nobody else may enter without allow_other, not even root`
    : '';
}

const pathOf = (fd: number): ByteString => `/proc/self/fd/${fd}`;
const nameIn = (path: ByteString): ByteString => path.slice(path.lastIndexOf('/') + 1) || '.';

function linkOf(fd: number): ByteString {
  const out = new Uint8Array(PATH_MAX);
  return byteStringOf(out, 0, must(native.readlinkat(AT_FDCWD, pathOf(fd), out), 'mounts need /proc'));
}

/** The ID of the mount that a descriptor is on. Source: proc_pid_fdinfo(5), mnt_id. */
function mountIdOf(fd: number): number {
  const [, id] = /^mnt_id:\s*(\d+)$/m.exec(readFileSync(`/proc/self/fdinfo/${fd}`, 'latin1')) ?? [];
  if (id === undefined) throw new ErrnoError(EINVAL, 'mounts need /proc: /proc/self/fdinfo');
  return Number(id);
}
