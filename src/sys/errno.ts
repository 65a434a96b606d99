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
export const ETXTBSY = 26;
export const EFBIG = 27;
export const ENOSPC = 28;
export const EROFS = 30;
export const EMLINK = 31;
export const EPIPE = 32;
export const ERANGE = 34;
export const ENAMETOOLONG = 36;
export const ENOSYS = 38;
export const ENOTEMPTY = 39;
export const ELOOP = 40;
export const ENODATA = 61;
export const ETIME = 62;
export const EPROTO = 71;
export const ETIMEDOUT = 110;
export const EOVERFLOW = 75;
export const ENOTUNIQ = 76;
export const EILSEQ = 84;
export const EOPNOTSUPP = 95;
export const ECONNABORTED = 103;
export const ENOTCONN = 107;
export const ECONNREFUSED = 111;
export const ESTALE = 116;
export const EUCLEAN = 117;
const EDQUOT = 122;

/** The words of strerror(3) in the C library for each errno, by its name. */
const TEXTS: Readonly<Record<string, readonly [errno: number, text: string]>> = {
  EPERM: [EPERM, 'Operation not permitted'],
  ENOENT: [ENOENT, 'No such file or directory'],
  ESRCH: [ESRCH, 'No such process'],
  EINTR: [EINTR, 'Interrupted system call'],
  EIO: [EIO, 'Input/output error'],
  ENXIO: [ENXIO, 'No such device or address'],
  E2BIG: [E2BIG, 'Argument list too long'],
  EBADF: [EBADF, 'Bad file descriptor'],
  ECHILD: [ECHILD, 'No child processes'],
  EAGAIN: [EAGAIN, 'Resource temporarily unavailable'],
  ENOMEM: [ENOMEM, 'Cannot allocate memory'],
  EACCES: [EACCES, 'Permission denied'],
  EBUSY: [EBUSY, 'Device or resource busy'],
  EEXIST: [EEXIST, 'File exists'],
  EXDEV: [EXDEV, 'Invalid cross-device link'],
  ENODEV: [ENODEV, 'No such device'],
  ENOTDIR: [ENOTDIR, 'Not a directory'],
  EISDIR: [EISDIR, 'Is a directory'],
  EINVAL: [EINVAL, 'Invalid argument'],
  ENFILE: [ENFILE, 'Too many open files in system'],
  EMFILE: [EMFILE, 'Too many open files'],
  ENOTTY: [ENOTTY, 'Inappropriate ioctl for device'],
  EFBIG: [EFBIG, 'File too large'],
  ETXTBSY: [ETXTBSY, 'Text file busy'],
  ENOSPC: [ENOSPC, 'No space left on device'],
  EROFS: [EROFS, 'Read-only file system'],
  EMLINK: [EMLINK, 'Too many links'],
  EPIPE: [EPIPE, 'Broken pipe'],
  ERANGE: [ERANGE, 'Numerical result out of range'],
  ENAMETOOLONG: [ENAMETOOLONG, 'File name too long'],
  ENOSYS: [ENOSYS, 'Function not implemented'],
  ENOTEMPTY: [ENOTEMPTY, 'Directory not empty'],
  ELOOP: [ELOOP, 'Too many levels of symbolic links'],
  ENODATA: [ENODATA, 'No data available'],
  ETIME: [ETIME, 'Timer expired'],
  EPROTO: [EPROTO, 'Protocol error'],
  ETIMEDOUT: [ETIMEDOUT, 'Connection timed out'],
  EOVERFLOW: [EOVERFLOW, 'Value too large for defined data type'],
  ENOTUNIQ: [ENOTUNIQ, 'Name not unique on network'],
  EILSEQ: [EILSEQ, 'Invalid or incomplete multibyte or wide character'],
  EOPNOTSUPP: [EOPNOTSUPP, 'Operation not supported'],
  ECONNABORTED: [ECONNABORTED, 'Software caused connection abort'],
  ENOTCONN: [ENOTCONN, 'Transport endpoint is not connected'],
  ECONNREFUSED: [ECONNREFUSED, 'Connection refused'],
  ESTALE: [ESTALE, 'Stale file handle'],
  EUCLEAN: [EUCLEAN, 'Structure needs cleaning'],
  EDQUOT: [EDQUOT, 'Disk quota exceeded'],
};
const ERRNOS = new Map(Object.entries(TEXTS).map(([name, [errno, text]]) => [errno, { name, text }]));

/**
 * The name of an errno of either sign: `ENOENT`, or `errno 999` for an unknown one.
 * @example
 * assert.equal(errnoName(-2), 'ENOENT');
 * assert.equal(errnoName(2), 'ENOENT');
 */
export function errnoName(errno: number): string {
  const n = Math.abs(errno);
  return ERRNOS.get(n)?.name ?? `errno ${n}`;
}

/**
 * The words of strerror(3) for an errno of either sign: `No such file or directory`. Messages for people use them; reports and
 * logs of requests use the name.
 */
export const errnoText = (errno: number): string => ERRNOS.get(Math.abs(errno))?.text ?? errnoName(errno);

const MARK = Symbol.for('lowerdata.ErrnoError');
const isMarked = (value: unknown): boolean => value instanceof Error && MARK in value;
const ORDINARY = Function.prototype[Symbol.hasInstance];

/**
 * A failure that callers do not expect: a corrupt image, a wrong digest, a bad option, a system call that must not fail. Expected
 * outcomes (a miss, a refused name) are values instead. `errno` is positive.
 * @example
 * const error = new ErrnoError(5, 'layer A: read');
 * assert.deepEqual([error.name, error.errno, error.message], ['EIO', 5, 'layer A: read']);
 */
export class ErrnoError extends Error {
  readonly errno: number;

  /** Whether a value is one, also of the copy of this class that files outside the bundle have. */
  static override [Symbol.hasInstance](value: unknown): boolean {
    // biome-ignore lint/complexity/noThisInStatic: a class below this one, which inherits the function
    return this === ErrnoError ? isMarked(value) : ORDINARY.call(this, value);
  }

  constructor(errno: number, message: string) {
    super(message);
    this.name = errnoName(errno);
    this.errno = errno;
  }

  get [MARK](): true {
    return true;
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
