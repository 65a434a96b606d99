/** What the table of commands knows of each command. */
import type { Command } from 'commander';
import type { ByteString } from '../sys/bytes.ts';

/** The file of a command. */
export interface CommandFile {
  /** Its arguments, options and words; nothing is done yet. */
  define(): Command;
  /** Runs it. @returns its exit status */
  run(args: readonly ByteString[]): Promise<number>;
}

export interface Entry {
  readonly usage: string;
  readonly what: string;
  readonly load: () => Promise<CommandFile>;
}
