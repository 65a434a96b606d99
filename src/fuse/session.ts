/** The loop over /dev/fuse. */
import { EAGAIN, ECONNABORTED, EINTR, ENODEV, ENOENT, ErrnoError, errnoName } from '../sys/errno.ts';
import { native } from '../sys/native.ts';
import type { Dispatcher } from './dispatch.ts';
import { REQUEST_BYTES } from './dispatch.ts';

/** How a connection ended. After an abort the mount is still there and answers ENOTCONN. */
export type End = 'unmounted' | 'aborted';

/** `fuseReplyReceive` gives this less the errno for a write that failed. */
const WRITE_FAILED = -4096;

/**
 * Serves a connection until it ends, on the calling thread and without a pause for its event loop: call it in a worker.
 * Nothing is ever pending here, so INTERRUPT has nothing to do, and unmounting is the way to end the loop.
 * @param fd /dev/fuse of a mount, blocking
 * @throws ErrnoError where the descriptor can not be read
 */
export function serve(fd: number, dispatcher: Dispatcher, log: (line: string) => void): End {
  const request = new Uint8Array(REQUEST_BYTES);
  const { reply } = dispatcher;
  let received = native.fuseReceive(fd, request);
  for (;;) {
    if (received > 0) {
      const length = dispatcher.handle(request, received);
      received = length > 0 ? native.fuseReplyReceive(fd, reply, length, request) : native.fuseReceive(fd, request);
      if (received >= WRITE_FAILED) continue;
      log(`a reply of ${length} bytes was refused: ${errnoName(received - WRITE_FAILED)}; answering EIO`);
      received = native.fuseReplyReceive(fd, reply, dispatcher.fail(), request);
      // The kernel may have ended the request itself; where it takes no error either, its caller waits for an unmount.
      if (received < WRITE_FAILED) received = native.fuseReceive(fd, request);
    } else {
      const end = endOf(-received);
      if (end) return end;
      received = native.fuseReceive(fd, request);
    }
  }
}

/** What a failed read means; undefined: ask again. */
function endOf(errno: number): End | undefined {
  switch (errno) {
    case ENOENT: // the request was interrupted before it was read
    case EINTR:
    case EAGAIN:
      return undefined;
    case ENODEV:
      return 'unmounted';
    case ECONNABORTED:
      return 'aborted';
    default:
      throw new ErrnoError(errno, `reading /dev/fuse: ${errnoName(errno)}`);
  }
}
