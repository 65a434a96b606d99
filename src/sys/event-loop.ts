/**
 * The event loop of the calling thread, beside which the thread waits for something that Node.js can not wait for. It sleeps in
 * a system call of its own then, on the loop's descriptor as well, and lets the loop have its turn when that can be read.
 * Source: libuv, uv_backend_fd and uv_backend_timeout.
 */
import { MessageChannel } from 'node:worker_threads';
import { must } from './errno.ts';
import { native } from './native.ts';

const POLLIN = 1;

/**
 * Sleeps until a descriptor can be read, the event loop has something to do, or milliseconds have passed, where they are not
 * negative. An error of the descriptor shows when it is read.
 * @returns a function that does so, and returns whether there may be something
 */
export function sleeperOn(fd: number): (milliseconds: number) => boolean {
  const fds = Int32Array.of(fd, must(native.loopDescriptor(), 'the event loop'));
  return milliseconds => native.poll(fds, POLLIN, untilTimer(milliseconds)) !== 0;
}

/** How many milliseconds to sleep at most, so that no timer is late. Negative, given or returned: without a limit. */
function untilTimer(milliseconds: number): number {
  const timeout = native.loopTimeout();
  if (timeout < 0) return milliseconds;
  return milliseconds < 0 ? timeout : Math.min(timeout, milliseconds);
}

/**
 * Calls `turn` whenever the event loop has done all that there is to do, until it returns false. It may sleep, and must not
 * throw.
 */
export function betweenEvents(turn: () => boolean): void {
  const { port1: port, port2: other } = new MessageChannel();
  const next = (): void => other.postMessage(undefined); // has the loop come round at once
  const take = (): void => {
    if (turn()) next();
    else port.close();
  };
  // After the loop has seen to every event. An immediate that is not unref'd makes it look busy, and `untilTimer` gives 0.
  port.on('message', () => setImmediate(take).unref());
  next();
}
