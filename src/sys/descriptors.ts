/** Descriptors that are kept to be quick, and given up where the process may have no more. */
import { EMFILE, ENFILE } from './errno.ts';

/** Each gives up what it keeps open for speed alone. */
const spares = new Set<() => void>();

/**
 * Tells of descriptors that can be given up, on this thread. @param giveUp closes them, but for any that its owner is using
 * @returns what takes that back
 */
export function spareDescriptors(giveUp: () => void): () => void {
  spares.add(giveUp);
  return () => void spares.delete(giveUp);
}

/** Opens something by a system call; where no descriptor is left, once more without those that are spare. */
export function openSparing(open: () => number): number {
  const fd = open();
  if (fd !== -EMFILE && fd !== -ENFILE) return fd;
  for (const giveUp of spares) giveUp();
  return open();
}
