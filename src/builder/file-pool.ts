/** Digests files, and stores them, on as many threads as there are processors. */
import { Worker } from 'node:worker_threads';
import type { Name } from '../sys/bytes.ts';
import { EIO, ErrnoError } from '../sys/errno.ts';
import type { Algorithm } from '../verity/digest.ts';
import type { Answer, Batch, PoolData } from './file-worker.ts';
import { measureFile, ObjectStore } from './objects.ts';

/** A regular file to digest. `digest` is set when that is done. */
export interface PoolFile {
  /** Where it can be opened. */
  readonly path: Name;
  readonly inode: { readonly sizeBytes: number; digest: string | undefined };
}

/** Who digests, whether the data is copied as well, and who is told. */
export interface PoolOptions {
  /** At least 1; 1 is this thread. */
  threads: number;
  /** A store to put the data into, and its directory for copies. By default the data stays where it is. */
  store?: { directory: Name; staging: Name };
  /** Of the digests; sha256 by default. */
  algorithm?: Algorithm;
  /** Told now and then how much is done. */
  progress?: (files: number, bytes: number) => void;
}

/** What a thread is given at once: few messages for small files, even shares for large ones. */
const BATCH_FILES = 64;
const BATCH_BYTES = 1 << 23;
/** Starting threads takes longer than this much data. */
const ALONE_BYTES = 1 << 24;

/** Digests all files. Throws the first error of any: ErrnoError, or what a system call threw. */
export async function digestFiles(files: readonly PoolFile[], options: PoolOptions): Promise<void> {
  const total = files.reduce((sum, { inode }) => sum + inode.sizeBytes, 0);
  const threads = Math.min(options.threads, Math.ceil(total / ALONE_BYTES));
  if (threads > 1) await new Pool(files, options).run(threads);
  else digestHere(files, options);
}

function digestHere(files: readonly PoolFile[], { store, algorithm, progress }: PoolOptions): void {
  const objects = store && new ObjectStore(store.directory, store.staging, algorithm);
  let bytes = 0;
  for (const [i, { path, inode }] of files.entries()) {
    const digest = measureFile(path, inode.sizeBytes, algorithm);
    objects?.add(path, inode.sizeBytes, digest);
    inode.digest = digest;
    bytes += inode.sizeBytes;
    progress?.(i + 1, bytes);
  }
}

class Pool {
  readonly #files: readonly PoolFile[];
  readonly #options: PoolOptions;
  #next = 0;
  #doneFiles = 0;
  #doneBytes = 0;

  constructor(files: readonly PoolFile[], options: PoolOptions) {
    this.#files = files;
    this.#options = options;
  }

  async run(threads: number): Promise<void> {
    const { store, algorithm } = this.#options;
    const workerData: PoolData = { store, algorithm };
    const workers = Array.from(
      { length: threads },
      () => new Worker(new URL('./file-worker.js', import.meta.url), { workerData }),
    );
    try {
      await Promise.all(workers.map(worker => this.#serve(worker)));
    } finally {
      await Promise.all(workers.map(worker => worker.terminate()));
    }
  }

  /** Gives a worker batches until none is left; two at a time, so that it never waits for the next. */
  #serve(worker: Worker): Promise<void> {
    const given: PoolFile[][] = [];
    const give = (): void => {
      const files = this.#takeBatch();
      if (files.length === 0) return;
      given.push(files);
      worker.postMessage(files.map(({ path, inode }) => ({ path, sizeBytes: inode.sizeBytes })) satisfies Batch);
    };
    return new Promise((resolve, reject) => {
      worker.on('error', reject);
      worker.on('exit', status => reject(new ErrnoError(EIO, `a thread that digests files ended: status ${status}`)));
      worker.on('message', (answer: Answer) => {
        if ('error' in answer) return reject(new ErrnoError(answer.error.errno, answer.error.message));
        this.#takeDigests(given.shift() ?? [], answer.digests);
        give();
        if (given.length === 0) resolve();
      });
      give();
      give();
      if (given.length === 0) resolve();
    });
  }

  #takeBatch(): PoolFile[] {
    const from = this.#next;
    let bytes = 0;
    while (this.#next < this.#files.length && this.#next - from < BATCH_FILES && bytes < BATCH_BYTES)
      bytes += (this.#files[this.#next++] as PoolFile).inode.sizeBytes;
    return this.#files.slice(from, this.#next);
  }

  #takeDigests(files: readonly PoolFile[], digests: readonly string[]): void {
    for (const [i, { inode }] of files.entries()) {
      inode.digest = digests[i];
      this.#doneBytes += inode.sizeBytes;
    }
    this.#doneFiles += files.length;
    this.#options.progress?.(this.#doneFiles, this.#doneBytes);
  }
}
