/** Waits for many descriptors that Node.js cannot wait for, beside the event loop of the thread. */
import { must } from '../errno.ts';
import { betweenEvents, sleeperOn } from '../event-loop.ts';
import { native } from '../native.ts';

/** What to wait for, and what has come. EPOLLHUP and EPOLLERR come unasked. Source: linux/eventpoll.h. */
export const EPOLLIN = 0x1;
export const EPOLLOUT = 0x4;

const ADD = 1;
const REMOVE = 2;
const CHANGE = 3;
/** The number of descriptors that one call reports. */
const READY_MAX = 64;

/** How a thread waits while nothing is ready; see `Pause`. */
export interface Waiting {
  /** Records that nothing is ready. @returns true to look again at once; false to run the event loop and then call `rest` */
  again(): boolean;
  /** Sleeps until something may be ready, or the event loop has work. */
  rest(): void;
  /** Records that something was ready. */
  end(): void;
}

export class Readiness {
  /** Readable when a descriptor is ready. */
  readonly fd: number = must(native.epollCreate(), 'epoll_create1');
  private readonly acts = new Map<number, (events: number) => void>();
  private readonly ready = new Int32Array(2 * READY_MAX);
  private isStopped = false;

  /**
   * @param act called each time the descriptor is ready, with the events; it must not throw
   * Throws ErrnoError, EPERM for a file that is always ready.
   */
  add(fd: number, events: number, act: (events: number) => void): void {
    must(native.epollControl(this.fd, ADD, fd, events), 'epoll_ctl');
    this.acts.set(fd, act);
  }

  change(fd: number, events: number): void {
    must(native.epollControl(this.fd, CHANGE, fd, events), 'epoll_ctl');
  }

  /** Must be called before the descriptor is closed. */
  remove(fd: number): void {
    this.acts.delete(fd);
    native.epollControl(this.fd, REMOVE, fd, 0);
  }

  /**
   * Waits and acts between the events of the loop, until `stop`.
   * @param before called after events of the loop, before a sleep; it must not throw
   */
  run(waiting: Waiting = asleep(this.fd), before: () => void = () => {}): void {
    betweenEvents(() => {
      if (this.isStopped) return false;
      before();
      waiting.rest();
      while (!this.isStopped && !this.act()) if (!waiting.again()) return true;
      waiting.end();
      return !this.isStopped;
    });
  }

  stop(): void {
    this.isStopped = true;
  }

  /** Acts for all that is ready. @returns whether anything was */
  private act(): boolean {
    const count = native.epollWait(this.fd, this.ready, 0);
    for (let i = 0; i < count; i++) {
      const [fd = -1, events = 0] = this.ready.subarray(2 * i, 2 * i + 2);
      this.acts.get(fd)?.(events); // one that acted before may have removed it
    }
    return count > 0;
  }
}

/** Sleeps whenever nothing is ready. */
function asleep(fd: number): Waiting {
  const sleep = sleeperOn(fd);
  let isIdle = false;
  return {
    again: () => {
      isIdle = true;
      return false;
    },
    rest: () => {
      if (isIdle) sleep(-1);
    },
    end: () => {
      isIdle = false;
    },
  };
}
