import fc from 'fast-check';
import t from 'tap';
import { EIO } from '../../src/sys/errno.ts';
import { DEFAULTS, leavesBytes, measureLeaves, type Parameters, type Read } from '../../src/verity/digest.ts';
import { VerityTree } from '../../src/verity/tree.ts';

const BLOCK = 4096;

/** A source over `bytes`, which the test may change, that reads at most `most` bytes at a time. */
const source =
  (bytes: Uint8Array, most = Infinity) =>
  (out: Uint8Array, at: number, length: number, position: number): number => {
    const part = bytes.subarray(position, position + Math.min(length, most));
    out.set(part, at);
    return part.length;
  };
const sample = (size: number): Uint8Array => Uint8Array.from({ length: size }, (_, i) => (i * 13 + (i >> 12)) & 0xff);

/** The tree of `bytes`, as one thread measures it and another one uses it. */
function treeOf(bytes: Uint8Array, parameters: Parameters = DEFAULTS): VerityTree {
  return new VerityTree(parameters, bytes.length, measureLeaves(source(bytes), bytes.length, parameters).leaves);
}

t.test('reading what was measured', async t => {
  const bytes = sample(10 * BLOCK + 100);
  for (const [rule, parameters] of [
    ['plain', DEFAULTS],
    ['SHA-512 of large blocks', { ...DEFAULTS, algorithm: 'sha512', blockBytes: 16384 }],
    ['with a salt', { ...DEFAULTS, salt: Buffer.from('salt') }],
  ] as const) {
    const tree = treeOf(bytes, parameters);
    const wrong: string[] = [];
    for (const position of [0, 1, BLOCK - 1, BLOCK, 10 * BLOCK, bytes.length - 1, bytes.length, bytes.length + BLOCK]) {
      for (const length of [0, 1, 100, BLOCK, BLOCK + 1, 5 * BLOCK, 100 * BLOCK]) {
        const out = new Uint8Array(length + 2).fill(0xee);
        const n = tree.read(source(bytes, 5000), out, 1, length, position);
        const want = bytes.subarray(position, position + length);
        const same = n === want.length && Buffer.compare(out.subarray(1, 1 + n), want) === 0;
        const around = out[0] === 0xee && out[length + 1] === 0xee;
        if (!same || !around) wrong.push(`${length} at ${position}: ${n}`);
      }
    }
    t.same(wrong, [], `${rule}: every range`);
  }
});

t.test('a change after the measurement', async t => {
  const clean = sample(5 * BLOCK + 100);
  const read = (bytes: Uint8Array, length: number, position: number) => () => {
    const tree = treeOf(clean);
    return tree.read(source(bytes), new Uint8Array(length), 0, length, position);
  };
  const at = (position: number): Uint8Array => {
    const bytes = clean.slice();
    bytes[position] = (bytes[position] as number) ^ 1;
    return bytes;
  };
  for (const [rule, bytes, length, position, block] of [
    ['in the first block', at(0), BLOCK, 0, 0],
    ['in a byte of the block that was not asked for', at(BLOCK), 1, 2 * BLOCK - 1, 1],
    ['in the last, short block', at(5 * BLOCK + 99), 10, 5 * BLOCK, 5],
    ['in one of many', at(3 * BLOCK), 6 * BLOCK, 0, 3],
    ['in the block before one that is asked for whole', at(0), BLOCK + 1, BLOCK - 1, 0],
    ['in the block after one that is asked for whole', at(2 * BLOCK), BLOCK + 1, BLOCK, 2],
  ] as const)
    t.throws(
      read(bytes, length, position),
      { name: 'EIO', message: new RegExp(`^EWRONGVERITY: block ${block} has changed since it was measured$`) },
      rule,
    );
  t.equal(read(at(0), BLOCK, BLOCK)(), BLOCK, 'in a block that nobody reads: not seen');
  t.throws(read(clean.subarray(0, 4 * BLOCK), BLOCK, 4 * BLOCK), { name: 'EIO', message: /ends at/ }, 'a shorter file');
  const longer = Buffer.concat([clean, Buffer.from('more')]);
  t.equal(read(longer, 1000, 5 * BLOCK)(), 100, 'a longer file: the rest does not exist');
  const tree = treeOf(clean);
  t.throws(
    () => tree.read(() => -EIO, new Uint8Array(10), 0, 10, 0),
    { name: 'EIO', message: /read at 0/ },
    'a failing read',
  );
});

t.test('what is read of the source', async t => {
  const bytes = sample(5 * BLOCK + 100);
  const tree = treeOf(bytes);
  for (const [rule, position, length, want] of [
    ['whole blocks at once', BLOCK, 3 * BLOCK, [[BLOCK, 3 * BLOCK]]],
    ['the short last block with those before it', 0, bytes.length, [[0, bytes.length]]],
    [
      'the blocks at both ends whole',
      10,
      2 * BLOCK,
      [
        [0, BLOCK],
        [BLOCK, BLOCK],
        [2 * BLOCK, BLOCK],
      ],
    ],
    ['one block for a part of it', 3 * BLOCK + 1, 1, [[3 * BLOCK, BLOCK]]],
    ['the last block for a part of it', 5 * BLOCK + 1, 1, [[5 * BLOCK, 100]]],
    ['nothing at the end', bytes.length, 10, []],
  ] as const) {
    const reads: number[][] = [];
    const read: Read = (out, at, length, position) => {
      reads.push([position, length]);
      return source(bytes)(out, at, length, position);
    };
    tree.read(read, new Uint8Array(length), 0, length, position);
    t.same(reads, want, rule);
  }
});

t.test('any range of data with one wrong byte', async t => {
  const clean = sample(300 * BLOCK + 100); // more hashes than are compared at once
  const tree = treeOf(clean);
  const place = fc.oneof(
    fc.nat(clean.length - 1),
    fc.nat(299).map(block => block * BLOCK),
  );
  const length = fc.oneof(
    fc.nat(3 * BLOCK),
    fc.nat(clean.length + BLOCK),
    fc.nat(300).map(count => count * BLOCK),
  );
  const shared = new Uint8Array(new SharedArrayBuffer(clean.length + 2 * BLOCK));
  let refused = 0;
  const check = (position: number, length: number, flip: number): boolean => {
    const bytes = clean.slice();
    bytes[flip] = (bytes[flip] as number) ^ 0x80;
    const wrong = Math.floor(flip / BLOCK);
    const end = Math.min(position + length, clean.length);
    const touched = end > position && wrong >= Math.floor(position / BLOCK) && wrong <= Math.floor((end - 1) / BLOCK);
    try {
      const n = tree.read(source(bytes, 100_001), shared, 5, length, position);
      return (
        !touched &&
        n === end - position &&
        Buffer.compare(shared.subarray(5, 5 + n), clean.subarray(position, end)) === 0
      );
    } catch (error) {
      refused++;
      return touched && (error as Error).message === `EWRONGVERITY: block ${wrong} has changed since it was measured`;
    }
  };
  fc.assert(fc.property(place, length, place, check), { numRuns: 500 });
  t.ok(refused > 20 && refused < 480, `all or nothing: ${refused} of 500 reads met the wrong byte`);
});

t.test('leaves of another size', async t => {
  for (const [rule, sizeBytes, bytes] of [
    ['too few', BLOCK + 1, 32],
    ['too many', BLOCK, 64],
    ['a part of one', BLOCK, 31],
    ['some for no data', 0, 32],
  ] as const)
    t.throws(() => new VerityTree(DEFAULTS, sizeBytes, new Uint8Array(bytes)), { name: 'EINVAL' }, rule);
  const empty = new VerityTree(DEFAULTS, 0, new Uint8Array(leavesBytes(0, DEFAULTS)));
  t.equal(
    empty.read(() => -EIO, new Uint8Array(10), 0, 10, 0),
    0,
    'no data: nothing is read',
  );
  t.throws(
    () => new VerityTree({ ...DEFAULTS, blockBytes: 512 }, 0, new Uint8Array(0)),
    { name: 'EINVAL' },
    'parameters',
  );
});
