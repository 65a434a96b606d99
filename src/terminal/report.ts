/** What commands tell people, and the exit status that goes with it. */
import { writeSync } from 'node:fs';
import { asOneLine, type ByteString, bufferOf, printable, withoutControls } from '../sys/bytes.ts';
import { EMFILE, ENFILE, ENOMEM, ErrnoError } from '../sys/errno.ts';
import { native } from '../sys/native.ts';

/** Exit statuses of mount(8) and umount(8). */
export const WRONG_CALL = 1;
export const SYSTEM_ERROR = 2;
export const MOUNT_FAILED = 32;

const STDERR = 2;

/**
 * One line on stderr; control characters show as \xNN. One that cannot be written is no reason to end.
 * @param text UTF-16, as `printable` gives it
 */
export function complain(text: string): void {
  writeToStderr(Buffer.from(`lowerdata: ${asOneLine(text)}\n`)); // Node.js quotes paths as they are
}

/** Lines of byte strings on stderr, each with its newline; control characters show as \xNN. */
export const complainInLines = (text: ByteString): void => writeToStderr(bufferOf(withoutControls(text, '\n\t')));

function writeToStderr(bytes: Uint8Array): void {
  try {
    writeSync(STDERR, bytes); // process.stderr takes a millisecond to come up, and never lets go of a pipe
  } catch {}
}

const POLLOUT = 4;

/** For so much a pipe has room when it says that it has some. Source: pipe(7), PIPE_BUF; UTF-8 takes 3 bytes for one. */
const LINE_MAX = Math.floor(4096 / 3) - 20;

/** As `complain`, for a process that others wait for: where whoever reads stderr is behind, the line is lost. */
export function complainIfHeard(text: string): void {
  const line = text.length > LINE_MAX ? `${text.slice(0, LINE_MAX)}…` : text;
  if (native.poll(Int32Array.of(STDERR), POLLOUT, 0) > 0) complain(line);
}

/** What people read of an error. */
export type Wording = (error: Error) => string;
const ownWords: Wording = error => error.message;

/**
 * Runs `action`; prints what it throws as an ErrnoError, or what a system call of Node threw, and gives `status`, or 2 where
 * the system has run out of something.
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

/** Prints an error as `reporting` does, and gives the status; throws what is no error of a system call. */
export function report(error: unknown, status: number, wording: Wording = ownWords): number {
  const { errno, syscall } = error as NodeJS.ErrnoException;
  if (!(error instanceof ErrnoError) && syscall === undefined) throw error;
  for (const line of wording(error as Error).split('\n')) complain(line);
  return [ENOMEM, EMFILE, ENFILE].includes(Math.abs(errno ?? 0)) ? SYSTEM_ERROR : status;
}

/** Reads one path after the other: one that cannot be read is told of, and the others are read all the same. */
export class Attempts {
  /** 0, or that of what failed. */
  status = 0;
  readonly #failed: number;

  /** @param failed the exit status where a path cannot be read */
  constructor(failed: number) {
    this.#failed = failed;
  }

  /** What `read` gives for each path; the path is in its errors already. */
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

/** Puts a path in front of what `read` throws. */
export function naming<T>(path: ByteString, read: () => T): T {
  try {
    return read();
  } catch (error) {
    if (!(error instanceof ErrnoError)) throw error;
    throw new ErrnoError(error.errno, `${printable(path)}: ${error.message}`);
  }
}
