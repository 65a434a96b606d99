/** What can be wrong with data, by the names of libcomposefs. To the kernel all of it is EIO. */
import { EIO, ErrnoError } from '../sys/errno.ts';

/** EWRONGVERITY: the digest is another. ENOVERITY: there is none, and one is required. */
export type VerityCode = 'EWRONGVERITY' | 'ENOVERITY';

/** Data that is not what its digest says, or has none where one is required. */
export class VerityError extends ErrnoError {
  readonly code: VerityCode;
  readonly what: string;

  constructor(code: VerityCode, what: string) {
    super(EIO, `${code}: ${what}`);
    this.code = code;
    this.what = what;
  }
}
