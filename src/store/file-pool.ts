/** Digests files and adds them to a store, on several threads. */
import { extname, join } from 'node:path';
import type { ByteString } from '../sys/bytes.ts';
import type { ErrnoError } from '../sys/errno.ts';
import { native } from '../sys/native.ts';
import { type BatchSize, batchesOf, WorkerPool } from '../sys/workers/pool.ts';
import type { Algorithm } from '../verity/digest.ts';
import { type Digested, digestFile, type PoolData, type Task } from './digest-file.ts';
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
   * The most worker threads; 0: this thread does all. Little data is digested on this thread alone; otherwise workers do it, and this
   * thread can handle signals meanwhile.
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

/** The program of a thread, which lies beside this file and has its ending: that of a module, or of a bundle. */
const PROGRAM = join(import.meta.dirname, `file-worker${extname(import.meta.filename)}`);
const BATCH_FILES = 64;
/** With two batches, a thread never has to wait for the next one. */
const BATCHES_OF_THREAD = 2;
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
    const work = new PoolWork(files, roots, options);
    const useful = Math.ceil(work.totalBytes / ALONE_BYTES);
    if (useful > 1 && options.threads > 0) await digestOnThreads(work, Math.min(options.threads, useful), options);
    else digestHere(work, options);
  } finally {
    for (const fd of roots.values()) native.close(fd);
  }
}

/** The files that are digested, and the progress. */
class PoolWork {
  readonly totalBytes: number;
  readonly files: readonly PoolFile[];
  readonly #roots: ReadonlyMap<SourceTree, number>;
  readonly #options: PoolOptions;
  #doneFiles = 0;
  #doneBytes = 0;

  constructor(files: readonly PoolFile[], roots: ReadonlyMap<SourceTree, number>, options: PoolOptions) {
    this.totalBytes = files.reduce((sum, file) => sum + sizeOf(file), 0);
    this.files = files;
    this.#roots = roots;
    this.#options = options;
  }

  tasksOf(batch: readonly PoolFile[]): Task[] {
    return batch.map(({ tree, path, version, inode }) => {
      return { root: this.#roots.get(tree) as number, place: tree.path, path, version, sizeBytes: inode.sizeBytes };
    });
  }

  done(batch: readonly PoolFile[], results: readonly Digested[]): void {
    const { store, replaced, progress } = this.#options;
    for (const [i, { inode }] of batch.entries()) {
      const { digest, added } = results[i] as Digested;
      inode.digest = digest;
      this.#doneBytes += inode.sizeBytes;
      if (added === 'replaced') replaced?.(`${store?.path}/${objectPath(digest)}`);
    }
    this.#doneFiles += batch.length;
    progress?.(this.#doneFiles, this.#doneBytes);
  }
}

const sizeOf = ({ inode }: PoolFile): number => inode.sizeBytes;

function digestHere(work: PoolWork, { store, algorithm = 'sha256' }: PoolOptions): void {
  const objects = store && new ObjectStore(store, algorithm);
  for (const [batch] of batchesOf(work.files, BATCH_FILES, sizeOf))
    work.done(
      batch,
      work.tasksOf(batch).map(task => digestFile(task, algorithm, objects)),
    );
}

async function digestOnThreads(
  work: PoolWork,
  threads: number,
  { store, algorithm = 'sha256' }: PoolOptions,
): Promise<void> {
  const data: PoolData = { store, algorithm };
  const pool = new WorkerPool<readonly Task[], readonly Digested[]>(PROGRAM, 'digests files', threads, data);
  const stop = new AbortController();
  const settle = (batch: readonly PoolFile[], results: readonly Digested[] | ErrnoError): void => {
    if ('errno' in results) {
      stop.abort(results);
      void pool.close(); // nobody waits for what is under way
    } else work.done(batch, results);
  };
  const size: BatchSize = { files: BATCH_FILES, batchesMax: BATCHES_OF_THREAD * threads };
  try {
    await pool.runEach(work.files, size, sizeOf, batch => work.tasksOf(batch), settle, stop.signal);
  } finally {
    await pool.close();
  }
  stop.signal.throwIfAborted();
}
