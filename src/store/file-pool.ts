/** Digests files, and stores them, on as many threads as there are processors. */
import { Worker } from 'node:worker_threads';
import type { ByteString } from '../sys/bytes.ts';
import { EIO, ErrnoError } from '../sys/errno.ts';
import { native } from '../sys/native.ts';
import type { Algorithm } from '../verity/digest.ts';
import { type Answer, type Digested, digestFile, type PoolData, type Task } from './digest-file.ts';
import { ObjectStore, objectPath, type Store } from './objects.ts';
import { reopenSource, type SourceFile, type SourceTree } from './source.ts';

/** A regular file to digest. `digest` is set when that is done. */
export interface PoolFile extends SourceFile {
  readonly tree: SourceTree;
  readonly inode: { readonly sizeBytes: number; digest: string | undefined };
}

/** Who digests, whether the data is copied as well, and who is told. */
export interface PoolOptions {
  /** At most so many, beside this one, which does little work alone and can be interrupted while there is more. */
  threads: number;
  /** A store to put the data into. By default the data stays where it is. */
  store?: Store;
  /** Told of objects of the store that were not what their names say, and were replaced. */
  replaced?: (object: ByteString) => void;
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

/**
 * Digests all files. Throws the first error of any: ErrnoError that names the file; EIO where it is not what was scanned.
 */
export async function digestFiles(files: readonly PoolFile[], options: PoolOptions): Promise<void> {
  const roots = new Map<SourceTree, number>();
  try {
    for (const { tree } of files) if (!roots.has(tree)) roots.set(tree, reopenSource(tree));
    const work = new Work(files, roots, options);
    const useful = Math.ceil(work.totalBytes / ALONE_BYTES);
    if (useful > 1) await runThreads(work, Math.min(options.threads, useful), options);
    else digestHere(work, options);
  } finally {
    for (const fd of roots.values()) native.close(fd);
  }
}

/** What is to be done, and what is done. */
class Work {
  readonly totalBytes: number;
  readonly #files: readonly PoolFile[];
  readonly #roots: ReadonlyMap<SourceTree, number>;
  readonly #options: PoolOptions;
  #next = 0;
  #doneFiles = 0;
  #doneBytes = 0;

  constructor(files: readonly PoolFile[], roots: ReadonlyMap<SourceTree, number>, options: PoolOptions) {
    this.totalBytes = files.reduce((sum, { inode }) => sum + inode.sizeBytes, 0);
    this.#files = files;
    this.#roots = roots;
    this.#options = options;
  }

  take(): PoolFile[] {
    const from = this.#next;
    let bytes = 0;
    while (this.#next < this.#files.length && this.#next - from < BATCH_FILES && bytes < BATCH_BYTES)
      bytes += (this.#files[this.#next++] as PoolFile).inode.sizeBytes;
    return this.#files.slice(from, this.#next);
  }

  taskOf({ tree, path, version, inode }: PoolFile): Task {
    return { root: this.#roots.get(tree) as number, place: tree.path, path, version, sizeBytes: inode.sizeBytes };
  }

  done(files: readonly PoolFile[], results: readonly Digested[]): void {
    const { store, replaced, progress } = this.#options;
    for (const [i, { inode }] of files.entries()) {
      const { digest, added } = results[i] as Digested;
      inode.digest = digest;
      this.#doneBytes += inode.sizeBytes;
      if (added === 'replaced') replaced?.(`${store?.path}/${objectPath(digest)}`);
    }
    this.#doneFiles += files.length;
    progress?.(this.#doneFiles, this.#doneBytes);
  }
}

function digestHere(work: Work, { store, algorithm = 'sha256' }: PoolOptions): void {
  const objects = store && new ObjectStore(store, algorithm);
  for (let batch = work.take(); batch.length > 0; batch = work.take())
    work.done(
      batch,
      batch.map(file => digestFile(work.taskOf(file), algorithm, objects)),
    );
}

async function runThreads(work: Work, threads: number, options: PoolOptions): Promise<void> {
  const { store, algorithm = 'sha256' } = options;
  const workerData: PoolData = { store, algorithm };
  const workers = Array.from(
    { length: threads },
    () => new Worker(new URL('./file-worker.js', import.meta.url), { workerData }),
  );
  try {
    await Promise.all(workers.map(worker => serve(worker, work)));
  } finally {
    await Promise.all(workers.map(worker => worker.terminate()));
  }
}

/** Gives a worker batches until none is left; two at a time, so that it never waits for the next. */
function serve(worker: Worker, work: Work): Promise<void> {
  const given: PoolFile[][] = [];
  const give = (): void => {
    const files = work.take();
    if (files.length === 0) return;
    given.push(files);
    worker.postMessage(files.map(file => work.taskOf(file)));
  };
  return new Promise((resolve, reject) => {
    worker.on('error', reject);
    worker.on('exit', status => reject(new ErrnoError(EIO, `a thread that digests files ended: status ${status}`)));
    worker.on('message', (answer: Answer) => {
      if ('error' in answer) return reject(new ErrnoError(answer.error.errno, answer.error.message));
      work.done(given.shift() ?? [], answer.results);
      give();
      if (given.length === 0) resolve();
    });
    give();
    give();
    if (given.length === 0) resolve();
  });
}
