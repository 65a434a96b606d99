/** Waits for the next request: first by asking again for a moment, then asleep. */
import type { CpuLatency } from '../sys/cpu-latency.ts';

/** How long to poll before sleeping. */
const SPIN_MS = 0.04;
/** The number of consecutive pauses that may end in sleep. After that, the next pause sleeps without polling. */
const PATIENCE = 8;
/** Keeping CPUs awake is worthwhile after BUSY requests in a row, each at most BUSY_MS after the last answer. */
const BUSY = 16;
const BUSY_MS = 1;
/** How long CPUs are kept awake without a request. */
const AWAKE_MS = 4;

/**
 * The time between an answer and the next request. A CPU that sleeps takes 20 to 60 µs to wake, longer than most answers take. So
 * the loop polls while requests follow each other closely, and sleeps while the mount is idle.
 */
export class Pause {
  private readonly sleep: (ms: number) => boolean;
  private readonly latency: CpuLatency | undefined;
  private patience = PATIENCE;
  /** Consecutive requests that came within BUSY_MS. */
  private busy = 0;
  /** When the current pause began, by performance.now; 0 if there is none. */
  private since = 0;

  /**
   * @param sleep returns true if there may be a request, or false after its argument's milliseconds; a negative argument means no
   * limit
   * @param latency also keeps the CPU of the process that waits for an answer from sleeping
   */
  constructor(sleep: (ms: number) => boolean, latency?: CpuLatency) {
    this.sleep = sleep;
    this.latency = latency;
  }

  /**
   * Records that there is no request yet.
   * @returns true to poll again at once; false to run the event loop and then call `rest`
   */
  again(): boolean {
    const now = performance.now();
    if (this.since === 0) this.since = now;
    return this.patience > 0 && now - this.since < SPIN_MS;
  }

  /** Sleeps until there may be a request. Returns at once if the last poll found one. */
  rest(): void {
    if (this.since === 0) return;
    if (this.patience > 0) this.patience--;
    if (!this.awake()) this.sleep(-1);
    if (performance.now() - this.since < 3 * SPIN_MS) this.patience = PATIENCE; // such a short sleep was hardly worth it
  }

  /** Sleeps while CPUs are kept awake, if they are. @returns whether there may be a request */
  private awake(): boolean {
    if (!this.latency?.held) return false;
    if (this.sleep(AWAKE_MS)) return true;
    this.latency.held = false;
    return false;
  }

  /** Records that a request came. @returns the time, by performance.now */
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
