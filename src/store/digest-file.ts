/** The work of a thread on one file of a scanned directory, and its messages. */
import type { ByteString } from '../sys/bytes.ts';
import type { Algorithm } from '../verity/digest.ts';
import { type Added, measureOpen, type ObjectStore, type Store } from './objects.ts';
import { readSource, type SourceFile } from './source.ts';

export interface PoolData {
  readonly store: Store | undefined;
  readonly algorithm: Algorithm;
}
/** One file to digest. */
export interface Task extends SourceFile {
  /** A descriptor of the scanned directory, which all threads of the process share; `place` is the directory's path. */
  readonly root: number;
  readonly place: ByteString;
  readonly sizeBytes: number;
}
export interface Digested {
  readonly digest: string;
  /** undefined without a store. */
  readonly added: Added | undefined;
}

/** Digests a file and adds it to the store, both from one descriptor. Throws ErrnoError with the file's path. */
export function digestFile(task: Task, algorithm: Algorithm, objects: ObjectStore | undefined): Digested {
  return readSource(task.root, task.place, task, task.sizeBytes, file => {
    const digest = measureOpen(file, algorithm);
    return { digest, added: objects?.add(file, digest) };
  });
}
