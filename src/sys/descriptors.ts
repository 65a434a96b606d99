/** Descriptors that are kept open only for speed, and closed when the process has no descriptor left. */
import { EMFILE, ENFILE } from './errno.ts';
import { native } from './native.ts';

/** Functions that close such descriptors. */
const spares = new Set<() => void>();

/**
 * Registers descriptors of this thread that can be closed if necessary.
 * @param giveUp closes them, except those that its owner is using
 * @returns a function that removes the registration
 */
export function spareDescriptors(giveUp: () => void): () => void {
  spares.add(giveUp);
  return () => void spares.delete(giveUp);
}

/**
 * Makes room for descriptors in the kernel's table. It grows by powers of two, and each growth makes a process with threads wait
 * for 8 to 17 ms. Now it grows once, on another thread. Source: linux/fs/file.c.
 * @param fd any open descriptor
 * @param count no more than the process may have
 */
export function reserveDescriptors(fd: number, count: number): void {
  native.growTable(fd, count);
}

/** Calls `open`. If no descriptor is left, closes the spare ones and calls it once more. Returns the result of `open`. */
export function openSparing(open: () => number): number {
  const fd = open();
  if (fd !== -EMFILE && fd !== -ENFILE) return fd;
  for (const giveUp of spares) giveUp();
  return open();
}
