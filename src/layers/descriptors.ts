/** Keeps descriptors of directories open: a bounded number for all layers of the process, those that were used last. */
import { LRUCache } from 'lru-cache';
import { CacheCounts } from '../sys/counters.ts';
import { spareDescriptors } from '../sys/descriptors.ts';
import { native } from '../sys/native.ts';
import { openFilesMax } from '../sys/security/privileges.ts';

/**
 * An eighth of the process's limit on open files, between 64 and 1,024: each descriptor keeps an inode in the kernel's memory.
 */
export const DESCRIPTORS_MAX: number = Math.max(64, Math.min(1024, Math.floor(openFilesMax() / 8)));

/** The directory that a descriptor belongs to. */
export interface Opened {
  readonly layer: object;
}

/** Descriptors (O_PATH) of directories below the roots of layers. They are closed when others need their place. */
const descriptors = new LRUCache<Opened, number>({ max: DESCRIPTORS_MAX, dispose: fd => native.close(fd) });

export const descriptorCounts = new CacheCounts();
descriptorCounts.holds(descriptors);

spareDescriptors(() => {
  while (descriptors.size > 1) descriptors.pop(); // the one that was requested last may be in use
  descriptorCounts.holds(descriptors);
});

/** The descriptor of a directory; undefined if it is not open. It must be used before another one is kept. */
export function descriptorOf(directory: Opened): number | undefined {
  const fd = descriptors.get(directory);
  descriptorCounts.asked(fd !== undefined);
  return fd;
}

/** Takes over an open descriptor, and closes it when its place is needed. */
export function keepDescriptor(directory: Opened, fd: number): void {
  descriptors.set(directory, fd);
  descriptorCounts.holds(descriptors);
}

/** Closes all descriptors of one layer. */
export function closeDescriptors(layer: object): void {
  for (const directory of [...descriptors.keys()]) if (directory.layer === layer) descriptors.delete(directory);
  descriptorCounts.holds(descriptors);
}
