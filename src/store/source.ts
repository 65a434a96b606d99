/** The files of a scanned directory: found again under the scanned path, and read only if they are unchanged. */
import { findBeneath, openDirectory, openForReading } from '../sys/beneath.ts';
import { type ByteString, byteStringOf, printable } from '../sys/bytes.ts';
import { EIO, ENOTDIR, ErrnoError, must } from '../sys/errno.ts';
import { native } from '../sys/native.ts';
import { identityIn, statx, statxVersion } from '../sys/statx.ts';

/** A directory that was scanned. */
export interface SourceTree {
  readonly path: ByteString;
  /** Identifies the directory: the start of its statx version (`identityIn`). */
  readonly identity: string;
}

/** A regular file as a scan found it. */
export interface SourceFile {
  /** The path below the directory. */
  readonly path: ByteString;
  /** Device, inode, size and times, as statxVersion gives them. */
  readonly version: string;
}

/** Opens a directory to scan; a symlink is refused. Throws ErrnoError with its path. */
export function openSource(path: ByteString): { tree: SourceTree; fd: number } {
  const fd = openDirectory(path, false);
  if (fd === -ENOTDIR) throw new ErrnoError(ENOTDIR, `${printable(path)}: not a directory`);
  must(fd, printable(path));
  must(statx(fd, ''), printable(path));
  return { tree: { path, identity: identityIn(statxVersion()) }, fd };
}

/** Opens a scanned directory again. @returns a descriptor. Throws ErrnoError EIO if another directory is there now. */
export function reopenSource({ path, identity }: SourceTree): number {
  const { tree, fd } = openSource(path);
  if (tree.identity === identity) return fd;
  native.close(fd);
  throw new ErrnoError(EIO, `${printable(path)}: replaced by another directory since it was scanned`);
}

/** A file that is being read. */
export interface OpenFile {
  readonly fd: number;
  /** The path for messages. */
  readonly shown: string;
  readonly sizeBytes: number;
}

/**
 * Opens a file below a scanned directory, lets `use` read it, and checks that it did not change since the scan.
 * @param root a descriptor of the directory, whose path is `place`
 * Throws ErrnoError with the file's path: EIO if the file was replaced or changed; otherwise the error of the system.
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

/** Like `readSource`, for a file that a walk found: `found` (O_PATH) is a regular file of that version. */
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

/** All bytes of a small file. Throws ErrnoError EIO if the file's size is not `sizeBytes`. */
export function readContent({ fd, shown, sizeBytes }: OpenFile): ByteString {
  const bytes = new Uint8Array(sizeBytes + 1);
  const count = must(native.pread(fd, bytes, 0, bytes.length, 0), shown);
  if (count !== sizeBytes) throw new ErrnoError(EIO, `${shown}: changed while it was read`);
  return byteStringOf(bytes, 0, sizeBytes);
}
