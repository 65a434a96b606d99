/** Measures files for the thread that serves the kernel, on threads of its own. Runs on a thread with an event loop. */
import { EIO, type ErrnoError } from '../sys/errno.ts';
import { native } from '../sys/native.ts';
import type { MeasurePool } from '../verity/measure-pool.ts';
import type { Outcome, Work } from '../verity/measure-worker.ts';
import { type MailboxEnd, MailboxSender } from './mailbox.ts';

/** measure: the descriptor is handed over. abandon: nobody waits for it. keep: somebody does again. */
export type MeasureOrder = { measure: number; work: Work } | { abandon: number } | { keep: number };
export interface MeasureAnswer {
  readonly measured: number;
  readonly outcome: Outcome;
}

/**
 * How long an abandoned file is still measured. Programs that are interrupted by a timer open it again at once, and would
 * never get it if that began anew each time.
 */
const GRACE_MS = 1000;

interface Job {
  readonly controller: AbortController;
  grace: NodeJS.Timeout | undefined;
}

export class MeasuringService {
  /** For the thread that serves. */
  readonly end: MailboxEnd;
  private readonly sender: MailboxSender<MeasureAnswer, MeasureOrder>;
  private readonly pool: MeasurePool;
  private readonly jobs = new Map<number, Job>();

  constructor(pool: MeasurePool) {
    this.pool = pool;
    this.sender = new MailboxSender(order => this.take(order));
    this.end = this.sender.end;
  }

  private take(order: MeasureOrder): void {
    if ('measure' in order) void this.measure(order.measure, order.work);
    else if ('abandon' in order) this.abandon(order.abandon);
    else clearTimeout(this.jobs.get(order.keep)?.grace);
  }

  private async measure(id: number, work: Work): Promise<void> {
    const job: Job = { controller: new AbortController(), grace: undefined };
    this.jobs.set(id, job);
    const outcome = await this.pool.measure([work], job.controller.signal).then(
      ([first]) => first as Outcome,
      ({ errno = EIO, message }: ErrnoError) => ({ errno, message }),
    );
    clearTimeout(job.grace);
    this.jobs.delete(id);
    native.close(work.fd);
    this.sender.post({ measured: id, outcome });
  }

  private abandon(id: number): void {
    const job = this.jobs.get(id);
    if (job) job.grace = setTimeout(() => job.controller.abort(), GRACE_MS);
  }
}
