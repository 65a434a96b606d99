/**
 * The side of one thread of a WorkerPool. It works on several jobs at a time, a slice of each in turn, so that a long job does
 * not delay a short one.
 *
 *     {id, task}   ->  {id, result}, or {id, error} if the job threw
 *     {drop: id}   ->  {id, error: undefined}, unless it is done by then
 */
import { parentPort } from 'node:worker_threads';
import { EIO, systemError } from '../errno.ts';

export type Order<Task> = { readonly id: number; readonly task: Task } | { readonly drop: number };
export type Answer<Result> =
  | { readonly id: number; readonly result: Result }
  | { readonly id: number; readonly error: Failure | undefined };

/** An error as it travels between threads. */
export interface Failure {
  readonly errno: number;
  readonly message: string;
}

/** Does one slice of a job. @returns the result of the whole job if it is done, otherwise undefined */
export type Slice<Result> = () => Result | undefined;

/** What is sent of an error; EIO if it has no errno. */
export function failureOf(error: unknown): Failure {
  const { errno, message } = systemError(error) as NodeJS.ErrnoException;
  return errno === undefined ? { errno: EIO, message: String(error) } : { errno: Math.abs(errno), message };
}

/** Makes this thread do the jobs of its pool. @param begin returns the function that does the slices of a job */
export function serveJobs<Task, Result extends object>(begin: (task: Task) => Slice<Result>): void {
  const port = parentPort;
  if (!port) throw new Error('serveJobs runs in a worker');
  const answer = (message: Answer<Result>): void => port.postMessage(message);
  /** All jobs; the next to have its turn comes first. */
  const jobs: { readonly id: number; readonly proceed: Slice<Result> }[] = [];

  const turn = (): void => {
    const job = jobs.shift();
    if (job === undefined) return;
    try {
      const result = job.proceed();
      if (result === undefined) jobs.push(job);
      else answer({ id: job.id, result });
    } catch (error) {
      answer({ id: job.id, error: failureOf(error) });
    }
    if (jobs.length > 0) setImmediate(turn);
  };

  port.on('message', (order: Order<Task>) => {
    if ('drop' in order) {
      const at = jobs.findIndex(({ id }) => id === order.drop);
      if (at >= 0) answer({ id: order.drop, error: undefined });
      if (at >= 0) jobs.splice(at, 1);
      return;
    }
    jobs.push({ id: order.id, proceed: begin(order.task) });
    if (jobs.length === 1) setImmediate(turn);
  });
}
