/** Output of commands on stdout: all of it arrives, or an error is thrown. */
import { closeSync } from 'node:fs';
import { isatty } from 'node:tty';
import { type ByteString, bufferOf, byteStringOf, withoutControls } from '../sys/bytes.ts';
import { EBADF, EPIPE, ErrnoError, errnoText } from '../sys/errno.ts';
import { writeAll } from '../sys/streams.ts';

const STDOUT = 1;
/** The exit status of a program that SIGPIPE ended. */
const BROKEN_PIPE = 128 + 13;

/** Undefined until the first write. */
let hasFailed: boolean | undefined;
/** Whether the last write to stdout failed; further output would be lost as well. */
export const stdoutFailed = (): boolean => hasFailed === true;

/**
 * Writes to stdout. A Uint8Array is data and is written unchanged. A byte string is text; on a terminal its control characters
 * are replaced, except newlines and tabs.
 * Throws ErrnoError unless all of it was written. On EPIPE, as in `| head`, the process exits silently with the status of a
 * program that SIGPIPE ended.
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

/**
 * Prints each line with a newline. On a terminal, a newline within a line shows as \x0a. A Uint8Array is text of whole lines, as
 * `heldText` makes it.
 */
export function printLines(lines: Iterable<ByteString | Uint8Array>): void {
  let text = '';
  const flush = (): void => {
    const whole = text;
    text = '';
    print(whole);
  };
  try {
    for (const line of lines) {
      if (typeof line !== 'string') {
        flush();
        print(onTerminal() ? byteStringOf(line) : line);
        continue;
      }
      text += `${forStdout(line, '\t')}\n`;
      if (text.length >= PRINT_BYTES) flush();
    }
  } finally {
    flush(); // lines before an error are still printed
  }
}
const PRINT_BYTES = 1 << 16;

let isTerminal: boolean | undefined;
/**
 * Replaces control characters on a terminal, which would execute them; other outputs get the bytes unchanged. ls(1) does the
 * same.
 */
function forStdout(text: ByteString, kept: string): ByteString {
  return onTerminal() ? withoutControls(text, kept) : text;
}

function onTerminal(): boolean {
  isTerminal ??= isatty(STDOUT);
  return isTerminal;
}

/**
 * Closes stdout at the end of the process: some filesystems report a failed write only then. Throws ErrnoError; a stdout that was
 * already closed is no error.
 */
export function closeStdout(): void {
  try {
    closeSync(STDOUT);
  } catch (error) {
    const { errno = 0 } = error as NodeJS.ErrnoException;
    if (errno !== -EBADF) throw new ErrnoError(-errno, `stdout: ${errnoText(errno)}`);
  }
}

/** The width of the terminal that stdout is connected to; 80 if stdout is no terminal. */
export const terminalColumns = (): number => (isatty(STDOUT) && process.stdout.columns) || 80;

/** Breaks text between words. Continuation lines are indented by the length of `start`; a word longer than a line stays whole. */
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
