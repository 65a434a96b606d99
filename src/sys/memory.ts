/** Memory that JavaScript did not allocate (mmap(2), madvise(2)), and how V8 collects and compiles in a process that serves. */
import { constants } from 'node:buffer';
import { setFlagsFromString } from 'node:v8';
import { EFBIG, ErrnoError, errnoText } from './errno.ts';
import { native } from './native.ts';

const ANONYMOUS = -1;
const MADV_HUGEPAGE = 14;

/** Maps memory of a file, shared with the kernel; or new memory if `fd` is -1. Throws ErrnoError. */
export function mapMemory(fd: number, offset: number, lengthBytes: number): ArrayBuffer {
  const memory = native.map(fd, offset, lengthBytes);
  if (typeof memory === 'number') throw new ErrnoError(-memory, `mmap: ${errnoText(memory)}`);
  return memory;
}

/**
 * Zeroed memory for large data with random access, in pages of 2 MiB if the kernel has them. These take a fraction of the time to
 * set up, and cause fewer TLB misses.
 * Throws ErrnoError: EFBIG for more than one array can hold, EINVAL for 0 bytes, otherwise that of mmap(2).
 */
export function hugeMemory(lengthBytes: number): Uint8Array {
  if (lengthBytes > constants.MAX_LENGTH) throw new ErrnoError(EFBIG, `${lengthBytes} bytes do not fit into an array`);
  const memory = new Uint8Array(mapMemory(ANONYMOUS, 0, lengthBytes));
  native.advise(memory, MADV_HUGEPAGE); // if this fails, small pages are used
  return memory;
}

/**
 * Has V8 collect young objects on the calling thread alone. Few of them survive, so that it takes 0.4 ms, and waking other threads
 * to help takes longer. Nobody is answered meanwhile.
 */
export const collectWithoutHelp = (): void => setFlagsFromString('--no-parallel-scavenge');

/**
 * Has V8 leave functions unoptimized until `optimizeNow` is called, and inline less into them afterwards. For a mount that is
 * asked for a thousand names, optimizing takes longer than it saves: a walk took 0.7 times as long without it. It takes that time
 * from the client, too, as V8 does it on another thread. Later versions than that of Node.js 20 wait longer by themselves.
 */
export function optimizeLater(): void {
  setFlagsFromString('--max-inlined-bytecode-size-cumulative=300'); // 920
  if (!isV8of20) return;
  setFlagsFromString('--max-bytecode-size-for-early-opt=0'); // 81: smaller functions are optimized sooner
  setFlagsFromString('--ticks-before-optimization=10000'); // 3: how often a function must have been found busy
  setFlagsFromString('--interrupt-budget=15000'); // 67,584: how soon it is found busy again
}

/** Has V8 optimize at once what has been called often since `optimizeLater`. */
export function optimizeNow(): void {
  if (!isV8of20) return;
  setFlagsFromString('--ticks-before-optimization=3');
  setFlagsFromString('--interrupt-budget=67584');
}

const isV8of20 = process.versions.v8.startsWith('11.');
