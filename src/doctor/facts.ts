/** What `lowerdata doctor` finds out, a fact at a time. */
import { readFileSync } from 'node:fs';
import { ErrnoError } from '../sys/errno.ts';

/** The answer of a probe. */
export interface Answer {
  /** Whether it is available. */
  readonly ok: boolean;
  /** What there is; null for nothing. */
  readonly value: string | null;
  /** Why it is not available. */
  readonly why?: string;
  /** What would change that. */
  readonly help?: string;
}
export interface Fact extends Answer {
  readonly name: string;
}

/** A name and the question that goes with it. */
export type Row<Subject> = readonly [name: string, probe: (subject: Subject) => Answer];

export const yes = (value: string): Answer => ({ ok: true, value });
export const no = (value: string | null, why: string, help: string): Answer => ({ ok: false, value, why, help });

/** Asks each question of a table. What a system call of a probe throws is why its answer is no. */
export function askAll<Subject>(rows: readonly Row<Subject>[], subject: Subject): Fact[] {
  return rows.map(([name, probe]) => ({ name, ...answer(probe, subject) }));
}

function answer<Subject>(probe: Row<Subject>[1], subject: Subject): Answer {
  try {
    return probe(subject);
  } catch (error) {
    const { syscall, message } = error as NodeJS.ErrnoException;
    if (!(error instanceof ErrnoError) && syscall === undefined) throw error;
    return no(null, message, 'a system that answers this question');
  }
}

/** The fact of a name; not available where nobody has asked. */
export const factOf = (facts: readonly Fact[], name: string): Fact =>
  facts.find(fact => fact.name === name) ?? { name, ok: false, value: null };

/** A file of /proc, /sys or /etc, without white space at its ends; undefined where it can not be read. */
export function contentsOf(path: string): string | undefined {
  try {
    return readFileSync(path, 'latin1').trim();
  } catch {
    return undefined;
  }
}
