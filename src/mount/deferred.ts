/**
 * Delay of work that can wait, such as creating Node.js sockets, which takes 2 ms. A new mount answers its first requests before.
 */
const SOON_MS = 100;

/** Calls `act` after SOON_MS, unless the process ends before. */
export function runDeferred(act: () => void): void {
  setTimeout(act, SOON_MS).unref();
}
