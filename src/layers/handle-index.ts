/**
 * An index of the files of a directory by their handles, for processes that may not open files by handle. The index lies in the
 * directory itself and is not trusted: a file that it names is opened below the directory, and must have the handle.
 *
 * ```
 * lowerdata handles 1 7d0f…\n        the uuid of the filesystem
 * 00000001 5c01000090a1b2c3 ab/cdef…\0    type and bytes of a handle (hex), path; sorted by byte order
 * ```
 */
import { type ByteString, byteStringOf } from '../sys/bytes.ts';
import type { Handle } from '../sys/handles.ts';

/** The name of the index in the directory. */
export const HANDLE_INDEX = '.lowerdata-handles';
/** An index is read only up to this size: handles of ten million files. */
export const INDEX_BYTES_MAX = 2 ** 30;

const MAGIC = 'lowerdata handles 1';
const NEWLINE = 0x0a;

/** A handle as the index spells it. */
export const handleText = ({ type, bytes }: Handle): string =>
  `${(type >>> 0).toString(16).padStart(8, '0')} ${Buffer.from(bytes).toString('hex')}`;

/**
 * The bytes of an index.
 * @param uuid the 16 bytes of the filesystem's uuid
 * @param entries handles as `handleText` spells them, and paths
 */
export function formatHandleIndex(
  uuid: ByteString,
  entries: Iterable<readonly [handle: string, path: ByteString]>,
): Buffer {
  const records = Array.from(entries, ([handle, path]) => `${handle} ${path}\0`).sort();
  const head = `${MAGIC} ${Buffer.from(uuid, 'latin1').toString('hex')}\n`;
  return Buffer.from(head + records.join(''), 'latin1');
}

export class HandleIndex {
  private readonly bytes: Buffer;
  private readonly from: number;

  private constructor(bytes: Buffer, from: number) {
    this.bytes = bytes;
    this.from = from;
  }

  /** @returns undefined for bytes that are no index, or the index of another filesystem */
  static parse(bytes: Buffer, uuid: ByteString): HandleIndex | undefined {
    const end = bytes.indexOf(NEWLINE);
    const head = `${MAGIC} ${Buffer.from(uuid, 'latin1').toString('hex')}`;
    return end === head.length && bytes.toString('latin1', 0, end) === head
      ? new HandleIndex(bytes, end + 1)
      : undefined;
  }

  /** The path of a file, relative to the directory; undefined if the index does not have the handle. */
  find(handle: Handle): ByteString | undefined {
    const key = Buffer.from(`${handleText(handle)} `, 'latin1');
    let [low, high] = [this.from, this.bytes.length];
    while (low < high) {
      const start = this.recordAt(low, (low + high) >>> 1);
      const end = this.bytes.indexOf(0, start);
      if (end < 0) return undefined; // cut off
      const order = this.bytes.compare(key, 0, key.length, start, Math.min(start + key.length, end));
      if (order === 0) return byteStringOf(this.bytes, start + key.length, end);
      if (order < 0) low = end + 1;
      else high = start;
    }
    return undefined;
  }

  /** The start of the record that holds the byte at `at`. `low`, itself the start of a record, is the minimum. */
  private recordAt(low: number, at: number): number {
    const before = this.bytes.lastIndexOf(0, at - 1);
    return at === low || before < low ? low : before + 1;
  }
}
