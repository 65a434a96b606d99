/** Complete writes and reads of open descriptors of any file type. */
import { readSync, writeSync } from 'node:fs';
import { EAGAIN, EINTR, ENOSPC, ErrnoError, errnoText } from './errno.ts';
import { native } from './native.ts';

/** poll(2) events. Source: poll.h. */
const POLLIN = 1;
const POLLOUT = 4;
/** Bytes for one write. The kernel takes less than 2 GiB at once, and Node.js refuses more. */
const WRITE_BYTES = 1 << 26;
const READ_BYTES = 1 << 20;

/**
 * Writes all bytes. If another process has set O_NONBLOCK on the descriptor, it waits until it can write.
 * Throws ErrnoError, its message starting with `what`, as soon as the rest cannot be written: ENOSPC, EFBIG, EDQUOT, EPIPE,
 * EBADF, …
 */
export function writeAll(fd: number, bytes: Uint8Array, what: string): void {
  for (let at = 0; at < bytes.length; ) {
    const count = Math.min(WRITE_BYTES, bytes.length - at);
    const written = whenReady(fd, POLLOUT, what, () => writeSync(fd, bytes, at, count));
    if (written === 0) throw new ErrnoError(ENOSPC, `${what}: nothing more is taken`);
    at += written;
  }
}

/** Reads a descriptor to its end, piece by piece. Each piece is valid until the next one. Throws as `writeAll` does. */
export function* readAll(fd: number, what: string): Generator<Uint8Array> {
  const buffer = Buffer.alloc(READ_BYTES);
  const next = (): number => whenReady(fd, POLLIN, what, () => readSync(fd, buffer));
  for (let count = next(); count > 0; count = next()) yield buffer.subarray(0, count);
}

function whenReady(fd: number, event: number, what: string, action: () => number): number {
  for (;;) {
    try {
      return action();
    } catch (error) {
      const { errno, syscall } = error as NodeJS.ErrnoException;
      if (errno === undefined || syscall === undefined) throw error;
      if (errno === -EAGAIN) native.poll(Int32Array.of(fd), event, -1);
      else if (errno !== -EINTR) throw new ErrnoError(-errno, `${what}: ${errnoText(errno)}`);
    }
  }
}
