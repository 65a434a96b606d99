import { mkdirSync, rmSync, symlinkSync, truncateSync, utimesSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import type { Data } from '../../src/layers/layer.ts';
import type { StackOptions } from '../../src/overlay/options.ts';
import { Overlay } from '../../src/overlay/overlay.ts';
import { nameOf } from '../../src/sys/bytes.ts';
import { EACCES, ELOOP, ENAMETOOLONG, ENOENT, ENOTDIR, ErrnoError, EXDEV, errnoName } from '../../src/sys/errno.ts';
import { dir, FakeLayer, file, link, meta, type Spec } from '../fixtures/fake-layer.ts';
import { noProgram, run } from '../fixtures/kernel-mount.ts';
import { nodeAt, openStack, plainOptions, plant, scratch } from '../fixtures/layers.ts';
import { descriptors } from '../fixtures/native.ts';
import { withoutRoot } from '../fixtures/skips.ts';

type Verity = StackOptions['verity'];

/** All bytes of data, or the name of the errno. */
function contents(data: Data | number): string {
  if (typeof data === 'number') return errnoName(data);
  const bytes = new Uint8Array(data.sizeBytes);
  data.read(bytes, 0, bytes.length, 0);
  data.close();
  return nameOf(bytes);
}

/** What opening a path gives: the bytes or the name of the errno. */
function opened(overlay: Overlay, path: string): string {
  try {
    return contents(overlay.open(nodeAt(overlay, path)));
  } catch (error) {
    if (error instanceof ErrnoError) return errnoName(error.errno);
    throw error;
  }
}

t.test('where data-only layers are asked', async t => {
  const absolute = (redirect: string): Spec => dir({ f: meta({ redirect }) });
  const ask = (redirect: string, ...data: Spec[]): [string, string] => {
    const layers = data.map((spec, i) => new FakeLayer('CDE'[i] as string, spec));
    const overlay = new Overlay(
      [new FakeLayer('A', absolute(redirect)), new FakeLayer('B', dir())],
      layers,
      plainOptions,
    );
    const node = nodeAt(overlay, '/f');
    for (const { asked } of layers) if (asked.length > 0) t.fail('asked before open');
    const got = contents(overlay.open(node));
    return [
      got,
      layers
        .filter(layer => layer.asked.length > 0)
        .map(({ path, asked }) => `${path}:${asked}`)
        .join(' '),
    ];
  };
  for (const [rule, redirect, layers, want] of [
    ['A2: the first that has it wins', '/p', [dir({ p: file('C') }), dir({ p: file('D') })], ['C', 'C:path /p']],
    ['A2: then the next', '/p', [dir(), dir({ p: file('D') })], ['D', 'C:path /p D:path /p']],
    ['A2: a directory is not it', '/p', [dir({ p: dir() }), dir({ p: file('D') })], ['D', 'C:path /p D:path /p']],
    [
      'A2: nor a symlink',
      '/p',
      [dir({ p: link('q'), q: file() }), dir({ p: file('D') })],
      ['D', 'C:path /p D:path /p'],
    ],
    ['A3: a metacopy file gives its own bytes', '/p', [dir({ p: meta({ redirect: '/' }) })], ['', 'C:path /p']],
    ['P-D2: // asks for the same path', '//p', [dir({ p: file('C') })], ['C', 'C:path /p']],
    ['A4: none has it', '/p', [dir(), dir()], ['ENOENT', 'C:path /p D:path /p']],
  ] as const) {
    t.strictSame(ask(redirect, ...layers), want, rule);
  }
});

t.test('what the last data-only layer says', { skip: withoutRoot }, async t => {
  const home = scratch(t);
  const [top, lower, first, last] = ['A', 'B', 'C', 'D'].map(name => join(home, name)) as [
    string,
    string,
    string,
    string,
  ];
  const long = `/${'n'.repeat(256)}`;
  const redirects = ['/x', '/f/x', '/l/x', '/..', '/../x', '/d/../x', '/d', '/l', long, '//x', '//f/x', '//..'];
  const metas = redirects.map((redirect, i) => [`${i}`, meta({ redirect })]);
  plant(top, dir(Object.fromEntries(metas)));
  plant(lower, dir());
  plant(first, dir({ f: file(), d: dir() }));
  plant(last, dir({ f: file(), d: dir(), l: link('d') }));
  const overlay = openStack(t, `${top}:${lower}::${first}::${last}`);
  const expected = new Map([
    ['/f/x', ENOTDIR],
    ['//f/x', ENOTDIR],
    ['/l/x', ELOOP],
    ['//..', EXDEV],
    [long, ENAMETOOLONG],
  ]);
  const open = descriptors();
  for (const [i, redirect] of redirects.entries()) {
    // a normal layer below refuses dots first (R4), if the walk gets that far
    const refused = overlay.lookup(overlay.root, `${i}`);
    if (redirect.startsWith('/..')) t.equal(refused, -EACCES, `R4: ${redirect}`);
    else if (redirect === '/d/../x') t.equal(opened(overlay, `/${i}`), 'ENOENT', 'A3: two dots work inside');
    else t.equal(opened(overlay, `/${i}`), errnoName(expected.get(redirect) ?? ENOENT), `A4: ${redirect.slice(0, 20)}`);
  }
  writeFileSync(join(first, 'x'), 'now');
  t.equal(opened(overlay, '/0'), 'now', 'A4: a failure is not remembered: the next open tries again');
  t.equal(opened(overlay, '/5'), 'now', 'A3: dots inside a layer that has it');
  rmSync(join(first, 'x'));
  symlinkSync('f', join(last, 'x'));
  t.equal(opened(overlay, '/0'), 'ENOENT', 'A4: a final symlink is ENOENT, not ELOOP');
  t.equal(descriptors(), open, 'no data is left open');
});

/** fs-verity's own program measures: the digest of a file as its metacopy value. */
function metacopyOf(path: string, algorithm: 'sha256' | 'sha512'): Buffer {
  const digest = Buffer.from(run('fsverity', 'digest', '--compact', `--hash-alg=${algorithm}`, path).trim(), 'hex');
  return Buffer.concat([Buffer.from([0, 4 + digest.length, 0, algorithm === 'sha256' ? 1 : 2]), digest]);
}

const noFsverity = withoutRoot || noProgram('fsverity') || false;

t.test('digests', { skip: noFsverity }, async t => {
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

t.test('an object that changes is measured again', { skip: noFsverity }, async t => {
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
  t.doesNotThrow(() => overlay.verify(nodeAt(overlay, '/f'), data), 'data that stays open passes again');
  writeFileSync(object, 'wrong');
  t.throws(
    () => overlay.verify(nodeAt(overlay, '/f'), data),
    { name: 'EIO', message: /EWRONGVERITY/ },
    'until it changes',
  );
  data.close();
});

/** Data that notes how often it is read; its version never changes unless told to. */
class Counted implements Data {
  readonly fd = -1;
  version: string;
  reads = 0;
  private readonly bytes = Buffer.from('hello');

  constructor(version: string) {
    this.version = version;
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

t.test('a digest is remembered', { skip: noFsverity }, async (t: Test) => {
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
    overlay.verify(nodeAt(overlay, `/${name}`), data);
    return data.reads - before;
  };
  const [one, still] = [new Counted('1'), new Counted('')];
  for (const [rule, name, data, reads] of [
    ['the first time it is read', 'f', one, true],
    ['then not', 'f', one, false],
    ['nor under another name', 'g', one, false],
    ['another algorithm is another digest', 'h', one, true],
    ['a new version is read again', 'f', new Counted('2'), true],
    ['the old one is still known', 'f', new Counted('1'), false],
    ['data without a version is read', 'f', still, true],
    ['each time', 'f', still, true],
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
