/** Waits for the next request: by asking again for a moment, or asleep, whichever has been shorter lately. */
import type { CpuLatency } from '../sys/cpu-latency.ts';

/** How long to poll before sleeping. */
const SPIN_MS = 0.04;
/** The number of consecutive pauses that may end in sleep. After that, the next pause sleeps without polling. */
const PATIENCE = 8;
/** The next request follows closely if it comes within this time. Such a pause is slept through without the event loop. */
const CLOSE_MS = 1;
/** Keeping CPUs awake is worthwhile after BUSY requests in a row that followed closely. */
const BUSY = 16;
/** How long CPUs are kept awake without a request. */
const AWAKE_MS = 4;

/** The way to wait that is not preferred is tried once in so many pauses. */
const TRY_EVERY = 128;
/** The weight of the last pause in the mean of its way, for the one that is preferred and the one that is tried. */
const WEIGHT = 1 / 64;
const WEIGHT_TRIED = 1 / 8;
/** A longer pause counts as this long: then the client did something else. */
const COUNTED_MS = 0.1;
/** A way is preferred from the time when its mean is less than this part of the other's, and shorter by that much. */
const CLEARLY = 0.6;
const CLEARLY_MS = 0.01;

/** A way to wait, with the mean time from the last answer to a request that followed closely. */
interface Way {
  readonly polls: boolean;
  meanMs: number;
}

/**
 * The time between an answer and the next request.
 *
 * A CPU that sleeps takes 20 to 60 µs to wake, longer than most answers take. So on a machine that is otherwise idle, the loop
 * polls while requests follow each other closely, and sleeps while the mount is idle. Where other programs keep the CPUs busy,
 * waking costs nothing, and polling keeps the client from the CPU that it needs to make its next request. Which is the case is
 * measured.
 */
export class Pause {
  private readonly sleep: (ms: number) => boolean;
  private readonly latency: CpuLatency | undefined;
  private readonly now: () => number;
  private patience = PATIENCE;
  /** Consecutive requests that came within CLOSE_MS. */
  private busy = 0;
  /** When the current pause began, by `now`; 0 if there is none. */
  private since = 0;
  private preferred: Way = { polls: true, meanMs: 0.02 };
  private other: Way = { polls: false, meanMs: 0.06 };
  /** That of the current pause. */
  private way = this.preferred;
  private hasSlept = false;
  private pauses = 0;

  /**
   * @param sleep returns true if there may be a request, or false after its argument's milliseconds; a negative argument means no
   * limit
   * @param latency also keeps the CPU of the process that waits for an answer from sleeping
   * @param now the time in milliseconds
   */
  constructor(
    sleep: (ms: number) => boolean,
    latency?: CpuLatency,
    now: () => number = performance.now.bind(performance),
  ) {
    this.sleep = sleep;
    this.latency = latency;
    this.now = now;
  }

  /**
   * Records that there is no request yet, and may sleep.
   * @returns true to poll again at once; false to run the event loop and then call `rest`
   */
  again(): boolean {
    const now = this.now();
    if (this.since === 0) this.begin(now);
    if (this.way.polls) return this.patience > 0 && now - this.since < SPIN_MS;
    if (this.hasSlept) return false;
    this.hasSlept = true;
    this.sleep(CLOSE_MS);
    return true;
  }

  private begin(now: number): void {
    this.since = now;
    this.hasSlept = false;
    this.way = ++this.pauses % TRY_EVERY === 0 ? this.other : this.preferred;
  }

  /** Sleeps until there may be a request. Returns at once if the last poll found one. */
  rest(): void {
    if (this.since === 0) return;
    if (this.patience > 0) this.patience--;
    if (!this.awake()) this.sleep(-1);
    if (this.now() - this.since < 3 * SPIN_MS) this.patience = PATIENCE; // such a short sleep was hardly worth it
  }

  /** Sleeps while CPUs are kept awake, if they are. @returns whether there may be a request */
  private awake(): boolean {
    if (!this.latency?.held) return false;
    if (this.sleep(AWAKE_MS)) return true;
    this.latency.held = false;
    return false;
  }

  /** Records that a request came. @returns the time, by `now` */
  end(): number {
    const now = this.now();
    const waited = this.since === 0 ? 0 : now - this.since;
    if (this.since !== 0) this.learn(waited);
    this.since = 0;
    if (this.latency) {
      this.busy = waited < CLOSE_MS ? this.busy + 1 : 0;
      if (this.busy >= BUSY) this.latency.held = true;
    }
    return now;
  }

  private learn(waited: number): void {
    if (waited < SPIN_MS) this.patience = PATIENCE;
    if (waited >= CLOSE_MS || (this.way.polls && this.patience === 0)) return;
    const { way, preferred, other } = this;
    way.meanMs += (Math.min(waited, COUNTED_MS) - way.meanMs) * (way === preferred ? WEIGHT : WEIGHT_TRIED);
    if (other.meanMs < Math.min(CLEARLY * preferred.meanMs, preferred.meanMs - CLEARLY_MS))
      [this.preferred, this.other] = [other, preferred];
  }
}
