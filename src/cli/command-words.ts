/** The help texts of all commands, from which manual pages and shell completions are made. */
import type { Argument, Command, Option } from 'commander';
import type { CommandEntry } from './command-file.ts';

/** A command as its row in the table and its own help describe it. */
export interface CommandWords {
  readonly name: string;
  /** The command's line in the list of commands. */
  readonly what: string;
  readonly description: string;
  /** The synopsis, without `lowerdata`. */
  readonly usage: string;
  readonly args: readonly Argument[];
  /** The options in order; --help is the last one. */
  readonly options: readonly Option[];
  /** The text that the help prints after the options; may be empty. */
  readonly after: string;
}

/** Loads every command of a table and returns their help texts. */
export function wordsOf(commands: ReadonlyMap<string, CommandEntry>): Promise<CommandWords[]> {
  return Promise.all(
    [...commands].map(async ([name, { what, load }]) => {
      const command = (await load()).define();
      const help = command.createHelp();
      return {
        ...{ name, what, description: command.description(), usage: `${name} ${command.usage()}` },
        ...{ args: help.visibleArguments(command), options: help.visibleOptions(command), after: afterHelp(command) },
      };
    }),
  );
}

/** The help text added after the options. commander gives it only as output, so the whole help is printed into a string. */
function afterHelp(command: Command): string {
  let text = '';
  command.configureOutput({ writeOut: part => (text += part) }).outputHelp();
  return text.slice(command.helpInformation().length);
}

/** The candidates for a value: a list of words, file names, a list of mount options, or nothing known here. */
export type Completes = readonly string[] | 'files' | 'mount options' | 'nothing';

/** The candidates for the value of an option; undefined for a flag. */
export function completesOf({ flags, long, argChoices }: Option): Completes | undefined {
  const [, word] = /<(.*)>/.exec(flags) ?? [];
  if (word === undefined) return undefined;
  if (long === '--options') return 'mount options';
  return argChoices ?? (word === 'path' || word === 'list' ? 'files' : 'nothing');
}

/** The names of an option, the short one first. */
export const namesOf = ({ short, long }: Option): string[] => [short, long].filter(name => name !== undefined);
