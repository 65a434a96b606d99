/**
 * The dispatch thread, which may be started before it is known what it is to serve: a thread of Node.js takes 20 ms to come up,
 * in which the arguments are read.
 */
import { Worker } from 'node:worker_threads';
import type { ThreadData } from '../driver/thread.ts';

export class DispatchThread {
  readonly worker: Worker;
  private readonly told = new Int32Array(new SharedArrayBuffer(4));

  constructor() {
    this.worker = new Worker(new URL('../driver/thread.js', import.meta.url), { workerData: this.told });
  }

  /** It waits for this. */
  tell(data: ThreadData): void {
    this.worker.postMessage(data);
    Atomics.store(this.told, 0, 1);
    Atomics.notify(this.told, 0);
  }
}

let early: DispatchThread | undefined;

export function startEarly(): void {
  early = new DispatchThread();
}

/** The thread that was started early, or a new one. */
export function takeThread(): DispatchThread {
  const thread = early ?? new DispatchThread();
  early = undefined;
  return thread;
}

/** Nothing is to be served by a thread. */
export function endEarly(): void {
  void early?.worker.terminate();
  early = undefined;
}
