import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import * as f from '../../src/erofs/format.ts';
import { openImage, readImageFile } from '../../src/erofs/image.ts';
import { ErofsLayer } from '../../src/layers/erofs.ts';
import { S_IFDIR, S_IFREG } from '../../src/sys/stat.ts';
import { type CraftedImage, craft } from '../fixtures/images/craft.ts';
import { goldenImages } from '../fixtures/images/golden-images.ts';
import { sameAsKernel } from '../fixtures/mounts/kernel-mount.ts';
import { withScratch } from '../fixtures/scratch.ts';

const small = goldenImages().find(([name]) => name === 'small-0.cfs') as [string, string];

/** A directory of many names and a file of each layout, in blocks of 2^blockBits bytes. */
function sample(blockBits: number, incompat = 0): CraftedImage {
  const blockBytes = 2 ** blockBits;
  const data = Uint8Array.from({ length: 5 * blockBytes + 100 }, (_, i) => (i * 7 + (i >> 9)) & 0xff);
  data.fill(0, blockBytes, 3 * blockBytes);
  const names = Array.from({ length: blockBytes / 16 }, (_, i) => `name ${String(i).padStart(5, '0')}`);
  return {
    blockBits,
    incompat: incompat | f.INCOMPAT_CHUNKED_FILE,
    inodes: [
      {
        mode: S_IFDIR | 0o755,
        layout: f.LAYOUT_FLAT_PLAIN,
        extended: true,
        entries: [
          ['.', 0, f.FT_DIR],
          ['..', 0, f.FT_DIR],
          ['blockmap', 3, f.FT_REG_FILE],
          ['indexes', 4, f.FT_REG_FILE],
          ['inline', 2, f.FT_REG_FILE],
          ...names.map(name => [name, 1, f.FT_REG_FILE] as const),
          ['null', 5, f.FT_REG_FILE],
          ['null, extended', 6, f.FT_REG_FILE],
        ],
      },
      { mode: S_IFREG | 0o644, layout: f.LAYOUT_FLAT_PLAIN, data, nlink: names.length },
      { mode: S_IFREG | 0o4711, layout: f.LAYOUT_FLAT_INLINE, data, extended: true, xattrs: [[1, 'a', 'value']] },
      { mode: S_IFREG | 0o600, layout: f.LAYOUT_CHUNK_BASED, data, chunkFormat: 0, xattrs: [[4, 'b', 'odd']] },
      { mode: S_IFREG | 0o600, layout: f.LAYOUT_CHUNK_BASED, data, chunkFormat: f.CHUNK_INDEXES | 1, extended: true },
      { mode: S_IFREG | 0o600, layout: f.LAYOUT_FLAT_PLAIN, sizeBytes: 10_000, u: f.NULL_ADDR, mtime: 77 },
      // all 48 bits are set: startblk_hi is where a compact inode has nlink
      {
        mode: S_IFREG | 0o600,
        layout: f.LAYOUT_FLAT_PLAIN,
        sizeBytes: 10_000,
        u: f.NULL_ADDR,
        extended: true,
        startblkHigh: 0xffff,
      },
    ],
  };
}

t.test('all block sizes are read; where the kernel takes them, as it does', async t => {
  for (let bits = f.BLOCK_BITS_MIN; bits <= f.BLOCK_BITS_MAX; bits++) {
    const crafted = sample(bits);
    const bytes = craft(crafted);
    const layer = new ErofsLayer('crafted', bytes);
    for (const [name, inode] of [
      ['name 00000', 1],
      ['inline', 2],
      ['blockmap', 3],
      ['indexes', 4],
    ] as const) {
      const want = crafted.inodes[inode]?.data as Uint8Array;
      const got = new Uint8Array(want.length + 1);
      const found = layer.lookup(layer.root, name);
      const n = found ? layer.open(found).read(got, 0, got.length, 0) : -1;
      t.equal(Buffer.compare(got.subarray(0, n), want), 0, `2^${bits}: ${name}`);
    }
    if (bits <= 12) sameAsKernel(t, `2^${bits}`, bytes);
  }
});

t.test('48-bit block numbers', async t => {
  const crafted = sample(12, f.INCOMPAT_48BIT);
  const [, plain, , , indexes] = crafted.inodes;
  Object.assign(plain as object, { format: f.FORMAT_NLINK_1 });
  Object.assign(indexes as object, { chunkFormat: f.CHUNK_INDEXES | f.CHUNK_48BIT });
  sameAsKernel(t, 'nlink 1, wide chunk indexes, an 8-byte root nid', craft(crafted));
});

t.test('what is refused, and why', async t => {
  const S = f.SuperBlock;
  const image = readImageFile(small[1]);
  const at = (field: number) => f.SUPER_AT + field;
  for (const [rule, change, errno, message] of [
    ['no magic number', (v: DataView) => v.setUint32(at(S.magic), 1, true), 'EINVAL', /not an EROFS image/],
    ['a block of 256 bytes', (v: DataView) => v.setUint8(at(S.blkszbits), 8), 'EUCLEAN', /block size 2\^8/],
    ['a block of 128 KiB', (v: DataView) => v.setUint8(at(S.blkszbits), 17), 'EUCLEAN', /block size 2\^17/],
    ['a metadata box', (v: DataView) => v.setUint32(at(S.feature_incompat), 0x100, true), 'EOPNOTSUPP', /metabox/],
    [
      'unknown features',
      (v: DataView) => v.setUint32(at(S.feature_incompat), 0x80000200, true),
      'EOPNOTSUPP',
      /0x200, 0x80000000/,
    ],
    [
      'directory blocks of their own size',
      (v: DataView) => v.setUint8(at(S.dirblkbits), 1),
      'EOPNOTSUPP',
      /dirblkbits 1/,
    ],
    ['a wrong checksum', (v: DataView) => v.setUint32(at(S.feature_compat), 1, true), 'EUCLEAN', /checksum/],
    [
      'a root outside of the image',
      (v: DataView) => v.setUint16(at(S.rootnid_2b), 65535, true),
      'EUCLEAN',
      /nid 65535/,
    ],
    ['a root that is a device', (v: DataView) => v.setUint16(at(S.rootnid_2b), 39, true), 'EUCLEAN', /not a directory/],
  ] as const) {
    const changed = image.slice();
    change(new DataView(changed.buffer));
    t.throws(() => openImage(changed), { name: errno, message }, rule);
  }
});

t.test('reading the file', async t => {
  const bytes = readImageFile(small[1]);
  t.same(openImage(bytes).composefs, { version: 1, flags: 0, composefsVersion: 0 }, 'the composefs header');
  withScratch(directory => {
    const path = join(directory, 'text');
    writeFileSync(path, 'x'.repeat(5000));
    t.throws(
      () => readImageFile(path),
      { name: 'EINVAL', message: new RegExp(`^${path}: not an EROFS image`) },
      'a text',
    );
    writeFileSync(path, '');
    t.throws(() => readImageFile(path), { name: 'EINVAL' }, 'an empty file');
    t.throws(() => readImageFile(`${path}.missing`), { name: 'ENOENT' }, 'a missing file');
    t.throws(() => readImageFile(directory), { name: 'EISDIR' }, 'a directory');
  });
});
