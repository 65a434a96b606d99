/** All commands with their words, as pages and completions tell of them. */
import type { Argument, Command, Option } from 'commander';
import type { Entry } from './command-file.ts';

/** A command: what its entry in the table and its own help say. */
export interface CommandWords {
  readonly name: string;
  /** One line of the list of commands. */
  readonly what: string;
  readonly description: string;
  /** The call, without `lowerdata`. */
  readonly usage: string;
  readonly args: readonly Argument[];
  /** --help is the last one. */
  readonly options: readonly Option[];
  /** What its help says after the options; may be empty. */
  readonly after: string;
}

/** Loads every command of a table. */
export function wordsOf(commands: ReadonlyMap<string, Entry>): Promise<CommandWords[]> {
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

/** commander tells what is added to a help by printing it alone. */
function afterHelp(command: Command): string {
  let text = '';
  command.configureOutput({ writeOut: part => (text += part) }).outputHelp();
  return text.slice(command.helpInformation().length);
}

/** What completes a value: one of a list, a file, a list of mount options, or nothing that is known here. */
export type Completes = readonly string[] | 'files' | 'mount options' | 'nothing';

/** What completes the value of an option; undefined for a flag. */
export function completesOf({ flags, long, argChoices }: Option): Completes | undefined {
  const [, word] = /<(.*)>/.exec(flags) ?? [];
  if (word === undefined) return undefined;
  if (long === '--options') return 'mount options';
  return argChoices ?? (word === 'path' || word === 'list' ? 'files' : 'nothing');
}

/** The names of an option, the short one first. */
export const namesOf = ({ short, long }: Option): string[] => [short, long].filter(name => name !== undefined);
