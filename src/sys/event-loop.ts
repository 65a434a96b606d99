/**
 * Lets a thread wait for a descriptor that Node.js cannot wait for, beside the thread's event loop. The thread sleeps in poll(2)
 * on that descriptor and on the loop's own. When the loop's descriptor is readable, the loop gets its turn.
 * Source: libuv, uv_backend_fd and uv_backend_timeout.
 */
import { must } from './errno.ts';
import { native } from './native.ts';

const POLLIN = 1;

/**
 * Makes a function that sleeps until `fd` is readable, the event loop has work, or the given milliseconds have passed. A negative
 * number means no limit. An error of the descriptor counts as readable.
 * @returns the function; it returns whether there may be something to read or to do
 */
export function sleeperOn(fd: number): (milliseconds: number) => boolean {
  const fds = Int32Array.of(fd, must(native.loopDescriptor(), 'the event loop'));
  return milliseconds => native.poll(fds, POLLIN, untilTimer(milliseconds)) !== 0;
}

/**
 * The longest sleep in milliseconds at which no timer is late. Negative numbers, in the argument or the result, mean no limit.
 */
function untilTimer(milliseconds: number): number {
  const timeout = native.loopTimeout();
  if (timeout < 0) return milliseconds;
  return milliseconds < 0 ? timeout : Math.min(timeout, milliseconds);
}

/** 24 days, longer than anything waits. */
const FOREVER_MS = 2 ** 31 - 1;

/**
 * Calls `turn` each time the event loop has handled all its events, until `turn` returns false. It may sleep, and must not throw.
 */
export function betweenEvents(turn: () => boolean): void {
  const word = new Int32Array(new SharedArrayBuffer(4));
  const alive = setInterval(() => {}, FOREVER_MS); // an empty loop looks busy, so that `untilTimer` gives 0
  const take = (): void => {
    if (turn()) next();
    else clearInterval(alive);
  };
  // An immediate runs after all events of a loop iteration. If it were not unref'd, the loop would look busy.
  const woken = (): void => void setImmediate(take).unref();
  // Makes the loop iterate at once. A MessageChannel would do so too, but takes more than a millisecond to set up.
  const next = (): void => {
    void (Atomics.waitAsync(word, 0, 0).value as Promise<string>).then(woken);
    Atomics.notify(word, 0);
  };
  next();
}

/** How long work waits that can wait. */
const SOON_MS = 100;

/**
 * Calls `act` after SOON_MS, unless the process ends before: a new mount answers its first requests before it does work that takes
 * milliseconds.
 */
export function runDeferred(act: () => void): void {
  setTimeout(act, SOON_MS).unref();
}
