/** A directory as a layer, against node:fs and python, which ask the same directory by its path. */
import { execFileSync, spawnSync } from 'node:child_process';
import {
  chmodSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  readlinkSync,
  renameSync,
  rmSync,
  statfsSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { DirLayer } from '../../src/layers/dir.ts';
import type { Data, Inode } from '../../src/layers/layer.ts';
import { nameOf } from '../../src/sys/bytes.ts';
import { errnoName } from '../../src/sys/errno.ts';
import { native } from '../../src/sys/native.ts';
import { dtypeOf, makeRdev } from '../../src/sys/stat.ts';
import { device, dir, fifo, file, link, whiteout } from '../fixtures/fake-layer.ts';
import { kernelMount, plant, scratch } from '../fixtures/layers.ts';
import { descriptors, python } from '../fixtures/native.ts';
import { withoutRoot } from '../fixtures/skips.ts';
import { differences, layerTree, mountedTree, type Tree } from '../fixtures/tree.ts';

/** Opens a layer for as long as the test lasts. */
function open(t: Test, path: string): DirLayer {
  const layer = new DirLayer(path);
  t.teardown(() => layer.close());
  return layer;
}

/** The inode at a path that begins with a slash. */
function at(layer: DirLayer, path: string): Inode {
  let inode: Inode = layer.root;
  for (const name of path.split('/').filter(Boolean)) {
    const found = layer.lookup(inode, name);
    if (!found) throw new Error(`${path}: ${name} is missing`);
    inode = found;
  }
  return inode;
}

function contents(data: Data | number): string {
  if (typeof data === 'number') return errnoName(data);
  const out = new Uint8Array(data.sizeBytes);
  data.read(out, 0, out.length, 0);
  data.close();
  return nameOf(out);
}

const listing = (layer: DirLayer, directory: Inode): string[] => {
  const names: string[] = [];
  layer.readdir(directory, name => void names.push(name));
  return names;
};

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
  const layer = open(t, home);
  mountedTree(home); // what is read for the first time gets a new atime
  t.same(differences(sorted(layerTree(layer)), sorted(mountedTree(home))), []);
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
  t.equal(layer.getxattr(at(layer, '/l'), 'user.none'), undefined, 'an xattr that a symlink can not have');
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
    t.throws(ask, { name, message: new RegExp(`^layer ${home}.*${name}`) }, rule);
  }
  t.throws(() => new DirLayer(join(home, 'none')), { name: 'ENOENT', message: /none/ }, 'no layer');
  const before = descriptors();
  t.throws(() => new DirLayer(join(home, 'f')), { name: 'ENOTDIR', message: /f: ENOTDIR/ }, 'a file as a layer');
  t.throws(() => new DirLayer(join(home, 'p')), { name: 'ENOTDIR' }, 'a fifo as a layer');
  t.equal(descriptors(), before, 'nothing is left open');
});

t.test('A3: data at a path', { skip: withoutRoot, timeout: 20_000 }, async t => {
  const home = scratch(t);
  const long = 'c'.repeat(255);
  const deep = `/${Array.from({ length: 15 }, () => long).join('/')}`; // 3,840 bytes
  writeFileSync(join(home, 'secret'), 'secret');
  plant(
    join(home, 'C'),
    dir({
      f: file('data', { 'trusted.overlay.metacopy': '', 'trusted.overlay.redirect': '/' }),
      d: dir({ g: file('inner') }, { opaque: 'y' }),
      l: link('f'),
      up: link('../secret'),
      absolute: link('/etc/passwd'),
      dlink: link('d'),
      p: fifo(),
      null: device(1, 3),
      w: whiteout,
      self: link('/proc/self/root'),
    }),
  );
  execFileSync('mkdir', ['-p', join(home, 'C', deep)]);
  execFileSync('sh', ['-c', `printf end > ${'c'.repeat(250)}`], { cwd: join(home, 'C', deep) });
  const layer = open(t, join(home, 'C'));
  const before = descriptors();
  for (const [rule, path, want] of [
    ['a regular file', '/f', 'data'],
    ['overlay xattrs mean nothing', '/d/g', 'inner'],
    ['without its slash', 'f', 'data'],
    ['two dots inside', '/d/../f', 'data'],
    ['a dot', '/./d/./g', 'inner'],
    ['two dots above', '/..', 'EXDEV'],
    ['above and back', '/../C/f', 'EXDEV'],
    ['out of a directory', '/d/../../secret', 'EXDEV'],
    ['a final symlink', '/l', 'ENOENT'],
    ['a symlink to the outside', '/up', 'ENOENT'],
    ['an absolute one', '/absolute', 'ENOENT'],
    ['a symlink on the way', '/dlink/g', 'ELOOP'],
    ['a symlink to /proc/self/root on the way', '/self/etc/passwd', 'ELOOP'],
    ['a file on the way', '/f/g', 'ENOTDIR'],
    ['a trailing slash', '/f/', 'ENOTDIR'],
    ['a directory', '/d', 'ENOENT'],
    ['the root', '/', 'ENOENT'],
    ['no path', '', 'ENOENT'],
    ['a fifo, at once', '/p', 'ENOENT'],
    ['a device', '/null', 'ENOENT'],
    ['a whiteout', '/w', 'ENOENT'],
    ['a missing one', '/none', 'ENOENT'],
    ['a component of 256 bytes', `/${long}c`, 'ENAMETOOLONG'],
    ['4,091 bytes', `${deep}/${'c'.repeat(250)}`, 'end'],
    ['4,095 bytes', `${deep}/${'c'.repeat(254)}`, 'ENOENT'],
    ['4,096 bytes', `${deep}/${long}`, 'ENAMETOOLONG'],
    ['65,536 bytes', `/${'f/../'.repeat(13_107)}`, 'ENAMETOOLONG'],
    ['a NUL', '/f\0/x', 'EINVAL'],
  ] as const) {
    t.equal(contents(layer.openPath(path)), want, rule);
  }
  t.equal(descriptors(), before, 'nothing is left open');
  const data = layer.openPath('/f');
  if (typeof data === 'number') return t.fail('open');
  t.ok(data.fd >= 0, 'data has a descriptor for passthrough');
  t.equal(native.pread(data.fd, new Uint8Array(4), 0, 4, 0), 4);
  data.close();
});

t.test('S6: what is mounted inside a layer is not seen', { skip: withoutRoot }, async t => {
  const home = scratch(t);
  plant(
    home,
    dir({ A: dir({ before: dir({ f: file('real') }), after: dir({ g: file('real') }), file: file('real') }) }),
  );
  const [before, after, plain] = ['before', 'after', 'file'].map(name => join(home, 'A', name)) as [
    string,
    string,
    string,
  ];
  const cover = (place: string): void => {
    kernelMount(t, 'tmpfs', 'tmpfs', '', place);
    writeFileSync(join(place, 'cover'), 'mounted');
  };
  const other = join(home, 'other');
  writeFileSync(other, 'mounted');
  cover(before);
  const layer = open(t, join(home, 'A'));
  const known = at(layer, '/after');
  t.strictSame(listing(layer, known), ['g']);
  cover(after);
  execFileSync('mount', ['--bind', other, plain]);
  t.teardown(() => void native.umount(plain, 0));

  for (const [rule, directory, name] of [
    ['a mount from before the layer was opened', at(layer, '/before'), 'f'],
    ['a mount from after', known, 'g'],
    ['the same, looked up anew', at(layer, '/after'), 'g'],
  ] as const) {
    t.strictSame(listing(layer, directory), [name], `${rule}: listing`);
    t.equal(layer.lookup(directory, 'cover'), undefined, `${rule}: lookup`);
    const found = layer.lookup(directory, name);
    t.equal(found && contents(layer.open(found)), 'real', `${rule}: open`);
  }
  t.equal(contents(layer.openPath('/before/f')), 'real', 'by a path');
  t.equal(contents(layer.openPath('/after/g')), 'real', 'by a path, mounted later');
  t.equal(contents(layer.open(at(layer, '/file'))), 'real', 'a file that is mounted over');
  t.equal(contents(layer.openPath('/file')), 'real', 'by its path');
  t.equal(layer.attr(layer.root).ino, lstatSync(join(home, 'A')).ino, 'the root is the directory itself');
});

t.test(
  'a layer of a process that may not clone mounts: what is mounted inside is refused',
  { skip: withoutRoot },
  async t => {
    const home = scratch(t);
    chmodSync(home, 0o755);
    plant(home, dir({ A: dir({ m: dir(), f: file('real') }) }));
    kernelMount(t, 'tmpfs', 'tmpfs', 'mode=755', join(home, 'A', 'm'));
    writeFileSync(join(home, 'A', 'm', 'x'), 'mounted');
    const said = asNobody(
      `const layer = new DirLayer('${home}/A');
     const tell = ask => { try { console.log(ask()); } catch (error) { console.log(error.name); } };
     tell(() => layer.lookup(layer.root, 'm'));
     tell(() => layer.openPath('/m/x'));
     tell(() => layer.openPath('/f').sizeBytes);
     tell(() => layer.lookup(layer.root, 'f').mode.toString(8));`,
    );
    t.equal(said, 'EXDEV\n-18\n4\n100644\n');
  },
);

/** Runs a program with DirLayer as another user; what it prints. */
function asNobody(program: string): string {
  const source = `import { DirLayer } from '${new URL('../../src/layers/dir.js', import.meta.url)}';\n${program}`;
  const args = ['--input-type=module', '-e', source];
  const child = spawnSync(process.execPath, args, { uid: 65534, gid: 65534, cwd: '/', encoding: 'utf8' });
  return child.stdout; // a test runner that may not write there complains on stderr
}

t.test('what another user may not read is EACCES, not missing', { skip: withoutRoot }, async t => {
  const home = scratch(t);
  chmodSync(home, 0o755);
  plant(
    home,
    dir({ A: dir({ shut: dir({ f: file() }), blind: dir({ f: file('seen') }), secret: file(), own: file('own') }) }),
  );
  for (const [name, mode] of [
    ['shut', 0o700],
    ['blind', 0o711],
    ['secret', 0o600],
  ] as const) {
    chmodSync(join(home, 'A', name), mode);
  }
  const said = asNobody(
    `const layer = new DirLayer('${home}/A');
     const tell = ask => { try { console.log(ask()); } catch (error) { console.log(error.name); } };
     const at = name => layer.lookup(layer.root, name);
     tell(() => layer.lookup(at('shut'), 'f'));
     tell(() => layer.readdir(at('shut'), () => {}));
     tell(() => layer.readdir(at('blind'), () => {}));
     tell(() => layer.lookup(at('blind'), 'f').sizeBytes);
     tell(() => layer.open(at('secret')));
     tell(() => layer.openPath('/secret'));
     tell(() => layer.openPath('/shut/f'));
     tell(() => layer.open(at('own')).sizeBytes);
     tell(() => layer.getxattr(at('own'), 'trusted.overlay.opaque'));
     tell(() => layer.getxattr(at('secret'), 'user.x'));`,
  );
  t.equal(said, 'EACCES\nEACCES\nEACCES\n4\nEACCES\n-13\n-13\n3\nundefined\nEACCES\n');
});

t.test('a layer that is renamed or removed', { skip: withoutRoot }, async t => {
  const home = scratch(t);
  plant(home, dir({ A: dir({ f: file('data'), d: dir({ g: file('inner') }) }) }));
  const layer = open(t, join(home, 'A'));
  const inner = at(layer, '/d');
  renameSync(join(home, 'A'), join(home, 'B'));
  t.equal(contents(layer.open(at(layer, '/f'))), 'data', 'a renamed layer is the same');
  t.strictSame(listing(layer, inner), ['g'], 'and its directories');
  mkdirSync(join(home, 'A'));
  t.equal(contents(layer.openPath('/d/g')), 'inner', 'whatever has its name now');
  rmSync(join(home, 'B'), { recursive: true });
  t.equal(layer.lookup(layer.root, 'f'), undefined, 'a removed one is empty');
  t.throws(() => listing(layer, layer.root), { name: 'ENOENT', message: /listing/ }, 'and has no listing');
  t.equal(layer.openPath('/f'), -2);
  t.equal(layer.attr(layer.root).nlink, 0, 'its root is still there to be asked');
});

t.test('nothing leads out of a layer', { skip: withoutRoot }, async t => {
  const home = scratch(t);
  plant(home, dir({ A: dir({ d: dir({ f: file('inside') }) }), outside: dir({ f: file('outside') }) }));
  const layer = open(t, join(home, 'A'));
  const d = at(layer, '/d');
  const f = at(layer, '/d/f');
  renameSync(join(home, 'A', 'd'), join(home, 'A', 'old'));
  symlinkSync('../outside', join(home, 'A', 'd'));
  t.equal(contents(layer.open(f)), 'inside', 'a directory in use stays what it was');
  for (let i = 0; i < 100; i++) mkdirSync(join(home, 'A', `many${i}`));
  for (let i = 0; i < 100; i++) listing(layer, at(layer, `/many${i}`)); // its descriptor has gone after this
  t.throws(() => layer.lookup(d, 'f'), { name: 'ENOTDIR', message: /\/d: / }, 'a symlink in its place is not followed');
  t.throws(() => listing(layer, d), { name: 'ENOTDIR', message: /\/d: / }, 'nor listed');
  t.throws(() => layer.open(f), { name: 'ENOTDIR', message: /\/d: / }, 'nor a file in it opened');
  t.equal(layer.readlink(at(layer, '/d')), '../outside', 'it is a symlink');
});

t.test('/proc as a layer: magic links are not followed', { skip: withoutRoot }, async t => {
  const layer = open(t, '/proc/self');
  t.equal(layer.readlink(at(layer, '/root')), readlinkSync('/proc/self/root'), 'they can be read');
  for (const [path, want] of [
    ['/root', 'ENOENT'],
    ['/root/etc/passwd', 'ELOOP'],
    ['/exe', 'ENOENT'],
    ['/cwd/package.json', 'ELOOP'],
    ['/fd/0', 'ENOENT'],
  ] as const) {
    t.equal(contents(layer.openPath(path)), want, path);
  }
});

t.test('directories are many and deep, descriptors are few', { skip: withoutRoot, timeout: 60_000 }, async t => {
  const home = scratch(t);
  const levels = 2000;
  python(
    `import os, sys
os.chdir(sys.argv[1])
for i in range(1000): os.mkdir('d%d' % i); open('d%d/f' % i, 'w').write(str(i))
for i in range(${levels}): os.mkdir('deep'); os.chdir('deep')
open('end', 'w').write('end')`,
    [home],
  );
  const layer = open(t, home);
  const before = descriptors();
  const inodes = Array.from({ length: 1000 }, (_, i) => at(layer, `/d${i}`));
  t.ok(
    inodes.every(inode => listing(layer, inode)[0] === 'f'),
    'all are listed',
  );
  t.ok(descriptors() - before <= 64, `1,000 directories keep ${descriptors() - before} descriptors`);
  t.equal(contents(layer.open(layer.lookup(inodes[0] as Inode, 'f') as Inode)), '0', 'the first is opened again');

  let deepest: Inode = layer.root;
  for (let i = 0; i < levels; i++) deepest = layer.lookup(deepest, 'deep') as Inode;
  t.equal(contents(layer.open(layer.lookup(deepest, 'end') as Inode)), 'end', `${levels} levels down`);
  for (const inode of inodes) listing(layer, inode);
  t.strictSame(listing(layer, deepest), ['end'], 'and again, when all that leads there was closed');
  t.equal(layer.getxattr(deepest, 'user.x'), undefined);
  t.equal(layer.attr(deepest).nlink, 2);
  t.ok(descriptors() - before <= 64, `with ${descriptors() - before} descriptors`);
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
t.end();
