import { rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { Overlay } from '../../src/overlay/overlay.ts';
import { EACCES, ELOOP, ENAMETOOLONG, ENOENT, ENOTDIR, EXDEV, errnoName } from '../../src/sys/errno.ts';
import { contents } from '../fixtures/dir-layer.ts';
import { dir, FakeLayer, file, link, meta, type Spec } from '../fixtures/fake-layer.ts';
import { nodeAt, opened, openStack, plainOptions, plant, scratch } from '../fixtures/layers.ts';
import { descriptors } from '../fixtures/native.ts';
import { withoutRoot } from '../fixtures/skips.ts';

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
  t.equal(opened(overlay, '/0'), 'ENOENT'); // layers hold the object of their last lookup
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
t.end();
