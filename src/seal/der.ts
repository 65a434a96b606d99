/**
 * DER, the encoding of certificates and signatures. Each value is its tag, the length of its contents, and the contents.
 * Source: ITU-T X.690, sections 8 and 10.
 *
 * ```
 * 30 0c                     SEQUENCE of 12 bytes
 *    02 01 01               INTEGER 1
 *    06 05 2b 0e 03 02 1a   OBJECT IDENTIFIER
 *    05 00                  NULL
 * ```
 */
import { ErrnoError, EUCLEAN } from '../sys/errno.ts';

/** Identifier bytes. `[n]` as a tag of its own is 0xa0 + n if it holds other values, 0x80 + n if it holds bytes. */
export const Tag = {
  integer: 0x02,
  octetString: 0x04,
  null: 0x05,
  oid: 0x06,
  sequence: 0x30,
  set: 0x31,
  context0: 0xa0,
  context1: 0xa1,
  bytes0: 0x80,
} as const;

/** Tags past 30 take more bytes; neither certificates nor signatures have them. */
const LONG_TAG = 0x1f;
const LONG_LENGTH = 0x80;
/** Bytes of the longest length that is read: 3 are 16 MiB. */
const LENGTH_BYTES_MAX = 3;

/**
 * Reads the values in a range of bytes one after another. All errors are ErrnoError EUCLEAN with the byte at which they are. What
 * BER has beyond DER (lengths that are not known before, lengths with needless bytes) is refused.
 */
export class DerReader {
  readonly bytes: Uint8Array;
  private at: number;
  private readonly end: number;

  constructor(bytes: Uint8Array, from = 0, to = bytes.length) {
    this.bytes = bytes;
    this.at = from;
    this.end = to;
  }

  /** The tag of the next value; undefined at the end. */
  get tag(): number | undefined {
    return this.at < this.end ? this.bytes[this.at] : undefined;
  }

  /** The next value with its tag and length. @param what names it in messages */
  whole(what: string, tag?: number): Uint8Array {
    const start = this.at;
    this.into(what, tag);
    return this.bytes.subarray(start, this.at);
  }

  /** The contents of the next value as values. */
  into(what: string, tag?: number): DerReader {
    const found = this.tag;
    if (found === undefined) throw this.fault(`${what} is missing`);
    if ((found & LONG_TAG) === LONG_TAG) throw this.fault(`${what} has a tag of several bytes`);
    if (tag !== undefined && found !== tag) throw this.fault(`${what} has tag ${hex(found)}, not ${hex(tag)}`);
    const { from, length } = this.length(what);
    if (length > this.end - from) throw this.fault(`${what} has ${length} bytes, but ${this.end - from} are left`);
    this.at = from + length;
    return new DerReader(this.bytes, from, this.at);
  }

  /** The contents of the next value as values if it has this tag, otherwise undefined. */
  optional(what: string, tag: number): DerReader | undefined {
    return this.tag === tag ? this.into(what, tag) : undefined;
  }

  /** The contents of the next value as bytes. */
  contents(what: string, tag: number): Uint8Array {
    const { bytes, at, end } = this.into(what, tag);
    return bytes.subarray(at, end);
  }

  /** A small number that is not negative. */
  number(what: string): number {
    const at = this.at;
    const [value, ...others] = this.contents(what, Tag.integer);
    if (value === undefined || others.length > 0 || value >= 0x80)
      throw this.fault(`${what} is not a number from 0 to 127`, at);
    return value;
  }

  /** An object identifier with dots. */
  oid(what: string): string {
    const at = this.at;
    const bytes = this.contents(what, Tag.oid);
    const parts: number[] = [];
    let part = 0;
    for (const byte of bytes) {
      if (part > OID_PART_MAX || (part === 0 && byte === 0x80)) throw this.fault(`${what} is malformed`, at);
      part = part * 128 + (byte & 0x7f);
      if (byte & 0x80) continue;
      parts.push(part);
      part = 0;
    }
    const [first] = parts;
    if (first === undefined || part > 0 || (bytes.at(-1) as number) & 0x80)
      throw this.fault(`${what} is malformed`, at);
    const top = Math.min(2, Math.floor(first / 40));
    return [top, first - 40 * top, ...parts.slice(1)].join('.');
  }

  /** Throws unless all values have been read. */
  finish(what: string): void {
    if (this.at < this.end) throw this.fault(`${this.end - this.at} bytes after ${what}`);
  }

  fault(what: string, at = this.at): ErrnoError {
    return new ErrnoError(EUCLEAN, `byte ${at}: ${what}`);
  }

  /** Reads the length of the next value. @returns it, and where the contents begin */
  private length(what: string): { from: number; length: number } {
    const at = this.at + 1;
    const first = at < this.end ? (this.bytes[at] as number) : undefined;
    if (first === undefined) throw this.fault(`${what} has no length`);
    if (first < LONG_LENGTH) return { from: at + 1, length: first };
    const count = first - LONG_LENGTH;
    if (count === 0) throw this.fault(`${what} has no length before its contents: BER, not DER`);
    if (count > LENGTH_BYTES_MAX || count > this.end - at - 1)
      throw this.fault(`${what} has a length of ${count} bytes`);
    const digits = this.bytes.subarray(at + 1, at + 1 + count);
    const length = digits.reduce((sum, byte) => sum * 256 + byte, 0);
    if (digits[0] === 0 || length < LONG_LENGTH) throw this.fault(`${what} has a length with needless bytes`);
    return { from: at + 1 + count, length };
  }
}
const OID_PART_MAX = 2 ** 40;
const hex = (tag: number): string => `0x${tag.toString(16).padStart(2, '0')}`;

/** A value with these contents, one part after the other. */
export function der(tag: number, ...parts: readonly Uint8Array[]): Uint8Array {
  const length = parts.reduce((sum, { length }) => sum + length, 0);
  const digits: number[] = [];
  for (let rest = length; rest > 0; rest = Math.floor(rest / 256)) digits.unshift(rest % 256);
  const head = length < LONG_LENGTH ? [tag, length] : [tag, LONG_LENGTH + digits.length, ...digits];
  return Buffer.concat([Uint8Array.from(head), ...parts]);
}

/** An object identifier. @param dotted as `DerReader.oid` gives it */
export function derOid(dotted: string): Uint8Array {
  const [top = 0, second = 0, ...others] = dotted.split('.').map(Number);
  const bytes = [40 * top + second, ...others].flatMap(part => {
    const groups = [part % 128];
    for (let rest = Math.floor(part / 128); rest > 0; rest = Math.floor(rest / 128)) groups.unshift(128 + (rest % 128));
    return groups;
  });
  return der(Tag.oid, Uint8Array.from(bytes));
}
