/** Serves a connection, by the transport that the kernel agrees to. */
import { Device, type End, type SessionOptions } from './device.ts';
import type { Dispatcher } from './dispatch.ts';
import { type FuseRing, UringSession } from './uring.ts';

/**
 * Serves a connection until it ends, on the calling thread and without a pause for its event loop: call it in a worker.
 * The way to end it is to unmount. Then, or when it throws, the filesystem is told.
 * @param fd /dev/fuse of a mount @param ring used where INIT agreed on OVER_IO_URING
 * @throws ErrnoError where the descriptor can not be read
 */
export function serve(fd: number, dispatcher: Dispatcher, options: SessionOptions, ring?: FuseRing): End {
  try {
    const device = new Device(fd, dispatcher, options);
    const end = device.begin();
    if (end !== undefined) return end;
    const isAgreed = dispatcher.connection?.flags.has('OVER_IO_URING');
    return ring && isAgreed ? new UringSession(fd, ring, device, dispatcher, options).run() : device.run();
  } finally {
    dispatcher.end();
  }
}
