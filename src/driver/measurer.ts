/** Has files measured by other threads, while the thread that serves the kernel goes on. */
import type { Unique } from '../fuse/ops.ts';
import { EINTR, ErrnoError, must } from '../sys/errno.ts';
import { native } from '../sys/native.ts';
import type { Digests, Outcome, Work } from '../verity/measure-worker.ts';
import type { Mailbox } from './mailbox.ts';
import type { MeasureAnswer, MeasureOrder } from './measuring-service.ts';

/** Gives what was measured; throws the ErrnoError of what went wrong. */
export type Result = () => Digests;

/** A request whose data is measured, and what makes an answer of the result. */
export interface Waiter<T> {
  readonly unique: Unique;
  /** Its descriptor stays open until the answer is made. */
  readonly work: Work;
  readonly answer: (result: Result) => T;
}

interface Job<T> {
  readonly id: number;
  readonly key: string;
  readonly waiters: Waiter<T>[];
}

export class Measurer<T> {
  /** Can be read when something may have been measured. */
  readonly wake: number;
  private readonly mailbox: Mailbox<MeasureAnswer, MeasureOrder>;
  private readonly jobs = new Map<string, Job<T>>();
  private readonly settledWaiters: { unique: Unique; answer: () => T }[] = [];
  private nextId = 1;

  constructor(mailbox: Mailbox<MeasureAnswer, MeasureOrder>) {
    this.mailbox = mailbox;
    this.wake = mailbox.wake;
  }

  /** Measures an open file, unless that is under way already. @param key the same for the same data and algorithm */
  begin(key: string, waiter: Waiter<T>): void {
    const known = this.jobs.get(key);
    if (known === undefined) {
      this.start(key, [waiter]);
      return;
    }
    known.waiters.push(waiter);
    if (known.waiters.length === 1) this.mailbox.post({ keep: known.id });
  }

  private start(key: string, waiters: Waiter<T>[]): void {
    const { work } = waiters[0] as Waiter<T>;
    const fd = must(native.duplicate(work.fd), 'the descriptor of an object'); // which nobody closes before the end
    const job: Job<T> = { id: this.nextId++, key, waiters };
    this.jobs.set(key, job);
    this.mailbox.post({ measure: job.id, work: { ...work, fd } });
  }

  /** A request is not waited for any more: it fails with EINTR. What nobody waits for is not measured to the end. */
  interrupt(unique: Unique): void {
    for (const { id, waiters } of this.jobs.values()) {
      const at = waiters.findIndex(waiter => waiter.unique === unique);
      if (at < 0) continue;
      const [{ answer }] = waiters.splice(at, 1) as [Waiter<T>];
      this.settledWaiters.push({
        unique,
        answer: () => answer(failed(EINTR, 'interrupted while its data was measured')),
      });
      if (waiters.length === 0) this.mailbox.post({ abandon: id });
      return;
    }
  }

  /** A request that can be answered now. */
  settled(): { unique: Unique; answer: () => T } | undefined {
    for (let message = this.mailbox.receive(); message; message = this.mailbox.receive()) this.take(message);
    return this.settledWaiters.shift();
  }

  private take({ measured: id, outcome }: MeasureAnswer): void {
    const job = [...this.jobs.values()].find(one => one.id === id) as Job<T>;
    this.jobs.delete(job.key);
    const wasDropped = 'errno' in outcome && outcome.errno === EINTR;
    const result = wasDropped && job.waiters.length > 0 ? this.startAgain(job) : resultOf(outcome);
    if (result === undefined) return;
    for (const { unique, answer } of job.waiters) this.settledWaiters.push({ unique, answer: () => answer(result) });
  }

  /** Somebody came while it was being dropped. @returns undefined, or what went wrong */
  private startAgain({ key, waiters }: Job<T>): Result | undefined {
    try {
      this.start(key, waiters);
      return undefined;
    } catch (error) {
      return () => {
        throw error;
      };
    }
  }
}

function resultOf(outcome: Outcome): Result {
  return 'digest' in outcome ? () => outcome : failed(outcome.errno, outcome.message);
}

function failed(errno: number, message: string): Result {
  return () => {
    throw new ErrnoError(errno, message);
  };
}
