/** What is fuzzed: a way to make inputs, and what must hold for every input, whatever its bytes. */
import { seeded } from '../../test/fixtures/mounts/wire.ts';

/** One part of the program, as inputs of bytes. */
export interface Target {
  /** Makes an input: the same one for the same numbers. */
  make(random: Random): Uint8Array;
  /** Gives an input to the code; throws where something does not hold, whatever the code threw included. */
  check(input: Uint8Array): void;
}

/** An invariant that does not hold. */
export class Violation extends Error {
  override readonly name = 'Violation';
}

export function demand(holds: boolean, what: string): asserts holds {
  if (!holds) throw new Violation(what);
}

/** Choices that are the same for the same seed. */
export class Random {
  private readonly next: (below: number) => number;

  /** @param run names a series of cases @param number of the case; cases do not depend on each other */
  constructor(run: number, number: number) {
    this.next = seeded(Math.imul(run, 0x9e3779b1) ^ Math.imul(number, 0x85ebca6b));
  }

  /** 0 to below - 1. */
  below(below: number): number {
    return this.next(below);
  }

  /** True once in `times`. */
  oneIn(times: number): boolean {
    return this.next(times) === 0;
  }

  pick<T>(list: readonly T[]): T {
    return list[this.next(list.length)] as T;
  }
}
