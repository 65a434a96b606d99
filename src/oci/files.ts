/** The files of an image, by their paths in a directory. */
import { openDirectory, openIn } from '../sys/beneath.ts';
import { type ByteString, byteStringFromText, printable } from '../sys/bytes.ts';
import { EINVAL, EIO, ErrnoError, must } from '../sys/errno.ts';
import { native } from '../sys/native.ts';
import { isRegular } from '../sys/stat.ts';
import { statx, statxMode, statxSize } from '../sys/statx.ts';

/** Bytes of one file that are open for reading. */
export interface OpenBytes {
  readonly fd: number;
  /** The offset in the descriptor's file, and the number of bytes. */
  readonly at: number;
  readonly sizeBytes: number;
  close(): void;
}

/** The files of an image by their paths. */
export interface ImageFiles {
  /** The path of the directory or archive, for messages. */
  readonly shown: string;
  /** Opens a file. Throws ErrnoError with its path: ENOENT if there is none. */
  open(name: string): OpenBytes;
  close(): void;
}

const O_NONBLOCK = 0o4000;

/** Opens a directory of files. Throws ErrnoError with its path. */
export function openFilesIn(path: ByteString): ImageFiles {
  const shown = printable(path);
  const directory = must(openDirectory(path, true), shown);
  return {
    shown,
    open: name => openRegular(directory, byteStringFromText(name), `${shown}/${name}`),
    close: () => void native.close(directory),
  };
}

/** Opens a regular file. Throws ErrnoError with its path. @param resolve RESOLVE_* flags of openat2(2) */
export function openRegular(directory: number, path: ByteString, shown: string, resolve = 0): OpenBytes {
  const fd = must(openIn(directory, path, O_NONBLOCK, resolve), shown);
  const close = (): void => void native.close(fd);
  const known = statx(fd, '');
  if (known === 0 && isRegular(statxMode())) return { fd, at: 0, sizeBytes: statxSize(), close };
  close();
  must(known, shown);
  throw new ErrnoError(EINVAL, `${shown}: not a regular file`);
}

/** Reads bytes of a file. Throws ErrnoError with its path: EIO if it has become shorter. */
export function readAt({ fd, at }: OpenBytes, from: number, length: number, shown: string): Uint8Array {
  const bytes = new Uint8Array(length);
  const count = must(native.pread(fd, bytes, 0, length, at + from), shown);
  if (count < length) throw new ErrnoError(EIO, `${shown}: became shorter while it was read`);
  return bytes;
}
