/**
 * One thread of the pool: digests files, and stores them.
 *
 *     workerData {store?, algorithm?}
 *     [{path, sizeBytes}, ...]  ->  {digests: [hex, ...]} in the same order, or {error}
 */
import { parentPort, workerData } from 'node:worker_threads';
import type { Name } from '../sys/bytes.ts';
import { EIO } from '../sys/errno.ts';
import type { Algorithm } from '../verity/digest.ts';
import { measureFile, ObjectStore } from './objects.ts';

export interface PoolData {
  store: { directory: Name; staging: Name } | undefined;
  algorithm: Algorithm | undefined;
}
export type Batch = { path: Name; sizeBytes: number }[];
export type Answer = { digests: string[] } | { error: { errno: number; message: string } };

const port = parentPort;
if (!port) throw new Error('file-worker.ts runs in a worker');
const { store, algorithm } = workerData as PoolData;
const objects = store && new ObjectStore(store.directory, store.staging, algorithm);

port.on('message', (batch: Batch) => port.postMessage(digestBatch(batch)));

function digestBatch(batch: Batch): Answer {
  try {
    const digests = batch.map(({ path, sizeBytes }) => {
      const digest = measureFile(path, sizeBytes, algorithm);
      objects?.add(path, sizeBytes, digest);
      return digest;
    });
    return { digests };
  } catch (error) {
    const { errno = EIO, message } = error as NodeJS.ErrnoException;
    return { error: { errno: Math.abs(errno), message } };
  }
}
