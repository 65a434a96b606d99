/** The objects of a repository: which there are, and whether each has the digest of its name. */
import { isDigest } from '../../oci/stored/image-links.ts';
import { pathOfObject, type StoredRepository } from '../../oci/stored/repository.ts';
import { ErrnoError } from '../../sys/errno.ts';
import { DT_DIR } from '../../sys/stat.ts';
import { statx, statxVersion } from '../../sys/statx.ts';
import { algorithmOfHex } from '../../verity/algorithms.ts';
import { VerityError } from '../../verity/error.ts';
import type { MeasurePool, WithWork } from '../../verity/measure-pool.ts';
import type { Outcome } from '../../verity/measure-worker.ts';
import { type Journal, journalKey } from '../object-check.ts';
import { type Problems, REMOVE } from './problems.ts';

export interface ObjectsOptions {
  readonly repository: StoredRepository;
  readonly pool: MeasurePool;
  readonly journal: Journal;
  readonly signal: AbortSignal;
  readonly problems: Problems;
}

/** An open object that is to be measured. */
interface UnmeasuredObject extends WithWork {
  readonly digest: string;
  readonly key: string;
  close(): void;
}

export class StoredObjects {
  /** The sizes of the objects that are there, by their digests. */
  readonly sizes = new Map<string, number>();
  /** Those that cannot be read, or have another digest. */
  readonly damaged = new Set<string>();
  bytes = 0;
  /** How many an earlier run has found good. */
  known = 0;
  readonly #options: ObjectsOptions;

  /** Lists the objects. Throws ErrnoError with the path of a directory that cannot be read. */
  constructor(options: ObjectsOptions) {
    this.#options = options;
    const { repository } = options;
    for (const [first, type] of repository.entries('objects')) {
      if (type !== DT_DIR || !/^[0-9a-f]{2}$/.test(first)) continue;
      for (const [rest] of repository.entries(`objects/${first}`)) if (isDigest(first + rest)) this.#list(first + rest);
    }
  }

  /** Whether an object is there, perhaps since a moment ago, and is not damaged. Throws ErrnoError with its path. */
  isGood(digest: string): boolean {
    if (this.sizes.has(digest)) return !this.damaged.has(digest);
    if (this.damaged.has(digest) || !this.#options.repository.hasObject(digest)) return false;
    this.#list(digest);
    return this.sizes.has(digest);
  }

  /** Measures all objects. The promise resolves early when the signal aborts. */
  async measure(progress: (objects: number, bytes: number) => void): Promise<void> {
    const { pool, signal } = this.#options;
    const settle = ({ digest, key, work, close }: UnmeasuredObject, outcome: Outcome): void => {
      if (!signal.aborted) this.#judge(digest, key, outcome);
      close();
      progress(1, work.sizeBytes);
    };
    await pool.measureEach(this.#unmeasured(progress), settle, signal);
  }

  #list(digest: string): void {
    try {
      const file = this.#options.repository.openObject(digest);
      file.close();
      this.sizes.set(digest, file.sizeBytes);
      this.bytes += file.sizeBytes;
    } catch (error) {
      this.#failed(digest, error);
    }
  }

  *#unmeasured(progress: (objects: number, bytes: number) => void): Generator<UnmeasuredObject> {
    for (const [digest, sizeBytes] of this.sizes) {
      if (this.#options.signal.aborted) return;
      const opened = this.#open(digest);
      if (opened === undefined) progress(1, sizeBytes);
      else yield opened;
    }
  }

  /** Opens an object. @returns undefined if it need not or cannot be measured */
  #open(digest: string): UnmeasuredObject | undefined {
    const { repository, journal } = this.#options;
    try {
      const { fd, sizeBytes, close } = repository.openObject(digest);
      const version = statx(fd, '') === 0 ? statxVersion() : '';
      const key = journalKey({ key: version, digest: Buffer.from(digest, 'hex') });
      if (version === '' || !journal.has(key)) {
        const algorithm = algorithmOfHex(digest) ?? repository.meta.algorithm;
        return { digest, key, close, work: { fd, sizeBytes, algorithm, withLeaves: false } };
      }
      close();
      this.known++;
    } catch (error) {
      this.#failed(digest, error);
    }
    return undefined;
  }

  #judge(digest: string, key: string, outcome: Outcome): void {
    try {
      if ('errno' in outcome) throw new ErrnoError(outcome.errno, outcome.message);
      const found = Buffer.from(outcome.digest).toString('hex');
      if (found !== digest) throw new VerityError('EWRONGVERITY', `the digest of its data is ${found}`);
      this.#options.journal.add(key);
    } catch (error) {
      this.#failed(digest, error);
    }
  }

  #failed(digest: string, error: unknown): void {
    this.damaged.add(digest);
    this.#options.problems.addError(pathOfObject(digest), error, REMOVE);
  }
}
