import t from 'tap';
import { extentAt, HOLE, readData, seekData } from '../../src/erofs/data.ts';
import type { Nid } from '../../src/erofs/format.ts';
import * as f from '../../src/erofs/format.ts';
import { openImage } from '../../src/erofs/image.ts';
import { ImageInode } from '../../src/erofs/inode.ts';
import type { Image } from '../../src/erofs/superblock.ts';
import { ErofsLayer } from '../../src/layers/erofs.ts';
import { S_IFDIR, S_IFREG } from '../../src/sys/stat.ts';
import { type CraftedInode, craft, nidOf } from '../fixtures/images/craft.ts';

const BLOCK = 512;
const data = Uint8Array.from({ length: 6 * BLOCK + 77 }, (_, i) => (i % 251) + 1);
const holes = data
  .slice()
  .fill(0, BLOCK, 3 * BLOCK)
  .fill(0, 5 * BLOCK, 6 * BLOCK);

/** An image with one file below its root, and the file. */
function imageOf(
  file: Partial<CraftedInode>,
  change?: (v: DataView, inodeAt: number, image: Image) => void,
): [Image, ImageInode] {
  const entries = [
    ['.', 0, f.FT_DIR],
    ['..', 0, f.FT_DIR],
    ['file', 1, f.FT_REG_FILE],
  ] as const;
  const root = { mode: S_IFDIR | 0o755, layout: f.LAYOUT_FLAT_INLINE, entries: [...entries] };
  const crafted = { blockBits: 9, inodes: [root, { mode: S_IFREG | 0o644, layout: f.LAYOUT_FLAT_PLAIN, ...file }] };
  const bytes = craft(crafted);
  const nid = nidOf(crafted, 1) as Nid;
  const clean = openImage(bytes);
  change?.(clean.view, clean.metaAt + nid * f.SLOT_BYTES, clean);
  const image = openImage(bytes);
  return [image, new ImageInode(image, nid)];
}

const chunks = { layout: f.LAYOUT_CHUNK_BASED, data: holes };
for (const [rule, file, want] of [
  ['plain', { layout: f.LAYOUT_FLAT_PLAIN, data }, data],
  ['inline', { layout: f.LAYOUT_FLAT_INLINE, data }, data],
  ['inline after xattrs', { layout: f.LAYOUT_FLAT_INLINE, data, xattrs: [[1, 'a', 'b']] }, data],
  ['block map', { ...chunks, chunkFormat: 0 }, holes],
  ['block map of larger chunks', { ...chunks, chunkFormat: 1 }, holes],
  ['chunk indexes', { ...chunks, chunkFormat: f.CHUNK_INDEXES }, holes],
  ['chunk indexes of larger chunks', { ...chunks, chunkFormat: f.CHUNK_INDEXES | 2 }, holes],
  ['one chunk of 2^40 bytes', { ...chunks, chunkFormat: f.CHUNK_INDEXES | 31 }, holes],
] as [string, Partial<CraftedInode>, Uint8Array][]) {
  t.test(`reading: ${rule}`, async t => {
    const [image, inode] = imageOf(file);
    const wrong: string[] = [];
    for (const position of [0, 1, 511, 512, 513, 1536, 3071, 3072, want.length - 1, want.length, want.length + 5000]) {
      for (const length of [0, 1, 511, 512, 513, 2000, 10_000]) {
        const out = new Uint8Array(length + 2).fill(0xee);
        const n = readData(image, inode, out, 1, length, position);
        const expected = want.subarray(position, position + length);
        const same = n === expected.length && Buffer.compare(out.subarray(1, 1 + n), expected) === 0;
        const around = out[0] === 0xee && out.subarray(1 + n).every(byte => byte === 0xee);
        if (!same || !around) wrong.push(`${length} at ${position}: ${n}`);
      }
    }
    t.same(wrong, [], 'every range, and nothing around it');
  });
}

t.test('data and holes', async t => {
  const [image, inode] = imageOf({ ...chunks, chunkFormat: f.CHUNK_INDEXES });
  for (const [rule, from, hole, want] of [
    ['data at the start', 0, false, 0],
    ['the first hole', 0, true, BLOCK],
    ['a hole from inside of it', BLOCK + 5, true, BLOCK + 5],
    ['data after a hole', BLOCK + 5, false, 3 * BLOCK],
    ['the end is a hole', 6 * BLOCK, true, holes.length],
    ['no more data', holes.length, false, holes.length],
  ] as const)
    t.equal(seekData(image, inode, from, hole), want, rule);
  t.same(
    extentAt(image, inode, BLOCK + 5, { at: 0, length: 0 }),
    { at: HOLE, length: BLOCK - 5 },
    'the bytes of a hole',
  );
});

t.test('what is refused', async t => {
  const tableAt = (inodeAt: number) => inodeAt + f.InodeCompact.SIZE;
  const u = (v: DataView, at: number, value: number) => v.setUint32(at + f.InodeCompact.i_u, value, true);
  const devices = (v: DataView) => {
    v.setUint32(f.SUPER_AT + f.SuperBlock.feature_incompat, f.INCOMPAT_DEVICE_TABLE | f.INCOMPAT_CHUNKED_FILE, true);
    v.setUint16(f.SUPER_AT + f.SuperBlock.extra_devices, 2, true);
  };
  for (const [rule, file, change, name, message] of [
    [
      'compressed',
      { data },
      (v: DataView, at: number) => v.setUint16(at, f.LAYOUT_COMPRESSED_COMPACT << 1, true),
      'EOPNOTSUPP',
      /compressed/,
    ],
    ['on another device', { ...chunks, chunkFormat: f.CHUNK_INDEXES, device: 2 }, devices, 'EOPNOTSUPP', /on device 2/],
    ['blocks past the image', { data }, (v: DataView, at: number) => u(v, at, 0xfffffffe), 'EUCLEAN', /past the end/],
    [
      'a chunk past the image',
      chunks,
      (v: DataView, at: number) => v.setUint32(tableAt(at), 0xfffffffe, true),
      'EUCLEAN',
      /past the end/,
    ],
    [
      'a table past the image',
      chunks,
      (v: DataView, at: number) => v.setUint32(at + 8, 0xffffffff, true),
      'EUCLEAN',
      /lies? past the end/,
    ],
    [
      'inline data over a block',
      { data, layout: f.LAYOUT_FLAT_INLINE },
      (v: DataView, at: number) => v.setUint32(at + 8, 4 * BLOCK, true),
      'EUCLEAN',
      /cross a block/,
    ],
  ] as [string, Partial<CraftedInode>, (v: DataView, at: number) => void, string, RegExp][]) {
    const [image, inode] = imageOf(file, change);
    const read = () => {
      for (let at = 0; at < inode.sizeBytes; at += 1 << 20)
        readData(image, inode, new Uint8Array(1 << 20), 0, 1 << 20, at);
    };
    t.throws(read, { name, message }, rule);
    if (name !== 'EOPNOTSUPP') continue;
    const layer = new ErofsLayer('image', image.bytes);
    const found = layer.lookup(layer.root, 'file');
    t.ok(found && layer.attr(found), `${rule}: can still be looked at`);
    t.throws(() => found && layer.open(found), { name, message }, `${rule}: refused at open`);
  }
  const [image, inode] = imageOf({ ...chunks, chunkFormat: f.CHUNK_INDEXES, device: 2 });
  t.equal(
    readData(image, inode, new Uint8Array(BLOCK), 0, BLOCK, 0),
    BLOCK,
    'a device number means nothing without devices',
  );
});
