/** What commands print, and files that they write: whole, or not at all. */
import { randomBytes } from 'node:crypto';
import {
  accessSync,
  closeSync,
  constants,
  fchmodSync,
  fsyncSync,
  openSync,
  renameSync,
  rmSync,
  statSync,
  writeSync,
} from 'node:fs';
import { isatty } from 'node:tty';
import { type Name, nameBytes, printable } from '../sys/bytes.ts';
import { EINVAL, ErrnoError } from '../sys/errno.ts';
import { realPath } from '../sys/real-path.ts';
import { complain } from './report.ts';

const bytesOf = (path: Name): Buffer => nameBytes(path) as Buffer;
const STDOUT = 1;

/** Writes a byte string, or bytes, to stdout; settles when they are on their way. */
export function print(what: Name | Uint8Array): Promise<void> {
  const bytes = typeof what === 'string' ? nameBytes(what) : what;
  if (!process.stdout.listeners('error').includes(leaveIfUnread)) process.stdout.on('error', leaveIfUnread);
  return new Promise(resolve => {
    process.stdout.write(bytes, error => {
      if (!error) resolve(); // else the listener ends the process
    });
  });
}

/** Nobody reads on, as in `| head`: other programs die of SIGPIPE then, and tell nothing. */
function leaveIfUnread({ code }: NodeJS.ErrnoException): never {
  if (code !== 'EPIPE') complain(`stdout: ${code}`);
  process.exit(code === 'EPIPE' ? BROKEN_PIPE : WRITE_FAILED);
}
const BROKEN_PIPE = 128 + 13;
const WRITE_FAILED = 1;

/** Prints each line, with a newline. */
export async function printLines(lines: Iterable<Name>): Promise<void> {
  let text = '';
  for (const line of lines) {
    text += `${line}\n`;
    if (text.length < PRINT_BYTES) continue;
    await print(text);
    text = '';
  }
  await print(text);
}
const PRINT_BYTES = 1 << 16;

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

/** Where a command writes its result. */
export class Output {
  readonly #path: Name;
  /** The file that a symlink leads to; undefined where bytes go right into what is there, a pipe or device. */
  readonly #target: Name | undefined;

  /** @param path `-` is stdout. Throws, before any work is done, where nothing could be written there. */
  constructor(path: Name) {
    this.#path = path;
    if (path === '-') {
      if (isatty(STDOUT)) throw new ErrnoError(EINVAL, 'an image is not written to a terminal');
      return;
    }
    const known = statSync(bytesOf(path), { throwIfNoEntry: false });
    if (known?.isDirectory()) throw new ErrnoError(EINVAL, `${printable(path)} is a directory`);
    if (known && !known.isFile()) return;
    this.#target = known ? realPath(path) : path;
    accessSync(bytesOf(this.#target.replace(/[^/]*$/s, '') || '.'), constants.W_OK);
  }

  async write(bytes: Uint8Array): Promise<void> {
    if (this.#path === '-') await print(bytes);
    else if (this.#target === undefined) writeTo(this.#path, constants.O_WRONLY, fd => writeAll(fd, bytes));
    else replace(this.#target, bytes);
  }
}

/** Puts a file in the place of another, or of none. */
function replace(path: Name, bytes: Uint8Array): void {
  const known = statSync(bytesOf(path), { throwIfNoEntry: false });
  const temporary = `${path}.tmp-${randomBytes(6).toString('hex')}`;
  try {
    writeTo(temporary, constants.O_WRONLY | constants.O_CREAT | constants.O_EXCL, fd => {
      if (known) fchmodSync(fd, known.mode & 0o7777);
      writeAll(fd, bytes);
      fsyncSync(fd);
    });
    renameSync(bytesOf(temporary), bytesOf(path));
  } catch (error) {
    rmSync(bytesOf(temporary), { force: true });
    throw error;
  }
}

function writeTo(path: Name, flags: number, write: (fd: number) => void): void {
  const fd = openSync(bytesOf(path), flags, 0o666);
  try {
    write(fd);
  } finally {
    closeSync(fd);
  }
}

function writeAll(fd: number, bytes: Uint8Array): void {
  for (let at = 0; at < bytes.length; ) at += writeSync(fd, bytes, at);
}
