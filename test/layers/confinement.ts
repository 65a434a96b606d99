/** What a directory as a layer gives of itself and what it does not: nothing leads out of it, nothing hangs, nothing is hidden. */
import { execFileSync } from 'node:child_process';
import { chmodSync, lstatSync, mkdirSync, readlinkSync, renameSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { descriptorsMax } from '../../src/layers/descriptors.ts';
import { native } from '../../src/sys/native.ts';
import { asNobody, at, contents, listing, open } from '../fixtures/dir-layer.ts';
import { device, dir, fifo, file, link, whiteout } from '../fixtures/fake-layer.ts';
import { kernelMount, plant, scratch } from '../fixtures/layers.ts';
import { descriptors } from '../fixtures/native.ts';
import { withoutRoot } from '../fixtures/skips.ts';

/** ST_NODEV and ST_NOATIME. Source: linux/statfs.h. */
const NODEV_NOATIME = 4 | 1024;
const DIRECTORIES_MAX = descriptorsMax();

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
  contents(layer.openPath('/f')); // the process keeps /proc/self/fd open from then on
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
  const mount = new Float64Array(10);
  native.fstatfs(data.fd, mount);
  if (!withoutRoot) t.equal((mount[9] as number) & NODEV_NOATIME, NODEV_NOATIME, 'opened where no device opens');
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
  const layer = open(t, join(home, 'A'), 0);
  const inner = at(layer, '/d');
  renameSync(join(home, 'A'), join(home, 'B'));
  t.equal(contents(layer.open(at(layer, '/f'))), 'data', 'a renamed layer is the same');
  t.strictSame(listing(layer, inner), ['g'], 'and its directories');
  mkdirSync(join(home, 'A'));
  t.equal(contents(layer.openPath('/d/g')), 'inner', 'whatever has its name now');
  rmSync(join(home, 'B'), { recursive: true });
  t.equal(layer.lookup(layer.root, 'f'), undefined, 'a removed one is empty');
  t.throws(
    () => listing(layer, layer.root),
    { name: 'ENOENT', message: /A: \/: No such file or directory/ },
    'and has no listing',
  );
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
  for (let i = 0; i < DIRECTORIES_MAX; i++) mkdirSync(join(home, 'A', `many${i}`));
  for (let i = 0; i < DIRECTORIES_MAX; i++) listing(layer, at(layer, `/many${i}`)); // its descriptor has gone after this
  t.throws(() => layer.lookup(d, 'f'), { name: 'ESTALE', message: /\/d: / }, 'a symlink in its place is not followed');
  t.throws(() => listing(layer, d), { name: 'ESTALE', message: /\/d: / }, 'nor listed');
  t.throws(() => layer.open(f), { name: 'ESTALE', message: /\/d: / }, 'nor a file in it opened');
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

t.end();
