/** What a check of a repository finds, and how it is reported. */
import type { Finding } from '../../mount/finding.ts';
import type { StoredRepository } from '../../oci/stored/repository.ts';
import type { ByteString } from '../../sys/bytes.ts';
import { EFBIG, ENOENT, ErrnoError, EUCLEAN, EXDEV } from '../../sys/errno.ts';
import { VerityError } from '../../verity/error.ts';

/** The remedy for what a later pull makes again, but does not replace. */
export const REMOVE = 'remove it and pull again';
export const PULL = 'pull again';
export const REMOVE_NAME = 'remove it, or give the name to an image again';

/** The errors of what is damaged; all others are those of reading it. */
const DAMAGE: ReadonlySet<number> = new Set([ENOENT, EUCLEAN, EXDEV, EFBIG]);

export class Problems {
  count = 0;
  readonly #repository: StoredRepository;
  readonly #report: (finding: Finding) => void;

  /** @param report gets each problem; its path is that in the repository */
  constructor(repository: StoredRepository, report: (finding: Finding) => void) {
    this.#repository = repository;
    this.#report = report;
  }

  add(path: ByteString, code: string, message: string, help: string): void {
    this.count++;
    this.#report({ path, code, message, help });
  }

  /** Adds what was thrown about a path; anything but an ErrnoError is thrown again. @param help is for damage, not for other errors */
  addError(path: ByteString, error: unknown, help: string): void {
    if (!(error instanceof ErrnoError)) throw error;
    const code = error instanceof VerityError ? error.code : error.name;
    const shown = `${this.#repository.shown(path)}: `;
    const text = error instanceof VerityError ? error.what : error.message;
    const isDamage = error instanceof VerityError || DAMAGE.has(error.errno);
    this.add(path, code, text.startsWith(shown) ? text.slice(shown.length) : text, isDamage ? help : '');
  }
}
