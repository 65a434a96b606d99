/** Waiting for the next request: awake for a moment, then asleep. */

/** How long to ask again and again before sleeping. */
const SPIN_MS = 0.04;
/** Pauses in a row that may end in sleep before the next one sleeps at once. */
const PATIENCE = 8;

/**
 * The time between an answer and the next request. A processor that sleeps takes 20 to 60 µs to wake, longer than most
 * answers take, so as long as requests follow each other closely the loop asks again at once; an idle mount sleeps.
 */
export class Pause {
  private readonly sleep: () => void;
  private patience = PATIENCE;
  /** When it began; 0: there is none. */
  private since = 0;

  /** @param sleep returns when there may be a request */
  constructor(sleep: () => void) {
    this.sleep = sleep;
  }

  /** There is no request yet: returns at once, or sleeps until there may be one. */
  wait(): void {
    const now = performance.now();
    if (this.since === 0) this.since = now;
    if (this.patience > 0 && now - this.since < SPIN_MS) return;
    if (this.patience > 0) this.patience--;
    this.sleep();
    if (performance.now() - this.since < 3 * SPIN_MS) this.patience = PATIENCE; // sleeping was hardly worth it
  }

  /** A request came. @returns when, by performance.now */
  end(): number {
    const now = performance.now();
    if (this.since !== 0 && now - this.since < SPIN_MS) this.patience = PATIENCE;
    this.since = 0;
    return now;
  }
}
