/** One thread that digests files and adds them to the store: Task[] -> Digested[] in the same order. Its data is a PoolData. */
import { workerData } from 'node:worker_threads';
import { serveJobs } from '../sys/workers/thread.ts';
import { digestFile, type PoolData, type Task } from './digest-file.ts';
import { ObjectStore } from './objects.ts';

const { store, algorithm } = workerData as PoolData;
const objects = store && new ObjectStore(store, algorithm);

serveJobs((batch: readonly Task[]) => () => batch.map(task => digestFile(task, algorithm, objects)));
