/**
 * The sequences of a compressed block of zstd: so many literals, then so many bytes again from so far back. Their codes have the
 * predefined distributions.
 * Source: RFC 8878, "Sequences Section" and "FSE Table Description".
 */

/** Codes for numbers: each has a smallest number, and so many bits that are added to it. */
interface Codes {
  readonly bases: readonly number[];
  readonly bits: readonly number[];
}

/** An encoder for one kind of code. Its state is a number of `bits` bits, above which there is a 1. */
interface Table {
  readonly bits: number;
  readonly states: Uint16Array;
  /** For each code: how many bits leave a state, as 16 fractional bits; and where its states begin. */
  readonly bitsOut: Int32Array;
  readonly firstState: Int32Array;
}

/** Counts of the codes among all states; -1 is a code that is less probable than one state. */
const LITERALS_COUNTS = [4, 3, ...repeat(2, 11), 1, 1, 1, ...repeat(2, 9), 3, 2, ...repeat(1, 5), ...repeat(-1, 4)];
const MATCH_COUNTS = [1, 4, 3, ...repeat(2, 6), ...repeat(1, 37), ...repeat(-1, 7)];
const OFFSET_COUNTS = [...repeat(1, 6), 2, 2, 2, ...repeat(1, 15), ...repeat(-1, 5)];

const LITERALS: Codes = codesFrom(0, [
  ...repeat(0, 16),
  1,
  1,
  1,
  1,
  2,
  2,
  3,
  3,
  4,
  6,
  7,
  8,
  9,
  10,
  11,
  12,
  13,
  14,
  15,
  16,
]);
const MATCH_BITS = [...repeat(0, 32), 1, 1, 1, 1, 2, 2, 3, 3, 4, 4, 5, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16];
const MATCH: Codes = codesFrom(3, MATCH_BITS);

const LITERALS_TABLE = tableOf(LITERALS_COUNTS, 6);
const MATCH_TABLE = tableOf(MATCH_COUNTS, 6);
const OFFSET_TABLE = tableOf(OFFSET_COUNTS, 5);

/** The value for the offset of the sequence before, if literals come between. */
export const SAME_OFFSET = 1;
/** What is added to any other offset. */
export const OFFSET_BASE = 3;
/** A count of sequences from here on has three bytes. */
export const SEQUENCES_MAX = 0x7f00;
/** A sequence in the array that `putSequences` takes. */
export const Sequence = { literals: 0, match: 1, offset: 2, SIZE: 3 } as const;

/**
 * Writes the section of the first `count` sequences, at least one and fewer than SEQUENCES_MAX. @returns the offset after it; beyond
 * the end of `out`, what was written is incomplete
 */
export function putSequences(out: Uint8Array, from: number, sequences: Uint32Array, count: number): number {
  let at = from;
  if (count >= 128) out[at++] = (count >> 8) + 128;
  out[at++] = count;
  out[at++] = 0; // all distributions are the predefined ones
  const bits = new BitWriter(out, at);
  const literals = new State(LITERALS_TABLE, bits);
  const match = new State(MATCH_TABLE, bits);
  const offset = new State(OFFSET_TABLE, bits);
  for (let i = count - 1; i >= 0; i--) {
    // the decoder reads from the end
    const place = i * Sequence.SIZE;
    const literalsBytes = sequences[place + Sequence.literals] as number;
    const matchBytes = sequences[place + Sequence.match] as number;
    const offsetValue = sequences[place + Sequence.offset] as number;
    const [literalsCode, matchCode] = [codeOf(LITERALS, literalsBytes), codeOf(MATCH, matchBytes)];
    const offsetCode = 31 - Math.clz32(offsetValue);
    offset.add(offsetCode);
    match.add(matchCode);
    literals.add(literalsCode);
    bits.add(literalsBytes - (LITERALS.bases[literalsCode] as number), LITERALS.bits[literalsCode] as number);
    bits.add(matchBytes - (MATCH.bases[matchCode] as number), MATCH.bits[matchCode] as number);
    bits.add(offsetValue - (1 << offsetCode), offsetCode);
  }
  for (const state of [match, offset, literals]) state.end();
  return bits.end();
}

/** Writes bits, the first one as the lowest of its byte. */
class BitWriter {
  readonly #out: Uint8Array;
  #at: number;
  #pending = 0;
  #pendingBits = 0;

  constructor(out: Uint8Array, at: number) {
    this.#out = out;
    this.#at = at;
  }

  /** Writes the lowest bits of a value, at most 24. */
  add(value: number, bits: number): void {
    this.#pending |= (value & ((1 << bits) - 1)) << this.#pendingBits;
    this.#pendingBits += bits;
    for (; this.#pendingBits >= 8; this.#pendingBits -= 8) {
      this.#out[this.#at++] = this.#pending;
      this.#pending >>>= 8;
    }
  }

  /** Writes the bit that shows a decoder the end. @returns the offset after all bits */
  end(): number {
    this.add(1, 1);
    if (this.#pendingBits > 0) this.#out[this.#at++] = this.#pending;
    return this.#at;
  }
}

/** The state of one kind of code while sequences are written. The first code decides the state with which it begins. */
class State {
  readonly #table: Table;
  readonly #bits: BitWriter;
  #state: number | undefined;

  constructor(table: Table, bits: BitWriter) {
    this.#table = table;
    this.#bits = bits;
  }

  add(code: number): void {
    const { states, bitsOut, firstState } = this.#table;
    const out = bitsOut[code] as number;
    const first = firstState[code] as number;
    if (this.#state === undefined) {
      const bits = (out + (1 << 15)) >> 16;
      this.#state = states[(((bits << 16) - out) >> bits) + first] as number;
      return;
    }
    const bits = (this.#state + out) >> 16;
    this.#bits.add(this.#state, bits);
    this.#state = states[(this.#state >> bits) + first] as number;
  }

  end(): void {
    this.#bits.add(this.#state as number, this.#table.bits);
  }
}

/** The last code whose base is not above a value. */
function codeOf({ bases }: Codes, value: number): number {
  let [low, high] = [0, bases.length];
  while (high - low > 1) {
    const middle = (low + high) >> 1;
    if ((bases[middle] as number) <= value) low = middle;
    else high = middle;
  }
  return low;
}

/** Codes whose ranges follow each other. */
function codesFrom(first: number, bits: readonly number[]): Codes {
  let base = first;
  const bases = bits.map(width => {
    base += 1 << width;
    return base - (1 << width);
  });
  return { bases, bits };
}

/** Makes the table of an encoder, in which the states of each code are spread as the decoder spreads them. */
function tableOf(counts: readonly number[], bits: number): Table {
  const size = 1 << bits;
  const codeOfState = spread(counts, size);
  const states = new Uint16Array(size);
  const bitsOut = new Int32Array(counts.length);
  const firstState = new Int32Array(counts.length);
  let total = 0;
  for (const [code, signed] of counts.entries()) {
    const count = Math.abs(signed);
    const most = count === 1 ? bits : bits - (31 - Math.clz32(count - 1));
    bitsOut[code] = (most << 16) - (count << most);
    firstState[code] = total - count;
    for (let state = 0; state < size; state++) if (codeOfState[state] === code) states[total++] = size + state;
  }
  return { bits, states, bitsOut, firstState };
}

/** The code of each state of a decoder. */
function spread(counts: readonly number[], size: number): Uint8Array {
  const codes = new Uint8Array(size);
  let last = size - 1;
  for (const [code, count] of counts.entries()) if (count < 0) codes[last--] = code;
  const step = (size >> 1) + (size >> 3) + 3;
  let at = 0;
  for (const [code, count] of counts.entries())
    for (let i = 0; i < count; i++) {
      codes[at] = code;
      do at = (at + step) & (size - 1);
      while (at > last);
    }
  return codes;
}

function repeat(value: number, times: number): number[] {
  return Array.from({ length: times }, () => value);
}
