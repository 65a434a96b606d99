/** Serves a connection over /dev/fuse or io_uring, whichever INIT agreed on. */
import { betweenEvents } from '../sys/event-loop.ts';
import { Device, type End, type SessionOptions } from './device.ts';
import type { Dispatcher } from './dispatch.ts';
import type { InitResult } from './init.ts';
import { type FuseRing, UringSession } from './uring.ts';

/** The way in which requests arrive. */
interface Transport {
  /**
   * Answers requests until none comes for a moment or the event loop is due. The next call waits for the next request.
   * @returns how the connection ended; undefined if it goes on
   * Throws ErrnoError if the connection cannot be served.
   */
  turn(): End | undefined;
}

/** A connection that is served on the calling thread between the events of its loop. Unmounting ends it. */
export class Session {
  private readonly fd: number;
  private readonly dispatcher: Dispatcher;
  private readonly options: SessionOptions;
  private readonly ring: FuseRing | undefined;
  private readonly device: Device;

  /**
   * @param fd /dev/fuse of a mount
   * @param ring made on this thread; used if INIT agrees on OVER_IO_URING
   */
  constructor(fd: number, dispatcher: Dispatcher, options: SessionOptions, ring?: FuseRing) {
    this.fd = fd;
    this.dispatcher = dispatcher;
    this.options = options;
    this.ring = ring;
    this.device = new Device(fd, dispatcher, options);
  }

  /** Answers INIT, which the kernel sends at once. @returns the result of INIT, or how the connection ended before it */
  begin(): InitResult | End {
    const end = this.device.begin();
    return end ?? (this.dispatcher.connection as InitResult);
  }

  /** Goes on with the connection of another process, in place of `begin`; see Device. */
  resume(connection: InitResult): void {
    this.device.resume(connection);
  }

  /** Serves until the connection ends, then destroys the filesystem. Rejects with ErrnoError if it cannot be served. */
  run(): Promise<End> {
    const transport = this.transport();
    return new Promise<End>((resolve, reject) => {
      betweenEvents(() => {
        try {
          const end = transport.turn();
          if (end === undefined) return true;
          resolve(end);
        } catch (error) {
          reject(error);
        }
        return false;
      });
    }).finally(() => this.dispatcher.end());
  }

  private transport(): Transport {
    const { fd, ring, device, dispatcher, options } = this;
    const isAgreed = dispatcher.connection?.flags.has('OVER_IO_URING');
    return ring && isAgreed ? new UringSession(fd, ring, device, dispatcher, options) : device;
  }
}
