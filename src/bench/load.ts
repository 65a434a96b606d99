/** Work beside a benchmark: threads that keep CPUs busy, as on a machine that does something else as well. */
import { Worker } from 'node:worker_threads';

export class Load {
  readonly #workers: readonly Worker[];

  constructor(threads: number) {
    this.#workers = Array.from({ length: threads }, () => new Worker('for (;;);', { eval: true }));
  }

  async stop(): Promise<void> {
    await Promise.all(this.#workers.map(worker => worker.terminate()));
  }
}
