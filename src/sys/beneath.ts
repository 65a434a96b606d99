/** Opening what is below a directory, by its descriptor, so that nothing that happens to the names in it leads elsewhere. */
import { type ByteString, byteStringOf } from './bytes.ts';
import { reopen } from './found.ts';
import { native } from './native.ts';

// linux/fcntl.h, linux/openat2.h
export const O_NONBLOCK = 0o4000;
export const O_DIRECTORY = 0o200000;
export const O_NOFOLLOW = 0o400000;
export const O_PATH = 0o10000000;
const RESOLVE_NO_MAGICLINKS = 0x2;
const RESOLVE_NO_SYMLINKS = 0x4;
const RESOLVE_BENEATH = 0x8;
/** How openat2(2) resolves what must not lead out of a directory. */
export const CONFINED: number = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS;
const AT_FDCWD = -100;
/** A system call takes paths below 4,096 bytes. */
const PATH_BYTES = 4000;

/** Opens a directory that a user has named, for reading its names. @param follow whether it may be a symlink to one */
export function openDirectory(path: ByteString, follow: boolean): number {
  return native.openat2(AT_FDCWD, path, O_DIRECTORY | (follow ? 0 : O_NOFOLLOW), 0);
}

/**
 * A descriptor (O_PATH) of what a path leads to, a symlink itself too, or -errno. A path of any length is taken piece by piece;
 * a symlink on the way is -ELOOP. To open it so has no effect on a device or a fifo.
 */
export const findBeneath = (directory: number, path: ByteString): number =>
  openPieces(directory, path, O_PATH | O_NOFOLLOW);

/** Opens a directory below another one for reading its names, or -errno. */
export const openDirectoryBeneath = (directory: number, path: ByteString): number =>
  openPieces(directory, path, O_DIRECTORY | O_NOFOLLOW);

function openPieces(directory: number, path: ByteString, flags: number): number {
  let at = directory;
  let rest = path;
  while (rest.length > PATH_BYTES) {
    const end = rest.lastIndexOf('/', PATH_BYTES);
    const next = native.openat2(at, rest.slice(0, end), O_PATH | O_DIRECTORY | O_NOFOLLOW, CONFINED);
    if (at !== directory) native.close(at);
    if (next < 0) return next;
    at = next;
    rest = rest.slice(end + 1);
  }
  const fd = native.openat2(at, rest, flags, CONFINED);
  if (at !== directory) native.close(at);
  return fd;
}

/** The directory that holds an open one, for reading its names, or -errno. */
export const openParent = (directory: number): number =>
  native.openat2(directory, '..', O_DIRECTORY | O_NOFOLLOW, RESOLVE_NO_MAGICLINKS);

/** Opens for reading what a descriptor of findBeneath stands for, or -errno: a regular file, as devices would take notice. */
export const openForReading = (found: number): number => reopen(found, O_NONBLOCK);

/** Opens for its names the directory that a descriptor of findBeneath stands for, or -errno. */
export const openFoundDirectory = (found: number): number => reopen(found, O_DIRECTORY);

/** struct linux_dirent64. Source: getdents64(2). */
const Dirent = { reclen: 16 /* u16 */, type: 18 /* u8 */, name: 19 } as const;
const listing = new Uint8Array(1 << 16);
const view = new DataView(listing.buffer);

/** The names in an open directory, without `.` and `..`, each with its DT_* number, in the filesystem's order; or -errno. */
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

/** The names alone, in the order of their bytes; or -errno. */
export function namesIn(directory: number): ByteString[] | number {
  const entries = entriesIn(directory);
  return typeof entries === 'number' ? entries : entries.map(([name]) => name).sort();
}
