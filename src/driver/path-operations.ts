/** The operations of fuse-native over an overlay. Each gets a whole path and answers at once. */

import type { Nodeid } from '../fuse/filesystem.ts';
import type { Node } from '../overlay/node.ts';
import type { Overlay } from '../overlay/overlay.ts';
import type { Entry } from '../overlay/readdir.ts';
import { isAcl } from '../overlay/xattrs.ts';
import { bufferOf, byteStringFromText, printable, type Seconds } from '../sys/bytes.ts';
import * as errno from '../sys/errno.ts';
import { ErrnoError } from '../sys/errno.ts';
import { type Attr, DT_DIR, isDirectory, isSymlink } from '../sys/stat.ts';
import type { Files, OpenReply } from './files.ts';
import type { Owners } from './owners.ts';
import { exactText, lossyText, Paths } from './paths.ts';

/** Callback of an operation: `result` is a negative errno, a count or 0; `answer` is the requested value. */
type Callback<T = never> = (result: number, answer?: T) => void;
type ListReply = (result: number, names?: string[], stats?: PathStat[]) => void;

/** The source of fuse-native's struct stat. Times are milliseconds since 1970; all other fields but sizes have 32 bits. */
type PathStat = Pick<Attr, 'ino' | 'mode'> & Partial<Attr>;

/** The source of fuse-native's struct statvfs: its fields without `f_`, each with 32 bits. */
type Statvfs = Record<string, number>;

const U32_MAX = 2 ** 32 - 1;
/** d_ino of an entry that has not been looked up; 0 would hide the entry. Source: libfuse, FUSE_UNKNOWN_INO. */
const UNKNOWN_INO = U32_MAX;

/** Operations that change something. The mount is read-only, but after a remount they can still be requested. */
const CHANGES = `truncate utimens chown chmod mknod setxattr removexattr write create unlink rename link symlink
mkdir rmdir`.split(/\s/);

/** fuse-native calls the methods by the names of its operations, except the two on xattrs: see fuse-native.ts. */
export class PathOperations {
  private readonly overlay: Overlay;
  private readonly files: Files;
  private readonly listsTrusted: boolean;
  private readonly owners: Owners | undefined;
  private readonly log: (line: string) => void;
  private readonly paths: Paths;
  private readonly inos = new ShortInos();

  /** @param listsTrusted whether trusted.* names are listed. That holds for all users, because the caller is not known. */
  constructor(
    overlay: Overlay,
    files: Files,
    listsTrusted: boolean,
    owners: Owners | undefined,
    log: (line: string) => void,
  ) {
    this.overlay = overlay;
    this.files = files;
    this.listsTrusted = listsTrusted;
    this.owners = owners;
    this.log = log;
    this.paths = new Paths(overlay);
    const refuse = (...args: unknown[]): void => (args.at(-1) as Callback)(-errno.EROFS);
    Object.assign(this, Object.fromEntries(CHANGES.map(name => [name, refuse])));
  }

  getattr(path: string, reply: Callback<PathStat>): void {
    answer(
      reply,
      this.attempt('getattr', path, node => this.stat(node)),
    );
  }

  private stat(node: Node): PathStat {
    const attr = this.overlay.attr(node);
    this.owners?.show(attr);
    return {
      ...attr,
      ino: this.inos.of(attr.ino),
      atime: milliseconds(attr.atime, attr.atimensec),
      mtime: milliseconds(attr.mtime, attr.mtimensec),
      ctime: milliseconds(attr.ctime, attr.ctimensec),
    };
  }

  readlink(path: string, reply: Callback<string>): void {
    const target = this.attempt('readlink', path, node => {
      if (!isSymlink(node.top.mode)) return -errno.EINVAL;
      return exactText(this.overlay.readlink(node)) ?? -errno.EILSEQ;
    });
    answer(reply, target);
  }

  /** Lists names and types. A name that is not UTF-8 is garbled, and its lookup fails with EILSEQ. */
  readdir(path: string, reply: ListReply): void {
    const entries = this.attempt('readdir', path, node => this.entries(node));
    if (typeof entries === 'number') reply(entries);
    else
      reply(
        0,
        entries.map(({ name }) => lossyText(name)),
        entries.map(({ dtype }) => ({ ino: UNKNOWN_INO, mode: dtype << 12 })),
      );
  }

  private entries(node: Node): Entry[] | number {
    if (!isDirectory(node.top.mode)) return -errno.ENOTDIR;
    return [{ name: '.', dtype: DT_DIR }, { name: '..', dtype: DT_DIR }, ...this.overlay.list(node)];
  }

  statfs(path: string, reply: Callback<Statvfs>): void {
    const statvfs = this.guard('statfs', path, () => {
      const { namelen: namemax, ...numbers } = this.overlay.statfs();
      return clamped({ ...numbers, favail: numbers.ffree, namemax });
    });
    answer(reply, statvfs);
  }

  // ---- data --------------------------------------------------------------------------------------------------------

  open(path: string, _flags: number, reply: Callback<number>): void {
    const opened = this.attempt('open', path, node => this.openFile(node));
    if (typeof opened === 'number') reply(opened);
    else reply(0, opened.handle);
  }

  private openFile(node: Node): OpenReply | number {
    if (isDirectory(node.top.mode)) return -errno.EISDIR;
    const opened = this.files.open(node.ino as Nodeid, node);
    if (typeof opened === 'number' || opened.handle <= U32_MAX) return opened;
    this.files.release(opened.handle); // 32 bits are passed, so it would be another file's
    return -errno.ENFILE;
  }

  read(path: string, handle: number, out: Buffer, length: number, position: number, reply: Callback): void {
    reply(this.guard('read', path, () => this.files.get(handle)?.read(out, 0, length, position) ?? -errno.EBADF));
  }

  release(_path: string, handle: number, reply: Callback): void {
    this.files.release(handle);
    reply(0);
  }

  // ---- xattrs ------------------------------------------------------------------------------------------------------

  /**
   * Copies the value of an xattr into `out`. @returns its size in bytes, or a negative errno; an empty `out` asks only for the
   * size
   */
  getxattr(path: string, name: string, out: Uint8Array): number {
    const value = this.attempt('getxattr', path, node => {
      const stored = byteStringFromText(name);
      return isAcl(stored) ? -errno.EOPNOTSUPP : this.overlay.getxattr(node, stored);
    });
    return typeof value === 'number' ? value : fill(out, value);
  }

  /**
   * Copies the names of all xattrs into `out`, each followed by a NUL.
   * @returns their size in bytes, or a negative errno; an empty `out` asks only for the size
   */
  listxattr(path: string, out: Uint8Array): number {
    const names = this.attempt('listxattr', path, node => this.overlay.listxattr(node));
    if (typeof names === 'number') return names;
    const listed = names.filter(name => !isAcl(name) && (this.listsTrusted || !name.startsWith('trusted.')));
    return fill(out, bufferOf(listed.map(name => `${name}\0`).join('')));
  }

  /** Calls `work` with the node at `path`. @returns its result, or a negative errno */
  private attempt<T>(operation: string, path: string, work: (node: Node) => T | number): T | number {
    return this.guard(operation, path, () => {
      const node = this.paths.find(path);
      return typeof node === 'number' ? node : work(node);
    });
  }

  /** Calls `work`. @returns its result, or a negative errno if it throws, which is also logged */
  private guard<T>(operation: string, path: string, work: () => T | number): T | number {
    try {
      return work();
    } catch (error) {
      const expected = error instanceof ErrnoError;
      this.log(
        `${operation} ${printable(byteStringFromText(path))}: ${expected ? error.message : (error as Error).stack}`,
      );
      return expected ? -error.errno : -errno.EIO;
    }
  }
}

/**
 * Maps st_ino to the 32 bits that fuse-native has for it. A number that fits is kept. Others are assigned numbers downwards from
 * the top. Each object seen then takes a hundred bytes, which happens only with layers on several filesystems or on a huge one.
 */
class ShortInos {
  private readonly given = new Map<number, number>();

  of(ino: number): number {
    if (ino < UNKNOWN_INO) return ino;
    const known = this.given.get(ino);
    if (known !== undefined) return known;
    const short = UNKNOWN_INO - 1 - this.given.size;
    this.given.set(ino, short);
    return short;
  }
}

function answer<T>(reply: Callback<T>, result: T | number): void {
  if (typeof result === 'number') reply(result);
  else reply(0, result);
}

function fill(out: Uint8Array, bytes: Uint8Array): number {
  if (out.length > 0 && bytes.length > out.length) return -errno.ERANGE;
  if (out.length > 0) out.set(bytes);
  return bytes.length;
}

/** Milliseconds since 1970, and 0 for earlier times: fuse-native turns negative ones into dates in the far future. */
const milliseconds = (seconds: Seconds, nanoseconds: number): number =>
  Math.max(0, Number(seconds) * 1000 + Math.floor(nanoseconds / 1e6));

const clamped = (numbers: Statvfs): Statvfs =>
  Object.fromEntries(Object.entries(numbers).map(([name, number]) => [name, Math.min(number, U32_MAX)]));
