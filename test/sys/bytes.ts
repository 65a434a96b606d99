/** Proves src/sys/bytes.ts. The bytes of integers are those of Python's struct.pack('<Q') and ('<q'). */
import fc from 'fast-check';
import t from 'tap';
import {
  bufferOf,
  byteStringFromText,
  byteStringOf,
  detached,
  getI64,
  getSeconds,
  getU64,
  printable,
  putByteString,
  putU64,
  secondsOf,
  withoutControls,
} from '../../src/sys/bytes.ts';

const AT = 3; // an odd place between guard bytes
function viewOf(hex: string): DataView {
  const bytes = Buffer.from(`eeeeee${hex}eeeeee`, 'hex');
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
}
const hexOf = (v: DataView): string => Buffer.from(v.buffer, v.byteOffset, v.byteLength).toString('hex');

for (const [rule, value, hex] of [
  ['zero', 0, '0000000000000000'],
  ['one', 1, '0100000000000000'],
  ['the second byte', 256, '0001000000000000'],
  ['the sign bit of the low half', 2 ** 31, '0000008000000000'],
  ['a full low half', 2 ** 32 - 1, 'ffffffff00000000'],
  ['a carry into the high half', 2 ** 32, '0000000001000000'],
  ['both halves', 2 ** 32 + 1, '0100000001000000'],
  ['the largest safe integer', Number.MAX_SAFE_INTEGER, 'ffffffffffff1f00'],
  ['2^53', 2 ** 53, '0000000000002000'],
  ['2^63', 2 ** 63, '0000000000000080'],
  ['the last double below 2^64', 2 ** 64 - 2048, '00f8ffffffffffff'],
] as const) {
  const v = viewOf('7777777777777777');
  putU64(v, AT, value);
  t.equal(hexOf(v), `eeeeee${hex}eeeeee`, `putU64: ${rule}`);
  t.equal(getU64(viewOf(hex), AT), value, `getU64: ${rule}`);
  if (value < 2 ** 63) t.equal(getI64(viewOf(hex), AT), value, `getI64: ${rule}`);
}

for (const [rule, value, hex] of [
  ['zero', 0, '0000000000000000'],
  ['a second before 1970', -1, 'ffffffffffffffff'],
  ['the largest safe integer', Number.MAX_SAFE_INTEGER, 'ffffffffffff1f00'],
  ['2^53', 2n ** 53n, '0000000000002000'],
  ['2^53 + 1', 2n ** 53n + 1n, '0100000000002000'],
  ['-2^53 - 1', -(2n ** 53n) - 1n, 'ffffffffffffdfff'],
  ['2^63 - 1', 2n ** 63n - 1n, 'ffffffffffffff7f'],
  ['-2^63', -(2n ** 63n), '0000000000000080'],
] as const) {
  const v = viewOf('7777777777777777');
  putU64(v, AT, value);
  t.equal(hexOf(v), `eeeeee${hex}eeeeee`, `seconds are written: ${rule}`);
  t.equal(getSeconds(viewOf(hex), AT), value, `and read: ${rule}`);
  t.equal(secondsOf(BigInt(value)), value, `and are a number where that is exact: ${rule}`);
}

for (const [rule, value, hex] of [
  ['minus one', -1, 'ffffffffffffffff'],
  ['minus two', -2, 'feffffffffffffff'],
  ['the smallest 32-bit integer', -(2 ** 31), '00000080ffffffff'],
  ['a low half of zero', -(2 ** 32), '00000000ffffffff'],
  ['a borrow from the high half', -(2 ** 32) - 1, 'fffffffffeffffff'],
  ['the smallest safe integer', Number.MIN_SAFE_INTEGER, '010000000000e0ff'],
  ['-2^63', -(2 ** 63), '0000000000000080'],
] as const) {
  const v = viewOf('7777777777777777');
  putU64(v, AT, value);
  t.equal(hexOf(v), `eeeeee${hex}eeeeee`, `putU64: ${rule}`);
  t.equal(getI64(viewOf(hex), AT), value, `getI64: ${rule}`);
}

t.equal(getU64(viewOf('ffffffffffffffff'), AT), 2 ** 64, 'a u64 past 2^53 is the nearest double');

for (const [rule, bytes] of [
  ['no byte', []],
  ['every byte below 0x80', Array.from({ length: 128 }, (_, i) => i)],
  ['every byte from 0x80 on', Array.from({ length: 128 }, (_, i) => i + 128)],
  ['15 bytes', Array.from({ length: 15 }, (_, i) => 245 + (i % 11))],
  ['16 bytes', Array.from({ length: 16 }, (_, i) => 245 + (i % 11))],
  ['17 bytes', Array.from({ length: 17 }, (_, i) => 245 + (i % 11))],
  ['255 bytes of 0xff', Array.from({ length: 255 }, () => 0xff)],
] as const) {
  const name = String.fromCharCode(...bytes);
  t.equal(byteStringOf(Uint8Array.from(bytes)), name, `byteStringOf: ${rule}`);
  t.same([...bufferOf(name)], bytes, `bufferOf: ${rule}`);

  const inside = Uint8Array.from([1, 2, ...bytes, 3]).subarray(1);
  t.equal(
    byteStringOf(inside, 1, 1 + bytes.length),
    name,
    `byteStringOf: ${rule}, in the middle of a part of a buffer`,
  );
}
const shared = new Uint8Array(new SharedArrayBuffer(40)).fill(0xe9);
t.equal(byteStringOf(shared, 0, 4), '\xe9\xe9\xe9\xe9', 'byteStringOf: a short name in shared memory');
t.equal(byteStringOf(shared), '\xe9'.repeat(40), 'byteStringOf: a long name in shared memory');

for (const [rule, text, name, shown] of [
  ['ASCII', 'etc/passwd', 'etc/passwd', 'etc/passwd'],
  ['two bytes of UTF-8', 'caf\u00e9', 'caf\xc3\xa9', 'caf\u00e9'],
  ['four bytes of UTF-8', '\u{1f41a}', '\xf0\x9f\x90\x9a', '\u{1f41a}'],
  ['control bytes', 'a\nb\x7f', 'a\nb\x7f', 'a\\x0ab\\x7f'],
  ['a backslash, which starts an escape', 'a\\b', 'a\\b', 'a\\x5cb'],
] as const) {
  t.equal(byteStringFromText(text), name, `byteStringFromText: ${rule}`);
  t.equal(printable(name), shown, `printable: ${rule}`);
}
for (const [rule, name, shown] of [
  ['bytes that are no UTF-8', 'caf\xe9', 'caf\\xe9'],
  ['no UTF-8 after UTF-8', '\xc3\xa9\xff', '\\xc3\\xa9\\xff'],
  ['an overlong form', '\xc0\xaf', '\\xc0\\xaf'],
  ['a control character that is two bytes of UTF-8', 'a\xc2\x9b2J', 'a\\xc2\\x9b2J'],
  ['an escape sequence of a terminal', '\x1b[2J', '\\x1b[2J'],
] as const)
  t.equal(printable(name), shown, `printable: ${rule}`);

/** Against the engine's own 64-bit integers. */
fc.assert(
  fc.property(fc.bigInt({ min: 0n, max: 2n ** 64n - 1n }), fc.maxSafeInteger(), (bits, value) => {
    const v = new DataView(new ArrayBuffer(8));
    v.setBigUint64(0, bits, true);
    const isU64 = getU64(v, 0) === Number(bits);
    const isI64 = bits >= 2n ** 53n || getI64(v, 0) === Number(bits);
    putU64(v, 0, value);
    return isU64 && isI64 && v.getBigInt64(0, true) === BigInt(value) && getI64(v, 0) === value;
  }),
  { numRuns: 2000 },
);
t.pass('getU64 rounds as Number does; getI64 gives what putU64 wrote');
fc.assert(
  fc.property(fc.uint8Array({ maxLength: 300 }), bytes => Buffer.compare(bufferOf(byteStringOf(bytes)), bytes) === 0),
);
t.pass('bytes are the same after byteStringOf and bufferOf');

for (const [rule, name, shown] of [
  ['ASCII', 'a b\\c~', 'a b\\c~'],
  ['UTF-8 of two, three and four bytes', byteStringFromText('äö€😀'), byteStringFromText('äö€😀')],
  ['control characters', '\x1b[31m\x00\x07\x7f\r', '\\x1b[31m\\x00\\x07\\x7f\\x0d'],
  ['control characters of two bytes', byteStringFromText('\u009b31m\u0080'), '\\xc2\\x9b31m\\xc2\\x80'],
  ['bytes that are no UTF-8', '\xff\x9bx\xc3', '\\xff\\x9bx\\xc3'],
  ['a surrogate, and more bytes than needed', '\xed\xa0\x80\xc0\xaf', '\\xed\\xa0\\x80\\xc0\\xaf'],
  ['what is kept', 'a\n\tb', 'a\n\\x09b'],
] as const)
  t.equal(withoutControls(name, '\n'), shown, `withoutControls: ${rule}`);

{
  const bytes = new Uint8Array(6).fill(0xee);
  putByteString(bytes, 1, '\0\xe9z');
  t.equal(Buffer.from(bytes).toString('hex'), 'ee00e97aeeee', 'a byte string is written where it belongs');
}
for (const length of [0, 1, 255, 256, 257, 5000]) {
  const text = `${'\xe9\0a'.repeat(2000)}`.slice(3, 3 + length);
  t.equal(detached(text), text, `a copy of ${length} bytes`);
}
