/** Attributes, xattrs and numbers of a stack, against the kernel's overlay of the same layers. */
import { execFileSync, spawnSync } from 'node:child_process';
import { chmodSync, linkSync, lstatSync, mkdirSync, statfsSync, truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { openOverlay } from '../../src/overlay/open.ts';
import { Overlay } from '../../src/overlay/overlay.ts';
import { byteStringOf } from '../../src/sys/bytes.ts';
import { EINVAL, ENODATA, EOPNOTSUPP } from '../../src/sys/errno.ts';
import { rdevMajor, rdevMinor } from '../../src/sys/stat.ts';
import { device, dir, FakeLayer, fifo, file, link, meta, type Spec } from '../fixtures/fake-layer.ts';
import { kernelMount, nodeAt, openStack, optionsOf, plainOptions, plant, scratch } from '../fixtures/layers.ts';
import { descriptors, python } from '../fixtures/native.ts';
import { withoutRoot } from '../fixtures/skips.ts';

/** What lstat shows below a mount, in the words of `ours`. */
function kernels(path: string): string {
  const s = lstatSync(path, { bigint: true });
  const rdev = `${(s.rdev >> 8n) & 0xfffn}:${s.rdev & 0xffn}`;
  const times = `${s.atimeNs} ${s.mtimeNs} ${s.ctimeNs}`;
  return `${s.mode.toString(8)} ${s.nlink} ${s.uid}:${s.gid} ${rdev} ${s.size} blocks ${s.blocks} ino ${s.ino} ${times}`;
}

function ours(overlay: Overlay, path: string): string {
  const a = overlay.attr(nodeAt(overlay, path));
  const ns = (seconds: number | bigint, nsec: number): bigint => BigInt(seconds) * 1_000_000_000n + BigInt(nsec);
  const times = `${ns(a.atime, a.atimensec)} ${ns(a.mtime, a.mtimensec)} ${ns(a.ctime, a.ctimensec)}`;
  const rdev = `${rdevMajor(a.rdev)}:${rdevMinor(a.rdev)}`;
  return `${a.mode.toString(8)} ${a.nlink} ${a.uid}:${a.gid} ${rdev} ${a.size} blocks ${a.blocks} ino ${a.ino} ${times}`;
}

t.test('attributes, as the kernel shows them', { skip: withoutRoot }, async t => {
  const home = scratch(t);
  const data = (redirect: string) => meta({ redirect });
  plant(
    join(home, 'A'),
    dir({
      merged: dir({ sub: dir() }),
      opaque: dir({}, { opaque: 'y' }),
      own: dir({ sub: dir() }),
      plain: file('x'.repeat(10_000)),
      below: meta(),
      sparse: meta(),
      moved: data('/elsewhere'),
      deferred: data('/objects/o'),
      exact: data('/objects/o'),
      nothing: data('/objects/o'),
      gone: data('/objects/none'),
      link: link('plain'),
      long: link('x'.repeat(200)),
      tty: device(4, 65),
      fifo: fifo(),
    }),
  );
  plant(join(home, 'B'), dir({ merged: dir(), opaque: dir(), below: file('y'.repeat(20_000)), elsewhere: file('z') }));
  writeFileSync(join(home, 'B', 'sparse'), '');
  truncateSync(join(home, 'B', 'sparse'), 1 << 20);
  plant(join(home, 'C'), dir({ objects: dir({ o: file('w'.repeat(9000)) }) }));
  for (const [name, sizeBytes] of [
    ['below', 5000],
    ['sparse', 1 << 20],
    ['moved', 100_000],
    ['deferred', 4097],
    ['exact', 8192],
    ['gone', 511],
  ] as const) {
    truncateSync(join(home, 'A', name), sizeBytes);
  }
  linkSync(join(home, 'A', 'plain'), join(home, 'A', 'hard'));
  linkSync(join(home, 'A', 'plain'), join(home, 'B', 'across'));
  linkSync(join(home, 'A', 'deferred'), join(home, 'A', 'merged', 'hard'));

  const lowerdir = `${home}/A:${home}/B::${home}/C`;
  const kernel = kernelMount(t, 'overlay', 'overlay', `lowerdir=${lowerdir},metacopy=on,redirect_dir=follow`);
  const overlay = openStack(t, lowerdir);
  const paths = execFileSync('find', ['.', '-printf', '/%P\n'], { cwd: kernel, encoding: 'utf8' }).trim().split('\n');
  t.equal(paths.length, 22, 'every object is looked at');
  for (const path of paths) {
    const rule = path.replace(/^\/(?=.)/, '');
    t.equal(ours(overlay, path), kernels(join(kernel, path)), `A8, I1, I2, I3: ${rule}`);
  }
  t.equal(overlay.attr(overlay.root).nlink, 1, 'I2: a merged directory has one link');

  const numbers = overlay.statfs();
  const { blocks, bsize, files } = statfsSync(kernel);
  t.match(numbers, { blocks, bsize, files, namelen: 255 }, 'I5: statfs is that of the top layer');
});

t.test('I3: layers on several filesystems have numbers of their own', { skip: withoutRoot }, async t => {
  const home = scratch(t);
  const [a, b] = ['A', 'B'].map(name => {
    mkdirSync(join(home, name));
    return kernelMount(t, 'tmpfs', 'tmpfs', '', join(home, name));
  }) as [string, string];
  for (const [place, name] of [
    [a, 'a'],
    [b, 'b'],
  ] as const) {
    plant(place, dir({ [name]: file() }));
  }
  t.equal(lstatSync(join(a, 'a')).ino, lstatSync(join(b, 'b')).ino, 'two tmpfs number alike');
  const overlay = openStack(t, `${a}:${b}`);
  const inos = ['/a', '/b'].map(path => nodeAt(overlay, path).ino);
  t.equal(new Set(inos).size, 2, 'the stack does not');
  t.strictSame(
    inos,
    ['/a', '/b'].map(path => nodeAt(openStack(t, `${a}:${b}`), path).ino),
    'and always the same way',
  );
  t.equal(overlay.attr(nodeAt(overlay, '/b')).ino, inos[1], 'stat shows that number');
});

t.test('xattrs, as the kernel shows them', { skip: withoutRoot }, async t => {
  const home = scratch(t);
  const escaped = 'trusted.overlay.overlay.';
  const xattrs = {
    'user.a': 'value',
    'user.empty': '',
    'trusted.b': '\0\xff',
    [`${escaped}opaque`]: 'y',
    [`${escaped}overlay.deep`]: 'z',
    'trusted.overlay.zzz': 'hidden',
    'trusted.overlayfs': 'shown',
    'user.overlay.opaque': 'shown',
  };
  plant(join(home, 'A'), dir({ f: file('x', xattrs), d: dir({}, xattrs), m: meta({ ...xattrs, redirect: 'o' }) }));
  plant(join(home, 'B'), dir({ d: dir({}, { 'user.lower': 'no' }), o: file('o', { 'user.data': 'no' }) }));
  const lowerdir = `${home}/A:${home}/B`;
  const kernel = kernelMount(t, 'overlay', 'overlay', `lowerdir=${lowerdir},metacopy=on,redirect_dir=follow`);
  const overlay = openStack(t, lowerdir);
  const shown = python(
    `import json, os, sys
print(json.dumps([[n, os.getxattr(sys.argv[1] + p, n).decode('latin1')] for p in ('/f', '/d', '/m') for n in sorted(os.listxattr(sys.argv[1] + p))]))`,
    [kernel],
  );
  const got = ['/f', '/d', '/m'].flatMap(path => {
    const node = nodeAt(overlay, path);
    return overlay
      .listxattr(node)
      .sort()
      .map(name => [name, byteStringOf(overlay.getxattr(node, name) as Uint8Array)]);
  });
  t.strictSame(got, JSON.parse(shown), 'X1, X3: listed, each with its value');
  const node = nodeAt(overlay, '/f');
  for (const [rule, name, want] of [
    ['X2: a mark cannot be read', 'trusted.overlay.zzz', -ENODATA],
    ['X2: the bare prefix', 'trusted.overlay.', -EINVAL],
    ['X2: no room for the escape', `trusted.overlay.${'x'.repeat(232)}`, -EOPNOTSUPP],
    ['a name that is not there', 'user.none', -ENODATA],
  ] as const) {
    t.equal(overlay.getxattr(node, name), want, rule);
    const says = python(
      'import os, sys\ntry: os.getxattr(sys.argv[1], sys.argv[2])\nexcept OSError as e: print(-e.errno)',
      [join(kernel, 'f'), name],
    );
    t.equal(Number(says), want, `${rule}: as the kernel`);
  }
});

t.test('X4: what the mounter may not read', { skip: withoutRoot }, async t => {
  const home = scratch(t);
  const closed = (spec: Spec): Spec => ({ ...spec, mode: spec.mode & ~0o777 });
  plant(join(home, 'A'), dir({ empty: closed(file('')), full: closed(file('x')), d: closed(dir()), e: dir() }));
  plant(join(home, 'B'), dir({ d: dir() }));
  mkdirSync(join(home, 'at'));
  chmodSync(home, 0o755);
  const asNobody = (program: string, ...args: string[]): string =>
    spawnSync(program, args, { uid: 65534, gid: 65534, cwd: '/', encoding: 'utf8' }).stdout;
  const names = ['empty', 'full', 'd', 'e'];

  const kernel = asNobody(
    ...(['unshare', '-Urm', 'sh', '-c'] as const),
    `mount -t overlay -o userxattr,lowerdir=${home}/A:${home}/B overlay ${home}/at &&
     for name in ${names.join(' ')}; do stat -c %f ${home}/at/$name 2>/dev/null || echo EACCES; done`,
  );
  const ours = asNobody(
    ...([process.execPath, '--input-type=module', '-e'] as const),
    `import { openOverlay } from '${new URL('../../src/overlay/open.js', import.meta.url)}';
     const [options, names] = process.argv.slice(1).map(JSON.parse);
     const overlay = openOverlay(options);
     for (const name of names) {
       try { console.log(overlay.attr(overlay.lookup(overlay.root, name)).mode.toString(16)); }
       catch (error) { console.log(error.name); }
     }`,
    JSON.stringify(optionsOf(`${home}/A:${home}/B`, { userxattr: true, metacopy: false, redirectDir: 'nofollow' })),
    JSON.stringify(names),
  );
  t.equal(ours, '8000\n8000\nEACCES\n41ed\n', 'userxattr: files are plain, directories are EACCES');
  if (kernel === '') t.pass('as the kernel', { skip: 'no overlay mounts in a user namespace here' });
  else t.equal(kernel, ours, 'as the kernel');
});

t.test('what cannot change, and what is closed', async t => {
  const image = (name: string): FakeLayer => Object.assign(new FakeLayer(name, dir()), { kind: 'image' });
  for (const [rule, layers, data, want] of [
    ['an image', [image('A')], [], true],
    ['images', [image('A'), image('B')], [], true],
    ['an image with a data-only directory', [image('A')], [new FakeLayer('B', dir())], true],
    ['a directory', [new FakeLayer('A', dir())], [], false],
    ['a directory below an image', [image('A'), new FakeLayer('B', dir())], [], false],
  ] as const) {
    const overlay = new Overlay(layers, data, plainOptions);
    t.equal(overlay.immutable, want, `${rule}: immutable is ${want}`);
    overlay.close();
    const asked = [...layers, ...data].map(layer => layer.asked.filter(word => word === 'close').length);
    t.same(new Set(asked), new Set([1]), `${rule}: every layer is closed once`);
  }
  t.throws(() => new Overlay([], [image('A')], plainOptions), { name: 'EIO', message: /without a normal layer/ });
});

t.test('nothing is left open', async t => {
  const home = scratch(t);
  for (const name of ['A', 'B']) mkdirSync(join(home, name, 'd', 'e'), { recursive: true });
  const open = descriptors();
  const overlay = openOverlay(optionsOf(`${home}/A:${home}/B`));
  overlay.list(nodeAt(overlay, '/d/e'));
  t.ok(descriptors() > open, 'directories are open while the stack is');
  overlay.close();
  t.equal(descriptors(), open, 'and closed with it');
});
t.end();
