/** The loop over /dev/fuse. */
import { EAGAIN, ECONNABORTED, EINTR, ENODEV, ENOENT, ErrnoError, errnoName } from '../sys/errno.ts';
import { native } from '../sys/native.ts';
import type { Dispatcher } from './dispatch.ts';
import { REQUEST_BYTES } from './dispatch.ts';

/** How a connection ended. After an abort the mount is still there and answers ENOTCONN. */
export type End = 'unmounted' | 'aborted';

/** What `fuseReplyReceive` gives for a write that failed is below this, by its errno. */
const WRITE_FAILED = -4096;

/**
 * Serves a connection until it ends, on the calling thread and without a pause for its event loop: call it in a worker.
 * The way to end it is to unmount. Then, or when it throws, the filesystem is told.
 * @param fd /dev/fuse of a mount, blocking
 * @param log gets a line for each reply that the kernel refused
 * @throws ErrnoError where the descriptor can not be read
 */
export function serve(fd: number, dispatcher: Dispatcher, log: (line: string) => void): End {
  try {
    return loop(fd, dispatcher, log);
  } finally {
    dispatcher.end();
  }
}

function loop(fd: number, dispatcher: Dispatcher, log: (line: string) => void): End {
  const request = new Uint8Array(REQUEST_BYTES);
  let replyBytes = 0;
  for (;;) {
    const received =
      replyBytes > 0
        ? native.fuseReplyReceive(fd, dispatcher.reply, replyBytes, request)
        : native.fuseReceive(fd, request);
    if (received > 0) {
      replyBytes = dispatcher.handle(request, received);
    } else if (received < WRITE_FAILED) {
      log(`a reply of ${replyBytes} bytes was refused: ${errnoName(received - WRITE_FAILED)}`);
      native.fuseReply(fd, dispatcher.reply, dispatcher.fail()); // fails where the kernel has given the caller EIO itself
      replyBytes = 0;
    } else {
      const end = endOf(-received);
      if (end) return end;
      replyBytes = 0;
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
