/** Proves src/overlay/verifier.ts. */

import { mkdirSync, rmSync, truncateSync, utimesSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import type { Data } from '../../src/layers/layer.ts';
import type { StackOptions } from '../../src/overlay/options/rules.ts';
import { Overlay } from '../../src/overlay/overlay.ts';
import { Verifier } from '../../src/overlay/verifier.ts';
import { OverlayXattrs } from '../../src/overlay/xattrs.ts';
import { dir, FakeLayer, file, meta, type Spec } from '../fixtures/fake-layer.ts';
import { metacopyOf } from '../fixtures/images/verity.ts';
import { nodeAt, opened, openStack, plainOptions, plant, scratch } from '../fixtures/layers.ts';
import { descriptors } from '../fixtures/native.ts';
import { withoutRoot } from '../fixtures/skips.ts';

type Verity = StackOptions['verity'];

/** Data that notes how often it is read; its version never changes unless told to. */
class Counted implements Data {
  readonly fd = -1;
  readonly place: string;
  version: string;
  reads = 0;
  private readonly bytes = Buffer.from('hello');

  constructor(version: string, place = 'layer B: nid 36') {
    this.version = version;
    this.place = place;
  }

  get sizeBytes(): number {
    return this.bytes.length;
  }

  read(out: Uint8Array, at: number, length: number, position: number): number {
    this.reads++;
    return this.bytes.copy(out, at, position, position + length);
  }

  seek(): number {
    return 0;
  }

  close(): void {}
}

t.test('digests', { skip: withoutRoot }, async t => {
  const home = scratch(t);
  const objects = join(home, 'C');
  mkdirSync(objects);
  const object = join(objects, 'o');
  writeFileSync(object, 'x'.repeat(600_000)); // two levels of hashes
  writeFileSync(join(objects, 'empty'), '');
  writeFileSync(join(objects, 'other'), 'y');
  const sha256 = metacopyOf(object, 'sha256');
  const metacopy = (value: Buffer | string, redirect = '/o'): Spec =>
    meta({ metacopy: value.toString('latin1'), redirect });
  const changed = (at: number, byte: number): Buffer => {
    const copy = Buffer.from(sha256);
    copy[at] = byte;
    return copy;
  };
  plant(
    join(home, 'A'),
    dir({
      sha256: metacopy(sha256),
      sha512: metacopy(metacopyOf(object, 'sha512')),
      empty: metacopy(metacopyOf(join(objects, 'empty'), 'sha256'), '/empty'),
      other: metacopy(sha256, '/other'),
      missing: metacopy(sha256, '/none'),
      wrong: metacopy(changed(35, (sha256[35] as number) ^ 1)),
      none: metacopy(''),
      header: metacopy('\0\x04\0\x01'),
      algorithm0: metacopy(changed(3, 0)),
      algorithm9: metacopy(changed(3, 9)),
      version1: metacopy(changed(0, 1)),
      short: metacopy(sha256.subarray(0, 20)),
      long: metacopy(Buffer.concat([Buffer.from([0, 100, 0, 2]), Buffer.alloc(96)])),
      plain: file('plain'),
      chain: metacopy(sha256, 'below'),
      chained: metacopy('', 'below'),
      normal: metacopy(sha256, 'regular'),
      wrongNormal: metacopy(changed(4, 0), 'regular'),
    }),
  );
  const below = metacopy(changed(4, (sha256[4] as number) ^ 1)); // of a chain, only the top one's counts
  plant(join(home, 'B'), dir({ below, regular: file('x'.repeat(600_000)) }));

  const overlays = new Map<Verity, Overlay>();
  for (const verity of ['off', 'on', 'require'] as const) {
    overlays.set(verity, openStack(t, `${home}/A:${home}/B::${objects}`, { verity }));
  }
  for (const overlay of overlays.values()) opened(overlay, '/chain'); // layers hold the object of their last lookup
  const open = descriptors();
  for (const [rule, name, off, on, require] of [
    ['V2: the right digest', 'sha256', 'ok', 'ok', 'ok'],
    ['V2: SHA-512', 'sha512', 'ok', 'ok', 'ok'],
    ['V2: no data at all', 'empty', 'ok', 'ok', 'ok'],
    ['V2: the object of another digest', 'other', 'ok', 'EIO', 'EIO'],
    ['V2: a digest of which one bit is wrong', 'wrong', 'ok', 'EIO', 'EIO'],
    ['V2: missing data stays ENOENT', 'missing', 'ENOENT', 'ENOENT', 'ENOENT'],
    ['V2: only metacopy files', 'plain', 'ok', 'ok', 'ok'],
    ['V2: of a chain, the top one', 'chain', 'ok', 'ok', 'ok'],
    ['V2: whatever the lower one has', 'chained', 'ok', 'ok', 'EIO'],
    ['V2: data in a normal layer', 'normal', 'ok', 'ok', 'ok'],
    ['V2: wrong data in a normal layer', 'wrongNormal', 'ok', 'EIO', 'EIO'],
    ['V3: without a digest', 'none', 'ok', 'ok', 'EIO'],
    ['V1: a header alone', 'header', 'ok', 'ok', 'EIO'],
    ['V3: algorithm 0', 'algorithm0', 'ok', 'ok', 'EIO'],
    ['V3: an unknown algorithm', 'algorithm9', 'ok', 'EIO', 'EIO'],
    ['V3: another version', 'version1', 'ok', 'EIO', 'EIO'],
    ['V3: a length that is not that of the value', 'short', 'ok', 'EIO', 'EIO'],
    ['V3: longer than a digest can be', 'long', 'ok', 'ERANGE', 'ERANGE'],
  ] as const) {
    for (const [verity, want] of [
      ['off', off],
      ['on', on],
      ['require', require],
    ] as const) {
      const got = opened(overlays.get(verity) as Overlay, `/${name}`);
      t.equal(got.startsWith('E') ? got : 'ok', want, `${rule}: verity=${verity}`);
    }
  }
  t.equal(descriptors(), open, 'refused data is closed again');

  const strict = openStack(t, `${home}/A:${home}/B::${objects}`, { redirects: 'strict' });
  t.equal(opened(strict, '/none'), 'EIO', 'redirects=strict: every file carries a digest');
  t.equal(opened(strict, '/sha256').length, 600_000, 'redirects=strict: and the right one opens');
});

t.test('P-O5: a malformed value is EIO for data that was found by its origin', async t => {
  const long = Buffer.concat([Buffer.from([0, 100, 0, 2]), Buffer.alloc(96)]).toString('latin1');
  const layer = new FakeLayer('A', dir({ f: meta({ metacopy: long, redirect: '/p' }) }));
  const xattrs = new OverlayXattrs(false);
  const overlay = new Overlay([layer], [new FakeLayer('B', dir())], plainOptions);
  const verifier = new Verifier(xattrs, { redirects: 'kernel', verity: 'on' });
  const check = (byOrigin: boolean) => () => verifier.check(nodeAt(overlay, '/f'), new Counted('1'), byOrigin);
  t.throws(check(false), { name: 'ERANGE' }, 'too long, found by path');
  t.throws(check(true), { name: 'EIO' }, 'found by its origin');
});

t.test('an object that changes is measured again', { skip: withoutRoot }, async t => {
  const home = scratch(t);
  const objects = join(home, 'C');
  mkdirSync(objects);
  const object = join(objects, 'o');
  writeFileSync(object, 'right');
  const metacopy = metacopyOf(object, 'sha256').toString('latin1');
  plant(join(home, 'A'), dir({ f: meta({ metacopy, redirect: '/o' }) }));
  const overlay = openStack(t, `${home}/A::${objects}`, { verity: 'on' });
  const original = new Date(1_600_000_000_000);

  utimesSync(object, original, original);
  t.equal(opened(overlay, '/f'), 'right');
  writeFileSync(object, 'wrong');
  utimesSync(object, original, original);
  t.equal(opened(overlay, '/f'), 'EIO', 'of the same size and mtime: ctime tells');
  writeFileSync(object, 'right');
  t.equal(opened(overlay, '/f'), 'right', 'and back');
  truncateSync(object, 4);
  t.equal(opened(overlay, '/f'), 'EIO', 'another size');
  rmSync(object);
  t.equal(opened(overlay, '/f'), 'ENOENT', 'removed');
  writeFileSync(object, 'other');
  t.equal(opened(overlay, '/f'), 'EIO', 'replaced');

  writeFileSync(object, 'right');
  const data = overlay.open(nodeAt(overlay, '/f'));
  if (typeof data === 'number') return t.fail(`open: ${data}`);
  t.doesNotThrow(() => check(overlay, data), 'data that stays open passes again');
  writeFileSync(object, 'wrong');
  t.throws(() => check(overlay, data), { name: 'EIO', message: /EWRONGVERITY/ }, 'until it changes');
  data.close();
});

t.test('data in an image that would take hours is not measured', async t => {
  const layer = new FakeLayer(
    'A',
    dir({ f: meta({ metacopy: Buffer.from(`\0\x24\0\x01${'d'.repeat(32)}`).toString('latin1') }) }),
  );
  const node = { ...nodeAt(new Overlay([layer, new FakeLayer('B', dir({ f: file('x') }))], [], plainOptions), '/f') };
  const verifier = new Verifier(new OverlayXattrs(false), { verity: 'on', redirects: 'kernel' });
  const data = (sizeBytes: number): Data => Object.defineProperty(new Counted(''), 'sizeBytes', { value: sizeBytes });
  t.ok(verifier.check(node, data(2 ** 30), false), '1 GiB is');
  t.throws(() => verifier.check(node, data(2 ** 30 + 1), false), {
    name: 'EFBIG',
    message: /layer B: nid 36: 1073741825 /,
  });
});

/** Checks open data of /f again. */
function check(overlay: Overlay, data: Data): void {
  const check = overlay.check(nodeAt(overlay, '/f'), data);
  if (!check?.known(false)) check?.measure(false);
}

t.test('a digest is remembered', { skip: withoutRoot }, async (t: Test) => {
  const home = scratch(t);
  writeFileSync(join(home, 'hello'), 'hello');
  const [sha256, sha512] = (['sha256', 'sha512'] as const).map(algorithm =>
    metacopyOf(join(home, 'hello'), algorithm).toString('latin1'),
  ) as [string, string];
  const top = new FakeLayer(
    'A',
    dir({
      f: meta({ metacopy: sha256, redirect: '/p' }),
      g: meta({ metacopy: sha256, redirect: '/p' }),
      h: meta({ metacopy: sha512, redirect: '/p' }),
    }),
  );
  const overlay = new Overlay([top], [new FakeLayer('B', dir())], { ...plainOptions, verity: 'on' });
  const verify = (name: string, data: Counted): number => {
    const before = data.reads;
    const check = overlay.check(nodeAt(overlay, `/${name}`), data);
    if (!check?.known(false)) check?.measure(false);
    return data.reads - before;
  };
  const [one, still] = [new Counted('1'), new Counted('')];
  const elsewhere = new Counted('', 'layer B: nid 37');
  for (const [rule, name, data, reads] of [
    ['the first time it is read', 'f', one, true],
    ['then not', 'f', one, false],
    ['nor under another name', 'g', one, false],
    ['another algorithm is another digest', 'h', one, true],
    ['a new version is read again', 'f', new Counted('2'), true],
    ['that of another object is still known', 'f', new Counted('1'), false],
    ['an object', 'f', new Counted('inode 36, dev 8:v1'), true],
    ['that has changed is read again', 'f', new Counted('inode 36, dev 8:v2'), true],
    ['and known by its new version', 'f', new Counted('inode 36, dev 8:v2'), false],
    ['alone', 'f', new Counted('inode 36, dev 8:v1'), true],
    ['data that cannot change is read', 'f', still, true],
    ['once', 'f', still, false],
    ['and that of another place, too', 'f', elsewhere, true],
  ] as const) {
    t.equal(verify(name, data) > 0, reads, rule);
  }

  /** As if somebody wrote between two reads. */
  class Restless extends Counted {
    override read(...args: Parameters<Counted['read']>): number {
      this.version += '+';
      return super.read(...args);
    }
  }
  verify('f', new Restless('3'));
  t.ok(verify('f', new Counted('3')) > 0, 'what changes while it is read is not remembered');
});

t.end();
