/**
 * The directory for the files of running daemons: /run/lowerdata for root, and $XDG_RUNTIME_DIR/lowerdata. It is used only if no
 * other user can write to it or replace it. Its files are opened through its descriptor.
 */
import {
  closeSync,
  constants,
  fstatSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmSync,
  type Stats,
} from 'node:fs';
import { dirname, join } from 'node:path';
import { byteStringFromText } from '../sys/bytes.ts';
import { native } from '../sys/native.ts';
import { AT_FDCWD } from '../sys/statx.ts';

const { O_CREAT, O_DIRECTORY, O_EXCL, O_NOFOLLOW, O_NONBLOCK, O_WRONLY } = constants;
const O_PATH = 0o10000000;
const RESOLVE_NO_SYMLINKS = 4;
const WRITABLE_BY_OTHERS = 0o022;
const STICKY = 0o1000;
/** The largest size of one file. */
const FILE_BYTES_MAX = 2 ** 20;

/** Possible directories, in order of preference. */
function paths(): string[] {
  const { XDG_RUNTIME_DIR } = process.env;
  const own = XDG_RUNTIME_DIR ? [join(XDG_RUNTIME_DIR, 'lowerdata')] : [];
  return process.geteuid?.() === 0 ? ['/run/lowerdata', ...own] : own;
}

/** The usable directories; the caller must close them. @param make whether to create missing ones */
export const openRuntimeDirectories = (make: boolean): RuntimeDirectory[] =>
  paths()
    .map(path => RuntimeDirectory.open(path, make))
    .filter(directory => directory !== undefined);

export class RuntimeDirectory {
  /** The path without symlinks. */
  readonly path: string;
  private readonly fd: number;

  private constructor(fd: number) {
    this.fd = fd;
    this.path = readlinkSync(`/proc/self/fd/${fd}`);
  }

  /**
   * Opens a runtime directory.
   * @param make whether to create it if it is missing
   * @returns undefined if there is none, or if other users could put files there
   */
  static open(path: string, make: boolean): RuntimeDirectory | undefined {
    try {
      if (make) mkdirSync(path, { recursive: true, mode: 0o700 });
    } catch {
      return undefined;
    }
    const fd = openDirectory(path);
    if (fd < 0) return undefined;
    try {
      if (isOwn(fstatSync(fd)) && isFixedIn(dirname(path))) return new RuntimeDirectory(fd);
    } catch {} // /proc is not mounted, or the parent directory is gone
    native.close(fd);
    return undefined;
  }

  private in(name: string): string {
    return `/proc/self/fd/${this.fd}/${name}`;
  }

  /** Creates a file, in place of a leftover one. @returns its descriptor, open for writing; negative if that failed */
  create(name: string): number {
    try {
      rmSync(this.in(name), { force: true });
      return openSync(this.in(name), O_CREAT | O_EXCL | O_NOFOLLOW | O_WRONLY, 0o600);
    } catch {
      return -1;
    }
  }

  names(): string[] {
    try {
      return readdirSync(this.in('.'));
    } catch {
      return [];
    }
  }

  /** The contents of a file; undefined unless it is a regular file of this user and of at most FILE_BYTES_MAX bytes. */
  read(name: string): string | undefined {
    const fd = native.openat2(this.fd, byteStringFromText(name), O_NOFOLLOW | O_NONBLOCK, RESOLVE_NO_SYMLINKS);
    if (fd < 0) return undefined;
    try {
      const stats = fstatSync(fd);
      const isFit = stats.isFile() && stats.uid === process.geteuid?.() && stats.size <= FILE_BYTES_MAX;
      return isFit ? readFileSync(fd, 'utf8') : undefined;
    } finally {
      closeSync(fd);
    }
  }

  close(): void {
    native.close(this.fd);
  }
}

const openDirectory = (path: string): number =>
  native.openat2(AT_FDCWD, byteStringFromText(path), O_PATH | O_DIRECTORY | O_NOFOLLOW, 0);

const isOwn = ({ uid, mode }: Stats): boolean => uid === process.geteuid?.() && (mode & WRITABLE_BY_OTHERS) === 0;

/** Whether no other user can rename this user's entries in a directory. */
function isFixedIn(directory: string): boolean {
  const fd = native.openat2(AT_FDCWD, byteStringFromText(directory), O_PATH | O_DIRECTORY, 0);
  if (fd < 0) return false;
  const { uid, mode } = fstatSync(fd);
  native.close(fd);
  const isTrusted = uid === process.geteuid?.() || uid === 0;
  return isTrusted && ((mode & WRITABLE_BY_OTHERS) === 0 || (mode & STICKY) !== 0);
}
