/** Waiting for the next request: awake for a moment, then asleep. */
import type { CpuLatency } from '../sys/cpu-latency.ts';

/** How long to ask again and again before sleeping. */
const SPIN_MS = 0.04;
/** Pauses in a row that may end in sleep before the next one sleeps at once. */
const PATIENCE = 8;
/** Requests in a row, each this soon after the last answer, that make it worth to keep processors awake. */
const BUSY = 16;
const BUSY_MS = 1;
/** How long they are kept awake without a request. */
const AWAKE_MS = 4;

/**
 * The time between an answer and the next request. A processor that sleeps takes 20 to 60 µs to wake, longer than most
 * answers take, so as long as requests follow each other closely the loop asks again at once; an idle mount sleeps.
 */
export class Pause {
  private readonly sleep: (ms: number) => boolean;
  private readonly latency: CpuLatency | undefined;
  private patience = PATIENCE;
  /** Requests in a row that came soon. */
  private busy = 0;
  /** When it began; 0: there is none. */
  private since = 0;

  /**
   * @param sleep returns when there may be a request, or after milliseconds, where they are not negative: whether there may be
   * @param latency also keeps the processor of whoever waits for an answer from sleeping
   */
  constructor(sleep: (ms: number) => boolean, latency?: CpuLatency) {
    this.sleep = sleep;
    this.latency = latency;
  }

  /** There is no request yet. @returns whether to ask again at once; else it is time to do something else, and to `rest` */
  again(): boolean {
    const now = performance.now();
    if (this.since === 0) this.since = now;
    return this.patience > 0 && now - this.since < SPIN_MS;
  }

  /** Sleeps until there may be a request, if there was none when this was asked last. */
  rest(): void {
    if (this.since === 0) return;
    if (this.patience > 0) this.patience--;
    if (!this.awake()) this.sleep(-1);
    if (performance.now() - this.since < 3 * SPIN_MS) this.patience = PATIENCE; // sleeping was hardly worth it
  }

  /** Sleeps with processors awake, if they are. @returns whether there may be a request */
  private awake(): boolean {
    if (!this.latency?.held) return false;
    if (this.sleep(AWAKE_MS)) return true;
    this.latency.held = false;
    return false;
  }

  /** A request came. @returns when, by performance.now */
  end(): number {
    const now = performance.now();
    const waited = this.since === 0 ? 0 : now - this.since;
    if (this.since !== 0 && waited < SPIN_MS) this.patience = PATIENCE;
    this.since = 0;
    if (this.latency) {
      this.busy = waited < BUSY_MS ? this.busy + 1 : 0;
      if (this.busy >= BUSY) this.latency.held = true;
    }
    return now;
  }
}
