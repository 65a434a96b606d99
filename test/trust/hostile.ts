/** Images that want to do harm, through real mounts: each answer is the right one or an errno, and the files beside are read. */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import * as f from '../../src/erofs/format.ts';
import { openImage } from '../../src/erofs/image.ts';
import {
  type CraftedImage,
  type CraftedInode,
  craft,
  type Entry,
  nidOf,
  type Xattr,
} from '../fixtures/images/craft.ts';
import { directory, HUGE, hole, mounted, regular, symlink } from '../fixtures/mounts/hostile-mount.ts';
import { withScratchAsync } from '../fixtures/scratch.ts';
import { withoutFuse } from '../fixtures/skips.ts';

const attribute = { data: Buffer.from('x'), xattrs: [[f.XATTR_INDEX_USER, 'a', '1']] } as Partial<CraftedInode>;
const { FT_DIR, FT_REG_FILE, FT_SYMLINK } = f;
/** Where the first dirent, or the xattr area, of an inode is, after its own bytes. */
const AFTER = f.InodeExtended.SIZE;

/** What is asked of a path, and what must come. */
type Question = readonly [call: string, want: string | number, path?: string, ...args: unknown[]];

/** One object of the hostile image. */
interface Hostile {
  readonly rule: string;
  readonly inode: CraftedInode;
  /** What its dirent says, and another name of it. */
  readonly type: number;
  readonly twin?: string;
  /** Done to its bytes afterwards. */
  readonly patch?: (v: DataView, at: number) => void;
  /** Paths are below the object. */
  readonly questions: readonly Question[];
}

/** The number of an inode that every directory may lead to; those of the table follow. */
const FINE = 1;

/** By their names in the root, where they are in the order of their bytes. */
const objects: Readonly<Record<string, Hostile>> = {
  'a-cycle': {
    rule: 'a directory that holds itself and the root',
    inode: directory([
      ['fine', FINE, FT_REG_FILE],
      ['itself', 2, FT_DIR],
      ['root', 0, FT_DIR],
    ]),
    type: FT_DIR,
    questions: [
      ['list', 'fine itself'], // readdir(3) leaves out what has number 0: the root
      ['slurp', 'fine', '/fine'],
      ['list', 'ELOOP', '/itself'],
      ['list', 'ELOOP', '/itself/itself/itself'],
      ['list', 'EIO', '/root'],
      ['slurp', 'EIO', '/root/a-cycle/fine'],
    ],
  },
  chunks: {
    rule: 'chunks whose table ends before they do',
    inode: regular({ layout: f.LAYOUT_CHUNK_BASED, sizeBytes: HUGE, u: 0 }),
    type: FT_REG_FILE,
    questions: [
      ['size', HUGE],
      ['read', 'EUCLEAN', '', HUGE - 5],
    ],
  },
  count: {
    rule: 'a block with more dirents than it has room for',
    inode: directory([['fine', FINE, FT_REG_FILE]]),
    type: FT_DIR,
    patch: (v, at) => v.setUint16(at + AFTER + f.Dirent.nameoff, 0xfff0, true),
    questions: [
      ['list', 'EUCLEAN'],
      ['slurp', 'EUCLEAN', '/fine'],
    ],
  },
  doubled: {
    rule: 'one directory with two names',
    inode: directory([['fine', FINE, FT_REG_FILE]]),
    type: FT_DIR,
    twin: 'doubled-2',
    questions: [
      ['slurp', 'fine', '/fine'],
      ['slurp', 'fine', '-2/fine'],
      ['list', 'fine'],
      ['list', 'fine', '-2'],
    ],
  },
  hole: {
    rule: 'a file of 8 PiB that is one hole',
    inode: regular({ sizeBytes: HUGE, ...hole }),
    type: FT_REG_FILE,
    questions: [
      ['size', HUGE],
      ['read', '\0\0\0\0', '', HUGE - 4],
      ['seek', 'ENXIO', '', 5],
    ],
  },
  link: {
    rule: 'a link target that is longer than any path',
    inode: symlink('x'.repeat(3000), { sizeBytes: 5000 }),
    type: FT_SYMLINK,
    questions: [['readlink', 'EUCLEAN']],
  },
  'link-nul': {
    rule: 'a link target with a NUL',
    inode: symlink('fine\0junk'),
    type: FT_SYMLINK,
    questions: [
      ['readlink', 'fine'],
      ['slurp', 'fine'],
    ],
  },
  'link-out': {
    rule: 'a link that leads out, as links may: it is followed by whoever asks, not by the mount',
    inode: symlink('/proc/self/status'),
    type: FT_SYMLINK,
    questions: [['readlink', '/proc/self/status']],
  },
  name: {
    rule: 'a name at a place before the names',
    inode: directory([['fine', FINE, FT_REG_FILE]]),
    type: FT_DIR,
    patch: (v, at) => v.setUint16(at + AFTER + f.Dirent.SIZE + f.Dirent.nameoff, 3, true),
    questions: [['list', 'EUCLEAN']],
  },
  'name-slash': {
    rule: 'a name with a slash',
    inode: directory([['../fine', FINE, FT_REG_FILE]]),
    type: FT_DIR,
    questions: [
      ['list', 'EUCLEAN'],
      ['slurp', 'fine', '/../fine'],
    ],
  },
  negative: {
    rule: 'a size of 2^64 - 1',
    inode: regular({}),
    type: FT_REG_FILE,
    patch: (v, at) => v.setBigUint64(at + f.InodeExtended.i_size, 2n ** 64n - 1n, true),
    questions: [['size', 'EFBIG']],
  },
  nowhere: {
    rule: 'data past the end of the image',
    inode: regular({ sizeBytes: 2 ** 40, u: 1 }),
    type: FT_REG_FILE,
    questions: [
      ['size', 2 ** 40],
      ['slurp', 'EUCLEAN'],
      ['read', 'EUCLEAN', '', 2 ** 39],
    ],
  },
  typed: {
    rule: 'a file that its dirent calls a directory',
    inode: regular({ data: Buffer.from('a file') }),
    type: FT_DIR,
    questions: [
      ['slurp', 'a file'],
      ['list', 'ENOTDIR'],
    ],
  },
  untyped: {
    rule: 'a mode without a type',
    inode: regular({ mode: 0o644 }),
    type: FT_REG_FILE,
    questions: [['size', 'EUCLEAN']],
  },
  wide: {
    rule: 'a directory of a TiB',
    inode: directory([], { sizeBytes: 2 ** 40 }),
    type: FT_DIR,
    questions: [
      ['list', 'EUCLEAN'],
      ['size', 'EUCLEAN', '/fine'],
    ],
  },
  xattrs: {
    rule: 'an xattr area that reaches over other inodes',
    inode: regular(attribute),
    type: FT_REG_FILE,
    patch: (v, at) => v.setUint16(at + f.InodeExtended.i_xattr_icount, 0xffff, true),
    questions: [['size', 'EUCLEAN']],
  },
  'xattrs-length': {
    rule: 'an xattr that is longer than its area',
    inode: regular(attribute),
    type: FT_REG_FILE,
    patch: (v, at) => v.setUint16(at + AFTER + f.XattrHeader.SIZE + f.XattrEntry.e_value_size, 0xffff, true),
    questions: [['xattrs', 'EUCLEAN']],
  },
  'xattrs-shared': {
    rule: 'more shared xattrs than the area has room for',
    inode: regular(attribute),
    type: FT_REG_FILE,
    patch: (v, at) => v.setUint8(at + AFTER + f.XattrHeader.h_shared_count, 0xff),
    questions: [['xattrs', 'EUCLEAN']],
  },
};
const GONE = 'zzz'; // a name whose nid is past the end of the image

/** The bytes of an image with all of them. */
function hostileImage(): Uint8Array {
  const names: Entry[] = [
    ['.', 0, FT_DIR],
    ['..', 0, FT_DIR],
    ['A', FINE, FT_REG_FILE],
  ];
  const inodes: CraftedInode[] = [regular({ data: Buffer.from('fine') })];
  for (const [name, { inode, type, twin }] of Object.entries(objects)) {
    inodes.push(inode);
    names.push([name, inodes.length, type]);
    if (twin) names.push([twin, inodes.length, type]);
  }
  names.push(['fine', FINE, FT_REG_FILE], [GONE, 2 ** 40, FT_REG_FILE]);
  names.sort(([a], [b]) => (a < b ? -1 : 1));
  const image: CraftedImage = { blockBits: 12, inodes: [{ ...directory([]), entries: names }, ...inodes] };
  const bytes = craft(image);
  const { metaAt, view } = openImage(bytes);
  for (const [i, { patch }] of Object.values(objects).entries()) {
    patch?.(view, metaAt + nidOf(image, i + FINE + 1) * f.SLOT_BYTES);
  }
  return bytes;
}

for (const [who, more] of [
  ['alone', ''],
  ['above another layer, with the same names', '2'],
] as const) {
  t.test(`a hostile image ${who}`, { skip: withoutFuse, timeout: 120_000 }, t =>
    withScratchAsync(async home => {
      const images = ['hostile', ...(more ? [`hostile${more}`] : [])].map(name => join(home, name));
      for (const path of images) writeFileSync(path, hostileImage());
      await mounted(t, images.join(':'), home, '', async (ask, root) => {
        const all = await ask('list', root);
        t.equal(
          all,
          ['A', ...Object.entries(objects).flatMap(([name, { twin = [] }]) => [name].concat(twin)), 'fine', GONE]
            .sort()
            .join(' '),
          'the root is listed whole',
        );
        for (const [name, { rule, questions }] of Object.entries(objects)) {
          for (const [call, want, below = '', ...args] of questions) {
            t.equal(await ask(call, `${root}/${name}${below}`, ...args), want, `${rule}: ${call} ${name}${below}`);
          }
          t.equal(await ask('slurp', `${root}/fine`), 'fine');
        }
        t.equal(await ask('size', `${root}/${GONE}`), 'EUCLEAN', 'a name without an inode');
      });
    }),
  );
}

t.test('petabytes in an image that are to be measured', { skip: withoutFuse, timeout: 60_000 }, t =>
  withScratchAsync(async home => {
    const digest = `\0\x24\0\x01${'x'.repeat(32)}`;
    const image = (xattrs: Xattr[], sizeBytes: number): Uint8Array => {
      const names: Entry[] = [
        ['fine', 1, FT_REG_FILE],
        ['hole', 2, FT_REG_FILE],
      ];
      const inodes = [
        directory(names),
        regular({ data: Buffer.from('fine') }),
        regular({ sizeBytes, xattrs, ...hole }),
      ];
      return craft({ blockBits: 12, inodes });
    };
    for (const size of [2 ** 31, 2 ** 40, HUGE]) {
      writeFileSync(join(home, 'top'), image([[f.XATTR_INDEX_TRUSTED, 'overlay.metacopy', digest]], size));
      writeFileSync(join(home, 'low'), image([], size));
      await mounted(t, `${home}/top:${home}/low`, home, '', async (ask, root) => {
        t.equal(await ask('read', `${root}/hole`, 0), 'EFBIG', `${size} bytes`);
        t.equal(await ask('slurp', `${root}/fine`), 'fine');
      });
    }
  }),
);

t.test('a hundred thousand bytes of xattrs', { skip: withoutFuse, timeout: 60_000 }, t =>
  withScratchAsync(async home => {
    const many = (from: number, count: number): Xattr[] =>
      Array.from({ length: count }, (_, i) => [f.XATTR_INDEX_USER, String(from + i).padStart(200, '0'), '']);
    const shared = many(0, 255);
    const file = { data: Buffer.from('fine'), shared: shared.map((_, i) => i) };
    const inodes = [
      directory([
        ['fine', 1, FT_REG_FILE],
        ['large', 2, FT_REG_FILE],
        ['many', 3, FT_REG_FILE],
      ]),
      regular({ data: Buffer.from('fine') }),
      regular({ ...file, shared: [], xattrs: [[f.XATTR_INDEX_USER, 'value', 'v'.repeat(60_000)]] }),
      regular({ ...file, xattrs: many(255, 200) }),
    ];
    writeFileSync(join(home, 'image'), craft({ blockBits: 16, inodes, shared }));
    await mounted(t, join(home, 'image'), home, '', async (ask, root) => {
      t.equal(await ask('xattrs', `${root}/large`), 'user.value:60000');
      t.equal(await ask('xattrs', `${root}/many`), 'E2BIG', 'a list of 93,730 bytes, of which the kernel takes 65,536');
      for (const number of ['7', '454'])
        t.equal(await ask('xattr', `${root}/many`, `user.${number.padStart(200, '0')}`), 0, 'each of them is there');
      t.equal(await ask('xattr', `${root}/many`, `user.${'455'.padStart(200, '0')}`), 'ENODATA');
      t.equal(await ask('slurp', `${root}/many`), 'fine');
      t.equal(await ask('slurp', `${root}/fine`), 'fine');
    });
  }),
);

t.end();
