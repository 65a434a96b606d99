/** Digests files and adds them to a store, on several threads. */
import { Worker } from 'node:worker_threads';
import type { ByteString } from '../sys/bytes.ts';
import { EIO, ErrnoError } from '../sys/errno.ts';
import { native } from '../sys/native.ts';
import type { Algorithm } from '../verity/digest.ts';
import { type Answer, type Digested, digestFile, type PoolData, type Task } from './digest-file.ts';
import { ObjectStore, objectPath, type Store } from './objects.ts';
import { reopenSource, type SourceFile, type SourceTree } from './source.ts';

/** A regular file to digest; `digest` is set when that is done. */
export interface PoolFile extends SourceFile {
  readonly tree: SourceTree;
  readonly inode: { readonly sizeBytes: number; digest: string | undefined };
}

/** The number of threads, the store and algorithm, and callbacks. */
export interface PoolOptions {
  /**
   * The most worker threads. Little data is digested on this thread alone; otherwise workers do it, and this thread can handle
   * signals meanwhile.
   */
  threads: number;
  /** The store that receives the data; without one the data is only digested. */
  store?: Store;
  /** Called with the path of each object whose data did not match its name and was replaced. */
  replaced?: (object: ByteString) => void;
  /** The digest algorithm; sha256 by default. */
  algorithm?: Algorithm;
  /** Called after each batch with the totals done so far. */
  progress?: (files: number, bytes: number) => void;
}

/** The size of a batch: enough small files to save messages, and little enough data that large files spread evenly. */
const BATCH_FILES = 64;
const BATCH_BYTES = 1 << 23;
/** Digesting this much data takes less time than starting threads. */
const ALONE_BYTES = 1 << 24;

/**
 * Digests all files. Throws the first ErrnoError, which names its file: EIO if the file is not the one that was scanned.
 * @example
 * const { files } = scanTree('tree');
 * await digestFiles(files, { threads: 2 });
 * assert.deepEqual(files.map(({ path, inode }) => [path, inode.digest]), [['poem', measureFile('tree/poem', 128)]]);
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

/** The files that are still to be digested, and the progress. */
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

/** Feeds batches to a worker until none is left, two at a time, so that it never has to wait for the next one. */
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
