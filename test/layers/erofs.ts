import { execFileSync } from 'node:child_process';
import {
  chownSync,
  linkSync,
  lutimesSync,
  mkdirSync,
  statfsSync,
  symlinkSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import * as f from '../../src/erofs/format.ts';
import { ErofsLayer, openErofsLayer } from '../../src/layers/erofs.ts';
import * as errno from '../../src/sys/errno.ts';
import { S_IFCHR, S_IFDIR, S_IFLNK, S_IFREG } from '../../src/sys/stat.ts';
import { craft, type Entry, type Xattr } from '../fixtures/images/craft.ts';
import { goldenImages } from '../fixtures/images/golden-images.ts';
import { noErofs, noProgram, run, withKernelMount } from '../fixtures/mounts/kernel-mount.ts';
import { withScratch } from '../fixtures/scratch.ts';
import { differences, layerTree, mountedTree } from '../fixtures/tree.ts';
import { aclValue, setXattrs } from '../fixtures/xattrs.ts';

t.test('a golden image shows what the kernel shows of it', { skip: noErofs() ?? false }, async t => {
  for (const [name, path] of goldenImages()) {
    const kernel = withKernelMount(path, mountedTree);
    if (kernel) t.same(differences(layerTree(openErofsLayer(path)), kernel), [], `${name}, ${kernel.size} objects`);
    else t.fail(`the kernel refuses ${name}`);
  }
});

t.test('so does an image of mkfs.erofs', { skip: noErofs() ?? noProgram('mkfs.erofs') ?? false }, async t => {
  withScratch(directory => {
    const source = join(directory, 'source');
    const image = join(directory, 'image');
    fill(source);
    for (const options of [
      [],
      ['-Eforce-inode-extended'],
      ['-Eforce-inode-compact', '--all-root', '-T1234567890'],
      ['-Enoinline_data'],
      ['--chunksize=4096'],
      ['--chunksize=4096', '-Eforce-inode-blockmap'],
      ['--chunksize=1048576'],
      ['-x-1'],
      ['-x0'],
      ['-x1'],
      ['-x100'],
    ]) {
      run('mkfs.erofs', '--quiet', ...options, image, source);
      const layer = openErofsLayer(image);
      const kernel = withKernelMount(image, root => {
        sameStatfs(t, layer, root);
        return mountedTree(root);
      });
      if (!kernel) t.fail(`the kernel refuses ${options}`);
      else t.same(differences(layerTree(layer), kernel), [], `${options.join(' ') || 'plain'}, ${kernel.size} objects`);
    }
  });
});

t.test('compressed files are refused, one by one', { skip: noProgram('mkfs.erofs') ?? false }, async t => {
  withScratch(directory => {
    const source = join(directory, 'source');
    const image = join(directory, 'image');
    mkdirSync(source);
    writeFileSync(join(source, 'compressed'), 'text '.repeat(10_000));
    writeFileSync(join(source, 'short'), 'text');
    run('mkfs.erofs', '--quiet', '-zlz4hc', image, source);
    const layer = openErofsLayer(image);
    const inode = layer.lookup(layer.root, 'compressed');
    if (!inode) return t.fail('it is not found');
    t.equal(layer.attr(inode).size, 50_000, 'it is listed');
    t.throws(
      () => layer.open(inode),
      { name: 'EOPNOTSUPP', message: /nid \d+: its data is compressed/ },
      'open says why',
    );
    t.ok(layer.openPath('short'), 'a file that is not compressed opens');
    const blocks = withKernelMount(image, root => mountedBlocks(join(root, 'compressed')));
    if (blocks !== undefined) t.equal(layer.attr(inode).blocks, blocks, 'its blocks are those of the kernel');
  });
});

t.test('paths of a data-only layer', async t => {
  const dots = (self: number): Entry[] => [
    ['.', self, f.FT_DIR],
    ['..', 0, f.FT_DIR],
  ];
  const layer = new ErofsLayer(
    'image',
    craft({
      blockBits: 12,
      inodes: [
        {
          mode: S_IFDIR | 0o755,
          layout: f.LAYOUT_FLAT_INLINE,
          entries: [
            ...dots(0),
            ['device', 4, f.FT_CHRDEV],
            ['dir', 1, f.FT_DIR],
            ['file', 2, f.FT_REG_FILE],
            ['link', 3, f.FT_SYMLINK],
          ],
        },
        { mode: S_IFDIR | 0o755, layout: f.LAYOUT_FLAT_INLINE, entries: [...dots(1), ['below', 2, f.FT_REG_FILE]] },
        { mode: S_IFREG | 0o644, layout: f.LAYOUT_FLAT_INLINE, data: Buffer.from('content') },
        { mode: S_IFLNK | 0o777, layout: f.LAYOUT_FLAT_INLINE, data: Buffer.from('dir') },
        { mode: S_IFCHR | 0o644, layout: f.LAYOUT_FLAT_PLAIN, u: 0 },
      ],
    }),
  );
  const long = 'x'.repeat(256);
  for (const [rule, path, want] of [
    ['a file', 'file', 'content'],
    ['a leading slash is that of the layer', '/file', 'content'],
    ['a file below', 'dir/below', 'content'],
    ['dots inside of the layer', './dir/.././dir/below', 'content'],
    ['a missing file', 'none', errno.ENOENT],
    ['a missing directory', 'none/below', errno.ENOENT],
    ['dots after a missing directory', 'none/..', errno.ENOENT],
    ['a directory', 'dir', errno.ENOENT],
    ['the root', '.', errno.ENOENT],
    ['a device', 'device', errno.ENOENT],
    ['a symlink at the end', 'link', errno.ENOENT],
    ['a symlink on the way', 'link/below', errno.ELOOP],
    ['dots after a symlink', 'link/../file', errno.ELOOP],
    ['a file on the way', 'file/below', errno.ENOTDIR],
    ['a dot after a file', 'file/.', errno.ENOTDIR],
    ['out of the layer', '..', errno.EXDEV],
    ['out and in again', 'dir/../../image/file', errno.EXDEV],
    ['a component of 255 bytes', long.slice(1), errno.ENOENT],
    ['a component of 256 bytes', `dir/${long}`, errno.ENAMETOOLONG],
    ['a component of 256 bytes in a file', `file/${long}`, errno.ENOTDIR],
    ['a path of 4095 bytes', `${'./'.repeat(2045)}/file`.padStart(4095, '/'), 'content'],
    ['a path of 4096 bytes', '/file'.padStart(4096, '/'), errno.ENAMETOOLONG],
  ] as const) {
    const data = layer.openPath(path);
    if (typeof data === 'number') t.equal(data, typeof want === 'number' ? -want : want, rule);
    else {
      const out = new Uint8Array(100);
      const n = data.read(out, 0, out.length, 0);
      t.equal(Buffer.from(out.subarray(0, n)).toString(), want, rule);
      t.same([data.fd, data.sizeBytes], [-1, 7], `${rule}: from memory`);
    }
  }
});

t.test('seeking in a file', async t => {
  const holes = new Uint8Array(5 * 4096).fill(1, 4096, 8192);
  const entries: Entry[] = [
    ['.', 0, f.FT_DIR],
    ['..', 0, f.FT_DIR],
    ['file', 1, f.FT_REG_FILE],
  ];
  const root = { mode: S_IFDIR | 0o755, layout: f.LAYOUT_FLAT_INLINE, entries };
  const file = { mode: S_IFREG | 0o644, layout: f.LAYOUT_CHUNK_BASED, chunkFormat: f.CHUNK_INDEXES, data: holes };
  const data = new ErofsLayer('image', craft({ blockBits: 12, inodes: [root, file] })).openPath('file');
  if (typeof data === 'number') return t.fail('it does not open');
  for (const [rule, offset, whence, want] of [
    ['data after a hole', 0, 3, 4096],
    ['no more data', 8192, 3, -errno.ENXIO],
    ['a hole where it is', 0, 4, 0],
    ['a hole after data', 5000, 4, 8192],
    ['past the end', holes.length, 4, -errno.ENXIO],
    ['before the start', -1, 3, -errno.ENXIO],
    ['neither of the two', 0, 2, -errno.EINVAL],
  ] as const)
    t.equal(data.seek(offset, whence), want, rule);
});

t.test('whether an image has POSIX ACLs', async t => {
  const acl = 'system.posix_acl_access';
  const image = (xattrs: Xattr[]): Uint8Array =>
    craft({ blockBits: 12, inodes: [{ mode: S_IFDIR | 0o755, layout: f.LAYOUT_FLAT_INLINE, entries: DOTS, xattrs }] });
  const some = image([[f.XATTR_INDEX_POSIX_ACL_ACCESS, '', '\x02\0\0\0']]);
  const others = image([[f.XATTR_INDEX_USER, 'a', 'b']]);
  for (const [rule, bytes, flags, want, shown] of [
    ['without a composefs header it is walked', some, undefined, true, [acl]],
    ['and has none where no object has one', others, undefined, false, ['user.a']],
    ['the header says so', some, f.COMPOSEFS_HAS_ACL, true, [acl]],
    ['also of what has none', others, f.COMPOSEFS_HAS_ACL, true, ['user.a']],
    ['where it says that there are none, none is shown', some, 0, false, []],
  ] as const) {
    const layer = new ErofsLayer('image', flags === undefined ? bytes : withHeader(bytes, flags));
    t.equal(layer.hasAcl, want, rule);
    t.same(layer.listxattr(layer.root), shown, `${rule}: what is listed`);
    t.equal(layer.getxattr(layer.root, acl) !== undefined, shown.includes(acl as never), `${rule}: what is found`);
  }
});
const DOTS: Entry[] = [
  ['.', 0, f.FT_DIR],
  ['..', 0, f.FT_DIR],
];

/** The image with a composefs header of these flags. */
function withHeader(bytes: Uint8Array, flags: number): Uint8Array {
  const copy = bytes.slice();
  const v = new DataView(copy.buffer);
  v.setUint32(f.ComposefsHeader.magic, f.COMPOSEFS_MAGIC, true);
  v.setUint32(f.ComposefsHeader.version, 1, true);
  v.setUint32(f.ComposefsHeader.flags, flags, true);
  return copy;
}

t.test('messages name the image', async t => {
  t.throws(() => openErofsLayer('/none/image'), { name: 'ENOENT', message: /^\/none\/image: / });
  t.throws(() => new ErofsLayer('dir/image', new Uint8Array(5000)), {
    name: 'EINVAL',
    message: /^dir\/image: not an EROFS/,
  });
});

/** A tree with every kind of object that a plain user of mkfs.erofs has. */
function fill(source: string): void {
  mkdirSync(join(source, 'wide'), { recursive: true });
  mkdirSync(join(source, 'empty'));
  for (let i = 0; i < 5000; i++) writeFileSync(join(source, 'wide', `name ${i * 7919} ${'x'.repeat(i % 40)}`), '');
  for (const size of [0, 1, 100, 4000, 4095, 4096, 4097, 20_000, 100_001]) {
    writeFileSync(
      join(source, `file ${size}`),
      Uint8Array.from({ length: size }, (_, i) => (i * 31 + size) & 0xff),
    );
  }
  truncateSync(join(source, 'file 20000'), 5_000_000);
  linkSync(join(source, 'file 100'), join(source, 'hard link'));
  for (const length of [1, 100, 4000]) symlinkSync('t'.repeat(length), join(source, `link ${length}`));
  execFileSync('mknod', [join(source, 'null'), 'c', '1', '3']);
  execFileSync('mknod', [join(source, 'fifo'), 'p']);
  chownSync(join(source, 'file 4096'), 100_000, 200_000);
  lutimesSync(join(source, 'file 4097'), 1, 1.5);
  for (const name of ['file 1', 'file 100', 'file 4096', 'empty', 'wide']) {
    const path = join(source, name);
    setXattrs(
      [path, 'user.same', 'shared by all'],
      [path, 'user.other', name],
      [path, 'trusted.overlay.opaque', 'y'],
      [path, 'security.test', ''],
      [path, `user.${'n'.repeat(200)}`, 'v'.repeat(1000)],
    );
  }
  setXattrs(
    [join(source, 'file 4095'), 'system.posix_acl_access', aclValue('user', 5, 6, 0o644)],
    [join(source, 'empty'), 'system.posix_acl_default', aclValue('group', 7, 4, 0o755)],
  );
}

function sameStatfs(
  t: { same(a: unknown, b: unknown, message: string): unknown },
  layer: ErofsLayer,
  root: string,
): void {
  const got = layer.statfs();
  const want = statfsSync(root, { bigint: true });
  const unsigned = (n: number): bigint => BigInt.asUintN(64, BigInt(n));
  t.same(
    [got.bsize, got.blocks, got.bfree, got.bavail, got.files, got.ffree].map(unsigned),
    [want.bsize, want.blocks, want.bfree, want.bavail, want.files, want.ffree].map(n => BigInt.asUintN(64, n)),
    'statfs',
  );
}

const mountedBlocks = (path: string): number => Number(run('stat', '-c', '%b', path));
