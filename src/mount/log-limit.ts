/** Limits how much users of a mount can make its daemon log: they can make the same request fail as often as they like. */

export interface LogLimits {
  /** The number of different lines that may be logged at once. */
  readonly burst: number;
  /** The number of further lines that may be logged each second. */
  readonly perSecond: number;
  /** After this time, a repeated line is logged once more with the number of its repetitions. */
  readonly summaryMs: number;
}

const LIMITS: LogLimits = { burst: 100, perSecond: 1, summaryMs: 10_000 };
/** The number of different lines that are remembered. */
const KINDS_MAX = 256;

/**
 * Logs each line when it comes first. Repetitions, and lines beyond the limits, are only counted; their numbers are logged later.
 * Lines that differ only in the nodeid count as the same: a file gets another nodeid after the kernel has forgotten it.
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

  /** Logs the numbers of repeated and omitted lines, and resets them. */
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
