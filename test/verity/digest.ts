import { closeSync, ftruncateSync, openSync, readFileSync, truncateSync, writeFileSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import fc from 'fast-check';
import t from 'tap';
import { EIO } from '../../src/sys/errno.ts';
import { native } from '../../src/sys/native.ts';
import {
  ALGORITHMS,
  DEFAULTS,
  leavesBytes,
  Measurement,
  measure,
  measureBytes,
  measureFd,
  measureLeaves,
  type Parameters,
  type Read,
} from '../../src/verity/digest.ts';
import {
  bytesOf,
  definedDigest,
  definedHashes,
  everyParameter,
  hex,
  named,
  programDigest,
} from '../fixtures/images/digests.ts';
import { goldenFolder, goldenImages } from '../fixtures/images/golden-images.ts';
import { noProgram } from '../fixtures/mounts/kernel-mount.ts';
import { withScratch } from '../fixtures/scratch.ts';

const BLOCK = 4096;
const LARGE = 128 * 128 * BLOCK + 1;
const noFsverity = noProgram('fsverity') ?? false;

/** Sizes up to `max` around the ends of blocks and of levels: one leaf below what a level can hold, that, and a byte more. */
function edges({ algorithm, blockBytes }: Parameters, max: number): number[] {
  const perBlock = blockBytes / ALGORITHMS[algorithm].digestBytes;
  const sizes = [0, 1, blockBytes - 1, blockBytes, blockBytes + 1];
  for (let full = perBlock * blockBytes; full < max; full *= perBlock) sizes.push(full - blockBytes, full, full + 1);
  return sizes;
}

/** A source over `bytes` that reads at most `most` bytes at a time. */
const sourceOf =
  (bytes: Uint8Array, most = Infinity): Read =>
  (out, at, length, position) => {
    const part = bytes.subarray(position, position + Math.min(length, most));
    out.set(part, at);
    return part.length;
  };

function withFile<T>(path: string, flags: string, use: (fd: number) => T): T {
  const fd = openSync(path, flags);
  try {
    return use(fd);
  } finally {
    closeSync(fd);
  }
}

t.test('the definition, with other hash functions', async t => {
  for (const parameters of everyParameter([1024, 4096, 65536])) {
    const wrong = edges(parameters, 600_000).filter(size => {
      const bytes = bytesOf(size);
      return hex(measureBytes(bytes, parameters)) !== definedDigest(bytes, parameters);
    });
    t.same(wrong, [], named(parameters));
  }
});

t.test('the fsverity program', { skip: noFsverity }, async t => {
  const bytes = bytesOf(LARGE);
  withScratch(directory => {
    const path = join(directory, 'data');
    for (const parameters of everyParameter([1024, 2048, 4096, 8192, 16384, 32768, 65536])) {
      const max = parameters.salt.length === 0 ? LARGE : 3_000_000;
      const sizes = edges(parameters, max).sort((a, b) => b - a);
      writeFileSync(path, bytes.subarray(0, sizes[0]));
      const wrong = sizes.filter(size => {
        truncateSync(path, size);
        const want = programDigest(path, parameters);
        const file = withFile(path, 'r', fd => hex(measureFd(fd, size, parameters)));
        return file !== want || hex(measureBytes(bytes.subarray(0, size), parameters)) !== want;
      });
      t.same(wrong, [], `${named(parameters)}: ${sizes.length} sizes to ${sizes[0]} bytes`);
    }
  });
});

/** In memory, where reading a hole does not fill the page cache. */
t.test('a sparse file of 5 GB', { skip: noFsverity }, async t => {
  withScratch(directory => {
    const path = join(directory, 'data');
    const size = 5_000_000_001;
    withFile(path, 'w', fd => {
      for (const at of [0, 2 ** 31 - 2, 2 ** 32 - 2, size - 4]) writeSync(fd, 'here', at);
    });
    const digest = withFile(path, 'r', fd => hex(measureFd(fd, size)));
    t.equal(digest, programDigest(path, DEFAULTS), 'places and sizes past 2^32');
  }, '/dev/shm');
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

t.test('pieces of any size', async t => {
  const bytes = bytesOf(700_000);
  const piece = fc.oneof(
    fc.integer({ min: 0, max: 3 }),
    fc.integer({ min: 0, max: 20_000 }),
    fc.constantFrom(4096, 65536),
  );
  const parameters = fc.constantFrom(...everyParameter([1024, 4096, 65536]));
  const digests = new Map<Parameters, string>();
  const inPieces = (parameters: Parameters, pieces: readonly number[]): boolean => {
    const measurement = new Measurement(parameters);
    const buffer = new Uint8Array(bytes.length);
    let size = 0;
    for (const count of [...pieces, bytes.length]) {
      const part = bytes.subarray(size, size + count);
      buffer.set(part);
      measurement.update(buffer.subarray(0, part.length));
      buffer.fill(0xee, 0, part.length); // what was given may be used again
      size += part.length;
    }
    const want = digests.get(parameters) ?? definedDigest(bytes, parameters);
    digests.set(parameters, want);
    return hex(measurement.digest()) === want;
  };
  fc.assert(fc.property(parameters, fc.array(piece, { maxLength: 60 }), inPieces), { numRuns: 200 });
  t.pass('200 divisions have the digest of the whole');
  const shared = new Uint8Array(new SharedArrayBuffer(bytes.length));
  shared.set(bytes);
  t.equal(hex(measureBytes(shared)), definedDigest(bytes, DEFAULTS), 'shared memory');
});

t.test('sources', async t => {
  const bytes = bytesOf(700_000);
  const want = definedDigest(bytes, DEFAULTS);
  const short = sourceOf(bytes, 10_007);
  t.equal(hex(measure(short, bytes.length)), want, 'a source that reads less than is asked');
  const nested: Read = (...args) => {
    const n = short(...args);
    measure(sourceOf(new Uint8Array(500_000)), 500_000);
    return n;
  };
  t.equal(hex(measure(nested, bytes.length)), want, 'a source that measures another one');
  t.throws(
    () => measure(short, bytes.length + 1),
    { name: 'EIO', message: /ends at 700000 of 700001/ },
    'one that ends early',
  );
  t.throws(() => measure(() => -EIO, 10), { name: 'EIO', message: /read at 0/ }, 'one that fails');
  t.equal(hex(measure(short, bytes.length)), want, 'the next one after a failure');
});

t.test('files', async t => {
  const bytes = bytesOf(700_000);
  withScratch(directory => {
    const path = join(directory, 'data');
    writeFileSync(path, bytes);
    withFile(path, 'r+', fd => {
      t.equal(hex(measureFd(fd, 700_000)), definedDigest(bytes, DEFAULTS), 'a whole file');
      t.equal(hex(measureFd(fd, 5000)), definedDigest(bytes.subarray(0, 5000), DEFAULTS), 'the start of one that grew');
      t.equal(hex(measureFd(fd, 0)), definedDigest(new Uint8Array(0), DEFAULTS), 'no data');
      t.throws(() => measureFd(fd, 700_001), { name: 'EIO', message: /ends at 700000 of 700001/ }, 'a shorter file');
      const shrinking: Read = (...args) => {
        const n = native.pread(fd, ...args);
        ftruncateSync(fd, 300_000);
        return n;
      };
      t.throws(
        () => measure(shrinking, 700_000),
        { name: 'EIO', message: /ends at 300000 of 700000/ },
        'one that shrinks',
      );
    });
  });
  t.throws(() => measureFd(-1, 1), { name: 'EBADF', message: 'read at 0: Bad file descriptor' }, 'no file');
});

t.test('leaves', async t => {
  const bytes = bytesOf(300_000);
  for (const parameters of everyParameter([1024, 4096])) {
    const wrong = [...edges(parameters, 300_000), 300_000].filter(size => {
      const data = bytes.subarray(0, size);
      const { digest, leaves } = measureLeaves(sourceOf(data, 50_001), size, parameters);
      const want = definedHashes(data, parameters).map(hex).join('');
      return hex(leaves) !== want || hex(digest) !== definedDigest(data, parameters);
    });
    t.same(wrong, [], `${named(parameters)}: the hash of each block, and the digest`);
  }
  const room = (sizeBytes: number): Measurement =>
    new Measurement(DEFAULTS, new Uint8Array(leavesBytes(sizeBytes, DEFAULTS)));
  t.throws(() => room(BLOCK).update(bytes), { name: 'EINVAL' }, 'more data than was said');
  const more = room(BLOCK);
  more.update(bytes.subarray(0, BLOCK + 1));
  t.throws(() => more.digest(), { name: 'EINVAL' }, 'one byte more');
  t.throws(() => measureLeaves(sourceOf(bytes), 300_001), { name: 'EIO' }, 'a source that ends early');
});

t.test('memory', async t => {
  const measurement = new Measurement();
  const piece = new Uint8Array(1 << 20);
  const before = process.memoryUsage().arrayBuffers;
  for (let i = 0; i < 200; i++) measurement.update(piece);
  const more = process.memoryUsage().arrayBuffers - before;
  t.ok(more < 100_000, `a measurement keeps a block a level, not the data: ${more} bytes`);
  measurement.digest();
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
