/** Serves a connection, by the transport that the kernel agrees to. */
import { betweenEvents } from '../sys/event-loop.ts';
import { Device, type End, type SessionOptions } from './device.ts';
import type { Dispatcher } from './dispatch.ts';
import type { Connection } from './init.ts';
import { type FuseRing, UringSession } from './uring.ts';

/** How requests come. */
interface Transport {
  /**
   * Answers requests until none comes for a moment, and the event loop is to have its turn; what comes next is waited for when
   * it is called again. @returns how the connection ended, if it did. Throws ErrnoError where it can not be served.
   */
  turn(): End | undefined;
}

/** A connection that is served on the calling thread, beside its event loop. The way to end it is to unmount. */
export class Session {
  private readonly fd: number;
  private readonly dispatcher: Dispatcher;
  private readonly options: SessionOptions;
  private readonly ring: FuseRing | undefined;
  private readonly device: Device;

  /** @param fd /dev/fuse of a mount @param ring used where INIT agrees on OVER_IO_URING, on the thread that made it */
  constructor(fd: number, dispatcher: Dispatcher, options: SessionOptions, ring?: FuseRing) {
    this.fd = fd;
    this.dispatcher = dispatcher;
    this.options = options;
    this.ring = ring;
    this.device = new Device(fd, dispatcher, options);
  }

  /** Answers INIT, which the kernel sends at once. @returns what was agreed on, or how the connection ended before */
  begin(): Connection | End {
    const end = this.device.begin();
    return end ?? (this.dispatcher.connection as Connection);
  }

  /** Serves until the connection ends; the filesystem is told of that. Rejects with ErrnoError where it can not be served. */
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
