/** 64-bit little-endian integers in a DataView, and byte strings. */

/** A byte string (a name, a link target, a path, an xattr name): one character per byte, U+0000 to U+00FF. Never UTF-8. */
export type ByteString = string;

const U32 = 2 ** 32;

/** Reads an unsigned 64-bit integer as a number: exact up to 2^53, otherwise the nearest double. */
export function getU64(v: DataView, at: number): number {
  return v.getUint32(at, true) + v.getUint32(at + 4, true) * U32;
}

/** Reads a signed 64-bit integer as a number: exact between -2^53 and 2^53. */
export function getI64(v: DataView, at: number): number {
  return v.getUint32(at, true) + v.getInt32(at + 4, true) * U32;
}

/** Seconds since 1970: a number, or a bigint beyond 2^53, where a number would lose digits. */
export type Seconds = number | bigint;

/** Converts to a number if that is exact. */
export function secondsOf(exact: bigint): Seconds {
  const number = Number(exact);
  return Number.isSafeInteger(number) ? number : exact;
}

/** Reads a signed 64-bit number of seconds. */
export function getSeconds(v: DataView, at: number): Seconds {
  const number = getI64(v, at);
  return Number.isSafeInteger(number) ? number : v.getBigInt64(at, true);
}

/** Writes an integer between -2^63 and 2^64 (two's complement); exact for bigints and safe integers. */
export function putU64(v: DataView, at: number, value: number | bigint): void {
  if (typeof value === 'number' && value >= 0 && value < U32) {
    v.setUint32(at, value, true);
    v.setUint32(at + 4, 0, true);
    return;
  }
  if (typeof value === 'bigint') {
    v.setBigUint64(at, value, true); // reduced modulo 2^64
    return;
  }
  const high = Math.floor(value / U32);
  v.setUint32(at, value - high * U32, true);
  v.setUint32(at + 4, high, true); // reduced modulo 2^32
}

/**
 * The bytes of a ByteString.
 * @example
 * assert.deepEqual([...bufferOf('caf\xc3\xa9')], [99, 97, 102, 0xc3, 0xa9]); // one byte for each character
 * assert.equal(bufferOf(byteStringFromText('café')).toString(), 'café');
 */
export function bufferOf(bytes: ByteString): Buffer {
  return Buffer.from(bytes, 'latin1');
}

/**
 * The ByteString of `bytes[from..to)`; the range must be inside `bytes`.
 * @example
 * const bytes = Uint8Array.of(0x70, 0x6f, 0x65, 0x6d);
 * assert.equal(byteStringOf(bytes), 'poem');
 * assert.equal(byteStringOf(bytes, 1, 3), 'oe');
 */
export function byteStringOf(bytes: Uint8Array, from = 0, to = bytes.length): ByteString {
  return latin1Slice.call(bytes, from, to);
}

/**
 * A copy of a text that was cut out of a longer one. It does not keep the longer one in memory, as the text itself may do.
 */
export function detached(text: ByteString): ByteString {
  if (text.length > room.length) return text;
  putByteString(room, 0, text);
  return byteStringOf(room, 0, text.length);
}
const room = new Uint8Array(256);

/** Writes all bytes of a ByteString at `at`; there must be room for them. */
export function putByteString(bytes: Uint8Array, at: number, text: ByteString): void {
  latin1Write.call(bytes, text, at, text.length);
}

/**
 * The functions behind Buffer.toString and Buffer.write. The first takes 35 ns on a Uint8Array; making a Buffer of it first takes
 * 95.
 */
const { latin1Slice, latin1Write } = Buffer.prototype as unknown as {
  latin1Slice: (this: Uint8Array, from: number, to: number) => string;
  latin1Write: (this: Uint8Array, text: string, at: number, length: number) => number;
};

/**
 * The ByteString of text that was typed or that Node.js returned as UTF-16: its UTF-8 bytes.
 * @example
 * assert.equal(byteStringFromText('café'), 'caf\xc3\xa9');
 * assert.equal(byteStringFromText('poem'), 'poem'); // ASCII is the same in both
 */
export function byteStringFromText(text: string): ByteString {
  return Buffer.from(text, 'utf8').toString('latin1');
}

/**
 * A ByteString for a message: UTF-8 if all of it is valid, otherwise ASCII. Control characters and all other bytes become \xNN.
 * @example
 * assert.equal(printable('caf\xc3\xa9'), 'café');
 * assert.equal(printable('caf\xe9\n'), 'caf\\xe9\\x0a'); // not UTF-8
 */
export function printable(name: ByteString): string {
  const text = Buffer.from(name, 'latin1').toString('utf8');
  const foreign = /[\ufffd\x80-\x9f]/.test(text); // not UTF-8, or two-byte control characters
  // biome-ignore lint/suspicious/noControlCharactersInRegex: control bytes are what is replaced
  return foreign ? name.replace(/[\x00-\x1f\\\x7f-\xff]/g, hex) : text.replace(/[\x00-\x1f\\\x7f]/g, hex);
}

/** Text for a message or a log as one line: control characters become \xNN. */
export const asOneLine = (text: string): string =>
  // biome-ignore lint/suspicious/noControlCharactersInRegex: control characters are what is replaced
  text.replace(/[\x00-\x1f\x7f-\x9f]/g, hex);

/**
 * Matches the UTF-8 of one character other than the control characters U+0080 to U+009F; or else one byte that terminals must not
 * get.
 */
const PIECE = new RegExp(
  [
    '\\xc2[\\xa0-\\xbf]|[\\xc3-\\xdf][\\x80-\\xbf]',
    '\\xe0[\\xa0-\\xbf][\\x80-\\xbf]|[\\xe1-\\xec\\xee\\xef][\\x80-\\xbf]{2}|\\xed[\\x80-\\x9f][\\x80-\\xbf]',
    '\\xf0[\\x90-\\xbf][\\x80-\\xbf]{2}|[\\xf1-\\xf3][\\x80-\\xbf]{3}|\\xf4[\\x80-\\x8f][\\x80-\\xbf]{2}',
    '[\\x00-\\x1f\\x7f-\\xff]',
  ].join('|'),
  'g',
);

/**
 * Bytes that are safe for a terminal: control characters, and bytes that are not UTF-8, become \xNN.
 * @param kept control characters that stay
 */
export function withoutControls(name: ByteString, kept: string): ByteString {
  return name.replace(PIECE, piece => (piece.length > 1 || kept.includes(piece) ? piece : hex(piece)));
}
const hex = (c: string): string => `\\x${c.charCodeAt(0).toString(16).padStart(2, '0')}`;
