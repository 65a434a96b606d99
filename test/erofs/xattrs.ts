import t from 'tap';
import type { Nid } from '../../src/erofs/format.ts';
import * as f from '../../src/erofs/format.ts';
import { openImage } from '../../src/erofs/image.ts';
import { ImageInode } from '../../src/erofs/inode.ts';
import type { Image } from '../../src/erofs/superblock.ts';
import { findXattr, listXattrs, xattrValue } from '../../src/erofs/xattrs.ts';
import { S_IFDIR, S_IFREG } from '../../src/sys/stat.ts';
import { type CraftedImage, craft, nidOf } from '../fixtures/images/craft.ts';
import { sameAsKernel } from '../fixtures/mounts/kernel-mount.ts';

const LONG = f.XATTR_LONG_PREFIX;

/** A root, a file with inline and shared xattrs, and one that can hold the prefixes. */
function sample(overrides: Partial<CraftedImage>): CraftedImage {
  return {
    blockBits: 12,
    shared: [
      [1, 'shared', 'first'],
      [4, 'overlay.opaque', 'y'],
      [6, 'empty', ''],
    ],
    inodes: [
      {
        mode: S_IFDIR | 0o755,
        layout: f.LAYOUT_FLAT_INLINE,
        entries: [
          ['.', 0, f.FT_DIR],
          ['..', 0, f.FT_DIR],
          ['file', 1, f.FT_REG_FILE],
        ],
      },
      {
        mode: S_IFREG | 0o644,
        layout: f.LAYOUT_FLAT_PLAIN,
        xattrs: [
          [1, 'inline', 'x'.repeat(500)],
          [4, 'overlay.redirect', '/a/b'],
          [1, 'shared.not', ''],
          ...(overrides.prefixes
            ? ([
                [LONG, 'metacopy', 'm'],
                [LONG | 1, '', 'bare'],
              ] as const)
            : []),
          ...(overrides.prefixes ? ([[LONG | 77, 'gone', 'no such prefix']] as const) : []),
        ],
        shared: [2, 0, 1, 1],
      },
      { mode: S_IFREG | 0o644, layout: f.LAYOUT_FLAT_INLINE },
    ],
    ...overrides,
  };
}
const prefixes = [
  [4, 'overlay.'],
  [1, 'long.name'],
  [6, ''],
] as const;

for (const [rule, overrides] of [
  ['inline and shared', {}],
  ['long prefixes in the image', { incompat: f.INCOMPAT_XATTR_PREFIXES, prefixes: [...prefixes] }],
  [
    'long prefixes in the packed inode',
    { incompat: f.INCOMPAT_XATTR_PREFIXES | f.INCOMPAT_FRAGMENTS, prefixes: [...prefixes], packed: 2 },
  ],
  [
    'long prefixes in the image, though there is a packed inode',
    { incompat: f.INCOMPAT_XATTR_PREFIXES, compat: f.COMPAT_PLAIN_XATTR_PFX, prefixes: [...prefixes] },
  ],
] as const) {
  t.test(rule, async t => {
    const crafted = sample(overrides as Partial<CraftedImage>);
    const bytes = craft(crafted);
    sameAsKernel(t, rule, bytes);
    const image = openImage(bytes);
    const inode = new ImageInode(image, nidOf(crafted, 1) as Nid);
    const long: Record<string, string> = crafted.prefixes
      ? { 'trusted.overlay.metacopy': 'm', 'user.long.name': 'bare' }
      : {};
    const want: Record<string, string> = {
      'user.inline': 'x'.repeat(500),
      'trusted.overlay.redirect': '/a/b',
      'user.shared.not': '',
      ...long,
      'security.empty': '',
      'user.shared': 'first',
      'trusted.overlay.opaque': 'y',
    };
    t.same(listed(image, inode), want, 'all are listed with their values');
    for (const name of Object.keys(want)) {
      t.equal(found(image, inode, name), want[name], `${name} is found`);
      for (const near of [`${name}x`, name.slice(0, -1), `x${name.slice(1)}`]) {
        t.equal(found(image, inode, near), want[near], `${near} is${near in want ? '' : ' not'} found`);
      }
    }
  });
}

t.test('corrupt areas', async t => {
  const crafted = sample({});
  const clean = craft(crafted);
  const clear = openImage(clean);
  const { xattrAt, nid } = new ImageInode(clear, nidOf(crafted, 1) as Nid);
  const inodeAt = clear.metaAt + nid * f.SLOT_BYTES;
  const entry = xattrAt + f.XattrHeader.SIZE + 4 * f.SHARED_ID_BYTES;
  for (const [rule, change, name, message] of [
    [
      'more shared ids than fit',
      (v: DataView) => v.setUint8(xattrAt + f.XattrHeader.h_shared_count, 255),
      'EUCLEAN',
      /255 shared/,
    ],
    [
      'a shared id past the image',
      (v: DataView) => v.setUint32(xattrAt + f.XattrHeader.SIZE, 0x7fffffff, true),
      'EUCLEAN',
      /shared xattr 2147483647/,
    ],
    [
      'a value past the area',
      (v: DataView) => v.setUint16(entry + f.XattrEntry.e_value_size, 65535, true),
      'EUCLEAN',
      /an xattr of/,
    ],
    [
      'a header alone',
      (v: DataView) => v.setUint16(inodeAt + f.InodeCompact.i_xattr_icount, 1, true),
      'EOPNOTSUPP',
      /the xattr area has only a header/,
    ],
  ] as const) {
    const changed = clean.slice();
    change(new DataView(changed.buffer));
    const image = openImage(changed);
    const inode = new ImageInode(image, nid);
    t.throws(() => listed(image, inode), { name, message }, `list: ${rule}`);
    t.throws(() => findXattr(image, inode, 'user.none'), { name, message }, `find: ${rule}`);
  }
  const long = craft(sample({ incompat: f.INCOMPAT_XATTR_PREFIXES, prefixes: [[200, 'x']] }));
  t.throws(() => openImage(long), { name: 'EUCLEAN', message: /long xattr prefix 0/ }, 'a prefix on an unknown one');
});

function listed(image: Image, inode: ImageInode): Record<string, string> {
  const all: Record<string, string> = {};
  listXattrs(image, inode, (name, entry) => {
    all[name] = Buffer.from(xattrValue(image, entry)).toString('latin1');
  });
  return all;
}

function found(image: Image, inode: ImageInode, name: string): string | undefined {
  const entry = findXattr(image, inode, name);
  return entry < 0 ? undefined : Buffer.from(xattrValue(image, entry)).toString('latin1');
}
