/** The interface of a fuzz target: making inputs, and checking the invariants that hold for all inputs. */
import { seeded } from '../../test/fixtures/mounts/wire.ts';

/** One part of the program that is fed bytes. */
export interface Target {
  /** Makes an input, which depends on nothing but the random numbers. */
  make(random: Random): Uint8Array;
  /** Feeds an input to the code. Throws if an invariant is violated, or if the code throws an error that it must not throw. */
  check(input: Uint8Array): void | Promise<void>;
}

/** An invariant that does not hold. */
export class Violation extends Error {
  override readonly name = 'Violation';
}

export function demand(holds: boolean, what: string): asserts holds {
  if (!holds) throw new Violation(what);
}

/** Random choices that are reproducible by seed. */
export class Random {
  private readonly next: (below: number) => number;

  /** @param run identifies a series of cases @param number of the case; cases are independent of each other */
  constructor(run: number, number: number) {
    this.next = seeded(Math.imul(run, 0x9e3779b1) ^ Math.imul(number, 0x85ebca6b));
  }

  /** An integer from 0 to `below` - 1. */
  below(below: number): number {
    return this.next(below);
  }

  /** True with a probability of 1 in `times`. */
  oneIn(times: number): boolean {
    return this.next(times) === 0;
  }

  pick<T>(list: readonly T[]): T {
    return list[this.next(list.length)] as T;
  }
}
