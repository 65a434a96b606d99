/** Messages of commands on stderr, and the exit statuses that go with them. */
import { writeSync } from 'node:fs';
import { asOneLine, type ByteString, bufferOf, printable, withoutControls } from '../sys/bytes.ts';
import { EMFILE, ENFILE, ENOMEM, ErrnoError, systemError } from '../sys/errno.ts';
import { native } from '../sys/native.ts';

/** Exit statuses of mount(8) and umount(8). */
export const WRONG_CALL = 1;
export const SYSTEM_ERROR = 2;
export const MOUNT_FAILED = 32;

const STDERR = 2;

/**
 * Prints one line on stderr; control characters show as \xNN. A failure to write it is ignored.
 * @param text UTF-16, as `printable` gives it
 */
export function complain(text: string): void {
  writeToStderr(Buffer.from(`lowerdata: ${asOneLine(text)}\n`)); // messages of Node.js contain paths unescaped
}

/** Prints lines of byte strings on stderr; each line brings its newline. Other control characters show as \xNN. */
export const complainInLines = (text: ByteString): void => writeToStderr(bufferOf(withoutControls(text, '\n\t')));

function writeToStderr(bytes: Uint8Array): void {
  try {
    writeSync(STDERR, bytes); // process.stderr takes 1 ms to initialise, and never releases a pipe
  } catch {}
}

const POLLOUT = 4;

/**
 * Longest line in UTF-16 units: as many bytes as a pipe that polls writable takes. Source: pipe(7), PIPE_BUF; UTF-8 needs up to 3
 * bytes for one unit.
 */
const LINE_MAX = Math.floor(4096 / 3) - 20;

/**
 * Like `complain`, but never blocks, for a process that others wait for: if the reader of stderr is behind, the line is dropped.
 */
export function complainIfHeard(text: string): void {
  const line = text.length > LINE_MAX ? `${text.slice(0, LINE_MAX)}…` : text;
  if (native.poll(Int32Array.of(STDERR), POLLOUT, 0) > 0) complain(line);
}

/** Makes the message of an error. */
export type Wording = (error: Error) => string;
const ownWords: Wording = error => error.message;

/**
 * Runs `action`. If it throws an ErrnoError or an error of a Node.js system call, prints the message.
 * @returns the result of `action`; after an error `status`, or 2 if memory or descriptors have run out
 */
export async function reporting(
  status: number,
  action: () => number | Promise<number>,
  wording: Wording = ownWords,
): Promise<number> {
  try {
    return await action();
  } catch (error) {
    return report(error, status, wording);
  }
}

/** Prints an error and returns the status, as `reporting` does; rethrows an error that comes from no system call. */
export function report(error: unknown, status: number, wording: Wording = ownWords): number {
  const failure = systemError(error);
  if (!(failure instanceof ErrnoError)) throw error;
  for (const line of wording(failure).split('\n')) complain(line);
  return [ENOMEM, EMFILE, ENFILE].includes(failure.errno) ? SYSTEM_ERROR : status;
}

/** Reads paths one after another. A path that cannot be read is reported, and the others are still read. */
export class Attempts {
  /** 0, or the exit status of a failure. */
  status = 0;
  readonly #failed: number;

  /** @param failed the exit status if a path cannot be read */
  constructor(failed: number) {
    this.#failed = failed;
  }

  /** Yields each path with the result of `read`, whose errors have to name the path already. */
  *each<T>(
    paths: Iterable<ByteString>,
    read: (path: ByteString) => T,
  ): Generator<readonly [path: ByteString, value: T]> {
    for (const path of paths) {
      let value: T;
      try {
        value = read(path);
      } catch (error) {
        this.status = Math.max(this.status, report(error, this.#failed));
        continue;
      }
      yield [path, value];
    }
  }
}

/** Prefixes the path to ErrnoErrors that `read` throws. */
export function naming<T>(path: ByteString, read: () => T): T {
  try {
    return read();
  } catch (error) {
    if (!(error instanceof ErrnoError)) throw error;
    throw new ErrnoError(error.errno, `${printable(path)}: ${error.message}`);
  }
}
