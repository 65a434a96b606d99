/** The rounds of a benchmark: each round measures every target in turn on a fresh mount. */
import { chmodSync, mkdirSync, mkdtempSync, realpathSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type ByteString, bufferOf, byteStringFromText } from '../sys/bytes.ts';
import { ECHILD, ErrnoError, systemError } from '../sys/errno.ts';
import type { ClientUser } from './client.ts';
import { Clients, type Timing } from './clients.ts';
import { type BucketCounts, countTimes } from './histogram.ts';
import { Load } from './load.ts';
import type { BenchNames } from './names.ts';
import { makeUpper, type Running, removePlace, removeUpper, type Target } from './targets.ts';
import { type Usage, untilIdle } from './usage.ts';
import { type BenchRoot, GROUPS, type Pass, type Workload, warmUp } from './workloads.ts';

export interface BenchPlan {
  readonly targets: readonly Target[];
  readonly workloads: readonly Workload[];
  readonly names: BenchNames;
  readonly rounds: number;
  /** Numbers of concurrent clients; everything is measured once for each. */
  readonly clients: readonly number[];
  /** The user that clients run as; by default the user of this process. */
  readonly user?: ClientUser | undefined;
  /** The number of threads that keep CPUs busy meanwhile. */
  readonly load: number;
}

/** The times of one target for one workload in one round, in nanoseconds; `seconds` is the whole round. */
export interface BenchSample {
  readonly target: string;
  readonly workload: string;
  readonly clients: number;
  readonly round: number;
  readonly operations: number;
  readonly p50: number;
  readonly p99: number;
  readonly max: number;
  readonly counts: BucketCounts;
  readonly seconds: number;
}

export interface BenchResult {
  readonly samples: readonly BenchSample[];
  /** Errors of targets, by name; a target is not measured after its error. */
  readonly errors: ReadonlyMap<string, string>;
  /** Errors of the stack's programs, by name; a program is not started after its error. */
  readonly useless: ReadonlyMap<string, string>;
  /** Usage by the servers of each target: processor time of all rounds, and the highest peak of memory. */
  readonly usage: ReadonlyMap<string, Usage>;
}

/**
 * Runs all rounds. When the promise settles, nothing is mounted and no file is left.
 * @param step called after each target of each round
 * @param signal aborts the run; the promise rejects with the signal's reason
 */
export async function runBench(plan: BenchPlan, step: () => void, signal: AbortSignal): Promise<BenchResult> {
  const home = byteStringFromText(mkdtempSync(join(realpathSync(tmpdir()), 'lowerdata-bench-')));
  if (plan.user) chmodSync(bufferOf(home), 0o711);
  const clients = new Clients(Math.max(...plan.clients), plan.names, plan.user, signal);
  const load = new Load(plan.load);
  try {
    const rounds = new Rounds(plan, home, clients, signal);
    await rounds.run(step);
    return rounds;
  } finally {
    removePlace(home);
    await load.stop();
    if (!signal.aborted) await clients.stop(); // after an abort, a thread may still be in a call
  }
}

class Rounds implements BenchResult {
  readonly samples: BenchSample[] = [];
  readonly errors = new Map<string, string>();
  readonly useless = new Map<string, string>();
  readonly usage = new Map<string, Usage>();
  readonly #plan: BenchPlan;
  readonly #home: ByteString;
  readonly #clients: Clients;
  readonly #signal: AbortSignal;
  /** Whether each mount has an upper layer. */
  readonly #writes: boolean;

  constructor(plan: BenchPlan, home: ByteString, clients: Clients, signal: AbortSignal) {
    this.#plan = plan;
    this.#home = home;
    this.#clients = clients;
    this.#signal = signal;
    this.#writes = plan.workloads.some(({ writes }) => writes);
  }

  async run(step: () => void): Promise<void> {
    const { targets, rounds, clients } = this.#plan;
    for (let round = 0; round < rounds; round++)
      for (const count of clients)
        for (let i = 0; i < targets.length; i++) {
          // each round starts with another target, so that the cost of cold caches falls on all of them
          await this.#measure(targets[(i + round) % targets.length] as Target, round, count);
          step();
        }
  }

  async #measure(target: Target, round: number, clients: number): Promise<void> {
    if (this.errors.has(target.name)) return;
    try {
      await this.#groups(target, round, clients);
    } catch (error) {
      this.#signal.throwIfAborted();
      const failure = systemError(error);
      if (!(failure instanceof ErrnoError)) throw error;
      this.errors.set(target.name, failure.message);
    }
  }

  async #groups(target: Target, round: number, clients: number): Promise<void> {
    const workloads = this.#plan.workloads.filter(({ kind, writes }) =>
      target.dataOnly ? kind === 'data' && !writes : true,
    );
    const passes = new Set(workloads.map(warmUp).filter(pass => pass !== undefined));
    if (passes.size > 0)
      await this.#mounted(target, async place => {
        for (const pass of passes) await this.#pass(pass, () => this.#clients.pass(place, pass, clients));
      });
    for (const name of GROUPS) {
      const group = workloads.filter(({ group }) => group === name);
      if (group.length === 0 || this.useless.has(name)) continue;
      await this.#mounted(target, async place => {
        for (const workload of group) {
          const timing = await this.#pass(workload, () => this.#clients.measure(place, workload, clients));
          if (timing) this.#keep(target.name, workload.name, clients, round, timing);
        }
      });
    }
  }
  /** @returns undefined for a program that failed, here or on another target: each workload runs on all targets or on none */
  async #pass(pass: Pass, action: () => Promise<Timing>): Promise<Timing | undefined> {
    if (pass.operation !== 'start') return action();
    if (this.useless.has(pass.program)) return undefined;
    try {
      return await action();
    } catch (error) {
      if (!(error instanceof ErrnoError) || error.errno !== ECHILD) throw error;
      this.useless.set(pass.program, error.message);
      return undefined;
    }
  }

  #keep(target: string, workload: string, clients: number, round: number, timing: Timing): void {
    this.samples.push({ target, workload, clients, round, ...summary(timing) });
  }

  /** Calls `use` while the target is mounted, and records the usage of its server. */
  async #mounted(target: Target, use: (place: BenchRoot) => Promise<void>): Promise<void> {
    this.#signal.throwIfAborted();
    const place = `${this.#home}/${target.name.replaceAll('/', '_')}`;
    mkdirSync(bufferOf(place));
    const upper = this.#writes ? makeUpper(place) : undefined;
    let running: Running | undefined;
    try {
      running = await target.start(place, this.#signal, upper);
      this.#signal.throwIfAborted();
      const { large, usage } = running;
      await use({ root: `${place}/mnt`, settle: () => untilIdle(usage), ...(large !== undefined && { large }) });
      this.#note(target.name, usage?.());
    } finally {
      await running?.stop();
      if (upper) removeUpper(upper);
      removePlace(place);
    }
  }

  #note(name: string, usage: Usage | undefined): void {
    if (!usage) return;
    const { processorSeconds = 0, peakBytes = 0 } = this.usage.get(name) ?? {};
    this.usage.set(name, {
      processorSeconds: processorSeconds + usage.processorSeconds,
      peakBytes: Math.max(peakBytes, usage.peakBytes),
    });
  }
}

function summary({ nanoseconds, seconds }: Timing): Omit<BenchSample, 'target' | 'workload' | 'clients' | 'round'> {
  const sorted = nanoseconds.sort();
  const at = (part: number): number => sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * part))] ?? 0;
  return { operations: sorted.length, p50: at(0.5), p99: at(0.99), max: at(1), counts: countTimes(sorted), seconds };
}
