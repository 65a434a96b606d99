/** The loop over /dev/fuse. */
import { EAGAIN, ECONNABORTED, EINTR, ENODEV, ENOENT, ErrnoError, errnoName, must } from '../sys/errno.ts';
import { native } from '../sys/native.ts';
import type { Dispatcher } from './dispatch.ts';
import { REQUEST_BYTES } from './dispatch.ts';

/** How a connection ended. After an abort the mount is still there and answers ENOTCONN. */
export type End = 'unmounted' | 'aborted';

/** What `fuseReplyReceive` gives for a write that failed is below this, by its errno. */
const WRITE_FAILED = -4096;

export interface SessionOptions {
  /** Gets a line for each reply that the kernel refused. */
  readonly log: (line: string) => void;
  /** A descriptor that can be read when the filesystem may have an answer that it left for later. */
  readonly wake?: number;
}

/**
 * Serves a connection until it ends, on the calling thread and without a pause for its event loop: call it in a worker.
 * The way to end it is to unmount. Then, or when it throws, the filesystem is told.
 * @param fd /dev/fuse of a mount
 * @throws ErrnoError where the descriptor can not be read
 */
export function serve(fd: number, dispatcher: Dispatcher, options: SessionOptions): End {
  try {
    return loop(fd, dispatcher, options);
  } finally {
    dispatcher.end();
  }
}

function loop(fd: number, dispatcher: Dispatcher, { log, wake }: SessionOptions): End {
  const request = new Uint8Array(REQUEST_BYTES);
  const pause = new Pause(wake === undefined ? [fd] : [fd, wake]);
  must(native.setStatusFlags(fd, O_NONBLOCK), '/dev/fuse');
  let replyBytes = 0;
  for (;;) {
    for (let late = dispatcher.late(); late > 0; late = dispatcher.late()) {
      const sent = native.fuseReply(fd, dispatcher.lateReply, late); // ENOENT: its caller is gone
      if (sent < 0 && sent !== -ENOENT) log(`a late reply of ${late} bytes was refused: ${errnoName(sent)}`);
    }
    const received =
      replyBytes > 0
        ? native.fuseReplyReceive(fd, dispatcher.reply, replyBytes, request)
        : native.fuseReceive(fd, request);
    if (received > 0) {
      pause.end();
      replyBytes = dispatcher.handle(request, received);
    } else if (received === -EAGAIN) {
      pause.wait();
      replyBytes = 0;
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
      return undefined;
    case ENODEV:
      return 'unmounted';
    case ECONNABORTED:
      return 'aborted';
    default:
      throw new ErrnoError(errno, `reading /dev/fuse: ${errnoName(errno)}`);
  }
}

const O_NONBLOCK = 0o4000;
const POLLIN = 1;
/** How long to ask again and again before sleeping. */
const SPIN_MS = 0.04;
/** Pauses in a row that may end in sleep before the next one sleeps at once. */
const PATIENCE = 8;

/**
 * The time between an answer and the next request. A processor that sleeps takes 20 to 50 µs to wake, longer than most
 * answers take, so as long as requests follow each other closely the loop asks again at once; an idle mount sleeps.
 */
class Pause {
  private readonly fds: Int32Array;
  private patience = PATIENCE;
  /** When it began; 0: there is none. */
  private since = 0;

  constructor(fds: readonly number[]) {
    this.fds = Int32Array.from(fds);
  }

  /** There is no request yet: returns at once, or sleeps until there may be one. */
  wait(): void {
    const now = performance.now();
    if (this.since === 0) this.since = now;
    if (this.patience > 0 && now - this.since < SPIN_MS) return;
    if (this.patience > 0) this.patience--;
    native.poll(this.fds, POLLIN, -1); // an error shows when the descriptor is read
    if (performance.now() - this.since < 3 * SPIN_MS) this.patience = PATIENCE; // sleeping was hardly worth it
  }

  /** A request came. */
  end(): void {
    if (this.since === 0) return;
    if (performance.now() - this.since < SPIN_MS) this.patience = PATIENCE;
    this.since = 0;
  }
}
