/** A directory as a layer, against node:fs and python, which ask the same directory by its path. */
import { appendFileSync, lstatSync, readdirSync, renameSync, statfsSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout } from 'node:timers/promises';
import t from 'tap';
import { descriptorsMax } from '../../src/layers/descriptors.ts';
import { DirLayer } from '../../src/layers/dir.ts';
import type { Inode } from '../../src/layers/layer.ts';
import { byteStringOf } from '../../src/sys/bytes.ts';
import { dtypeOf, makeRdev } from '../../src/sys/stat.ts';
import { at, contents, listing, open } from '../fixtures/dir-layer.ts';
import { device, dir, fifo, file, link, whiteout } from '../fixtures/fake-layer.ts';
import { kernelMount, plant, scratch } from '../fixtures/layers.ts';
import { descriptors, python } from '../fixtures/native.ts';
import { withoutRoot } from '../fixtures/skips.ts';
import { differences, layerTree, mountedTree, type Tree } from '../fixtures/tree.ts';
import { aclValue, setXattrs } from '../fixtures/xattrs.ts';

const DIRECTORIES_MAX = descriptorsMax();

/** A tree whose listings are sorted, as those of node:fs are. */
const sorted = (tree: Tree): Tree =>
  new Map(
    [...tree].map(([path, line]) => [path, line.replace(/(?<=entries=).*/s, list => list.split('/').sort().join('/'))]),
  );

t.test('a tree, object by object, as its path shows it', { skip: withoutRoot }, async t => {
  const home = scratch(t);
  const xattrs = { 'user.a': 'value', 'user.empty': '', 'trusted.t': '\0\xff', 'trusted.overlay.opaque': 'y' };
  const anyByte = Array.from({ length: 254 }, (_, i) => String.fromCharCode(i + 1))
    .filter(c => c !== '/')
    .join('');
  plant(
    home,
    dir(
      {
        file: file('contents', xattrs),
        empty: file(''),
        big: file('x'.repeat(300_000)),
        link: link('file'),
        dangling: link('../../none'),
        long: link('l'.repeat(4000)),
        fifo: fifo(),
        whiteout,
        tty: device(4, 65),
        large: device(4095, 0xfffff),
        d: dir({ e: dir({ f: file('deep') }, xattrs) }),
        '\xff\xfe\x01\n': file('bytes'),
        [anyByte]: file('every byte'),
        closed: { ...file('closed'), mode: 0o100000 },
        setuid: { ...file('s'), mode: 0o104755 },
      },
      { 'user.root': 'r' },
    ),
  );
  mountedTree(home); // what is read for the first time gets a new atime
  const layer = open(t, home);
  const shown = sorted(mountedTree(home));
  t.same(differences(sorted(layerTree(layer)), shown), [], 'objects that have just been made');
  await setTimeout(200);
  t.same(differences(sorted(layerTree(open(t, home))), shown), [], 'and those that have not changed for a while');
  const order = python(
    'import os, sys, json\nprint(json.dumps([os.fsencode(n).decode("latin1") for n in os.listdir(sys.argv[1])]))',
    [home],
  );
  t.strictSame(listing(layer, layer.root), JSON.parse(order), 'in the order of the filesystem');
  t.equal(layer.kind, 'directory');

  const made = new Map<string, number>();
  layer.readdir(layer.root, (name, dtype) => made.set(name, dtype));
  for (const [name, dtype] of made) t.equal(dtype, dtypeOf(at(layer, `/${name}`).mode), `d_type of ${escape(name)}`);
  t.equal(at(layer, '/tty').rdev, makeRdev(4, 65), 'rdev of an inode');
  t.equal(at(layer, '/large').rdev, makeRdev(4095, 0xfffff), 'rdev with all bits');
  t.equal(at(layer, '/big').sizeBytes, 300_000, 'size of an inode');
  t.equal(at(layer, '/file').ino, lstatSync(join(home, 'file')).ino, 'its number');

  const { blocks, bsize, files } = statfsSync(home);
  t.match(layer.statfs(), { blocks, bsize, files, namelen: 255 }, 'statfs');
  t.match(layer.statfs().frsize, bsize);
});

t.test('what is not there', { skip: withoutRoot }, async t => {
  const home = scratch(t);
  plant(home, dir({ f: file(), l: link('f'), p: fifo(), d: dir() }));
  const layer = open(t, home);
  t.equal(layer.lookup(layer.root, 'none'), undefined, 'a missing name');
  t.equal(layer.lookup(layer.root, 'n'.repeat(256)), undefined, 'a name that is too long');
  t.equal(layer.getxattr(at(layer, '/f'), 'user.none'), undefined, 'a missing xattr');
  t.equal(layer.getxattr(at(layer, '/l'), 'user.none'), undefined, 'an xattr that a symlink cannot have');
  t.equal(layer.getxattr(at(layer, '/p'), 'user.none'), undefined, 'or a fifo');
  t.equal(layer.getxattr(at(layer, '/f'), 'unknown.x'), undefined, 'or this filesystem');
  t.strictSame(layer.listxattr(at(layer, '/p')), []);

  for (const [rule, ask, name] of [
    ['open of the root', () => layer.open(layer.root), 'EISDIR'],
    ['open of a directory', () => layer.open(at(layer, '/d')), 'ENOENT'],
    ['open of a fifo', () => layer.open(at(layer, '/p')), 'ENOENT'],
    ['open of a symlink', () => layer.open(at(layer, '/l')), 'ENOENT'],
    ['readlink of a file', () => layer.readlink(at(layer, '/f')), 'EINVAL'],
  ] as const) {
    t.throws(ask, { name, message: new RegExp(`^layer ${home}: /`) }, rule);
  }
  t.throws(() => new DirLayer(join(home, 'none')), { name: 'ENOENT', message: /none/ }, 'no layer');
  const before = descriptors();
  t.throws(
    () => new DirLayer(join(home, 'f')),
    { name: 'ENOTDIR', message: /f: Not a directory/ },
    'a file as a layer',
  );
  t.throws(() => new DirLayer(join(home, 'p')), { name: 'ENOTDIR' }, 'a fifo as a layer');
  t.equal(descriptors(), before, 'nothing is left open');
});

t.test('directories are many and deep, descriptors are fewer', { skip: withoutRoot, timeout: 60_000 }, async t => {
  const home = scratch(t);
  const [levels, count] = [2000, DIRECTORIES_MAX + 200];
  python(
    `import os, sys
os.chdir(sys.argv[1])
for i in range(${count}): os.mkdir('d%d' % i); open('d%d/f' % i, 'w').write(str(i))
for i in range(${levels}): os.mkdir('deep'); os.chdir('deep')
open('end', 'w').write('end')`,
    [home],
  );
  const unopened = descriptors();
  const layer = new DirLayer(home);
  const before = descriptors();
  const inodes = Array.from({ length: count }, (_, i) => at(layer, `/d${i}`));
  t.ok(
    inodes.every(inode => listing(layer, inode)[0] === 'f'),
    'all are listed',
  );
  t.equal(descriptors() - before, DIRECTORIES_MAX, `${count} directories keep no more descriptors`);
  t.equal(contents(layer.open(layer.lookup(inodes[0] as Inode, 'f') as Inode)), '0', 'the first is opened again');

  let deepest: Inode = layer.root;
  for (let i = 0; i < levels; i++) deepest = layer.lookup(deepest, 'deep') as Inode;
  t.equal(contents(layer.open(layer.lookup(deepest, 'end') as Inode)), 'end', `${levels} levels down`);
  for (const inode of inodes) listing(layer, inode);
  t.strictSame(listing(layer, deepest), ['end'], 'and again, when all that leads there was closed');
  t.equal(layer.getxattr(deepest, 'user.x'), undefined);
  t.equal(layer.attr(deepest).nlink, 2);
  t.equal(descriptors() - before, DIRECTORIES_MAX, 'with no more descriptors');
  layer.close();
  t.equal(descriptors(), unopened, 'all of which a closed layer gives back');
  const missing = Array.from({ length: levels }, () => 'deep').join('/');
  t.equal(layer.openPath(`/${missing}/end`), -36, 'a path of that length is too long');
});

t.test('a listing of any size, during which the layer is asked', { skip: withoutRoot }, async t => {
  const home = scratch(t);
  python("import sys\nfor i in range(3000): open(sys.argv[1] + '/%05d' % i + 'x' * 100, 'w')", [home]);
  const layer = open(t, home);
  const seen: string[] = [];
  layer.readdir(layer.root, name => {
    seen.push(name);
    if (seen.length % 1000 === 0) layer.readdir(layer.root, () => {});
    if (seen.length % 100 === 0) layer.lookup(layer.root, name);
  });
  t.strictSame(seen.sort(), readdirSync(home).sort());
});

t.test('an ACL that changed after it was reported is noticed at the next open', { skip: withoutRoot }, async t => {
  const home = scratch(t);
  plant(home, dir({ f: file('data') }));
  const layer = open(t, home);
  const inode = at(layer, '/f');
  const { fd } = layer.open(inode);
  const acl = 'system.posix_acl_access';
  setXattrs([join(home, 'f'), acl, aclValue('user', 65534, 4, 0o644)]);
  layer.attr(inode);
  t.ok(layer.getxattr(inode, acl), 'it is reported');
  setXattrs([join(home, 'f'), acl, aclValue('user', 65534, 0, 0o644)]);
  layer.attr(inode); // newer attributes, but not the ACL
  await setTimeout(200); // until the change time cannot stand for a later change
  t.throws(() => layer.recheck(inode, fd, false), { name: 'ESTALE' });
});

t.test('attributes grow old, for as long as they may', { skip: withoutRoot }, async t => {
  const home = scratch(t);
  plant(home, dir({ f: file('data') }));
  const path = join(home, 'f');
  const [always, soon, never] = [0, 0.05, Number.POSITIVE_INFINITY].map(seconds => open(t, home, seconds)) as [
    DirLayer,
    DirLayer,
    DirLayer,
  ];
  const layers = [always, soon, never];
  const inodes = layers.map(layer => at(layer, '/f'));
  const sizes = (): number[] => layers.map((layer, i) => layer.attr(inodes[i] as Inode).size);
  const marks = (): (string | undefined)[] =>
    layers.map((layer, i) => {
      const value = layer.getxattr(inodes[i] as Inode, 'trusted.mark');
      return value && byteStringOf(value);
    });
  t.strictSame([sizes(), marks()], [[4, 4, 4], Array(3).fill(undefined)]);
  appendFileSync(path, 'more');
  python(
    "import os, sys\nos.setxattr(sys.argv[1], 'trusted.mark', b'm')\nos.setxattr(sys.argv[1], 'user.mark', b'u')",
    [path],
  );
  t.equal(always.attr(inodes[0] as Inode).size, 8, '0 seconds: a change shows at once');
  t.equal(always.getxattr(inodes[0] as Inode, 'trusted.mark')?.length, 1, 'and so does a trusted xattr');
  await setTimeout(60);
  t.strictSame(sizes(), [8, 8, 4], 'later, by then, or never');
  t.strictSame(marks(), ['m', 'm', undefined], 'and so do trusted xattrs');
  t.equal(never.getxattr(inodes[2] as Inode, 'user.mark')?.length, 1, 'others are asked for each time');
  const attr = never.attr(inodes[2] as Inode);
  attr.size = 1;
  t.equal(never.attr(inodes[2] as Inode).size, 4, 'what is remembered is nobody else to change');
});

t.test('numbers of objects on other filesystems than their layer', { skip: withoutRoot }, async t => {
  const home = scratch(t);
  plant(home, dir({ A: dir({ a: file('a'), d: dir({ x: file('x') }) }), one: dir(), two: dir() }));
  const [one, two] = ['one', 'two'].map(name => {
    const place = kernelMount(t, 'tmpfs', 'tmpfs', '', join(home, name));
    plant(place, dir({ [name]: file(name), shared: dir({ [name]: file(name) }) }));
    return place;
  }) as [string, string];
  t.equal(lstatSync(join(one, 'one')).ino, lstatSync(join(two, 'two')).ino, 'two filesystems number alike');
  const overlay = kernelMount(t, 'overlay', 'overlay', `lowerdir=${one}:${two}`);
  t.not(lstatSync(join(overlay, 'one')).dev, lstatSync(join(overlay, 'two')).dev, 'the kernel tells them by st_dev');

  const layer = open(t, overlay);
  const paths = ['/one', '/two', '/shared', '/shared/one', '/shared/two'];
  const numbers = paths.map(path => at(layer, path).ino);
  t.equal(new Set(numbers).size, paths.length, 'a layer has one number each');
  t.ok(
    numbers.every(n => Number.isSafeInteger(n) && n > 0 && n < 2 ** 44),
    'below 2^44',
  );
  t.strictSame(
    paths.map(path => at(layer, path).ino),
    numbers,
    'the same at each lookup',
  );
  t.strictSame(
    paths.map(path => layer.attr(at(layer, path)).ino),
    numbers,
    'and in its attributes',
  );
  const again = open(t, overlay);
  t.strictSame(
    paths.map(path => at(again, path).ino),
    numbers,
    'and in another layer of this filesystem',
  );
  t.equal(again.filesystem, layer.filesystem);
  t.not(open(t, join(home, 'A')).filesystem, layer.filesystem, 'other filesystems are told apart');
});

t.test('a directory that is looked up again and again keeps one descriptor', async t => {
  const home = scratch(t);
  plant(home, dir({ d: dir({ f: file('x') }) }));
  const layer = open(t, home);
  const before = descriptors();
  for (const rule of ['just made, so found by its descriptor', 'made long before, so found by its name']) {
    for (let i = 0; i < 100; i++) layer.xattrBytes(at(layer, '/d'), 'user.x');
    t.ok(descriptors() - before <= 1, `${rule}: ${descriptors() - before} more`);
    await setTimeout(100);
  }
});

t.test('an open file in a directory that is renamed, and was closed meanwhile', t => {
  const home = scratch(t);
  plant(home, dir({ d: dir({ f: file('x') }), other: dir({ f: file('y') }) }));
  const layer = open(t, home);
  const found = at(layer, '/d/f');
  const data = layer.open(found);
  python(
    `import os, sys
os.rename(sys.argv[1] + '/d', sys.argv[1] + '/e')
for i in range(${DIRECTORIES_MAX + 1}): os.makedirs(sys.argv[1] + '/more/d%d/s' % i)`,
    [home],
  );
  for (let i = 0; i <= DIRECTORIES_MAX; i++) at(layer, `/more/d${i}/s`);
  t.equal(layer.attr(found, data.fd).size, 1, 'is what it is');
  t.throws(() => layer.attr(found), { name: 'ESTALE' }, 'but not for who has it not open');
  data.close();
  t.end();
});

t.test('a directory that is moved into one that was in it', async t => {
  const home = scratch(t);
  plant(home, dir({ a: dir({ b: dir({ f: file('in b') }) }) }));
  const layer = open(t, home);
  const a = at(layer, '/a');
  const b = layer.lookup(a, 'b') as Inode;
  listing(layer, b); // stays open
  renameSync(join(home, 'a', 'b'), join(home, 'b'));
  renameSync(join(home, 'a'), join(home, 'b', 'a'));
  const found = layer.lookup(b, 'a') as Inode;
  t.equal(found.ino, a.ino, 'is found there');
  t.equal(layer.adopt(a, found), false, 'but the way to it does not lead through itself');
  t.equal(layer.attr(found).ino, a.ino);
  t.equal(layer.adopt(b, at(layer, '/b')), true, 'what is found elsewhere is there');
  t.equal(contents(layer.open(layer.lookup(b, 'f') as Inode)), 'in b');
});
t.end();
