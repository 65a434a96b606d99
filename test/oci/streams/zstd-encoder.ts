/** Compression by zstd: what the program zstd makes of the result again, and that the result depends on the bytes alone. */
import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import t from 'tap';
import { ZstdEncoder } from '../../../src/oci/streams/zstd-encoder.ts';
import { seeded } from '../../fixtures/mounts/wire.ts';
import { END, headerBlock, member } from '../../fixtures/oci/archives.ts';
import { without } from '../../fixtures/skips.ts';

function compress(bytes: Uint8Array, pieceBytes = bytes.length): Buffer {
  const parts: Buffer[] = [];
  const encoder = new ZstdEncoder(part => parts.push(Buffer.from(part)));
  for (let at = 0; at < bytes.length; at += pieceBytes) encoder.write(bytes.subarray(at, at + pieceBytes));
  encoder.finish();
  return Buffer.concat(parts);
}

const noise = (bytes: number): Buffer =>
  Buffer.concat(Array.from({ length: Math.ceil(bytes / 32) }, (_, i) => createHash('sha256').update(`${i}`).digest()));

const headers = (count: number): Buffer =>
  Buffer.concat([
    ...Array.from({ length: count }, (_, i) => headerBlock({ name: `usr/lib/name-${i}`, size: (i * 7919) % 100_003 })),
    END,
  ]);

/** Bytes that repeat each other from any distance, in parts of any length. */
function repeating(next: (below: number) => number): Buffer {
  const bytes = Buffer.alloc(1 + next(300_000));
  for (let at = 0; at < bytes.length; ) {
    const length = Math.min(bytes.length - at, 1 + next(2 ** next(18)));
    const back = 1 + next(at + 1);
    if (at === 0 || next(3) === 0) for (let i = 0; i < length; i++) bytes[at + i] = next(4) === 0 ? next(256) : 0x61;
    else for (let i = 0; i < length; i++) bytes[at + i] = bytes[at + i - Math.min(back, at)] as number;
    at += length;
  }
  return bytes;
}

const INPUTS: readonly (readonly [what: string, bytes: Buffer])[] = [
  ['nothing', Buffer.alloc(0)],
  ['a byte', Buffer.from('x')],
  ['a short text', Buffer.from('abcabcabcabcabcabc')],
  ['zeros', Buffer.alloc(1_000_000)],
  ['exactly one block', Buffer.alloc(1 << 17, 'y')],
  ['noise', noise(400_000)],
  ['noise again', Buffer.concat([noise(60_000), noise(60_000)])],
  ['headers', headers(3000)],
  ['few headers', headers(2)],
  ['an archive', Buffer.concat([member({ name: 'a' }, 'x'.repeat(64)), member({ name: 'b' }, noise(700)), END])],
];

t.test('what the program zstd makes of it', { skip: without('zstd') }, async t => {
  const unpacked = (packed: Buffer): Buffer =>
    execFileSync('zstd', ['-q', '-d', '-c'], { input: packed, maxBuffer: 1 << 28 });
  for (const [what, bytes] of INPUTS) t.ok(unpacked(compress(bytes)).equals(bytes), what);
  for (let seed = 0; seed < 20; seed++) {
    const next = seeded(seed);
    const inputs = Array.from({ length: 10 }, () => repeating(next));
    const packed = Buffer.concat(inputs.map(bytes => compress(bytes)));
    t.ok(unpacked(packed).equals(Buffer.concat(inputs)), `frames of seed ${seed}`);
  }
});

t.test('pieces of any size', async t => {
  for (const [what, bytes] of INPUTS)
    for (const size of [100_001, 1 << 17]) t.ok(compress(bytes, size).equals(compress(bytes)), `${what} by ${size}`);
  const few = headers(20);
  t.ok(compress(few, 1).equals(compress(few)), 'headers by 1');
});

t.test('sizes', async t => {
  const sizeOf = (bytes: Buffer): number => compress(bytes).length;
  t.ok(sizeOf(headers(3000)) < 3000 * 40, `${sizeOf(headers(3000))} bytes for 3000 headers`);
  t.ok(sizeOf(noise(400_000)) < 400_100, 'noise does not grow');
  t.equal(sizeOf(Buffer.alloc(0)), 9, 'a header and an empty block');
});
t.end();
