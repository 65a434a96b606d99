/** Mounts and unmounts a FUSE filesystem: by mount(2) where allowed, else by fusermount3. */
import { execFile, spawnSync } from 'node:child_process';
import { openSync } from 'node:fs';
import { type ByteString, printable } from '../sys/bytes.ts';
import { EBUSY, EINVAL, ENOENT, EPERM, EPROTO, ErrnoError, ESTALE, errnoText, must } from '../sys/errno.ts';
import { native } from '../sys/native.ts';
import { CAP_SYS_ADMIN, hasCapability } from '../sys/security/privileges.ts';
import { SOCK_STREAM } from '../sys/sockets/types.ts';
import { MountPlace, type MountPoint } from './mount-point.ts';
import { type Mount, readMounts } from './mountinfo.ts';

export interface FuseMountOptions {
  /** Shown as the source of the mount. */
  readonly fsname: ByteString;
  /** The part of the mount's type after `fuse.`. */
  readonly subtype: ByteString;
  /** Whether other users may access the mount, within the limits of permissions. */
  readonly allowOther: boolean;
  /** Keys of `mountFlags`; read-only is on unless the tree is written to. */
  readonly flags: readonly MountFlag[];
  readonly isWritable?: boolean;
  /** Permissions of the root directory until the kernel first asks for its attributes. */
  readonly rootPermissions?: number;
  /** Largest READ in bytes; undefined leaves it to the kernel. */
  readonly maxReadBytes?: number;
}

/** Flags of mount(2). Source: linux/mount.h. */
export const mountFlags = {
  ro: 1,
  nosuid: 2,
  nodev: 4,
  noexec: 8,
  sync: 16,
  dirsync: 128,
  noatime: 1024,
  nodiratime: 2048,
  relatime: 1 << 21,
  strictatime: 1 << 24,
  lazytime: 1 << 25,
} as const;
export type MountFlag = keyof typeof mountFlags;

/** The means by which a mount was made and will be removed. */
export type Mounter = 'mount' | 'fusermount3';

export interface Connection {
  /** Descriptor of /dev/fuse, connected and close-on-exec. */
  readonly fd: number;
  readonly by: Mounter;
}

const MNT_FORCE = 1;
const MNT_DETACH = 2;
const UMOUNT_NOFOLLOW = 8;
const S_IFDIR = 0o40000;
const MAX_READ_FLOOR = 4096;

/** Flags that fusermount3 refuses or drops. It forces nosuid and nodev, and has no finer flags for access times. */
const ONLY_MOUNT: readonly MountFlag[] = ['nosuid', 'nodev', 'nodiratime', 'relatime', 'strictatime', 'lazytime'];

/**
 * Mounts on a directory. Throws ErrnoError with the message of the kernel or fusermount3; ESTALE if the directory is renamed
 * meanwhile.
 * Requests are not answered yet: a process that touches the mount point waits until the descriptor is served.
 */
export async function mountFuse(point: MountPoint, options: FuseMountOptions): Promise<Connection> {
  const placement = new Placement(point, options);
  const connection = connect(point, options);
  try {
    await placement.check(connection.by);
    return connection;
  } catch (error) {
    native.close(connection.fd);
    throw error;
  }
}

/** Checks that a mount is where it was meant to be: the directory may be renamed at any moment. */
export class Placement {
  private readonly point: MountPoint;
  private readonly options: FuseMountOptions;
  private readonly before = readMounts().map(({ id }) => id);
  private readonly covered: number | undefined;

  /** Must be constructed before the mount is made. */
  constructor(point: MountPoint, options: FuseMountOptions) {
    this.point = point;
    this.options = options;
    this.covered = point.mountId;
  }

  /** Throws ErrnoError ESTALE if the mount is not visible at the mount point; the mount is then removed. */
  async check(by: Mounter): Promise<void> {
    const { point, options, before } = this;
    if (point.mountId !== this.covered) return;
    const isStray = ({ id, type, source }: Mount): boolean =>
      !before.includes(id) && type === `fuse.${options.subtype}` && source === options.fsname;
    const stray = readMounts().findLast(isStray);
    if (stray) await unmountFuse(stray, by, { lazy: true });
    throw new ErrnoError(ESTALE, `mount point ${printable(point.shown)}: it was moved while it was mounted on`);
  }
}

function connect(point: MountPoint, options: FuseMountOptions): Connection {
  if (mounter() === 'fusermount3') return { fd: mountByHelper(point, options), by: 'fusermount3' };
  const fd = openDevice();
  const type = `fuse.${options.subtype}`;
  const flags = flagsOf(options).reduce((sum, flag) => sum | mountFlags[flag], 0);
  const result = native.mount(options.fsname, point.target, type, flags, dataString(fd, options));
  if (result === 0) return { fd, by: 'mount' };
  native.close(fd);
  if (result === -EPERM) return { fd: mountByHelper(point, options), by: 'fusermount3' };
  throw mountFailed(point, result);
}

/** The flags of a mount, including `ro` unless it is written to. */
export const flagsOf = ({ flags, isWritable }: FuseMountOptions): MountFlag[] => [
  ...(isWritable || flags.includes('ro') ? [] : (['ro'] as const)),
  ...flags,
];

export const mountFailed = ({ shown }: MountPoint, result: number): ErrnoError =>
  new ErrnoError(-result, `mount ${printable(shown)}: ${mountHint(result)}`);

/** The data argument of mount(2). Source: linux/fs/fuse/inode.c, fuse_fs_parameters. */
export function dataString(fd: number, options: FuseMountOptions): ByteString {
  const uid = process.geteuid?.() ?? 0;
  const gid = process.getegid?.() ?? 0;
  const rootMode = (S_IFDIR | (options.rootPermissions ?? 0)).toString(8);
  return [`fd=${fd},rootmode=${rootMode},user_id=${uid},group_id=${gid}`, ...commonOptions(options)].join(',');
}

/** The options of fusermount3. A backslash escapes a comma in a name. Source: libfuse's util/fusermount.c. */
export function helperOptions(options: FuseMountOptions): ByteString {
  const escaped = (name: ByteString): ByteString => name.replace(/[\\,]/g, '\\$&');
  const flags = options.flags.filter(flag => flag !== 'ro' && !ONLY_MOUNT.includes(flag));
  const names = [`fsname=${escaped(shortened(options.fsname))}`, `subtype=${escaped(options.subtype)}`];
  return [
    options.isWritable && !options.flags.includes('ro') ? 'rw' : 'ro',
    'nosuid',
    'nodev',
    ...flags,
    ...commonOptions(options),
    ...names,
  ].join(',');
}

/** fusermount3 cannot find a mount again if its line in the mount table is longer than 4 KB. */
const SOURCE_BYTES_MAX = 2000;

/** The start of a long source: at most SOURCE_BYTES_MAX bytes as mountinfo spells them, in whole UTF-8 characters. */
function shortened(source: ByteString): ByteString {
  let end = 0;
  for (let room = SOURCE_BYTES_MAX; end < source.length; end++) {
    room -= /[ \t\n\\#]/.test(source[end] as string) ? 4 : 1;
    if (room >= 0) continue;
    while ((source.charCodeAt(end) & 0xc0) === 0x80) end--;
    return `${source.slice(0, end)}...`;
  }
  return source;
}

/** default_permissions is needed: otherwise the kernel would cache the answers for one user and apply them to another. */
function commonOptions({ allowOther, maxReadBytes }: FuseMountOptions): string[] {
  const options = ['default_permissions'];
  if (allowOther) options.push('allow_other');
  if (maxReadBytes !== undefined) options.push(`max_read=${Math.max(maxReadBytes, MAX_READ_FLOOR)}`);
  return options;
}

/** Opens /dev/fuse, not connected yet. Throws ErrnoError. */
export function openDevice(): number {
  try {
    return openSync('/dev/fuse', 'r+');
  } catch (error) {
    const { errno = -ENOENT, code } = error as NodeJS.ErrnoException;
    const hint = code === 'ENOENT' || code === 'ENXIO' ? ': is the fuse module loaded?' : '';
    throw new ErrnoError(-errno, `/dev/fuse: ${errnoText(errno)}${hint}`);
  }
}

function mountHint(result: number): string {
  if (result === -ENOENT) return 'No such file or directory';
  if (result === -EINVAL) return 'Invalid argument: the kernel refused the mount options';
  return errnoText(result);
}

/** Mounts by fusermount3, which mounts below its current directory and sends the descriptor over an inherited socket. */
function mountByHelper(point: MountPoint, options: FuseMountOptions): number {
  const pair = new Int32Array(2);
  must(native.socketPair(pair, SOCK_STREAM), 'socketpair');
  const [ours = -1, theirs = -1] = pair;
  try {
    const args = ['-o', textOf(helperOptions(options)), '--', `./${textOf(point.name)}`];
    const { status, stderr, error } = spawnSync('fusermount3', args, {
      cwd: directoryOf(point),
      stdio: ['ignore', 'ignore', 'pipe', theirs],
      env: { ...process.env, _FUSE_COMMFD: '3', LC_ALL: 'C' },
      encoding: 'utf8',
    });
    if (error) throw helperMissing(error);
    if (status !== 0) throw new ErrnoError(EPERM, stderr.trim() || `fusermount3: exit status ${status}`);
    return receiveDescriptor(ours);
  } finally {
    native.close(ours);
    native.close(theirs);
  }
}

/** The descriptor that fusermount3 sends with a byte. */
function receiveDescriptor(socket: number): number {
  const received = Int32Array.of(-1);
  must(native.receiveMessage(socket, new Uint8Array(1), received, 0), 'no /dev/fuse from fusermount3');
  const [fd = -1] = received;
  if (fd >= 0) return fd;
  throw new ErrnoError(EPROTO, 'no /dev/fuse from fusermount3');
}

/** The working directory for a child process. The path is resolved in the child, which still has the same descriptors then. */
const directoryOf = ({ directory }: MountPlace): string => `/proc/self/fd/${directory}`;

export interface UnmountChoices {
  readonly lazy?: boolean;
  readonly force?: boolean;
}

/**
 * Unmounts a mount at its path in mountinfo. A lazy unmount hides it at once and ends it with its last user; a forced one, which
 * takes CAP_SYS_ADMIN, also ends the connection, so that requests that wait fail with ECONNABORTED.
 * @returns true if it is unmounted, false if the tree is in use
 * Throws ErrnoError for all other failures: ESTALE if another mount is visible at its path.
 */
export async function unmountFuse(
  { id, path }: Pick<Mount, 'id' | 'path'>,
  by: Mounter,
  { lazy = false, force = false }: UnmountChoices,
): Promise<boolean> {
  const place = MountPlace.at(path);
  try {
    if (place.mountId !== id) throw new ErrnoError(ESTALE, `${printable(path)}: another mount is there now`);
    if (by === 'fusermount3') return await unmountByHelper(place, lazy);
    const result = native.umount(place.path, UMOUNT_NOFOLLOW | (lazy ? MNT_DETACH : 0) | (force ? MNT_FORCE : 0));
    if (result === -EBUSY) return false;
    must(result, `umount ${printable(path)}`);
    return true;
  } finally {
    place.close();
  }
}

/** Does not block this process, because it may be the one that serves the mount. */
async function unmountByHelper(place: MountPlace, lazy: boolean): Promise<boolean> {
  const args = ['-u', ...(lazy ? ['-z'] : []), '--', `./${textOf(place.name)}`];
  const options = { cwd: directoryOf(place), env: { ...process.env, LC_ALL: 'C' } };
  const [error, stderr] = await new Promise<[Error | null, string]>(resolve => {
    execFile('fusermount3', args, options, (error, _, stderr) => resolve([error, stderr]));
  });
  if (!error) return true;
  if (/busy/i.test(stderr)) return false;
  if ((error as NodeJS.ErrnoException).code === 'ENOENT') throw helperMissing(error);
  throw new ErrnoError(EPERM, stderr.trim() || error.message);
}

/** The means by which this process may mount and unmount. */
export function mounter(): Mounter {
  return hasCapability(CAP_SYS_ADMIN) ? 'mount' : 'fusermount3';
}

/** Node passes arguments to programs only as UTF-8. Throws ErrnoError EINVAL for a name that is not UTF-8. */
function textOf(name: ByteString): string {
  const text = Buffer.from(name, 'latin1').toString('utf8');
  if (Buffer.from(text, 'utf8').toString('latin1') === name) return text;
  throw new ErrnoError(EINVAL, `${printable(name)}: without root a mount point and its source must be UTF-8`);
}

function helperMissing(error: Error): ErrnoError {
  const missing = (error as NodeJS.ErrnoException).code === 'ENOENT';
  const what = missing ? 'is not installed (package fuse3)' : error.message;
  return new ErrnoError(EPERM, `mounting needs CAP_SYS_ADMIN or fusermount3, which ${what}`);
}
