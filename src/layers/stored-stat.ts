/**
 * Owners, modes and device numbers that a directory layer keeps in an xattr of each object, because its files belong to one user:
 *
 * ```
 * user.containers.override_stat         0:0:0755:dir      1000:5:04711:file    0:6:0666:char-1-3
 * user.fuseoverlayfs.override_stat      0:0:40755         1000:5:104711
 * security.fuseoverlayfs.override_stat  as before, but only root can set it
 * ```
 * The first is that of containers/storage (`force_mask`), the others those of fuse-overlayfs (`xattr_permissions` 2 and 1). Symlinks
 * cannot have user xattrs. A device, fifo or socket is an empty file.
 * Source: containers/storage, FormatContainersOverrideXattr; fuse-overlayfs 1.10 and 1.15, utils.c, override_mode.
 */
import { type ByteString, byteStringOf } from '../sys/bytes.ts';
import { EINVAL, ENODATA, EOPNOTSUPP, ERANGE, ErrnoError } from '../sys/errno.ts';
import { getXattr } from '../sys/found.ts';
import {
  isDirectory,
  isRegular,
  makeRdev,
  rdevMajor,
  rdevMinor,
  S_IFBLK,
  S_IFCHR,
  S_IFDIR,
  S_IFIFO,
  S_IFMT,
  S_IFREG,
  S_IFSOCK,
} from '../sys/stat.ts';

export interface StoredStat {
  readonly uid: number;
  readonly gid: number;
  /** Type and permission bits. */
  readonly mode: number;
  readonly rdev: number;
}

/**
 * Which xattr a layer has. detect: the one that its root has, if any; user, security: that one, whatever the root has, because
 * it will be written.
 */
export type StatSource = 'detect' | 'user' | 'security';

const CONTAINERS: ByteString = 'user.containers.override_stat';
const FUSE_OVERLAYFS: ByteString = 'user.fuseoverlayfs.override_stat';
const PRIVILEGED: ByteString = 'security.fuseoverlayfs.override_stat';
/** The first that an object has counts: fuse-overlayfs 1.10 leaves that of containers/storage as it was. */
const OF_USERS: readonly ByteString[] = [FUSE_OVERLAYFS, CONTAINERS];
const RESERVED: readonly ByteString[] = ['user.containers.override_', FUSE_OVERLAYFS, PRIVILEGED];
const VALUE_BYTES_MAX = 64;
const PERMISSIONS = 0o7777;
const WORDS: ReadonlyMap<number, string> = new Map([
  [S_IFREG, 'file'],
  [S_IFDIR, 'dir'],
  [S_IFIFO, 'pipe'],
  [S_IFSOCK, 'socket'],
  [S_IFBLK, 'block'],
  [S_IFCHR, 'char'],
]);

/** The xattrs of one layer. */
export class StoredStats {
  private readonly names: readonly ByteString[];
  private readonly value = new Uint8Array(VALUE_BYTES_MAX);

  /** The xattr to set. */
  readonly written: ByteString;

  private constructor(names: readonly ByteString[], written: ByteString) {
    this.names = names;
    this.written = written;
  }

  /** What to give in place of `detect` for another directory of the same kind. */
  get source(): StatSource {
    return this.written === PRIVILEGED ? 'security' : 'user';
  }

  /** @param root a descriptor of the layer's root. @returns undefined for a layer without such xattrs */
  static of(source: StatSource | undefined, root: number): StoredStats | undefined {
    if (source === undefined) return undefined;
    const isThere = (name: ByteString): boolean => getXattr(root, name, new Uint8Array(VALUE_BYTES_MAX)) >= 0;
    const isPrivileged = source === 'security' || (source === 'detect' && isThere(PRIVILEGED));
    if (isPrivileged) return new StoredStats([PRIVILEGED], PRIVILEGED);
    const found = OF_USERS.find(isThere); // fuse-overlayfs 1.10 reads only that of the root
    return found || source === 'user' ? new StoredStats(OF_USERS, found ?? CONTAINERS) : undefined;
  }

  /**
   * What an open object has stored; undefined if nothing, and for a symlink.
   * @param mode of the object itself
   * @param shown the object, for messages
   * Throws ErrnoError EINVAL for a malformed value, and as getxattr(2) fails.
   */
  read(fd: number, mode: number, shown: () => string): StoredStat | undefined {
    if (!(isRegular(mode) || isDirectory(mode))) return undefined;
    for (const name of this.names) {
      const length = getXattr(fd, name, this.value);
      if (length === -ENODATA || length === -EOPNOTSUPP) continue;
      const stored = length < 0 ? undefined : parseStoredStat(byteStringOf(this.value, 0, length), mode);
      if (stored) return stored;
      const errno = length < 0 && length !== -ERANGE ? -length : EINVAL;
      throw new ErrnoError(errno, `${shown()}: xattr ${name} is no owner and mode`);
    }
    return undefined;
  }

  /** The xattrs that an object must not have besides. */
  get others(): readonly ByteString[] {
    return this.names.filter(name => name !== this.written);
  }
}

/** Whether an xattr is one of these, or an ACL, which says nothing where the mode is not that of the inode. */
export const isOverridden = (name: ByteString): boolean =>
  RESERVED.some(prefix => name.startsWith(prefix)) || name.startsWith('system.posix_acl_');

/** @returns undefined for a malformed value, and for a type that the object cannot stand for */
export function parseStoredStat(value: ByteString, mode: number): StoredStat | undefined {
  const [, uid, gid, bits, type] = /^(\d{1,10}):(\d{1,10}):([0-7]{1,7})(?::(.+))?$/s.exec(value) ?? [];
  if (uid === undefined || gid === undefined || bits === undefined) return undefined;
  const found = type === undefined ? { type: mode & S_IFMT, rdev: 0 } : parseType(type);
  if (found === undefined || isDirectory(mode) !== isDirectory(found.type)) return undefined;
  const permissions = Number.parseInt(bits, 8) & PERMISSIONS;
  return { uid: Number(uid), gid: Number(gid), mode: found.type | permissions, rdev: found.rdev };
}

function parseType(text: string): { type: number; rdev: number } | undefined {
  const [, word, major, minor] =
    /^(file|dir|pipe|socket|(?:block|char)(?=-))(?:-(\d{1,10})-(\d{1,10}))?$/.exec(text) ?? [];
  const [type] = [...WORDS].find(([, known]) => known === word) ?? [];
  const isDevice = type === S_IFBLK || type === S_IFCHR;
  if (type === undefined || isDevice !== (major !== undefined)) return undefined;
  return { type, rdev: isDevice ? makeRdev(Number(major), Number(minor)) : 0 };
}

export function formatStoredStat({ uid, gid, mode, rdev }: StoredStat): string {
  const type = mode & S_IFMT;
  const device = type === S_IFBLK || type === S_IFCHR ? `-${rdevMajor(rdev)}-${rdevMinor(rdev)}` : '';
  const bits = (mode & PERMISSIONS).toString(8).padStart(4, '0');
  return `${uid}:${gid}:${bits}:${WORDS.get(type)}${device}`;
}
