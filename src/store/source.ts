/** The files of a directory that is scanned: found again where a scan has seen them, and read only if they are still the same. */
import { findBeneath, openDirectory, openForReading } from '../sys/beneath.ts';
import { type ByteString, byteStringOf, printable } from '../sys/bytes.ts';
import { EIO, ENOTDIR, ErrnoError, must } from '../sys/errno.ts';
import { native } from '../sys/native.ts';
import { identityIn, statx, statxVersion } from '../sys/statx.ts';

/** A directory that was scanned. */
export interface SourceTree {
  readonly path: ByteString;
  /** Which directory it was: the start of a version of statx. */
  readonly identity: string;
}

/** A regular file as a scan saw it. */
export interface SourceFile {
  /** Where it is below the directory. */
  readonly path: ByteString;
  /** Device, inode, size and times, as statxVersion gives them. */
  readonly version: string;
}

/** Opens a directory to scan, which is no symlink. Throws ErrnoError that names it. */
export function openSource(path: ByteString): { tree: SourceTree; fd: number } {
  const fd = openDirectory(path, false);
  if (fd === -ENOTDIR) throw new ErrnoError(ENOTDIR, `${printable(path)}: not a directory`);
  must(fd, printable(path));
  must(statx(fd, ''), printable(path));
  return { tree: { path, identity: identityIn(statxVersion()) }, fd };
}

/** Opens it again: a descriptor. Throws ErrnoError where another one is there now. */
export function reopenSource({ path, identity }: SourceTree): number {
  const { tree, fd } = openSource(path);
  if (tree.identity === identity) return fd;
  native.close(fd);
  throw new ErrnoError(EIO, `${printable(path)}: another directory since it was scanned`);
}

/** A file that is being read. */
export interface OpenFile {
  readonly fd: number;
  /** Its path for messages. */
  readonly shown: string;
  readonly sizeBytes: number;
}

/**
 * Opens a file below a scanned directory, has `use` read it, and checks that it did not change from the scan until then.
 * @param root a descriptor of the directory, whose path is `place`
 * Throws ErrnoError that names the file: EIO where it is another one, or was changed; else what the system says.
 */
export function readSource<T>(
  root: number,
  place: ByteString,
  { path, version }: SourceFile,
  sizeBytes: number,
  use: (file: OpenFile) => T,
): T {
  const shown = printable(`${place}/${path}`);
  const found = must(findBeneath(root, path), shown);
  try {
    checkVersion(found, version, shown);
    return readFound(found, version, { shown, sizeBytes }, use);
  } finally {
    native.close(found);
  }
}

/** The same for a file that was found by a walk: `found` (O_PATH) is a regular file of that version. */
export function readFound<T>(
  found: number,
  version: string,
  { shown, sizeBytes }: Pick<OpenFile, 'shown' | 'sizeBytes'>,
  use: (file: OpenFile) => T,
): T {
  const fd = must(openForReading(found), shown);
  try {
    const result = use({ fd, shown, sizeBytes });
    checkVersion(fd, version, shown);
    return result;
  } finally {
    native.close(fd);
  }
}

function checkVersion(fd: number, version: string, shown: string): void {
  must(statx(fd, ''), shown);
  if (statxVersion() !== version) throw new ErrnoError(EIO, `${shown}: changed while it was read`);
}

/** All bytes of a small file. Throws ErrnoError EIO where it has more or fewer. */
export function readContent({ fd, shown, sizeBytes }: OpenFile): ByteString {
  const bytes = new Uint8Array(sizeBytes + 1);
  const count = must(native.pread(fd, bytes, 0, bytes.length, 0), shown);
  if (count !== sizeBytes) throw new ErrnoError(EIO, `${shown}: changed while it was read`);
  return byteStringOf(bytes, 0, sizeBytes);
}
