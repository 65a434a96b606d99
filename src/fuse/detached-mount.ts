/**
 * A FUSE mount that is served before it is attached anywhere, so that one of its directories can be mounted instead of its root.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import type { ByteString } from '../sys/bytes.ts';
import { EINVAL, EPERM, ErrnoError, must } from '../sys/errno.ts';
import { native } from '../sys/native.ts';
import { AT_FDCWD } from '../sys/statx.ts';
import {
  type Connection,
  dataString,
  type FuseMountOptions,
  flagsOf,
  type MountFlag,
  mounter,
  mountFailed,
  openDevice,
  Placement,
} from './mount.ts';
import type { MountPoint } from './mount-point.ts';

// Source: linux/mount.h
const FSCONFIG_SET_FLAG = 0;
const FSCONFIG_SET_STRING = 1;
const FSCONFIG_CMD_CREATE = 6;
const OPEN_TREE_CLONE = 1;
const O_CLOEXEC = 0o2000000;
const AT_EMPTY_PATH = 0x1000;
const MOUNT_ATTR_IDMAP = 0x100000;
const MOVE_MOUNT_F_EMPTY_PATH = 4;
const MOVE_MOUNT_T_SYMLINKS = 0x10;

/** The MOUNT_ATTR_* bits of flags that belong to a mount. */
const ATTRIBUTES: Partial<Record<MountFlag, number>> = {
  ro: 0x1,
  nosuid: 0x2,
  nodev: 0x4,
  noexec: 0x8,
  relatime: 0,
  noatime: 0x10,
  strictatime: 0x20,
  nodiratime: 0x80,
};
/** Flags that belong to a superblock. */
const PARAMETERS: readonly MountFlag[] = ['ro', 'sync', 'dirsync', 'lazytime'];

/** Changes to a directory and stays there until its input ends. With -P, getcwd(3) would list everything beside the directory. */
const GO = 'cd -L "/proc/self/fd/3/$0" && echo there && read -r end';

export class DetachedMount implements Connection {
  readonly fd: number;
  readonly by = 'mount';
  private readonly options: FuseMountOptions;
  /** Descriptor of the mount of the whole filesystem. */
  private readonly whole: number;
  /** Descriptor of the mount of the directory that `take` chose; -1 if there is none. */
  private part = -1;

  private constructor(fd: number, whole: number, options: FuseMountOptions) {
    this.fd = fd;
    this.whole = whole;
    this.options = options;
  }

  /**
   * Creates a mount that is attached nowhere. Returns undefined if that cannot be done here or with these options. Linux before
   * 5.2 lacks the system calls, many system call filters deny them, and a source has at most 255 bytes.
   */
  static make(options: FuseMountOptions): DetachedMount | undefined {
    if (mounter() !== 'mount') return undefined;
    const fd = openDevice();
    const whole = mountNowhere(fd, options);
    if (whole >= 0) return new DetachedMount(fd, whole, options);
    native.close(fd);
    return undefined;
  }

  /**
   * Selects one directory of the filesystem to be mounted alone, while this process serves it. Another process must look it up: a
   * process that serves a mount and is killed while it waits for its own answer waits forever.
   * @returns whether the directory was selected; Linux before 6.15 refuses it
   */
  async take(name: ByteString): Promise<boolean> {
    const stdio = ['pipe', 'pipe', 'ignore', this.whole] as const;
    const shell = spawn('/bin/sh', ['-c', GO, name], { stdio: [...stdio], env: {}, detached: true }); // spares it a ^C
    const ended = new Promise<void>(done => shell.once('close', () => done()).once('error', () => done()));
    try {
      if (await isThere(shell, ended)) this.part = native.openTree(AT_FDCWD, `/proc/${shell.pid}/cwd`, OPEN_TREE_CLONE);
    } finally {
      shell.kill('SIGKILL');
      await ended; // its current directory would keep the filesystem busy
    }
    return this.part >= 0;
  }

  /**
   * Another mount of the whole filesystem, attached nowhere. It shows owners by the mapping of a user namespace, if one is given, as
   * `mapIds` does. @returns its descriptor. Throws ErrnoError.
   */
  copy(namespace?: number): number {
    const copy = must(native.openTree(this.whole, '', OPEN_TREE_CLONE | AT_EMPTY_PATH | O_CLOEXEC), 'open_tree');
    try {
      if (namespace !== undefined) mapIds(copy, namespace, 'the user namespace');
      return copy;
    } catch (error) {
      native.close(copy);
      throw error;
    }
  }

  /**
   * Has the mount show owners by the mapping of a user namespace. The connection must have agreed to ALLOW_IDMAP.
   * @param namespace a descriptor of it
   * @param shown the option, for messages. Throws ErrnoError that begins with it.
   */
  mapIds(namespace: number, shown: string): void {
    mapIds(this.part < 0 ? this.whole : this.part, namespace, shown);
  }

  /** Mounts the selected directory, or the whole filesystem if there is none. Throws ErrnoError as mountFuse does. */
  async place(point: MountPoint): Promise<void> {
    const placement = new Placement(point, this.options);
    const mount = this.part < 0 ? this.whole : this.part;
    const result = attachMount(mount, point);
    if (result < 0) throw mountFailed(point, result);
    await placement.check(this.by);
  }

  /** Closes the descriptors. A mount that was placed stays. */
  close(): void {
    native.close(this.whole);
    if (this.part >= 0) native.close(this.part);
  }
}

/** Attaches a mount that is attached nowhere. @returns 0 or -errno */
export function attachMount(mount: number, { target }: MountPoint): number {
  return native.moveMount(mount, '', AT_FDCWD, target, MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_SYMLINKS);
}

function mapIds(mount: number, namespace: number, shown: string): void {
  const result = native.mountSetattr(mount, MOUNT_ATTR_IDMAP, 0, namespace);
  if (result === -EINVAL)
    throw new ErrnoError(EINVAL, `${shown}: not a user namespace with a mapping, or a kernel before 6.12`);
  if (result === -EPERM)
    throw new ErrnoError(EPERM, `${shown}: needs CAP_SYS_ADMIN, and a namespace that is not the initial one`);
  must(result, shown);
}

/** Creates the mount through fsopen and fsmount. @returns its descriptor, or -errno */
function mountNowhere(fd: number, options: FuseMountOptions): number {
  const context = native.fsopen('fuse');
  if (context < 0) return context;
  try {
    const flags = flagsOf(options);
    const strings = [`source=${options.fsname}`, `subtype=${options.subtype}`, ...dataString(fd, options).split(',')];
    for (const parameter of [...strings, ...flags.filter(flag => PARAMETERS.includes(flag))]) {
      const [, key = '', value] = /^([^=]*)(?:=(.*))?$/s.exec(parameter) ?? [];
      const command = value === undefined ? FSCONFIG_SET_FLAG : FSCONFIG_SET_STRING;
      const result = native.fsconfig(context, command, key, value ?? '', 0);
      if (result < 0) return result;
    }
    const result = native.fsconfig(context, FSCONFIG_CMD_CREATE, '', '', 0);
    if (result < 0) return result;
    return native.fsmount(
      context,
      flags.reduce((sum, flag) => sum | (ATTRIBUTES[flag] ?? 0), 0),
    );
  } finally {
    native.close(context);
  }
}

/** Whether the shell reached the directory. */
function isThere(shell: ChildProcess, ended: Promise<void>): Promise<boolean> {
  const said = new Promise<boolean>(done => shell.stdout?.once('data', () => done(true)));
  return Promise.race([said, ended.then(() => false)]);
}
