/** The types that connect the table of commands with the file of each command. */
import type { Command } from 'commander';
import type { ByteString } from '../sys/bytes.ts';

/** The interface that a command's file implements. */
export interface CommandFile {
  /** Returns the command with its arguments, options and help texts; runs nothing. */
  define(): Command;
  /** Runs the command. @returns its exit status */
  run(args: readonly ByteString[]): Promise<number>;
}

/** A row of the table of commands: a call as the list shows it, a line about it, and the loader of its file. */
export interface CommandEntry {
  readonly usage: string;
  readonly what: string;
  readonly load: () => Promise<CommandFile>;
}
