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

const names: Record<number, string> = {
  1: 'EPERM',
  2: 'ENOENT',
  3: 'ESRCH',
  4: 'EINTR',
  5: 'EIO',
  6: 'ENXIO',
  7: 'E2BIG',
  9: 'EBADF',
  10: 'ECHILD',
  11: 'EAGAIN',
  12: 'ENOMEM',
  13: 'EACCES',
  16: 'EBUSY',
  17: 'EEXIST',
  18: 'EXDEV',
  19: 'ENODEV',
  20: 'ENOTDIR',
  21: 'EISDIR',
  22: 'EINVAL',
  23: 'ENFILE',
  24: 'EMFILE',
  25: 'ENOTTY',
  27: 'EFBIG',
  28: 'ENOSPC',
  30: 'EROFS',
  32: 'EPIPE',
  34: 'ERANGE',
  36: 'ENAMETOOLONG',
  38: 'ENOSYS',
  39: 'ENOTEMPTY',
  40: 'ELOOP',
  61: 'ENODATA',
  62: 'ETIME',
  71: 'EPROTO',
  75: 'EOVERFLOW',
  76: 'ENOTUNIQ',
  84: 'EILSEQ',
  95: 'EOPNOTSUPP',
  103: 'ECONNABORTED',
  107: 'ENOTCONN',
  111: 'ECONNREFUSED',
  116: 'ESTALE',
  117: 'EUCLEAN',
  122: 'EDQUOT',
};

/**
 * The name of an errno of either sign: `ENOENT`, or `errno 999` for an unknown one.
 * @example
 * assert.equal(errnoName(-2), 'ENOENT');
 * assert.equal(errnoName(2), 'ENOENT');
 */
export function errnoName(errno: number): string {
  const n = Math.abs(errno);
  return names[n] ?? `errno ${n}`;
}

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
  if (result < 0) throw new ErrnoError(-result, `${what}: ${errnoName(result)}`);
  return result;
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
