/** Damages bytes, anywhere or in a field of a structure that its layout table describes. */
import type { Random } from './target.ts';

/** A structure in an input: its start, and its table of offsets, which ends with SIZE. */
export interface Place {
  readonly at: number;
  readonly layout: Readonly<Record<string, number>> & { readonly SIZE: number };
}

/** Values near limits of sizes, counts and offsets; a narrow field keeps only their low bytes. */
const BOUNDARIES: readonly bigint[] = [
  0, 1, 2, 11, 12, 13, 31, 0x7f, 0x80, 0xff, 0x100, 0x1ff, 511, 512, 4095, 4096, 4097,
]
  .concat([0x7fff, 0x8000, 0xffff, 0x10000, 0x7fffffff, 0x80000000, 0xfffffffe, 0xffffffff])
  .map(BigInt)
  .concat([2n ** 32n, 2n ** 43n, 2n ** 53n - 1n, 2n ** 53n, 2n ** 63n - 1n, 2n ** 63n, 2n ** 64n - 1n]);

/** Writes a value that is likely to cause trouble into one field of one of the places, in place. */
export function damageField(bytes: Uint8Array, places: readonly Place[], random: Random): void {
  const { at, layout } = random.pick(places);
  const offsets = Object.values(layout);
  const i = random.below(offsets.length - 1);
  const from = offsets[i] as number;
  const width = Math.min(8, (offsets[i + 1] as number) - from);
  const old = readUint(bytes, at + from, width);
  writeUint(bytes, at + from, width, hurtful(old, bytes, places, random));
}

function hurtful(old: bigint, bytes: Uint8Array, places: readonly Place[], random: Random): bigint {
  const near = BigInt(random.below(5) - 2);
  switch (random.below(7)) {
    case 0:
      return old + near;
    case 1:
      return old ^ (1n << BigInt(random.below(64)));
    case 2:
      return BigInt(bytes.length) + near;
    case 3: // the number of an existing inode slot or block
      return BigInt(Math.floor(random.pick(places).at / random.pick([1, 4, 32, 512, 4096])));
    case 4:
      return BigInt(random.below(2 ** 31));
    default:
      return random.pick(BOUNDARIES);
  }
}

function readUint(bytes: Uint8Array, at: number, width: number): bigint {
  let value = 0n;
  for (let i = width - 1; i >= 0; i--) value = (value << 8n) | BigInt(bytes[at + i] ?? 0);
  return value;
}

function writeUint(bytes: Uint8Array, at: number, width: number, value: bigint): void {
  let rest = BigInt.asUintN(64, value);
  for (let i = 0; i < width && at + i < bytes.length; i++, rest >>= 8n) bytes[at + i] = Number(rest & 0xffn);
}

/** Changes one to eight bytes in place, preferably nonzero ones. */
export function damageBytes(bytes: Uint8Array, random: Random): void {
  if (bytes.length === 0) return;
  for (let k = random.below(8) + 1; k > 0; k--) {
    let at = random.below(bytes.length);
    for (let tries = 0; bytes[at] === 0 && tries < 4096 && !random.oneIn(64); tries++) at = (at + 1) % bytes.length;
    bytes[at] = random.oneIn(2) ? random.pick([0, 1, 0x7f, 0x80, 0xff]) : random.below(256);
  }
}

/**
 * Returns bytes of another shape: truncated, extended, with a part removed, repeated or moved, or with a part of another input.
 */
export function reshape(bytes: Uint8Array, other: Uint8Array, unit: number, random: Random): Uint8Array {
  const at = Math.min(bytes.length, unit * random.below(Math.ceil(bytes.length / unit) + 1));
  const length = unit * (1 + random.below(random.oneIn(4) ? 64 : 4));
  const [head, tail] = [bytes.subarray(0, at), bytes.subarray(at)];
  switch (random.below(6)) {
    case 0:
      return head.slice();
    case 1:
      return joined(bytes, new Uint8Array(length).fill(random.pick([0, 0xff, 0x61])));
    case 2:
      return joined(head, tail.subarray(length));
    case 3:
      return joined(head, tail.subarray(0, length), tail);
    case 4:
      return joined(head, other.subarray(at));
    default:
      return swapped(bytes, at, Math.min(bytes.length, unit * random.below(Math.ceil(bytes.length / unit))), length);
  }
}

function swapped(bytes: Uint8Array, a: number, b: number, length: number): Uint8Array {
  const result = bytes.slice();
  result.set(bytes.subarray(b, Math.min(b + length, b + bytes.length - a)), a);
  result.set(bytes.subarray(a, Math.min(a + length, a + bytes.length - b)), b);
  return result;
}

export const joined = (...parts: Uint8Array[]): Uint8Array => new Uint8Array(Buffer.concat(parts));
