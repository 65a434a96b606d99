/** A moment to do what can wait, such as to have sockets of Node.js, which take 2 ms to come up: a new mount answers first. */
const SOON_MS = 100;

/** Does something in a moment, if the process still lives. */
export function runDeferred(act: () => void): void {
  setTimeout(act, SOON_MS).unref();
}
