/** Checks a whole repository: its objects, then all that leads to them. */
import type { Finding } from '../../mount/finding.ts';
import { LinkCheck } from './links.ts';
import { type ObjectsOptions, StoredObjects } from './objects.ts';
import { Problems } from './problems.ts';

export interface StoreCounts {
  readonly objects: number;
  /** The size of all objects. */
  readonly bytes: number;
  /** Objects that an interrupted run has found good. */
  readonly known: number;
  readonly streams: number;
  readonly images: number;
  readonly names: number;
  readonly problems: number;
}

export interface StoreCheckOptions extends Omit<ObjectsOptions, 'problems'> {
  readonly report: (finding: Finding) => void;
  /** Is called with the numbers of objects and bytes, before any is measured. @returns a bar of what is done */
  readonly progress: (objects: number, bytes: number) => { update(objects: number, bytes: number): void; stop(): void };
}

/**
 * Checks a repository, which should be locked. When the signal aborts, the promise resolves early.
 * Rejects with ErrnoError for a directory that cannot be read.
 */
export async function checkRepository({ report, progress, ...options }: StoreCheckOptions): Promise<StoreCounts> {
  const { repository, signal } = options;
  const problems = new Problems(repository, report);
  const objects = new StoredObjects({ ...options, problems });
  const bar = progress(objects.sizes.size, objects.bytes);
  let [done, doneBytes] = [0, 0];
  try {
    await objects.measure((more, bytes) => {
      done += more;
      doneBytes += bytes;
      bar.update(done, doneBytes);
    });
  } finally {
    bar.stop();
  }
  const links = new LinkCheck({ repository, objects, signal, problems });
  if (!signal.aborted) await links.run();
  const { streams, images, names } = links;
  const { sizes, bytes, known } = objects;
  return { objects: sizes.size, bytes, known, streams, images, names, problems: problems.count };
}
