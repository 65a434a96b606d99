/**
 * The event loop of the calling thread, beside which the thread waits for something that Node.js can not wait for. It sleeps in
 * a system call of its own then, on the loop's descriptor as well, and lets the loop have its turn when that can be read.
 * Source: libuv, uv_backend_fd and uv_backend_timeout.
 */
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

/** Longer than anything waits: 24 days. */
const FOREVER_MS = 2 ** 31 - 1;

/**
 * Calls `turn` whenever the event loop has done all that there is to do, until it returns false. It may sleep, and must not
 * throw.
 */
export function betweenEvents(turn: () => boolean): void {
  const word = new Int32Array(new SharedArrayBuffer(4));
  const alive = setInterval(() => {}, FOREVER_MS); // a loop with nothing to wait for looks busy, and `untilTimer` gives 0
  const take = (): void => {
    if (turn()) next();
    else clearInterval(alive);
  };
  // An immediate comes after all events of a round. One that is not unref'd makes the loop look busy.
  const woken = (): void => void setImmediate(take).unref();
  // Has the loop come round at once. A MessageChannel would do so too, but takes more than a millisecond to come up.
  const next = (): void => {
    void (Atomics.waitAsync(word, 0, 0).value as Promise<string>).then(woken);
    Atomics.notify(word, 0);
  };
  next();
}
