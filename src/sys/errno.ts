/** Errno numbers of Linux (asm-generic/errno*.h, the same on x86-64 and arm64), and the one exception class. */

export const EPERM = 1;
export const ENOENT = 2;
export const ESRCH = 3;
export const EINTR = 4;
export const EIO = 5;
export const ENXIO = 6;
export const E2BIG = 7;
export const EBADF = 9;
export const ECHILD = 10;
export const EAGAIN = 11;
export const ENOMEM = 12;
export const EACCES = 13;
export const EBUSY = 16;
export const EEXIST = 17;
export const EXDEV = 18;
export const ENODEV = 19;
export const ENOTDIR = 20;
export const EISDIR = 21;
export const EINVAL = 22;
export const ENFILE = 23;
export const EMFILE = 24;
export const ENOTTY = 25;
export const EFBIG = 27;
export const ENOSPC = 28;
export const EROFS = 30;
export const EPIPE = 32;
export const ERANGE = 34;
export const ENAMETOOLONG = 36;
export const ENOSYS = 38;
export const ENOTEMPTY = 39;
export const ELOOP = 40;
export const ENODATA = 61;
export const ETIME = 62;
export const EPROTO = 71;
export const EOVERFLOW = 75;
export const ENOTUNIQ = 76;
export const EILSEQ = 84;
export const EOPNOTSUPP = 95;
export const ECONNABORTED = 103;
export const ENOTCONN = 107;
export const ECONNREFUSED = 111;
export const ESTALE = 116;
export const EUCLEAN = 117;

/** The name of each errno, and its words in strerror(3) of the C library. */
const ERRNOS: Readonly<Record<number, readonly [name: string, text: string]>> = {
  1: ['EPERM', 'Operation not permitted'],
  2: ['ENOENT', 'No such file or directory'],
  3: ['ESRCH', 'No such process'],
  4: ['EINTR', 'Interrupted system call'],
  5: ['EIO', 'Input/output error'],
  6: ['ENXIO', 'No such device or address'],
  7: ['E2BIG', 'Argument list too long'],
  9: ['EBADF', 'Bad file descriptor'],
  10: ['ECHILD', 'No child processes'],
  11: ['EAGAIN', 'Resource temporarily unavailable'],
  12: ['ENOMEM', 'Cannot allocate memory'],
  13: ['EACCES', 'Permission denied'],
  16: ['EBUSY', 'Device or resource busy'],
  17: ['EEXIST', 'File exists'],
  18: ['EXDEV', 'Invalid cross-device link'],
  19: ['ENODEV', 'No such device'],
  20: ['ENOTDIR', 'Not a directory'],
  21: ['EISDIR', 'Is a directory'],
  22: ['EINVAL', 'Invalid argument'],
  23: ['ENFILE', 'Too many open files in system'],
  24: ['EMFILE', 'Too many open files'],
  25: ['ENOTTY', 'Inappropriate ioctl for device'],
  27: ['EFBIG', 'File too large'],
  28: ['ENOSPC', 'No space left on device'],
  30: ['EROFS', 'Read-only file system'],
  32: ['EPIPE', 'Broken pipe'],
  34: ['ERANGE', 'Numerical result out of range'],
  36: ['ENAMETOOLONG', 'File name too long'],
  38: ['ENOSYS', 'Function not implemented'],
  39: ['ENOTEMPTY', 'Directory not empty'],
  40: ['ELOOP', 'Too many levels of symbolic links'],
  61: ['ENODATA', 'No data available'],
  62: ['ETIME', 'Timer expired'],
  71: ['EPROTO', 'Protocol error'],
  75: ['EOVERFLOW', 'Value too large for defined data type'],
  76: ['ENOTUNIQ', 'Name not unique on network'],
  84: ['EILSEQ', 'Invalid or incomplete multibyte or wide character'],
  95: ['EOPNOTSUPP', 'Operation not supported'],
  103: ['ECONNABORTED', 'Software caused connection abort'],
  107: ['ENOTCONN', 'Transport endpoint is not connected'],
  111: ['ECONNREFUSED', 'Connection refused'],
  116: ['ESTALE', 'Stale file handle'],
  117: ['EUCLEAN', 'Structure needs cleaning'],
  122: ['EDQUOT', 'Disk quota exceeded'],
};

/**
 * The name of an errno of either sign: `ENOENT`, or `errno 999` for an unknown one.
 * @example
 * assert.equal(errnoName(-2), 'ENOENT');
 * assert.equal(errnoName(2), 'ENOENT');
 */
export function errnoName(errno: number): string {
  const n = Math.abs(errno);
  return ERRNOS[n]?.[0] ?? `errno ${n}`;
}

/**
 * The words of strerror(3) for an errno of either sign: `No such file or directory`. Messages for people use them; reports and
 * logs of requests use the name.
 */
export const errnoText = (errno: number): string => ERRNOS[Math.abs(errno)]?.[1] ?? errnoName(errno);

/**
 * A failure that callers do not expect: a corrupt image, a wrong digest, a bad option, a system call that must not fail. Expected
 * outcomes (a miss, a refused name) are values instead. `errno` is positive.
 * @example
 * const error = new ErrnoError(5, 'layer A: read');
 * assert.deepEqual([error.name, error.errno, error.message], ['EIO', 5, 'layer A: read']);
 */
export class ErrnoError extends Error {
  readonly errno: number;

  constructor(errno: number, message: string) {
    super(message);
    this.name = errnoName(errno);
    this.errno = errno;
  }
}

/** Returns the result of a system call; throws ErrnoError with `what` if it is a negative errno. */
export function must(result: number, what: string): number {
  if (result < 0) throw new ErrnoError(-result, `${what}: ${errnoText(result)}`);
  return result;
}

/**
 * An error of node:fs as an ErrnoError in the words of all messages: `WHAT: No such file or directory`. Returns any other error
 * unchanged.
 * @param what the path as it was typed; by default the path in the error, or the name of the system call
 */
export function systemError(error: unknown, what?: string): unknown {
  const { errno, syscall, path } = error as NodeJS.ErrnoException;
  if (error instanceof ErrnoError || errno === undefined || syscall === undefined) return error;
  return new ErrnoError(Math.abs(errno), `${what ?? path ?? syscall}: ${errnoText(errno)}`);
}

/**
 * Returns the result of `action`, or the ErrnoError that it throws; other exceptions propagate.
 * @example
 * const result = attempt(() => openStack('absent'));
 * assert.ok(result instanceof ErrnoError && result.name === 'ENOENT');
 * assert.equal(attempt(() => 1), 1);
 */
export function attempt<T>(action: () => T): T | ErrnoError {
  try {
    return action();
  } catch (error) {
    if (error instanceof ErrnoError) return error;
    throw error;
  }
}
