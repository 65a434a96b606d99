/** commander, set up for byte strings and for the exit statuses of mount(8). */
import { Argument, Command, CommanderError, Option } from 'commander';
import { type ByteString, printable } from '../sys/bytes.ts';
import { EINVAL, ErrnoError } from '../sys/errno.ts';
import { print } from '../terminal/output.ts';
import { complain, complainInLines, WRONG_CALL } from '../terminal/report.ts';

/** A command whose arguments, and so its messages, are byte strings. Options may come after arguments. */
export function newCommand(name: string): Command {
  return new Command(name)
    .exitOverride()
    .helpOption('-h, --help', 'show this help')
    .configureHelp({
      optionDescription: ({ description }) => description,
      argumentDescription: ({ description }) => description,
    })
    .configureOutput({
      writeOut: print,
      writeErr: text => complainInLines(text.replace(/^error: /, 'lowerdata: ')),
    });
}

/** Parses arguments. @returns the exit status where that ends the command: help was shown, or the call was wrong */
export function parse(command: Command, args: readonly ByteString[]): number | undefined {
  try {
    command.parse(args, { from: 'user' });
    return undefined;
  } catch (error) {
    if (error instanceof CommanderError) return error.exitCode === 0 ? 0 : WRONG_CALL;
    if (!(error instanceof ErrnoError)) throw error;
    complain(error.message); // the help could not be printed
    return WRONG_CALL;
  }
}

/** Spells out long options of which only the start is given, as getopt_long(3) allows where it fits one option alone. */
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
 * An option with one of a few values, which shells complete; `what` names them. The command itself refuses others: commander
 * would do it in words of its own.
 */
export function oneOf(flags: string, what: string, values: readonly string[]): Option {
  const option = new Option(flags, what);
  option.argChoices = [...values];
  return option;
}

/** The same for an argument. */
export function argumentOneOf(name: string, what: string, values: readonly string[]): Argument {
  const argument = new Argument(name, what);
  argument.argChoices = [...values];
  return argument;
}

/** The values of `--algorithm`. */
export const ALGORITHM_NAMES: readonly string[] = ['sha256', 'sha512'];

/** For an option that may be given more than once. */
export const collect = (value: ByteString, before: ByteString[]): ByteString[] => [...before, value];

/** The number that --threads gives, or undefined. Throws ErrnoError EINVAL for what is not 1 to `max`. */
export function threadsOf(text: ByteString | undefined, max: number): number | undefined {
  if (text === undefined) return undefined;
  const threads = /^\d+$/.test(text) ? Number(text) : 0;
  if (threads < 1 || threads > max) throw new ErrnoError(EINVAL, `--threads=${printable(text)}: 1 to ${max}`);
  return threads;
}
