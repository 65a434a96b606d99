/** Files that commands write completely or not at all. */
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
} from 'node:fs';
import { setImmediate } from 'node:timers/promises';
import { isatty } from 'node:tty';
import { type ByteString, bufferOf, printable } from '../sys/bytes.ts';
import { EINVAL, ErrnoError, systemError } from '../sys/errno.ts';
import { realPath } from '../sys/real-path.ts';
import { writeAll } from '../sys/streams.ts';
import { cleaningUp } from './interruption.ts';
import { print } from './output.ts';

const STDOUT = 1;

/** The place to which a command writes its result. */
export class Output {
  readonly #path: ByteString;
  /**
   * The file to replace, with symlinks resolved; undefined if bytes go straight into an existing pipe or device, or to stdout.
   */
  readonly #target: ByteString | undefined;

  /** @param path `-` is stdout. Throws ErrnoError before any work is done if it cannot be written to. */
  constructor(path: ByteString) {
    this.#path = path;
    if (path === '-') {
      if (isatty(STDOUT)) throw new ErrnoError(EINVAL, 'an image is not written to a terminal');
      return;
    }
    const known = naming(path, () => statSync(bufferOf(path), { throwIfNoEntry: false }));
    if (known?.isDirectory()) throw new ErrnoError(EINVAL, `${printable(path)} is a directory`);
    if (known && !known.isFile()) return;
    this.#target = known ? realPath(path) : path;
    const directory = bufferOf(this.#target.replace(/[^/]*$/s, '') || '.');
    naming(path, () => accessSync(directory, constants.W_OK));
  }

  /**
   * Writes the bytes. If it throws, an existing file is unchanged.
   * @param mode of the file; by default that of the existing file, or the default of new files
   */
  async write(bytes: Uint8Array, mode?: number): Promise<void> {
    if (this.#path === '-') print(bytes);
    else if (this.#target === undefined)
      await writeTo(this.#path, constants.O_WRONLY, fd => writePieces(fd, bytes, printable(this.#path)));
    else await replace(this.#path, this.#target, bytes, mode);
  }
}

/** Makes errors of system calls name the path as it was typed. */
function naming<T>(path: ByteString, action: () => T): T {
  try {
    return action();
  } catch (error) {
    throw systemError(error, printable(path));
  }
}

/** Creates or replaces a file atomically. @param shown the path as it was typed */
async function replace(
  shown: ByteString,
  path: ByteString,
  bytes: Uint8Array,
  mode: number | undefined,
): Promise<void> {
  const wanted = mode ?? statSync(bufferOf(path), { throwIfNoEntry: false })?.mode;
  const temporary = `${path}.tmp-${randomBytes(6).toString('hex')}`;
  const remove = (): void => rmSync(bufferOf(temporary), { force: true });
  const flags = constants.O_WRONLY | constants.O_CREAT | constants.O_EXCL;
  try {
    await cleaningUp(remove, async () => {
      await writeTo(temporary, flags, async fd => {
        if (wanted !== undefined) fchmodSync(fd, wanted & 0o7777);
        await writePieces(fd, bytes, printable(shown));
        naming(shown, () => fsyncSync(fd));
      });
      renameSync(bufferOf(temporary), bufferOf(path));
    });
  } catch (error) {
    remove();
    throw error;
  }
}

async function writeTo(path: ByteString, flags: number, write: (fd: number) => Promise<void>): Promise<void> {
  const fd = openSync(bufferOf(path), flags, 0o666);
  try {
    await write(fd);
  } finally {
    closeSync(fd);
  }
}

/** Writes in pieces, and lets signals be handled between them. */
async function writePieces(fd: number, bytes: Uint8Array, what: string): Promise<void> {
  for (let at = 0; at < bytes.length; at += PIECE_BYTES) {
    await setImmediate();
    writeAll(fd, bytes.subarray(at, at + PIECE_BYTES), what);
  }
}
const PIECE_BYTES = 1 << 24;
