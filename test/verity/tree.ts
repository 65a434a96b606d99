import t from 'tap';
import { EIO } from '../../src/sys/errno.ts';
import { DEFAULTS, measureLeaves, type Parameters } from '../../src/verity/digest.ts';
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
  ] as const)
    t.throws(
      read(bytes, length, position),
      { name: 'EIO', message: new RegExp(`^EWRONGVERITY: block ${block} is not what was measured$`) },
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
