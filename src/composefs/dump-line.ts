/**
 * One line of composefs-dump(5), split into fields. Numbers are read from the bytes, and texts become strings of their own: slices
 * would keep the whole line in memory.
 */
import { type ByteString, byteStringOf, printable, putByteString } from '../sys/bytes.ts';
import { EINVAL, ErrnoError } from '../sys/errno.ts';
import { unescapeField } from './escape.ts';

/** The fields, by number; `xattr` is all that follows the others. */
export const Field = {
  path: 0,
  size: 1,
  mode: 2,
  nlink: 3,
  uid: 4,
  gid: 5,
  rdev: 6,
  mtime: 7,
  payload: 8,
  content: 9,
  digest: 10,
  xattr: 11,
} as const;
export type Field = (typeof Field)[keyof typeof Field];
/** The names of the fields, for messages. */
const NAMES = Object.keys(Field);
/** The last mandatory field of a line. Source: composefs tools/mkcomposefs.c, tree_from_dump_line. */
const LAST_NEEDED = Field.mtime;

const SPACE = 0x20;
const DASH = 0x2d;
const DOT = 0x2e;
const ZERO = 0x30;
const AT_SIGN = 0x40;
const BACKSLASH = 0x5c;
/** Decimal and octal numbers of so many digits are exact. */
const DIGITS_MAX = 15;

/** Holds one line at a time. The methods throw ErrnoError EINVAL with the name of the field. */
export class DumpLine {
  #bytes = new Uint8Array(4096);
  /** The offset of each field, and of the end plus 1. Fields that a short line lacks are past the end. */
  readonly #starts = new Uint32Array(NAMES.length + 1);
  #hasEscapes = false;

  /** Replaces the line. Throws for an empty line and a NUL byte. */
  split(text: ByteString): void {
    if (text === '') throw new ErrnoError(EINVAL, 'an empty line');
    if (text.length > this.#bytes.length) this.#bytes = new Uint8Array(2 * text.length);
    putByteString(this.#bytes, 0, text);
    const [bytes, starts, length] = [this.#bytes, this.#starts, text.length];
    let fields = 1;
    this.#hasEscapes = false;
    for (let i = 0; i < length; i++) {
      const byte = bytes[i] as number;
      if (byte > SPACE && byte !== BACKSLASH) continue;
      if (byte === SPACE && fields < NAMES.length) starts[fields++] = i + 1;
      else if (byte === BACKSLASH) this.#hasEscapes = true;
      else if (byte === 0) throw new ErrnoError(EINVAL, `a NUL byte at column ${i}`);
    }
    starts.fill(length + 1, fields);
  }

  /** Whether the line has all mandatory fields. */
  get isComplete(): boolean {
    return this.#from(LAST_NEEDED) < (this.#starts[NAMES.length] as number);
  }

  #from(which: Field): number {
    return this.#starts[which] as number;
  }

  #to(which: Field): number {
    return Math.max((this.#starts[which + 1] as number) - 1, this.#from(which));
  }

  lengthOf(which: Field): number {
    return this.#to(which) - this.#from(which);
  }

  /** The text of a field as it stands in the line. */
  raw(which: Field): ByteString {
    return byteStringOf(this.#bytes, this.#from(which), this.#to(which));
  }

  /** Whether a field is `-`, which means unset. */
  isUnset(which: Field): boolean {
    return this.#bytes[this.#from(which)] === DASH && this.lengthOf(which) === 1;
  }

  /** Whether a field begins with the mark of a further hard link. */
  hasMark(which: Field): boolean {
    return this.#bytes[this.#from(which)] === AT_SIGN && this.lengthOf(which) > 0;
  }

  /** The bytes that a field stands for. */
  value(which: Field): ByteString {
    const text = this.raw(which);
    return this.#hasEscapes ? field(which, () => unescapeField(text)) : text;
  }

  /** The same for a field that must not contain a NUL, because C would end the string there. */
  text(which: Field): ByteString {
    const text = this.raw(which);
    return this.#hasEscapes ? field(which, () => unescapedText(text)) : text;
  }

  number(which: Field, max: number): number {
    const value = digits(this.#bytes, this.#from(which), this.#to(which), 10);
    return value <= max ? value : field(which, () => parseNumber(this.raw(which), max));
  }

  /** An octal number, without the mark in front of it. */
  octal(which: Field, max: number): number {
    const from = this.#from(which) + (this.hasMark(which) ? 1 : 0);
    const value = digits(this.#bytes, from, this.#to(which), 8);
    return value <= max ? value : field(which, () => parseOctal(byteStringOf(this.#bytes, from, this.#to(which)), max));
  }

  /** The seconds and nanoseconds of a time; undefined if they are not two plain numbers, or the first has many digits. */
  plainTime(which: Field): [seconds: number, nanoseconds: number] | undefined {
    const [from, to] = [this.#from(which), this.#to(which)];
    let dot = from;
    while (dot < to && this.#bytes[dot] !== DOT) dot++;
    const seconds = digits(this.#bytes, from, dot, 10);
    const nanoseconds = digits(this.#bytes, dot + 1, to, 10);
    return seconds >= 0 && nanoseconds >= 0 ? [seconds, nanoseconds] : undefined;
  }
}

/** The number whose digits are in [from, to); NaN for anything but 1 to DIGITS_MAX digits. */
function digits(bytes: Uint8Array, from: number, to: number, base: number): number {
  if (to <= from || to - from > DIGITS_MAX) return Number.NaN;
  let value = 0;
  for (let i = from; i < to; i++) {
    const digit = (bytes[i] as number) - ZERO;
    if (digit < 0 || digit >= base) return Number.NaN;
    value = value * base + digit;
  }
  return value;
}

/** A decimal number of any length. Throws ErrnoError EINVAL for other texts, and for more than `max`. */
export function parseNumber(text: ByteString, max: number): number {
  if (!/^[0-9]+$/.test(text)) throw new ErrnoError(EINVAL, `${quoted(text)} is not a number`);
  const value = Number(text);
  if (value > max || (value === max && BigInt(text) !== BigInt(max)))
    throw new ErrnoError(EINVAL, `${text} is more than ${max}`);
  return value;
}

function parseOctal(text: ByteString, max: number): number {
  if (!/^[0-7]+$/.test(text)) throw new ErrnoError(EINVAL, `${quoted(text)} is not an octal number`);
  const value = Number.parseInt(text, 8);
  if (value > max) throw new ErrnoError(EINVAL, `${text} has more than ${Math.ceil(Math.log2(max))} bits`);
  return value;
}

/** The bytes that a text stands for. Throws ErrnoError EINVAL for a bad escape, and for a NUL. */
export function unescapedText(text: ByteString): ByteString {
  const bytes = unescapeField(text);
  if (bytes.includes('\0')) throw new ErrnoError(EINVAL, 'an escaped NUL byte');
  return bytes;
}

/** Returns the result of `read`, and prefixes ErrnoErrors with the name of the field. */
export function field<T>(which: Field, read: () => T): T {
  try {
    return read();
  } catch (error) {
    if (error instanceof ErrnoError) refuse(which, error.message);
    throw error;
  }
}

/** Throws ErrnoError EINVAL. */
export function refuse(which: Field, reason: string): never {
  throw new ErrnoError(EINVAL, `${NAMES[which]}: ${reason}`);
}

/** The start of a text, for a message. */
export function quoted(text: ByteString): string {
  return `"${printable(text.length > 40 ? `${text.slice(0, 40)}...` : text)}"`;
}
