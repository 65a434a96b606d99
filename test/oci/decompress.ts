/** Decompression of layers: what the programs gzip and zstd write, in pieces of any size, and what is damaged. */
import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import zlib from 'node:zlib';
import t from 'tap';
import { decompress, unzstdByPackage } from '../../src/oci/decompress.ts';
import { EFBIG, EUCLEAN } from '../../src/sys/errno.ts';
import { without } from '../fixtures/skips.ts';

type Decoder = typeof decompress;

async function* piecesOf(bytes: Uint8Array, size: number): AsyncGenerator<Uint8Array> {
  for (let at = 0; at < bytes.length; at += size) yield bytes.subarray(at, at + size);
}

/** What bytes decompress to: the SHA-256, as the data may be large. */
async function unpacked(decoder: Decoder, bytes: Uint8Array, size = 1 << 16): Promise<string> {
  const hash = createHash('sha256');
  for await (const piece of decoder(piecesOf(bytes, size), 'layer')) hash.update(piece);
  return hash.digest('hex');
}
const sha256 = (bytes: Uint8Array): string => createHash('sha256').update(bytes).digest('hex');

/** Words in an order that repeats only far away, and a long run of one byte. */
const DATA = Buffer.concat([
  Buffer.from(Array.from({ length: 60_000 }, (_, i) => `line ${(i * 7919) % 60_013}`).join('\n')),
  Buffer.alloc(600_000, 'x'),
]);
const pack = (program: string, args: string[], input: Buffer): Buffer =>
  execFileSync(program, args, { input, maxBuffer: 1 << 28 });

t.test('gzip and no compression', { skip: without('gzip') }, async t => {
  const packed = pack('gzip', ['-c'], DATA);
  for (const size of [1000, 1 << 20])
    t.equal(await unpacked(decompress, packed, size), sha256(DATA), `gzip by ${size}`);
  const two = Buffer.concat([packed, packed]);
  t.equal(await unpacked(decompress, two), sha256(Buffer.concat([DATA, DATA])), 'two members in a row');
  t.equal(await unpacked(decompress, DATA), sha256(DATA), 'no compression');
  const text = DATA.subarray(0, 10_000);
  t.equal(await unpacked(decompress, text, 3), sha256(text), 'no compression by 3');
  t.equal(await unpacked(decompress, Buffer.alloc(0)), sha256(Buffer.alloc(0)), 'nothing at all');
  t.equal(await unpacked(decompress, Buffer.from('ab')), sha256(Buffer.from('ab')), 'fewer bytes than a magic has');
  const trailing = async function* (): AsyncGenerator<Uint8Array> {
    yield* piecesOf(packed, 1 << 16);
    throw new Error('found at the end');
  };
  const read = async (): Promise<void> => {
    for await (const piece of decompress(trailing(), 'layer')) t.ok(piece.length > 0);
  };
  await t.rejects(read(), { message: 'found at the end' }, 'a failure at the end of the source');
  const damaged = Buffer.from(packed);
  damaged.fill(0x55, 5000, 5100);
  await t.rejects(unpacked(decompress, damaged), { errno: EUCLEAN, message: /^layer: gzip: / }, 'damaged');
  await t.rejects(
    unpacked(decompress, packed.subarray(0, 5000)),
    { errno: EUCLEAN, message: /^layer: gzip: / },
    'cut off',
  );
  const xz = Buffer.from([0xfd, 0x37, 0x7a, 0x58, 0x5a, 0, 0, 4]);
  await t.rejects(unpacked(decompress, xz), {
    errno: EUCLEAN,
    message: /^layer: compressed with xz, which is not supported/,
  });
});

const DECODERS: readonly (readonly [string, Decoder])[] = [
  ['createZstdDecompress' in zlib ? 'zstd by Node.js' : 'zstd', decompress],
  ['zstd by the package', unzstdByPackage],
];
/** A frame that holds no data, as zstd:chunked has it. */
const skippable = (bytes: number): Buffer => {
  const frame = Buffer.alloc(8 + bytes, 'x');
  frame.writeUInt32LE(0x184d2a50 + (bytes & 15), 0);
  frame.writeUInt32LE(bytes, 4);
  return frame;
};

for (const [name, decoder] of DECODERS)
  t.test(name, { skip: without('zstd') }, async t => {
    const zstd = (...args: string[]): Buffer => pack('zstd', ['-q', '-c', ...args], DATA);
    for (const args of [['-1'], ['-19'], ['--no-check'], ['--long=27'], ['--fast=5'], ['-B65536']])
      for (const size of [997, 1 << 20])
        t.equal(await unpacked(decoder, zstd(...args), size), sha256(DATA), `${args} by ${size}`);
    const text = DATA.subarray(0, 20_000);
    const frame = pack('zstd', ['-q', '-c'], text);
    const frames = [skippable(0), frame, skippable(7000), skippable(5), frame, skippable(3)];
    const twice = sha256(Buffer.concat([text, text]));
    for (const size of [1, 5000])
      t.equal(await unpacked(decoder, Buffer.concat(frames), size), twice, `frames by ${size}`);
    const many = Buffer.concat(Array.from({ length: 50_000 }, () => skippable(0)));
    t.equal(await unpacked(decoder, Buffer.concat([many, zstd()]), 1 << 20), sha256(DATA), 'very many frames');
    const tiny = pack('zstd', ['-q', '-c'], Buffer.from('x'));
    const all = Buffer.concat(Array.from({ length: 3000 }, () => tiny));
    t.equal(await unpacked(decoder, all, 1 << 20), sha256(Buffer.alloc(3000, 'x')), 'very many frames with data');
    const damaged = zstd('-3');
    damaged.fill(0x55, 3000, 3100);
    await t.rejects(unpacked(decoder, damaged), { errno: EUCLEAN, message: /^layer(: zstd)?: / }, 'damaged');
    await t.rejects(
      unpacked(decoder, zstd().subarray(0, 5000)),
      { errno: EUCLEAN, message: /^layer(: zstd)?: / },
      'cut off',
    );
  });

t.test('frames that the package must not see', { skip: without('zstd') }, async t => {
  const large = pack('zstd', ['-q', '-c', '--long=28'], DATA); // of a size that zstd did not know
  await t.rejects(unpacked(unzstdByPackage, large), {
    errno: EFBIG,
    message: 'layer: a window of 268435456 bytes; 134217728 are allowed',
  });
  const junk = Buffer.concat([pack('zstd', ['-q', '-c'], DATA), Buffer.from('junk')]);
  await t.rejects(unpacked(unzstdByPackage, junk), { errno: EUCLEAN, message: 'layer: bytes between frames' });
  const bomb = pack('zstd', ['-q', '-c', '-1'], Buffer.alloc(1 << 27));
  let most = 0;
  for await (const piece of unzstdByPackage(piecesOf(bomb, 1 << 20), 'layer')) most = Math.max(most, piece.length);
  t.ok(bomb.length < 20_000 && most <= 1 << 17, `${bomb.length} bytes are given out in pieces of ${most} at most`);
});
t.end();
