/** Repeats what a network or a busy server made fail, and ends what goes too slowly. */
import { STATUS_CODES } from 'node:http';
import { setTimeout as sleep } from 'node:timers/promises';
import { EIO, ErrnoError } from '../../sys/errno.ts';

/** How long things may take. */
export interface Timing {
  /** How often in a row something may fail, and the first pause after that, which doubles each time. */
  readonly attempts: number;
  readonly pauseMs: number;
  /** The longest pause that a server may ask for. */
  readonly pauseMaxMs: number;
  /** In each span of this length so many bytes have to arrive, from when a connection is asked for. */
  readonly stallMs: number;
  readonly stallBytes: number;
  /** The time for a document as a whole. */
  readonly documentMs: number;
}

export const TIMING: Timing = {
  attempts: 6,
  pauseMs: 500,
  pauseMaxMs: 120_000,
  stallMs: 30_000,
  stallBytes: 1 << 15,
  documentMs: 120_000,
};

/** A failure after which another attempt may succeed. */
export class Passing extends Error {
  /** When the server wants to be asked again. */
  readonly retryMs: number | undefined;

  constructor(message: string, retryMs?: number) {
    super(message);
    this.retryMs = retryMs;
  }
}

/** One attempt, which ends when too little arrives. */
export class Attempt {
  readonly signal: AbortSignal;
  readonly #controller = new AbortController();
  readonly #timers: readonly NodeJS.Timeout[];
  #sinceBytes = 0;
  /** The bytes that no attempt before has got. */
  newBytes = 0;

  /** @param deadlineMs the time for all of it, if there is an end to that */
  constructor({ stallMs, stallBytes }: Timing, stopped: AbortSignal, deadlineMs: number | undefined) {
    this.signal = AbortSignal.any([this.#controller.signal, stopped]);
    const end = (ms: number): void => this.#controller.abort(new Passing(`too slow: stopped after ${ms / 1000} s`));
    const check = (): void => {
      if (this.#sinceBytes < stallBytes) end(stallMs);
      this.#sinceBytes = 0;
    };
    this.#timers = [setInterval(check, stallMs), ...(deadlineMs ? [setTimeout(end, deadlineMs, deadlineMs)] : [])];
  }

  /** Records bytes that arrived. @param fresh how many of them no attempt before has got */
  received(bytes: number, fresh: number): void {
    this.#sinceBytes += bytes;
    this.newBytes += fresh;
  }

  end(): void {
    for (const timer of this.#timers) clearTimeout(timer);
  }
}

/**
 * Does something until it succeeds, with growing pauses. An attempt that has got `stallBytes` new bytes begins a new row of
 * attempts. Throws ErrnoError: what the action throws, or EIO after too many passing failures in a row.
 * @param what names it, for messages
 */
export async function repeating<T>(
  what: string,
  timing: Timing,
  stopped: AbortSignal,
  action: (attempt: Attempt) => Promise<T>,
  deadlineMs?: number,
): Promise<T> {
  for (let failures = 0; ; ) {
    const attempt = new Attempt(timing, stopped, deadlineMs);
    let pauseMs: number;
    try {
      return await action(attempt);
    } catch (error) {
      stopped.throwIfAborted();
      if (!(error instanceof Passing)) throw error;
      failures = attempt.newBytes >= timing.stallBytes ? 1 : failures + 1;
      pauseMs = pauseAfter(error, failures, what, timing);
    } finally {
      attempt.end();
    }
    await sleep(pauseMs, undefined, { signal: stopped });
  }
}

/** The pause before the next attempt; throws if there is none. */
function pauseAfter({ message, retryMs }: Passing, failures: number, what: string, timing: Timing): number {
  const { attempts, pauseMs, pauseMaxMs } = timing;
  if (retryMs !== undefined && retryMs > pauseMaxMs)
    throw new ErrnoError(EIO, `${what}: ${message}; it asks to try again in ${Math.ceil(retryMs / 1000)} s`);
  if (failures >= attempts) throw new ErrnoError(EIO, `${what}: ${message}; given up after ${failures} attempts`);
  return retryMs ?? Math.min(pauseMs * 2 ** (failures - 1), pauseMaxMs) * (1 + Math.random() / 4);
}

/** Statuses that say that the server, or one behind it, is busy or broken just now. */
const BUSY: readonly number[] = [408, 429, 500, 502, 503, 504];

/** An answer that says to try again later; undefined for all others. */
export function busyAnswer(status: number, retryAfter: string | undefined): Passing | undefined {
  if (!BUSY.includes(status)) return undefined;
  return new Passing(statusText(status), retryAfter === undefined ? undefined : retryMsOf(retryAfter));
}

/** Seconds, or a date. Source: RFC 9110, 10.2.3. */
function retryMsOf(text: string): number | undefined {
  const ms = /^\d{1,9}$/.test(text) ? Number(text) * 1000 : Date.parse(text) - Date.now();
  return Number.isNaN(ms) ? undefined : Math.max(ms, 0);
}

/** A status with its words: `404 Not Found`. */
export const statusText = (status: number): string => `${status} ${STATUS_CODES[status] ?? ''}`.trimEnd();
