/** What commands print on stdout: all of it, or an error. */
import { closeSync } from 'node:fs';
import { isatty } from 'node:tty';
import { type ByteString, bufferOf, withoutControls } from '../sys/bytes.ts';
import { EBADF, EPIPE, ErrnoError, errnoName } from '../sys/errno.ts';
import { writeAll } from '../sys/streams.ts';

const STDOUT = 1;
/** The status of a program that SIGPIPE has ended. */
const BROKEN_PIPE = 128 + 13;

/** Undefined until something was to be printed. */
let hasFailed: boolean | undefined;
/** Whether stdout has refused something: what follows would be lost as well. */
export const stdoutFailed = (): boolean => hasFailed === true;

/**
 * Writes to stdout. Bytes are data, and stay as they are; a byte string is text, of which a terminal gets no control characters
 * but newlines and tabs.
 * Throws ErrnoError where not all of it could be written. Where nobody reads on, as in `| head`, the process ends: other programs
 * die of SIGPIPE then, and say nothing.
 */
export function print(what: ByteString | Uint8Array): void {
  try {
    hasFailed = false;
    writeAll(STDOUT, typeof what === 'string' ? bufferOf(forStdout(what, '\n\t')) : what, 'stdout');
  } catch (error) {
    hasFailed = true;
    if (error instanceof ErrnoError && error.errno === EPIPE) process.exit(BROKEN_PIPE);
    throw error;
  }
}

/** Prints each line, with a newline. A terminal shows a newline that is part of a line as \x0a. */
export function printLines(lines: Iterable<ByteString>): void {
  let text = '';
  const flush = (): void => {
    const whole = text;
    text = '';
    print(whole);
  };
  try {
    for (const line of lines) {
      text += `${forStdout(line, '\t')}\n`;
      if (text.length >= PRINT_BYTES) flush();
    }
  } finally {
    flush(); // an error does not take away the lines before it
  }
}
const PRINT_BYTES = 1 << 16;

let isTerminal: boolean | undefined;
/** As ls(1): control characters of names would be commands to a terminal, and everything else gets the bytes as they are. */
function forStdout(text: ByteString, kept: string): ByteString {
  isTerminal ??= isatty(STDOUT);
  return isTerminal ? withoutControls(text, kept) : text;
}

/**
 * Closes stdout, for the end of the process: some filesystems tell only then that they could not write.
 * Throws ErrnoError; one that was closed before is no error.
 */
export function closeStdout(): void {
  try {
    closeSync(STDOUT);
  } catch (error) {
    const { errno = 0 } = error as NodeJS.ErrnoException;
    if (errno !== -EBADF) throw new ErrnoError(-errno, `stdout: ${errnoName(errno)}`);
  }
}

/** How many columns the terminal has that stdout is; 80 where it is none. */
export const terminalColumns = (): number => (isatty(STDOUT) && process.stdout.columns) || 80;

/** Breaks text between words; further lines are indented like the first. A word that is longer than a line stays whole. */
export function wrapped(start: string, text: string, width: number): string[] {
  const lines: string[] = [];
  let line = start;
  for (const word of text.split(' ')) {
    if (line.length + word.length > width && line.trim() !== '' && line.length > start.length) {
      lines.push(line.trimEnd());
      line = ' '.repeat(start.length);
    }
    line += `${word} `;
  }
  return [...lines, line.trimEnd()];
}
