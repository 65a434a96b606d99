/** Defects of data, by the names of libcomposefs. The kernel gets EIO for all of them. */
import { EIO, ErrnoError } from '../sys/errno.ts';

/** EWRONGVERITY: the data has another digest. ENOVERITY: there is no digest, but one is required. */
export type VerityCode = 'EWRONGVERITY' | 'ENOVERITY';

/**
 * Thrown for data that does not match its digest, or has none where one is required.
 * @example
 * const error = attempt(() => openLayer('small.cfs', '00'.repeat(32)));
 * assert.ok(error instanceof VerityError && error.code === 'EWRONGVERITY');
 */
export class VerityError extends ErrnoError {
  readonly code: VerityCode;
  readonly what: string;

  constructor(code: VerityCode, what: string) {
    super(EIO, `${code}: ${what}`);
    this.code = code;
    this.what = what;
  }
}
