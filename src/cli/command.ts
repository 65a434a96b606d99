/** commander, configured for byte strings and for the exit statuses of mount(8). */
import { Argument, Command, CommanderError, Option } from 'commander';
import { type ByteString, printable } from '../sys/bytes.ts';
import { EINVAL, ErrnoError } from '../sys/errno.ts';
import { print } from '../terminal/output.ts';
import { complain, WRONG_CALL } from '../terminal/report.ts';

/** Makes a command whose arguments and messages are byte strings. Options may come after arguments. */
export function newCommand(name: string): Command {
  return new Command(name)
    .exitOverride()
    .helpOption('-h, --help', 'show this help')
    .configureHelp({
      optionDescription: ({ description }) => description,
      argumentDescription: ({ description }) => description,
    })
    .configureOutput({ writeOut: print, outputError: () => {} }); // `parse` words the error
}

/**
 * Parses arguments.
 * @returns undefined if the command should run; the exit status if parsing ends it, because help was shown or the call was wrong
 */
export function parse(command: Command, args: readonly ByteString[]): number | undefined {
  try {
    command.parse(args, { from: 'user' });
    return undefined;
  } catch (error) {
    if (error instanceof CommanderError && error.exitCode === 0) return 0;
    if (error instanceof CommanderError) complain(printable(wrongCall(command, error)));
    else if (error instanceof ErrnoError)
      complain(error.message); // stdout refused the help text
    else throw error;
    return WRONG_CALL;
  }
}

/** A wrong call as a byte string in the order of all messages: the command, the word, its fault, the remedy. */
function wrongCall(command: Command, { code, message }: CommanderError): ByteString {
  const [, guess] = /\(Did you mean (.*)\?\)$/s.exec(message) ?? [];
  const [, quoted = ''] = /'(.*)'/s.exec(message) ?? [];
  const extra = command.args[command.registeredArguments.length];
  const fault = new Map<string, ByteString>([
    ['commander.missingArgument', `the argument <${quoted}> is missing`],
    ['commander.excessArguments', `${extra}: one argument too many`],
    ['commander.optionMissingArgument', `${quoted}: its value is missing`],
    ['commander.unknownOption', `${quoted}: unknown option`],
    ['commander.unknownCommand', `${quoted}: unknown command`],
  ]).get(code);
  const name = command.name();
  const place = name === PROGRAM ? '' : `${name.replace(`${PROGRAM} `, '')}: `;
  return `${place}${fault ?? message.replace(/^error: /, '')}; ${guess ? `did you mean ${guess}?` : `see ${name} --help`}`;
}
const PROGRAM = 'lowerdata';

/** Reports a word that is none of the commands, with the one that it resembles. @returns the exit status */
export function refuseCommand(names: readonly string[], word: ByteString): number {
  const program = newCommand(PROGRAM);
  for (const name of names) program.command(name);
  return parse(program, word.startsWith('-') ? [word] : ['--', word]) ?? WRONG_CALL;
}

/** Expands abbreviated long options, as getopt_long(3) does: an abbreviation must fit exactly one option. */
export function spelledOut(command: Command, args: readonly ByteString[]): ByteString[] {
  const names = command.options.flatMap(({ long }) => long ?? []);
  const end = args.indexOf('--');
  return args.map((arg, i) => {
    const [, name, value = ''] = /^(--[^=]+)(=.*)?$/s.exec(arg) ?? [];
    if (name === undefined || (end >= 0 && i > end) || names.includes(name)) return arg;
    const fitting = names.filter(known => known.startsWith(name));
    return fitting.length === 1 ? `${fitting[0]}${value}` : arg;
  });
}

/**
 * Makes an option with a fixed set of values, which shells complete; `what` names them. The command itself has to refuse other
 * values, because commander would word the message differently.
 */
export function oneOf(flags: string, what: string, values: readonly string[]): Option {
  const option = new Option(flags, what);
  option.argChoices = [...values];
  return option;
}

/** Refuses a value that an option of `oneOf` does not have. @param option with its dashes. Throws ErrnoError EINVAL. */
export function checkChoice(option: string, value: ByteString | undefined, values: readonly string[]): void {
  if (value !== undefined && !values.includes(value))
    throw new ErrnoError(EINVAL, `${option}=${printable(value)}: ${values.join(' or ')}`);
}

/** Makes an argument with a fixed set of values; see `oneOf`. */
export function argumentOneOf(name: string, what: string, values: readonly string[]): Argument {
  const argument = new Argument(name, what);
  argument.argChoices = [...values];
  return argument;
}

/** The values that `--algorithm` accepts. */
export const ALGORITHM_NAMES: readonly string[] = ['sha256', 'sha512'];

/** The parser of an option that may be given more than once: appends the value to the earlier ones. */
export const collect = (value: ByteString, before: ByteString[]): ByteString[] => [...before, value];

/**
 * The number given to --threads; undefined if the option is missing. Throws ErrnoError EINVAL unless it is between 1 and `max`.
 */
export function threadsOf(text: ByteString | undefined, max: number): number | undefined {
  if (text === undefined) return undefined;
  const threads = /^\d+$/.test(text) ? Number(text) : 0;
  if (threads < 1 || threads > max) throw new ErrnoError(EINVAL, `--threads=${printable(text)}: 1 to ${max}`);
  return threads;
}
