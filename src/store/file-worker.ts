/**
 * One thread of the pool: digests files and adds them to the store.
 *
 *     workerData {store?, algorithm}
 *     [{root, place, path, version, sizeBytes}, ...]  ->  {results: [{digest, added?}, ...]} in the same order, or {error}
 */
import { parentPort, workerData } from 'node:worker_threads';
import { EIO, systemError } from '../sys/errno.ts';
import { type Answer, digestFile, type PoolData, type Task } from './digest-file.ts';
import { ObjectStore } from './objects.ts';

const port = parentPort;
if (!port) throw new Error('file-worker.ts runs in a worker');
const { store, algorithm } = workerData as PoolData;
const objects = store && new ObjectStore(store, algorithm);

port.on('message', (batch: Task[]) => port.postMessage(digestBatch(batch)));

function digestBatch(batch: Task[]): Answer {
  try {
    return { results: batch.map(task => digestFile(task, algorithm, objects)) };
  } catch (error) {
    const { errno = EIO, message } = systemError(error) as NodeJS.ErrnoException;
    return { error: { errno: Math.abs(errno), message } };
  }
}
