/**
 * A connection that another program has mounted: this process got its descriptor of /dev/fuse, and is to serve it. mount.fuse3
 * does that for programs that are to have no privileges. Its mount may be in another mount namespace, or attached nowhere yet.
 */
import { fstatSync, readFileSync } from 'node:fs';
import { O_DIRECTORY, O_PATH, openIn } from '../sys/beneath.ts';
import { type ByteString, printable } from '../sys/bytes.ts';
import { EBADF, EINVAL, ENOTCONN, EPERM, ErrnoError, errnoText, must } from '../sys/errno.ts';
import { native } from '../sys/native.ts';
import { AT_FDCWD } from '../sys/statx.ts';
import { MountPlace } from './mount-point.ts';
import { isOnTop, type Mount, readMounts } from './mountinfo.ts';

/** The device number of /dev/fuse as st_rdev. Source: Linux, Documentation/admin-guide/devices.txt: 10, 229. */
export const FUSE_DEVICE = (10 << 8) | 229;

export class HandedConnection {
  /** Descriptor of /dev/fuse. */
  readonly fd: number;
  /** As it was given: `/dev/fd/N`. */
  readonly shown: ByteString;
  /** Its mount, where this process can see it; Linux before 6.18 does not tell which one it is. */
  readonly mount: Mount | undefined;
  /** Descriptor of the directory that holds its mount point, or of the root directory. */
  readonly directory: number;

  private constructor(fd: number, shown: ByteString, mount: Mount | undefined, directory: number) {
    this.fd = fd;
    this.shown = shown;
    this.mount = mount;
    this.directory = directory;
  }

  /** The descriptor that a mount point names; -1 if it is spelled as a path. */
  static descriptorIn(path: ByteString): number {
    const [, digits] = /^\/dev\/fd\/(0|[1-9]\d{0,8})$/.exec(path) ?? [];
    return digits === undefined ? -1 : Number(digits);
  }

  /** The connection of `/dev/fd/N`. Throws ErrnoError: EBADF if there is no such descriptor, EINVAL if it is another device's. */
  static find(path: ByteString): HandedConnection {
    const fd = HandedConnection.descriptorIn(path);
    const shown = `mount point ${printable(path)}`;
    try {
      const stat = fstatSync(fd);
      if (stat.isCharacterDevice() && stat.rdev === FUSE_DEVICE) {
        const mount = mountOf(fd);
        return new HandedConnection(fd, path, mount, MountPlace.at(mount?.path ?? '/').directory);
      }
    } catch (error) {
      const { errno = -EBADF } = error as NodeJS.ErrnoException;
      throw new ErrnoError(-errno, `${shown}: ${errnoText(errno)}`);
    }
    throw new ErrnoError(EINVAL, `${shown}: not a descriptor of /dev/fuse`);
  }

  /** Calls what answers its first request. Throws ErrnoError ENOTCONN if nothing is mounted with it. */
  orNotMounted<Answer>(begin: () => Answer): Answer {
    try {
      return begin();
    } catch (error) {
      if (!(error instanceof ErrnoError) || error.errno !== EPERM) throw error;
      throw new ErrnoError(ENOTCONN, `${printable(this.shown)}: it is not mounted`);
    }
  }

  /**
   * A connection that an earlier process has served.
   * @param mount its mount, where that could see it. The current directory is the one that holds its mount point.
   */
  static resumed(fd: number, mount: Mount | undefined): HandedConnection {
    const directory = must(openIn(AT_FDCWD, '.', O_PATH | O_DIRECTORY, 0), 'the directory of the mount point');
    return new HandedConnection(fd, mount?.path ?? `/dev/fd/${fd}`, mount, directory);
  }

  /** Closes the directory, not the connection. */
  close(): void {
    native.close(this.directory);
  }

  /**
   * Refuses a mount that must not be served as it is: the kernel would apply to all users what it cached for one, or would run
   * what `needed` forbids. Throws ErrnoError EPERM. Nothing can be said of a mount that is out of sight: who has made it answers
   * for it.
   * @param needed flags that the mount must have, with the reasons
   */
  check(needed: readonly { readonly flag: string; readonly why: string }[]): void {
    const { mount, shown } = this;
    if (mount === undefined) return;
    const refuse = (why: string): never => {
      throw new ErrnoError(EPERM, `${printable(shown)}, mounted on ${printable(mount.path)}: ${why}`);
    };
    if (!mount.hasDefaultPermissions) refuse('it was mounted without default_permissions');
    for (const { flag, why } of needed)
      if (!mount.flags.includes(flag)) refuse(`it was mounted without ${flag}, but ${why}`);
  }
}

/** The mount of a connection, by the number of its superblock. Source: linux/fs/fuse/dev.c, fuse_dev_show_fdinfo. */
function mountOf(fd: number): Mount | undefined {
  const [, minor] = /^fuse_connection:\s*(\d+)$/m.exec(readFileSync(`/proc/self/fdinfo/${fd}`, 'latin1')) ?? [];
  if (minor === undefined) return undefined;
  const mounts = readMounts();
  return mounts.find(mount => mount.device === `0:${minor}` && isOnTop(mounts, mount));
}
