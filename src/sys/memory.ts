/** Memory that JavaScript did not make. Source: mmap(2), madvise(2). */
import { constants } from 'node:buffer';
import { EFBIG, ErrnoError, errnoName } from './errno.ts';
import { native } from './native.ts';

const ANONYMOUS = -1;
const MADV_HUGEPAGE = 14;

/** Memory of a file, shared with the kernel, or new where `fd` is -1. Throws ErrnoError. */
export function mapMemory(fd: number, offset: number, lengthBytes: number): ArrayBuffer {
  const memory = native.map(fd, offset, lengthBytes);
  if (typeof memory === 'number') throw new ErrnoError(-memory, `mmap: ${errnoName(memory)}`);
  return memory;
}

/**
 * Memory for much that is read here and there, all zeros: in pages of 2 MiB where the kernel has them. They take a fraction of
 * the time to come up, and the processor finds them where it has forgotten small ones.
 * Throws ErrnoError: EFBIG for more than one array can hold, EINVAL for none, else that of mmap(2).
 */
export function hugeMemory(lengthBytes: number): Uint8Array {
  if (lengthBytes > constants.MAX_LENGTH) throw new ErrnoError(EFBIG, `${lengthBytes} bytes do not fit into an array`);
  const memory = new Uint8Array(mapMemory(ANONYMOUS, 0, lengthBytes));
  native.advise(memory, MADV_HUGEPAGE); // small pages do where there are no others
  return memory;
}
