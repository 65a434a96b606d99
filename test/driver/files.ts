import { appendFileSync, renameSync, utimesSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout } from 'node:timers/promises';
import t, { type Test } from 'tap';
import { Backing } from '../../src/driver/backing.ts';
import { Files, type FilesOptions, type OpenReply } from '../../src/driver/files.ts';
import type { Measurer } from '../../src/driver/measurer.ts';
import type { Nodeid, Unique } from '../../src/fuse/filesystem.ts';
import { Fopen } from '../../src/fuse/wire/abi.ts';
import type { Data } from '../../src/layers/layer.ts';
import type { StackOptions } from '../../src/overlay/options/rules.ts';
import { Overlay } from '../../src/overlay/overlay.ts';
import type { Check } from '../../src/overlay/verifier.ts';
import { byteStringOf } from '../../src/sys/bytes.ts';
import { EMFILE, ENOENT, ErrnoError, errnoName } from '../../src/sys/errno.ts';
import { dir, FakeLayer, file, meta, type Spec } from '../fixtures/fake-layer.ts';
import { metacopyOf } from '../fixtures/images/verity.ts';
import { nodeAt, openStack, plainOptions, plant, scratch } from '../fixtures/layers.ts';
import { descriptors } from '../fixtures/native.ts';
import { withoutRoot } from '../fixtures/skips.ts';

/** Whether the kernel reads files itself; `to others`: not those of this test. */
type Grants = boolean | 'to others';

/** A kernel that gives backing ids to every file, or to none, and knows which are in use. */
class FakeBacking extends Backing {
  readonly inUse = new Set<number>();
  readonly closed: number[] = [];
  private readonly grants: boolean;
  private next = 1;

  constructor(grants: Grants) {
    super(-1, grants !== false, () => {});
    this.grants = grants === true;
  }

  override open(_data: Data): number {
    if (!this.grants) return 0;
    this.inUse.add(this.next);
    return this.next++;
  }

  override close(id: number): void {
    if (id === 0) return;
    if (!this.inUse.delete(id)) throw new Error(`backing id ${id} closed twice`);
    this.closed.push(id);
  }
}

class Fixture {
  readonly overlay: Overlay;
  readonly backing: FakeBacking;
  readonly files: Files;

  constructor(
    overlay: Overlay,
    { grants = false, idleMax = 4, ...options }: { grants?: Grants } & Partial<FilesOptions> = {},
  ) {
    this.overlay = overlay;
    this.backing = new FakeBacking(grants);
    this.files = new Files(overlay, this.backing, { idleMax, ...options });
  }

  nodeid(path: string): Nodeid {
    return (nodeAt(this.overlay, path).ino + 2) as Nodeid;
  }

  tryOpen(path: string): OpenReply | number {
    return this.files.open(this.nodeid(path), nodeAt(this.overlay, path));
  }

  open(path: string): OpenReply {
    const opened = this.tryOpen(path);
    if (typeof opened === 'number') throw new Error(`${path}: ${errnoName(opened)}`);
    return opened;
  }

  read(handle: number): string | undefined {
    const out = new Uint8Array(100);
    const count = this.files.get(handle)?.read(out, 0, 100, 0);
    return count === undefined ? undefined : byteStringOf(out, 0, count);
  }
}

/** Files f0, f1... of one fake layer, which counts what is open. */
function fake(count: number): { layer: FakeLayer; overlay: Overlay } {
  const names = Array.from({ length: count }, (_, i) => [`f${i}`, file(`data ${i}`)] as const);
  const layer = new FakeLayer('A', dir(Object.fromEntries(names)));
  return { layer, overlay: new Overlay([layer], [], plainOptions) };
}

t.test('one set of data for a file, however often it is open', async t => {
  const { layer, overlay } = fake(2);
  const f = new Fixture(overlay);
  const [one, two, other] = [f.open('/f0'), f.open('/f0'), f.open('/f1')];
  t.equal(new Set([one.handle, two.handle, other.handle]).size, 3, 'each open has a handle of its own');
  t.equal(layer.openData, 2, 'but the file is open once');
  t.strictSame([f.read(one.handle), f.read(other.handle)], ['data 0', 'data 1']);
  f.files.release(one.handle);
  t.equal(f.read(one.handle), undefined, 'a released handle is none');
  t.equal(f.read(two.handle), 'data 0', 'the other still reads');
  f.files.release(one.handle);
  t.equal(f.read(two.handle), 'data 0', 'releasing a handle twice is nothing');
  f.files.release(two.handle);
  t.equal(layer.openData, 2, 'after the last close it stays, idle');
  f.open('/f0');
  t.equal(layer.asked.filter(word => word === 'open /f0').length, 1, 'so that opening it again asks nothing');
  t.equal(f.files.get(12345), undefined, 'a handle that never was');
  f.files.close();
  t.equal(layer.openData, 0, 'the end closes everything, in use or idle');
});

t.test('idle files are bounded', async t => {
  const { layer, overlay } = fake(10);
  const f = new Fixture(overlay, { idleMax: 3 });
  const handles = Array.from({ length: 10 }, (_, i) => f.open(`/f${i}`).handle);
  t.equal(layer.openData, 10, 'what is in use is not');
  for (const handle of handles) f.files.release(handle);
  t.equal(layer.openData, 3, 'what is not in use is');
  f.open('/f9');
  t.equal(layer.asked.filter(word => word === 'open /f9').length, 1, 'the one used last is among them');
  f.open('/f0');
  t.equal(layer.asked.filter(word => word === 'open /f0').length, 2, 'the one used first is not');
  f.files.close();
  t.equal(layer.openData, 0);
});

t.test('forgotten files', async t => {
  const { layer, overlay } = fake(2);
  const f = new Fixture(overlay);
  const { handle } = f.open('/f0');
  f.files.drop(f.nodeid('/f0'));
  t.equal(f.read(handle), 'data 0', 'a file in use is not let go');
  f.files.release(handle);
  f.files.drop(f.nodeid('/f0'));
  t.equal(layer.openData, 0, 'an idle one is');
  f.files.drop(f.nodeid('/f1'));
  t.pass('nor does it matter when there is none');
  f.files.close();
});

t.test('a backing id is the same while a file is open, and closed exactly once', async t => {
  const { layer, overlay } = fake(6);
  const f = new Fixture(overlay, { grants: true, idleMax: 2 });
  const one = f.open('/f0');
  t.equal(one.flags, Fopen.PASSTHROUGH);
  t.ok(one.backingId > 0);
  t.equal(f.open('/f0').backingId, one.backingId, 'the kernel takes no second one for an inode');
  f.files.release(one.handle);
  t.equal(f.open('/f0').backingId, one.backingId, 'also when a part of the users has gone');
  const more = ['/f1', '/f2', '/f3', '/f4', '/f5'].map(path => f.open(path).handle);
  t.equal(f.backing.inUse.size, 6);
  for (const handle of more) f.files.release(handle);
  t.equal(f.backing.inUse.size, 3, 'an idle file that goes gives it back');
  f.files.close();
  t.equal(f.backing.inUse.size, 0, 'the end closes all');
  t.equal(f.backing.closed.length, 6, 'each once');
  t.equal(layer.openData, 0);
});

/** Waits until what was written shows any change from now on in its timestamps. */
const settled = (): Promise<void> => setTimeout(150);

t.test('which pages the kernel may keep', { skip: withoutRoot }, async t => {
  const home = scratch(t);
  const place = join(home, 'A');
  const withSize = (data: string): Spec => file(data, { metacopy: '', redirect: '/o' });
  plant(place, dir({ plain: file('12345'), larger: withSize('1234567'), same: withSize('12345') }));
  plant(join(home, 'C'), dir({ o: file('abcde') }));
  const f = new Fixture(openStack(t, `${place}::${join(home, 'C')}`));
  const flags = (path: string): number => {
    const { handle, flags } = f.open(path);
    f.files.release(handle);
    return flags;
  };
  await settled();
  t.equal(flags('/plain'), 0, 'none of before the first open');
  t.equal(flags('/plain'), Fopen.KEEP_CACHE, 'all while the data does not change');
  writeFileSync(join(place, 'plain'), '54321');
  t.equal(flags('/plain'), 0, 'none when it has changed');
  writeFileSync(join(place, 'plain'), '13579');
  t.equal(flags('/plain'), 0, 'nor at once: a change within the same tick of the clock would not show');
  await settled();
  t.equal(flags('/plain'), 0, 'nor what was read meanwhile');
  t.equal(flags('/plain'), Fopen.KEEP_CACHE, 'and all of the new, once a change would show');
  utimesSync(join(place, 'plain'), 1, 1);
  t.equal(flags('/plain'), 0, 'another time may mean other data');
  appendFileSync(join(place, 'plain'), '6');
  t.equal(flags('/plain'), Fopen.DIRECT_IO, 'nor can data that grew be cached under its old size');

  t.equal(flags('/larger'), Fopen.DIRECT_IO, 'A6: data of another size than the metacopy file says');
  t.equal(flags('/larger'), Fopen.DIRECT_IO, 'each time');
  t.equal(flags('/same'), 0, 'data of the same size');
  t.equal(flags('/same'), Fopen.KEEP_CACHE);
  f.files.close();

  const fakes = new Fixture(fake(1).overlay);
  t.equal(fakes.open('/f0').flags, Fopen.KEEP_CACHE, 'data that cannot change: all from the first open on');
});

t.test('A7: once found, data stays with the inode', { skip: withoutRoot }, async t => {
  const home = scratch(t);
  plant(join(home, 'A'), dir({ f: meta({ redirect: '/o' }) }));
  plant(join(home, 'C'), dir({ o: file('first') }));
  const object = join(home, 'C', 'o');
  const f = new Fixture(openStack(t, `${home}/A::${home}/C`));
  const { handle } = f.open('/f');
  renameSync(object, `${object}.old`);
  t.equal(f.read(handle), 'first', 'while it is open');
  f.files.release(handle);
  t.equal(f.read(f.open('/f').handle), 'first', 'and while the kernel knows it');
  f.files.close();
  const later = new Fixture(f.overlay);
  t.equal(later.tryOpen('/f'), -ENOENT, 'not when it is found anew');
  writeFileSync(object, 'second');
  t.equal(later.read(later.open('/f').handle), 'second', 'A4: and the failure is not remembered');
  later.files.close();
});

t.test('what is refused leaves nothing behind', { skip: withoutRoot }, async (t: Test) => {
  const home = scratch(t);
  const wrong = `\0\x24\0\x01${'x'.repeat(32)}`;
  plant(join(home, 'A'), dir({ wrong: meta({ metacopy: wrong, redirect: '/o' }), gone: meta({ redirect: '/none' }) }));
  plant(join(home, 'C'), dir({ o: file() }));
  const verity: Partial<StackOptions> = { verity: 'on' };
  const f = new Fixture(openStack(t, `${home}/A::${home}/C`, verity), { grants: true });
  t.equal(f.tryOpen('/gone'), -ENOENT); // the layer holds the object of its last lookup
  const open = descriptors();
  for (let i = 0; i < 10; i++) {
    t.throws(() => f.open('/wrong'), { name: 'EIO', message: /EWRONGVERITY/ }, 'V2: a wrong digest');
    t.equal(f.tryOpen('/gone'), -ENOENT, 'A4: missing data');
  }
  t.equal(descriptors(), open, 'no descriptor');
  t.equal(f.backing.inUse.size, 0, 'no backing id');
});

t.test('a file that fails its check is not opened again', { skip: withoutRoot }, async t => {
  const home = scratch(t);
  plant(join(home, 'C'), dir({ o: file('12345') }));
  const object = join(home, 'C', 'o');
  plant(
    join(home, 'A'),
    dir({ f: file('.....', { metacopy: metacopyOf(object).toString('latin1'), redirect: '/o' }) }),
  );
  const overlay = openStack(t, `${home}/A::${home}/C`, { verity: 'on' });
  const f = new Fixture(overlay, { verify: 'open' });
  const { handle } = f.open('/f');
  writeFileSync(object, '54321');
  t.throws(() => f.open('/f'), { name: 'EIO', message: /EWRONGVERITY: layer .*C: \/o: the digest of the data is/ });
  t.equal(f.read(handle), '54321', 'verify=open: what is open stays open');
  writeFileSync(object, '12345');
  await settled();
  t.equal(f.open('/f').flags, 0, 'a version that was refused is not one whose pages are good');
  t.equal(f.open('/f').flags, Fopen.KEEP_CACHE, 'nor is one that was checked thrown away');
  f.files.close();
});

t.test('an open that cannot even be left for later', { skip: withoutRoot }, async t => {
  const home = scratch(t);
  plant(join(home, 'C'), dir({ o: file('x'.repeat(200_000)) }));
  const metacopy = metacopyOf(join(home, 'C', 'o')).toString('latin1');
  plant(join(home, 'A'), dir({ f: meta({ metacopy, redirect: '/o' }) }));
  const measurer = {
    begin: () => {
      throw new ErrnoError(EMFILE, 'no descriptor is left');
    },
  } as unknown as Measurer<OpenReply | number>;
  const f = new Fixture(openStack(t, `${home}/A::${home}/C`, { verity: 'on' }), { grants: true, measurer });
  nodeAt(f.overlay, '/f');
  const open = descriptors();
  const attempt = (): unknown => f.files.open(f.nodeid('/f'), nodeAt(f.overlay, '/f'), 'request' as Unique);
  for (let i = 0; i < 3; i++) t.throws(attempt, { name: 'EMFILE' });
  t.equal(descriptors(), open, 'keeps no descriptor');
  t.equal(f.backing.inUse.size, 0, 'and no backing id');
});

t.test('verify=read', { skip: withoutRoot }, async t => {
  const home = scratch(t);
  const content = Array.from({ length: 3 }, (_, i) => `${i}`.repeat(4096)).join('');
  plant(join(home, 'C'), dir({ o: file(content) }));
  const object = join(home, 'C', 'o');
  const metacopy = metacopyOf(object).toString('latin1');
  plant(join(home, 'A'), dir({ f: file(content, { metacopy, redirect: '/o' }), plain: file('12345') }));
  const overlay = openStack(t, `${home}/A::${home}/C`, { verity: 'on' });
  const read = (f: Fixture, handle: number, position: number): string => {
    const out = new Uint8Array(10);
    return byteStringOf(out, 0, f.files.get(handle)?.read(out, 0, 10, position));
  };
  for (const [rule, options, checks] of [
    ['without passthrough', {}, true],
    ['with passthrough', { grants: true }, false],
    ['with passthrough, but not of this file', { grants: 'to others' }, true],
    ['neither, and verify=open', { grants: 'to others', verify: 'open' }, false],
    ['with passthrough and verify=read', { grants: true, verify: 'read' }, true],
    ['verify=open', { verify: 'open' }, false],
  ] as const) {
    writeFileSync(object, content);
    const f = new Fixture(overlay, options);
    const { handle, backingId } = f.open('/f');
    t.equal(backingId > 0, 'grants' in options && options.grants === true && !checks, `${rule}: who reads`);
    writeFileSync(object, 'x', { flag: 'r+' });
    t.equal(read(f, handle, 4096), '1'.repeat(10), `${rule}: blocks that did not change`);
    const first = (): string => read(f, handle, 0);
    if (checks)
      t.throws(first, { name: 'EIO', message: /EWRONGVERITY: layer .*C: \/o: block 0/ }, `${rule}: and one that did`);
    else t.equal(first(), `x${'0'.repeat(9)}`, `${rule}: and one that did`);
    f.files.close();
  }
  const f = new Fixture(overlay, { grants: true, verify: 'read' });
  t.ok(f.open('/plain').backingId > 0, 'verify=read: what has no digest is left to the kernel');
  f.files.close();
});
/** An overlay whose kernel has measured every object. */
class Guarded extends Overlay {
  override check(...args: Parameters<Overlay['check']>): Check | undefined {
    const check = super.check(...args);
    if (check) check.known = () => check.learn({ digest: check.digest, byKernel: true });
    return check;
  }
}

t.test('objects with fs-verity of the kernel are left to it', { skip: withoutRoot }, async t => {
  const home = scratch(t);
  plant(join(home, 'C'), dir({ o: file('12345') }));
  const metacopy = metacopyOf(join(home, 'C', 'o')).toString('latin1');
  plant(join(home, 'A'), dir({ f: file('12345', { metacopy, redirect: '/o' }) }));
  const { layers, dataLayers, options } = openStack(t, `${home}/A::${home}/C`, { verity: 'require' });
  for (const verify of ['read', 'open', undefined] as const) {
    const f = new Fixture(new Guarded(layers, dataLayers, options), { grants: true, verify });
    t.equal(f.open('/f').flags, Fopen.PASSTHROUGH, `verify=${verify}: it checks every block that it reads`);
    f.files.close();
  }
  const f = new Fixture(new Guarded(layers, dataLayers, options));
  const { handle } = f.open('/f');
  writeFileSync(join(home, 'C', 'o'), '54321'); // which fs-verity would not allow
  t.equal(f.read(handle), '54321', 'nor are its blocks checked again where reads come to us');
  f.files.close();
});
t.end();
