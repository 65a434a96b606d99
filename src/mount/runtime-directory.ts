/**
 * The directory for files of running daemons: /run/lowerdata for root, and $XDG_RUNTIME_DIR/lowerdata. It is used if nobody else
 * can write to it or have another one in its place, and files in it are reached by its descriptor.
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
/** What one file may have. */
const FILE_BYTES_MAX = 2 ** 20;

/** Where files may be, the first that can be made first. */
function paths(): string[] {
  const { XDG_RUNTIME_DIR } = process.env;
  const own = XDG_RUNTIME_DIR ? [join(XDG_RUNTIME_DIR, 'lowerdata')] : [];
  return process.geteuid?.() === 0 ? ['/run/lowerdata', ...own] : own;
}

/** Those that are there, for their caller to close. @param make whether to make them */
export const openRuntimeDirectories = (make: boolean): RuntimeDirectory[] =>
  paths()
    .map(path => RuntimeDirectory.open(path, make))
    .filter(directory => directory !== undefined);

export class RuntimeDirectory {
  /** Without symlinks. */
  readonly path: string;
  private readonly fd: number;

  private constructor(fd: number) {
    this.fd = fd;
    this.path = readlinkSync(`/proc/self/fd/${fd}`);
  }

  /** @param make whether to make it @returns undefined where there is none, or others could put files there */
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
    } catch {} // there is no /proc, or its parent has gone
    native.close(fd);
    return undefined;
  }

  private in(name: string): string {
    return `/proc/self/fd/${this.fd}/${name}`;
  }

  /** A new file in the place of a forgotten one. @returns its descriptor, to write; below 0 where it cannot be made */
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

  /** @returns undefined for what is no plain file of this user, or larger than such files are */
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

/** Whether nobody else can rename what this user has in a directory. */
function isFixedIn(directory: string): boolean {
  const fd = native.openat2(AT_FDCWD, byteStringFromText(directory), O_PATH | O_DIRECTORY, 0);
  if (fd < 0) return false;
  const { uid, mode } = fstatSync(fd);
  native.close(fd);
  const isTrusted = uid === process.geteuid?.() || uid === 0;
  return isTrusted && ((mode & WRITABLE_BY_OTHERS) === 0 || (mode & STICKY) !== 0);
}
