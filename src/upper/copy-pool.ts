/** A thread that copies the data of large files. */
import { extname, join } from 'node:path';
import { WorkerPool } from '../sys/workers/pool.ts';
import type { CopyResult, CopyWork } from './copy-worker.ts';

/** Beside this file, as for the threads that measure. */
const PROGRAM = join(import.meta.dirname, `copy-worker${extname(import.meta.filename)}`);

export class CopyPool {
  private readonly pool = new WorkerPool<CopyWork, CopyResult>(PROGRAM, 'copies files', 1);

  /** Copies. Both descriptors must stay open until the promise settles. Rejects with ErrnoError. */
  copy(work: CopyWork): Promise<CopyResult> {
    return this.pool.run(work, work.sizeBytes);
  }
}
