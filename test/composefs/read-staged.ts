/** Images that are read as they are and written again: the same bytes of mkcomposefs, the same fields of any other tool. */
import { readFileSync } from 'node:fs';
import t from 'tap';
import { readStaged } from '../../src/composefs/read-staged.ts';
import { writeStaged } from '../../src/composefs/write.ts';
import { LAYOUT_CHUNK_BASED, LAYOUT_FLAT_INLINE, LAYOUT_FLAT_PLAIN } from '../../src/erofs/format.ts';
import { openImage } from '../../src/erofs/image.ts';
import { EFBIG, ErrnoError, EUCLEAN } from '../../src/sys/errno.ts';
import { S_IFCHR, S_IFDIR, S_IFLNK, S_IFREG } from '../../src/sys/stat.ts';
import { type CraftedInode, craft } from '../fixtures/images/craft.ts';
import { fieldsOf } from '../fixtures/images/fields.ts';
import { goldenImages } from '../fixtures/images/golden-images.ts';
import { differences } from '../fixtures/tree.ts';

const rewritten = (bytes: Uint8Array): Uint8Array => writeStaged(readStaged(openImage(bytes)));

for (const [name, path] of goldenImages()) {
  const bytes = readFileSync(path);
  t.equal(Buffer.compare(rewritten(bytes), bytes), 0, `${name} comes back`);
}

const DIR = S_IFDIR | 0o755;
const FILE = S_IFREG | 0o4640;
const [TYPE_REG, TYPE_DIR, TYPE_CHR, TYPE_LNK] = [1, 2, 3, 7];
/** An image whose root has `names`, which are numbers of `inodes`, counted from 1. */
const imageOf = (names: readonly (readonly [string, number, number])[], ...inodes: CraftedInode[]): Uint8Array => {
  const entries = [['.', 0, TYPE_DIR] as const, ['..', 0, TYPE_DIR] as const, ...names];
  return craft({ blockBits: 9, inodes: [{ mode: DIR, layout: LAYOUT_FLAT_PLAIN, entries }, ...inodes] });
};
const TRUSTED = 4;
const metacopy = [TRUSTED, 'overlay.metacopy', ''] as const;
const data = Buffer.from('0123456789'.repeat(300));

t.test('images of other tools', async t => {
  for (const [rule, image] of [
    ['a file of many small blocks', imageOf([['f', 1, TYPE_REG]], { mode: FILE, layout: LAYOUT_FLAT_PLAIN, data })],
    ['its end in the inode', imageOf([['f', 1, TYPE_REG]], { mode: FILE, layout: LAYOUT_FLAT_INLINE, data })],
    [
      'in chunks, holes between them',
      imageOf([['f', 1, TYPE_REG]], {
        ...{ mode: FILE, layout: LAYOUT_CHUNK_BASED, extended: true },
        data: Buffer.concat([data, new Uint8Array(2000), data]),
      }),
    ],
    [
      'all of it a hole',
      imageOf([['f', 1, TYPE_REG]], { mode: FILE, layout: LAYOUT_CHUNK_BASED, data: new Uint8Array(3000) }),
    ],
    [
      'a metacopy with every xattr of overlayfs, none escaped',
      imageOf([['f', 1, TYPE_REG]], {
        ...{ mode: FILE, layout: LAYOUT_CHUNK_BASED, data: new Uint8Array(3000) },
        xattrs: [metacopy, [TRUSTED, 'overlay.redirect', 'name'], [TRUSTED, 'overlay.nlink', 'U+1'], [1, 'key', 'v']],
      }),
    ],
    [
      'whiteouts and opaque directories, none escaped',
      imageOf(
        [
          ['d', 2, TYPE_DIR],
          ['w', 1, TYPE_CHR],
        ],
        { mode: S_IFCHR, layout: LAYOUT_FLAT_PLAIN },
        {
          ...{ mode: DIR, layout: LAYOUT_FLAT_PLAIN, xattrs: [[TRUSTED, 'overlay.opaque', 'y']] },
          entries: [
            ['.', 2, TYPE_DIR],
            ['..', 0, TYPE_DIR],
            ['w', 1, TYPE_CHR],
          ],
        },
      ),
    ],
    [
      'hard links and symlinks',
      imageOf(
        [
          ['a', 2, TYPE_REG],
          ['b', 1, TYPE_LNK],
          ['c', 2, TYPE_REG],
        ],
        { mode: S_IFLNK | 0o777, layout: LAYOUT_FLAT_INLINE, data: Buffer.from('a/target') },
        { mode: FILE, layout: LAYOUT_FLAT_INLINE, nlink: 2, data: data.subarray(0, 100) },
      ),
    ],
  ] as const)
    t.same(differences(fieldsOf(rewritten(image), 'with leads'), fieldsOf(image, 'with leads')), [], rule);
});

t.test('what is refused', async t => {
  const subdirectory = (names: readonly (readonly [string, number, number])[]): CraftedInode => ({
    ...{ mode: DIR, layout: LAYOUT_FLAT_PLAIN, entries: [['.', 1, TYPE_DIR], ['..', 0, TYPE_DIR], ...names] },
  });
  const file = { mode: FILE, layout: LAYOUT_FLAT_PLAIN, data };
  for (const [rule, image, errno, message] of [
    [
      'a directory that is below itself',
      imageOf([['d', 1, TYPE_DIR]], subdirectory([['d', 1, TYPE_DIR]])),
      EUCLEAN,
      /two names/,
    ],
    ['the root below itself', imageOf([['d', 1, TYPE_DIR]], subdirectory([['d', 0, TYPE_DIR]])), EUCLEAN, /two names/],
    [
      'a name twice',
      imageOf(
        [
          ['f', 1, TYPE_REG],
          ['f', 1, TYPE_REG],
        ],
        file,
      ),
      EUCLEAN,
      /nid 0: a name occurs twice/,
    ],
    ['data past the end', imageOf([['f', 1, TYPE_REG]], { ...file, u: 1000 }), EUCLEAN, /nid 16: .* past the end/],
    [
      'a symlink of a page',
      imageOf([['l', 1, TYPE_LNK]], { mode: S_IFLNK, layout: LAYOUT_FLAT_PLAIN, data: Buffer.alloc(4096, 'x') }),
      ...([EUCLEAN, /nid 16: 4096 bytes; 4095 are allowed/] as const),
    ],
  ] as const)
    t.throws(() => readStaged(openImage(image)), { errno, message }, rule);

  const large = (key: string, length: number) => [1, key, 'v'.repeat(length)] as const;
  const root = { mode: DIR, layout: LAYOUT_FLAT_PLAIN, xattrs: [large('a', 2000)], shared: [0, 1] };
  const entries = [['.', 0, TYPE_DIR] as const, ['..', 0, TYPE_DIR] as const];
  const shared = [large('b', 32_000), large('c', 32_000)];
  const image = openImage(craft({ blockBits: 16, inodes: [{ ...root, entries }], shared }));
  t.throws(
    () => readStaged(image),
    { errno: EFBIG, message: /nid 0: more than 65535 bytes of xattrs/ },
    'xattrs of which each fits',
  );
});

/** Source: xorshift32, Marsaglia 2003. */
let state = 0x2545f491;
function random(below: number): number {
  state ^= state << 13;
  state ^= state >>> 17;
  state ^= state << 5;
  return (state >>> 0) % below;
}

t.test('a damaged image is read and written as it is, or refused', async t => {
  const [, path] = goldenImages().find(([name]) => name === 'special-1.cfs') as [string, string];
  const bytes = readFileSync(path);
  let refused = 0;
  for (let i = 0; i < 2000; i++) {
    const damaged = Buffer.from(bytes);
    for (let n = random(8); n >= 0; n--) damaged[1024 + random(damaged.length - 1024)] = random(256);
    try {
      rewritten(damaged);
    } catch (error) {
      if (!(error instanceof ErrnoError)) throw error;
      refused++;
    }
  }
  t.ok(refused > 0 && refused < 2000, `${refused} of 2000 are refused`);
});
