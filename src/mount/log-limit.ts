/** A bound on what users of a mount can have its daemon log: they can make the same request fail as often as they like. */

export interface LogLimits {
  /** How many different lines may follow each other. */
  readonly burst: number;
  /** How many more there may be each second. */
  readonly perSecond: number;
  /** After this time a line that was repeated is logged once more, with how often it came. */
  readonly summaryMs: number;
}

const LIMITS: LogLimits = { burst: 100, perSecond: 1, summaryMs: 10_000 };
/** How many different lines are remembered. */
const KINDS_MAX = 256;

/**
 * Passes lines on, each one the first time that it comes. Repetitions are counted, and told of together; so are lines beyond the
 * limits. Lines are the same if they differ in the nodeid alone: a file gets another one whenever the kernel has forgotten it.
 */
export class LimitedLog {
  private readonly log: (line: string) => void;
  private readonly limits: LogLimits;
  private readonly repeated = new Map<string, number>();
  private omitted = 0;
  private tokens: number;
  private refilledAt = performance.now();
  private timer: NodeJS.Timeout | undefined;

  constructor(log: (line: string) => void, limits = LIMITS) {
    this.log = log;
    this.limits = limits;
    this.tokens = limits.burst;
  }

  readonly say = (line: string): void => {
    const kind = line.replace(/ nodeid \d+/, '');
    const times = this.repeated.get(kind);
    if (times !== undefined) this.repeated.set(kind, times + 1);
    else if (this.repeated.size < KINDS_MAX && this.takeToken()) {
      this.repeated.set(kind, 0);
      this.log(line);
    } else this.omitted++;
    this.timer ??= setTimeout(() => this.summarize(), this.limits.summaryMs).unref();
  };

  /** Tells of what was counted, and forgets it. */
  summarize(): void {
    clearTimeout(this.timer);
    this.timer = undefined;
    for (const [kind, times] of this.repeated) {
      if (times > 0) this.log(`${kind} (${times.toLocaleString('en-US')} more like this)`);
      else this.repeated.delete(kind);
    }
    if (this.omitted > 0) this.log(`${this.omitted.toLocaleString('en-US')} more lines, of other kinds`);
    this.omitted = 0;
    if (this.repeated.size === 0) return;
    for (const kind of this.repeated.keys()) this.repeated.set(kind, 0);
    this.timer = setTimeout(() => this.summarize(), this.limits.summaryMs).unref();
  }

  private takeToken(): boolean {
    const { burst, perSecond } = this.limits;
    const now = performance.now();
    this.tokens = Math.min(burst, this.tokens + ((now - this.refilledAt) / 1000) * perSecond);
    this.refilledAt = now;
    if (this.tokens < 1) return false;
    this.tokens--;
    return true;
  }
}
