import { execFileSync } from 'node:child_process';
import { closeSync, openSync, readFileSync, readSync, truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { sha256, sha512 } from '@noble/hashes/sha2.js';
import t from 'tap';
import { EIO } from '../../src/sys/errno.ts';
import {
  type Algorithm,
  DEFAULTS,
  leavesBytes,
  Measurement,
  measure,
  measureBytes,
  measureLeaves,
  type Parameters,
} from '../../src/verity/digest.ts';
import { goldenFolder, goldenImages } from '../fixtures/golden-images.ts';
import { noProgram } from '../fixtures/kernel-mount.ts';
import { withScratch } from '../fixtures/scratch.ts';

const BLOCK = 4096;
/** Sizes around the ends of blocks and of levels: 128 hashes of 32 bytes fill a block. */
const sizes = [0, 1, BLOCK - 1, BLOCK, BLOCK + 1, 2 * BLOCK, 127 * BLOCK, 128 * BLOCK, 128 * BLOCK + 1, 129 * BLOCK];
const large = 128 * 128 * BLOCK + 1;

/** Bytes that differ from block to block. */
function bytesOf(size: number): Uint8Array {
  const bytes = new Uint8Array(size);
  for (let at = 0, x = 1; at < size; at += 61, x = (x * 69069 + 1) >>> 0) bytes[at] = x >>> 24;
  return bytes;
}
const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString('hex');

/** The definition, word by word, over hash functions that are not ours. Source: fsverity.rst. */
function defined(bytes: Uint8Array, { algorithm, blockBytes, salt }: Parameters): string {
  const H = algorithm === 'sha256' ? sha256 : sha512;
  const pad =
    salt.length === 0
      ? salt
      : Buffer.concat([salt, Buffer.alloc(H.blockLen - (salt.length % H.blockLen || H.blockLen))]);
  const level = (data: Uint8Array): Uint8Array[] =>
    Array.from({ length: Math.ceil(data.length / blockBytes) }, (_, i) => {
      const block = Buffer.alloc(blockBytes);
      block.set(data.subarray(i * blockBytes, (i + 1) * blockBytes));
      return H(Buffer.concat([pad, block]));
    });
  let hashes = level(bytes);
  while (hashes.length > 1) hashes = level(Buffer.concat(hashes));
  const descriptor = Buffer.alloc(256);
  descriptor.set([1, algorithm === 'sha256' ? 1 : 2, Math.log2(blockBytes), salt.length]);
  descriptor.writeBigUInt64LE(BigInt(bytes.length), 8);
  descriptor.set(hashes[0] ?? new Uint8Array(0), 16);
  descriptor.set(salt, 80);
  return hex(H(descriptor));
}

function* everyParameter(): Generator<Parameters> {
  for (const algorithm of ['sha256', 'sha512'] as Algorithm[]) {
    for (const blockBytes of [1024, 4096, 65536]) {
      for (const salt of [new Uint8Array(0), Buffer.from('salt'), new Uint8Array(32).fill(7)])
        yield { algorithm, blockBytes, salt };
    }
  }
}
const named = ({ algorithm, blockBytes, salt }: Parameters): string =>
  `${algorithm}, blocks of ${blockBytes}, salt of ${salt.length}`;

t.test('the definition, with other hash functions', async t => {
  for (const parameters of everyParameter()) {
    const wrong = sizes.filter(size => {
      const bytes = bytesOf(size);
      return hex(measureBytes(bytes, parameters)) !== defined(bytes, parameters);
    });
    t.same(wrong, [], named(parameters));
  }
});

t.test('the fsverity program', { skip: noProgram('fsverity') ?? false }, async t => {
  withScratch(directory => {
    const path = join(directory, 'data');
    const fsverity = ({ algorithm, blockBytes, salt }: Parameters): string => {
      const more = salt.length === 0 ? [] : [`--salt=${hex(salt)}`];
      const args = ['digest', '--compact', `--hash-alg=${algorithm}`, `--block-size=${blockBytes}`, ...more, path];
      return execFileSync('fsverity', args, { encoding: 'latin1' }).trim();
    };
    for (const size of [...sizes, large]) {
      const bytes = bytesOf(size);
      writeFileSync(path, bytes);
      t.equal(hex(measureBytes(bytes)), fsverity(DEFAULTS), `${size} bytes`);
    }
    writeFileSync(path, bytesOf(300_000));
    for (const parameters of everyParameter()) {
      t.equal(hex(measureBytes(bytesOf(300_000), parameters)), fsverity(parameters), named(parameters));
    }
    truncateSync(path, 300_000_000);
    t.equal(measuredFile(path, 300_000_000), fsverity(DEFAULTS), 'a sparse file, in one pass');
  });
});

t.test('digests that mkcomposefs gave of its images', async t => {
  const index = JSON.parse(readFileSync(join(goldenFolder, 'index.json'), 'utf8')) as {
    dump: string;
    images: { min_version: number; fsverity: string }[];
  }[];
  for (const { dump, images } of index) {
    const name = dump.replace('.dump', '.cfs');
    const path = goldenImages().find(([image]) => image === name)?.[1] as string;
    const want = images.find(image => image.min_version === 0)?.fsverity;
    t.equal(hex(measureBytes(readFileSync(path))), want, name);
  }
});

t.test('pieces and sources', async t => {
  const bytes = bytesOf(700_000);
  const want = hex(measureBytes(bytes));
  for (const piece of [1000, 4095, 4096, 4097, 65536, 700_000]) {
    const measurement = new Measurement();
    for (let at = 0; at < bytes.length; at += piece) measurement.update(bytes.subarray(at, at + piece));
    t.equal(hex(measurement.digest()), want, `pieces of ${piece}`);
  }
  const short = (out: Uint8Array, at: number, length: number, position: number): number => {
    const part = bytes.subarray(position, position + Math.min(length, 10_007));
    out.set(part, at);
    return part.length;
  };
  t.equal(hex(measure(short, bytes.length)), want, 'a source that reads less than is asked');
  t.throws(
    () => measure(short, bytes.length + 1),
    { name: 'EIO', message: /ends at 700000 of 700001/ },
    'one that ends early',
  );
  t.throws(() => measure(() => -EIO, 10), { name: 'EIO', message: /read at 0/ }, 'one that fails');
  const shared = new Uint8Array(new SharedArrayBuffer(bytes.length));
  shared.set(bytes);
  t.equal(hex(measureBytes(shared)), want, 'shared memory');
});

t.test('the leaves of a measurement', async t => {
  const bytes = bytesOf(5000);
  const source = (out: Uint8Array, at: number, length: number, position: number): number => {
    out.set(bytes.subarray(position, position + length), at);
    return Math.min(length, bytes.length - position);
  };
  const blocks = [bytes.subarray(0, BLOCK), Buffer.concat([bytes.subarray(BLOCK), new Uint8Array(2 * BLOCK - 5000)])];
  const { digest, leaves } = measureLeaves(source, bytes.length);
  t.equal(hex(digest), hex(measureBytes(bytes)), 'the digest is the same');
  t.equal(hex(leaves), blocks.map(block => hex(sha256(block))).join(''), 'the hashes of the blocks, in order');
  t.ok(leaves.buffer instanceof SharedArrayBuffer, 'in shared memory');
  t.throws(
    () => new Measurement(DEFAULTS, new Uint8Array(leavesBytes(1, DEFAULTS))).update(bytesOf(2 * BLOCK)),
    { name: 'EINVAL' },
    'more data than was said',
  );
});

t.test('what fs-verity does not have', async t => {
  for (const [rule, change] of [
    ['blocks of 512 bytes', { blockBytes: 512 }],
    ['blocks of 3000 bytes', { blockBytes: 3000 }],
    ['blocks of 128 KiB', { blockBytes: 131072 }],
    ['a salt of 33 bytes', { salt: new Uint8Array(33) }],
  ] as const)
    t.throws(() => new Measurement({ ...DEFAULTS, ...change }), { name: 'EINVAL' }, rule);
});

function measuredFile(path: string, size: number): string {
  const fd = openSync(path, 'r');
  try {
    return hex(measure((out, at, length, position) => readSync(fd, out, at, length, position), size));
  } finally {
    closeSync(fd);
  }
}
