/** A blob on its way from a registry to a file. */
import { ENOSPC, ErrnoError, must } from '../../sys/errno.ts';
import { native } from '../../sys/native.ts';
import { DigestCheck, type Expected } from '../blobs.ts';
import { type Attempt, Passing } from './attempts.ts';
import type { Answer } from './connections.ts';
import { refuse } from './refusal.ts';

export interface Sized extends Expected {
  readonly size: number;
}

/** A blob that arrives in a file, by one answer or several. */
export class Download {
  readonly #expected: Sized;
  readonly #fd: number;
  readonly #what: string;
  readonly #count: (bytes: number) => void;
  #check: DigestCheck;
  #at = 0;
  #furthest = 0;
  /** Whether the server takes ranges, as far as that is known. */
  #hasRanges = true;

  constructor(expected: Sized, fd: number, what: string, count: (bytes: number) => void) {
    this.#expected = expected;
    this.#fd = fd;
    this.#what = what;
    this.#count = count;
    this.#check = new DigestCheck(expected, what);
  }

  get isComplete(): boolean {
    return this.#at === this.#expected.size;
  }

  /** The headers of the next request. */
  get headers(): Record<string, string> {
    return this.#at > 0 && this.#hasRanges ? { range: `bytes=${this.#at}-` } : {};
  }

  /** Takes the body of an answer. Throws Passing if it ends too early, and ErrnoError if it is too long or cannot be stored. */
  async take(answer: Answer, attempt: Attempt): Promise<void> {
    const { status } = answer;
    const isRange = status === 206 && this.#continues(answer.header('content-range') ?? '');
    if ((status === 206 && !isRange) || status === 416) {
      this.#hasRanges = false;
      await answer.end();
      throw new Passing('the server answers another range than it was asked for');
    }
    if (status !== 200 && !isRange) await refuse(answer, this.#what);
    if (!isRange && this.#at > 0) this.#restart();
    for await (const piece of answer.pieces()) this.#add(piece, attempt);
    if (!this.isComplete) throw new Passing(`ends after ${this.#at} of ${this.#expected.size} bytes`);
  }

  /** Throws ErrnoError EUCLEAN if the blob is not the expected one. */
  finish(): void {
    this.#check.finish();
  }

  #continues(range: string): boolean {
    const [, from, , total] = /^bytes (\d+)-(\d+)\/(\d+|\*)$/.exec(range) ?? [];
    return Number(from) === this.#at && (total === '*' || Number(total) === this.#expected.size);
  }

  #restart(): void {
    this.#at = 0;
    this.#check = new DigestCheck(this.#expected, this.#what);
  }

  #add(piece: Uint8Array, attempt: Attempt): void {
    this.#check.add(piece);
    const copy = `${this.#what}: its copy in the store`;
    for (let from = 0; from < piece.length; ) {
      const written = must(native.pwrite(this.#fd, piece, from, piece.length - from, this.#at + from), copy);
      if (written === 0) throw new ErrnoError(ENOSPC, `${copy}: nothing more is taken`);
      from += written;
    }
    this.#at += piece.length;
    const fresh = Math.max(this.#at - this.#furthest, 0);
    this.#furthest += fresh;
    attempt.received(piece.length, fresh);
    this.#count(this.#at);
  }
}
