/** The facts that `lowerdata doctor` collects, one per probe. */
import { readFileSync } from 'node:fs';
import { ErrnoError, systemError } from '../sys/errno.ts';

/** The answer of a probe. */
export interface Answer {
  /** Whether the capability is available. */
  readonly ok: boolean;
  /** The version, path or words that describe it; null for none. */
  readonly value: string | null;
  /** The reason why it is not available. */
  readonly why?: string;
  /** The change that would make it available. */
  readonly help?: string;
}
export interface Fact extends Answer {
  readonly name: string;
}

/** A name, and the probe that answers for it. */
export type NamedProbe<Subject> = readonly [name: string, probe: (subject: Subject) => Answer];

export const yes = (value: string): Answer => ({ ok: true, value });
export const no = (value: string | null, why: string, help: string): Answer => ({ ok: false, value, why, help });

/** Asks every probe of a table. If a system call of a probe fails, the answer is no, with the error as its reason. */
export function askAll<Subject>(rows: readonly NamedProbe<Subject>[], subject: Subject): Fact[] {
  return rows.map(([name, probe]) => ({ name, ...answer(probe, subject) }));
}

function answer<Subject>(probe: NamedProbe<Subject>[1], subject: Subject): Answer {
  try {
    return probe(subject);
  } catch (error) {
    const failure = systemError(error);
    if (!(failure instanceof ErrnoError)) throw error;
    return no(null, failure.message, 'a system that answers this question');
  }
}

/** The fact with a name; an unavailable one if it was not asked for. */
export const factOf = (facts: readonly Fact[], name: string): Fact =>
  facts.find(fact => fact.name === name) ?? { name, ok: false, value: null };

/** The trimmed contents of a file in /proc, /sys or /etc; undefined if it cannot be read. */
export function contentsOf(path: string): string | undefined {
  try {
    return readFileSync(path, 'latin1').trim();
  } catch {
    return undefined;
  }
}
