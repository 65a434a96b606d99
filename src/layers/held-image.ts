/**
 * The file of an image, held open with a shared lock for as long as its layer is used. `lowerdata gc` removes no image that is
 * locked, and none of its objects.
 */
import { fstatSync, statSync } from 'node:fs';
import { O_NONBLOCK, openIn } from '../sys/beneath.ts';
import { type ByteString, bufferOf, printable } from '../sys/bytes.ts';
import { EAGAIN, EBUSY, ENOENT, ErrnoError, must } from '../sys/errno.ts';
import { holdersText, LOCK_NB, LOCK_SH, pauseForLock } from '../sys/locks/flock.ts';
import { native } from '../sys/native.ts';
import { AT_FDCWD } from '../sys/statx.ts';

/** How long the lock of another process is waited for: one that removes an image holds it for less. */
const WAITS = 100;
const WAIT_MS = 20;

/**
 * Opens the file of an image, and locks it where its filesystem has locks. @returns the descriptor
 * Throws ErrnoError with the path: ENOENT if the file is missing, or was removed meanwhile; EBUSY if a process holds an exclusive lock.
 */
export function holdImage(path: ByteString): number {
  const shown = printable(path);
  for (let waits = 0; ; waits++) {
    const fd = openIn(AT_FDCWD, path, O_NONBLOCK, 0);
    if (fd === -ENOENT && waits > 0) throw removed(shown);
    must(fd, shown);
    try {
      const isLocked = native.flock(fd, LOCK_SH | LOCK_NB) !== -EAGAIN;
      if (isLocked && isStillAt(path, fd, shown)) return fd;
      if (waits === WAITS) throw new ErrnoError(EBUSY, `${shown}: ${holdersText(fd)} holds an exclusive lock on it`);
    } catch (error) {
      native.close(fd);
      throw error;
    }
    native.close(fd);
    pauseForLock(WAIT_MS);
  }
}

/** Whether a path still leads to an open file. Throws ErrnoError ENOENT if it leads to nothing. */
function isStillAt(path: ByteString, fd: number, shown: string): boolean {
  const there = statSync(bufferOf(path), { bigint: true, throwIfNoEntry: false });
  if (there === undefined) throw removed(shown);
  const own = fstatSync(fd, { bigint: true });
  return there.dev === own.dev && there.ino === own.ino;
}

const removed = (shown: string): ErrnoError => new ErrnoError(ENOENT, `${shown}: was removed while it was opened`);
