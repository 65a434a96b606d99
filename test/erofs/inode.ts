import t from 'tap';
import type { Nid } from '../../src/erofs/format.ts';
import * as f from '../../src/erofs/format.ts';
import { openImage } from '../../src/erofs/image.ts';
import { ImageInode } from '../../src/erofs/inode.ts';
import { S_IFBLK, S_IFCHR, S_IFDIR, S_IFIFO, S_IFLNK, S_IFREG, S_IFSOCK } from '../../src/sys/stat.ts';
import { type CraftedImage, craft, type Entry, nidOf } from '../fixtures/images/craft.ts';
import { sameAsKernel } from '../fixtures/mounts/kernel-mount.ts';

const types = [
  [S_IFREG, f.FT_REG_FILE, 0],
  [S_IFDIR, f.FT_DIR, 0],
  [S_IFCHR, f.FT_CHRDEV, 0xfff12345],
  [S_IFBLK, f.FT_BLKDEV, 0x00000801],
  [S_IFIFO, f.FT_FIFO, 0],
  [S_IFSOCK, f.FT_SOCK, 0],
  [S_IFLNK, f.FT_SYMLINK, 0],
] as const;

/** Each type in each form; numbers 1 to 7 are compact, 8 to 14 extended. */
function sample(epoch: number): CraftedImage {
  const inodes = [false, true].flatMap(extended =>
    types.map(([type, , u], i) => ({
      mode: type | 0o7654,
      layout: type === S_IFLNK ? f.LAYOUT_FLAT_INLINE : f.LAYOUT_FLAT_PLAIN,
      extended,
      u,
      mtime: extended ? [-2, 0, 2 ** 31, 2 ** 32, 2 ** 40, -(2 ** 40), 5][i] : i,
      nlink: extended ? 70_000 + i : 300 + i,
      data: type === S_IFLNK ? Buffer.from('../target') : undefined,
    })),
  );
  const names = inodes.map((_, i) => [`n${String(i).padStart(2, '0')}`, i + 1, types[i % 7]?.[1] ?? 0] as Entry);
  const entries: Entry[] = [['.', 0, f.FT_DIR], ['..', 0, f.FT_DIR], ...names];
  const root = { mode: S_IFDIR | 0o755, layout: f.LAYOUT_FLAT_INLINE, entries };
  return { blockBits: 12, inodes: [root, ...inodes], epoch, fixedNsec: 123_456_789 };
}

t.test('every type in both forms', async t => {
  sameAsKernel(t, 'after 1970', craft(sample(1_600_000_000)));
  sameAsKernel(t, 'before 1970', craft(sample(-100)));
  sameAsKernel(t, 'far in the future', craft(sample(2 ** 34)));
});

t.test('what is refused', async t => {
  const crafted = sample(0);
  const clean = craft(crafted);
  const { metaAt } = openImage(clean);
  for (const [rule, number, change, name, message] of [
    [
      'a bit of i_format that means nothing',
      1,
      (v: DataView, at: number) => v.setUint16(at, 0x20, true),
      'EOPNOTSUPP',
      /format 0x20/,
    ],
    [
      'a data layout that does not exist',
      1,
      (v: DataView, at: number) => v.setUint16(at, 5 << 1, true),
      'EOPNOTSUPP',
      /format 0xa/,
    ],
    ['a mode without a type', 1, (v: DataView, at: number) => v.setUint16(at + 4, 0o644, true), 'EUCLEAN', /no type/],
    [
      'a size of 2^53',
      8,
      (v: DataView, at: number) => v.setUint32(at + 12, 2 ** 21, true),
      'EFBIG',
      /size 9007199254740992/,
    ],
    [
      'xattrs past the end',
      14,
      (v: DataView, at: number) => v.setUint16(at + 2, 65535, true),
      'EUCLEAN',
      /past the end/,
    ],
  ] as const) {
    const changed = clean.slice();
    const nid = nidOf(crafted, number) as Nid;
    change(new DataView(changed.buffer), metaAt + nid * f.SLOT_BYTES);
    t.throws(() => new ImageInode(openImage(changed), nid), { name, message }, rule);
  }
  const image = openImage(clean);
  const slots = (image.sizeBytes - image.metaAt) / f.SLOT_BYTES;
  for (const nid of [slots, 2 ** 40, 2 ** 53]) {
    t.throws(() => new ImageInode(image, nid as Nid), { name: 'EUCLEAN', message: /past the end/ }, `nid ${nid}`);
  }
});
