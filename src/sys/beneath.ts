/** Opens objects below a directory by its descriptor, so that renames and symlinks cannot lead elsewhere. */
import { type ByteString, byteStringOf } from './bytes.ts';
import { openSparing } from './descriptors.ts';
import { EFBIG, EINVAL, ErrnoError, errnoText, must } from './errno.ts';
import { reopen } from './found.ts';
import { native } from './native.ts';
import { isRegular } from './stat.ts';
import { AT_FDCWD, statx, statxMode } from './statx.ts';

// Source: linux/fcntl.h, linux/openat2.h
export const O_NONBLOCK = 0o4000;
export const O_DIRECTORY = 0o200000;
export const O_NOFOLLOW = 0o400000;
export const O_PATH = 0o10000000;
const RESOLVE_NO_MAGICLINKS = 0x2;
const RESOLVE_NO_SYMLINKS = 0x4;
const RESOLVE_BENEATH = 0x8;
/** RESOLVE_* flags of openat2(2) for paths that must not lead out of a directory. */
export const CONFINED: number = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS;
/** The longest piece of a path in bytes; system calls take paths below 4,096 bytes. */
const PATH_BYTES = 4000;

/**
 * Opens a path below a directory, with RESOLVE_* flags. Returns a descriptor or -errno. If no descriptor is left, spare ones are
 * closed first.
 */
export const openIn = (directory: number, path: ByteString, flags: number, resolve: number): number =>
  openSparing(() => native.openat2(directory, path, flags, resolve));

/**
 * Opens a directory that a user has named, to list it. Returns a descriptor or -errno.
 * @param follow whether the path may be a symlink to one
 */
export function openDirectory(path: ByteString, follow: boolean): number {
  return openIn(AT_FDCWD, path, O_DIRECTORY | (follow ? 0 : O_NOFOLLOW), 0);
}

/**
 * Returns an O_PATH descriptor of the object at a path, or -errno. The object may itself be a symlink, but a symlink on the way
 * is -ELOOP. A path of any length is opened piece by piece. Opening with O_PATH has no effect on a device or a fifo.
 */
export const findBeneath = (directory: number, path: ByteString): number =>
  openPieces(directory, path, O_PATH | O_NOFOLLOW);

/** Opens a directory below another one to list it. Returns a descriptor or -errno. */
export const openDirectoryBeneath = (directory: number, path: ByteString): number =>
  openPieces(directory, path, O_DIRECTORY | O_NOFOLLOW);

function openPieces(directory: number, path: ByteString, flags: number): number {
  let at = directory;
  let rest = path;
  while (rest.length > PATH_BYTES) {
    const end = rest.lastIndexOf('/', PATH_BYTES);
    const next = openIn(at, rest.slice(0, end), O_PATH | O_DIRECTORY | O_NOFOLLOW, CONFINED);
    if (at !== directory) native.close(at);
    if (next < 0) return next;
    at = next;
    rest = rest.slice(end + 1);
  }
  const fd = openIn(at, rest, flags, CONFINED);
  if (at !== directory) native.close(at);
  return fd;
}

/** Opens the parent of an open directory to list it. Returns a descriptor or -errno. */
export const openParent = (directory: number): number =>
  openIn(directory, '..', O_DIRECTORY | O_NOFOLLOW, RESOLVE_NO_MAGICLINKS);

/**
 * Opens for reading the object of a findBeneath descriptor, or returns -errno. Use it only for regular files, because opening a
 * device can have effects.
 */
export const openForReading = (found: number): number => openSparing(() => reopen(found, O_NONBLOCK));

/**
 * Reads the regular file of a findBeneath descriptor: at most `bytesMax` bytes and one more, by which a larger file is known. Or -errno.
 */
export function readFound(found: number, bytesMax: number): Uint8Array | number {
  const fd = openForReading(found);
  if (fd < 0) return fd;
  const bytes = new Uint8Array(bytesMax + 1);
  const count = native.pread(fd, bytes, 0, bytes.length, 0);
  native.close(fd);
  return count < 0 ? count : bytes.subarray(0, count);
}

/** Like `readFound`, for any descriptor. Throws ErrnoError with `what`: EINVAL for what is not a regular file, EFBIG for a larger one. */
export function readSmallFile(found: number, bytesMax: number, what: string): Uint8Array {
  must(statx(found, ''), what);
  if (!isRegular(statxMode())) throw new ErrnoError(EINVAL, `${what}: not a regular file`);
  const bytes = readFound(found, bytesMax);
  if (typeof bytes === 'number') throw new ErrnoError(-bytes, `${what}: ${errnoText(bytes)}`);
  if (bytes.length > bytesMax) throw new ErrnoError(EFBIG, `${what}: more than ${bytesMax} bytes`);
  return bytes;
}

/** Opens the directory of a findBeneath descriptor to list it, or returns -errno. */
export const openFoundDirectory = (found: number): number => openSparing(() => reopen(found, O_DIRECTORY));

/** struct linux_dirent64. Source: getdents64(2). */
const Dirent = { reclen: 16 /* u16 */, type: 18 /* u8 */, name: 19 } as const;
const listing = new Uint8Array(1 << 16);
const view = new DataView(listing.buffer);

/** The entries of an open directory without `.` and `..`, each a name and a DT_* number, in the filesystem's order; or -errno. */
export function entriesIn(directory: number): [ByteString, number][] | number {
  const entries: [ByteString, number][] = [];
  for (;;) {
    const bytes = native.getdents(directory, listing);
    if (bytes < 0) return bytes;
    if (bytes === 0) return entries;
    for (let at = 0; at < bytes; at += view.getUint16(at + Dirent.reclen, true)) {
      const from = at + Dirent.name;
      const name = byteStringOf(listing, from, listing.indexOf(0, from));
      if (name !== '.' && name !== '..') entries.push([name, listing[at + Dirent.type] as number]);
    }
  }
}

/** Only the names of an open directory, in byte order; or -errno. */
export function namesIn(directory: number): ByteString[] | number {
  const entries = entriesIn(directory);
  return typeof entries === 'number' ? entries : entries.map(([name]) => name).sort();
}
