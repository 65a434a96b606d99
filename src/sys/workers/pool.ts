/** Threads that run jobs of one kind. They are started when there is something to do. */
import { Worker } from 'node:worker_threads';
import { EINTR, EIO, ErrnoError } from '../errno.ts';
import type { Answer, Order } from './thread.ts';

/** Limits of batches, which a thread gets at once: few messages for small files, even shares for large ones. */
export interface BatchSize {
  /** The most files of a batch. */
  readonly files: number;
  /** The maximum number of batches under way. */
  readonly batchesMax: number;
}
/** A batch is complete with this much data. */
const BATCH_BYTES = 1 << 23;

interface Pending<Result> {
  readonly sizeBytes: number;
  readonly resolve: (result: Result) => void;
  readonly reject: (error: ErrnoError) => void;
}

/** One thread and its pending jobs, by id. */
interface Thread<Result> {
  readonly worker: Worker;
  readonly pending: Map<number, Pending<Result>>;
}

/** Runs jobs, each of which gets a task and gives a result, on threads that run `serveJobs` with the same types. */
export class WorkerPool<Task, Result> {
  private readonly program: URL | string;
  private readonly does: string;
  private readonly threadsMax: number;
  private readonly workerData: unknown;
  private threads: Thread<Result>[] = [];
  private nextId = 1;

  /**
   * @param program the file that every thread runs
   * @param does what the threads do, for messages: `measures files`
   * @param workerData what every thread gets when it starts
   */
  constructor(program: URL | string, does: string, threadsMax: number, workerData?: unknown) {
    this.program = program;
    this.does = does;
    this.threadsMax = threadsMax;
    this.workerData = workerData;
  }

  /**
   * Runs a job on the thread with the least to do. Descriptors that the task names must stay open until the promise settles.
   * @param sizeBytes the bytes that the job reads
   * Rejects with the job's ErrnoError, EIO if the thread died, EINTR after `signal`.
   */
  run(task: Task, sizeBytes: number, signal?: AbortSignal): Promise<Result> {
    if (signal?.aborted) return Promise.reject(interrupted());
    const id = this.nextId++;
    const thread = this.leastLoaded();
    thread.worker.ref(); // keeps the process alive until the result is there
    const drop = (): void => thread.worker.postMessage({ drop: id } satisfies Order<Task>);
    const done = new Promise<Result>((resolve, reject) => {
      thread.pending.set(id, { sizeBytes, resolve, reject });
    });
    thread.worker.postMessage({ id, task } satisfies Order<Task>);
    signal?.addEventListener('abort', drop, { once: true });
    return done.finally(() => {
      signal?.removeEventListener('abort', drop);
      if (thread.pending.size === 0) thread.worker.unref();
    });
  }

  /**
   * Runs a job for each batch of files, on all threads. Files are taken from the iterable only when there is room for them.
   * @param settle is called once for each batch, as soon as its job has ended: with its result, or with the error of `run`
   */
  async runEach<File>(
    files: Iterable<File>,
    size: BatchSize,
    bytesOf: (file: File) => number,
    taskOf: (batch: readonly File[]) => Task,
    settle: (batch: readonly File[], result: Result | ErrnoError) => void,
    signal?: AbortSignal,
  ): Promise<void> {
    const running = new Set<Promise<void>>();
    const run = async (batch: readonly File[], bytes: number): Promise<void> =>
      settle(batch, await this.run(taskOf(batch), bytes, signal).catch((error: ErrnoError) => error));
    for (const [batch, bytes] of batchesOf(files, size.files, bytesOf)) {
      const done = run(batch, bytes).finally(() => running.delete(done));
      running.add(done);
      while (running.size >= size.batchesMax) await Promise.race(running);
    }
    await Promise.all(running);
  }

  /** Terminates all threads; pending jobs fail. */
  async close(): Promise<void> {
    await Promise.all(this.threads.map(({ worker }) => worker.terminate()));
  }

  /** The thread with the least to do; a new one if all are busy and another one is allowed. */
  private leastLoaded(): Thread<Result> {
    const [first, ...others] = this.threads;
    let best = first;
    for (const thread of others) if (best && loadOf(thread) < loadOf(best)) best = thread;
    if (best && (best.pending.size === 0 || this.threads.length >= this.threadsMax)) return best;
    return this.start();
  }

  private start(): Thread<Result> {
    const worker = new Worker(this.program, { workerData: this.workerData });
    const thread: Thread<Result> = { worker, pending: new Map() };
    worker.on('message', (answer: Answer<Result>) => {
      const pending = thread.pending.get(answer.id);
      thread.pending.delete(answer.id);
      if ('result' in answer) pending?.resolve(answer.result);
      else pending?.reject(answer.error ? new ErrnoError(answer.error.errno, answer.error.message) : interrupted());
    });
    const died = (cause: unknown): void => {
      this.threads = this.threads.filter(other => other !== thread);
      for (const { reject } of thread.pending.values())
        reject(new ErrnoError(EIO, `a thread that ${this.does} died: ${cause}`));
      thread.pending.clear();
    };
    worker.on('error', died);
    worker.on('exit', status => died(`exit status ${status}`));
    this.threads.push(thread);
    return thread;
  }
}

/** Groups files into batches with their bytes. A large file is a batch of its own, so that no other file waits for it. */
export function* batchesOf<File>(
  files: Iterable<File>,
  filesMax: number,
  bytesOf: (file: File) => number,
): Generator<[File[], number]> {
  let batch: File[] = [];
  let bytes = 0;
  for (const file of files) {
    const sizeBytes = bytesOf(file);
    if (sizeBytes >= BATCH_BYTES) {
      yield [[file], sizeBytes];
      continue;
    }
    batch.push(file);
    bytes += sizeBytes;
    if (batch.length < filesMax && bytes < BATCH_BYTES) continue;
    yield [batch, bytes];
    [batch, bytes] = [[], 0];
  }
  if (batch.length > 0) yield [batch, bytes];
}

const interrupted = (): ErrnoError => new ErrnoError(EINTR, 'not waited for any longer');

const loadOf = ({ pending }: { readonly pending: ReadonlyMap<number, { readonly sizeBytes: number }> }): number => {
  let bytes = 0;
  for (const { sizeBytes } of pending.values()) bytes += sizeBytes + 1;
  return bytes;
};
