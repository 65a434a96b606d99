import t from 'tap';
import { Overlay } from '../../src/overlay/overlay.ts';
import { listMerged, listReal } from '../../src/overlay/readdir.ts';
import { OverlayXattrs } from '../../src/overlay/xattrs.ts';
import { DT_CHR, DT_DIR, DT_REG, DT_UNKNOWN } from '../../src/sys/stat.ts';
import { dir, FakeLayer, fifo, file, link, meta, type Spec, whiteout } from '../fixtures/fake-layer.ts';
import { plainOptions } from '../fixtures/layers.ts';

const xattrs = new OverlayXattrs(false);
const xwhiteout = file('', { whiteout: '' });
const DT_LNK = 10;

/** A layer whose listing does not tell types, as those of some filesystems. */
class Untyped extends FakeLayer {
  override readdir(directory: FakeLayer['root'], visit: (name: string, dtype: number) => void): boolean {
    return super.readdir(directory, name => visit(name, DT_UNKNOWN));
  }
}

const names = (entries: { name: string }[]): string => entries.map(entry => entry.name).join(' ');
const merged = (specs: readonly Spec[], marked = ''): string => {
  const roots = specs.map((spec, i) => new FakeLayer('ABC'[i] as string, spec).root);
  return names(listMerged(xattrs, roots, directory => marked.includes(directory.layer.path)));
};

for (const [rule, specs, want] of [
  ['D1: each name once', [dir({ a: file(), b: file() }), dir({ b: dir(), c: file() })], 'b c a'],
  ['D1: whiteouts are left out, with what they hide', [dir({ a: whiteout }), dir({ a: file(), b: file() })], 'b'],
  ['D1: also one in the middle', [dir(), dir({ a: whiteout }), dir({ a: file() })], ''],
  ['D1: also in the lowest layer', [dir({ b: file() }), dir({ a: whiteout })], 'b'],
  ['D1: what is above a whiteout stays', [dir({ a: file() }), dir({ a: whiteout })], 'a'],
  ['D3: broken objects are listed', [dir({ a: meta({ redirect: '/' }) }), dir()], 'a'],
  [
    'D4: the lowest layer first, then from the top',
    [dir({ d: file(), b: file() }), dir({ c: file() }), dir({ b: file(), a: file() })],
    'b a d c',
  ],
  ['D4: in the order of each layer', [dir({ z: file(), y: file() }), dir({ x: file(), w: file() })], 'x w z y'],
  ['W5: without the mark an xattr whiteout is listed', [dir({ a: xwhiteout }), dir()], 'a'],
] as const) {
  t.equal(merged(specs), want, rule);
}

const mixed = [
  dir({ a: xwhiteout, b: file('data', { whiteout: '' }), c: file(''), d: fifo({ whiteout: '' }) }),
  dir({ a: file() }),
];
t.equal(merged(mixed, 'A'), 'b c d', 'W5: with it, it hides; what is not empty, not marked or not regular stays');
t.equal(
  merged([dir({ a: file() }), dir({ a: xwhiteout, b: xwhiteout })], 'A'),
  'a b',
  'W5: the mark is that of a layer',
);

const typed = new FakeLayer('A', dir({ a: link('x'), b: dir() })).root;
const below = new FakeLayer('B', dir({ a: dir(), c: file() })).root;
t.same(
  listMerged(xattrs, [typed, below], () => false),
  [
    { name: 'a', dtype: DT_LNK },
    { name: 'c', dtype: DT_REG },
    { name: 'b', dtype: DT_DIR },
  ],
  'D3: the type is that of the top entry',
);

const untyped = new Untyped('A', dir({ a: whiteout, b: file(), c: xwhiteout })).root;
t.equal(
  names(listMerged(xattrs, [untyped, below], () => false)),
  'c b',
  'D1: a listing without types hides whiteouts, too',
);
t.same(
  listReal(new FakeLayer('A', dir({ a: whiteout, b: file() })).root),
  [
    { name: 'a', dtype: DT_CHR },
    { name: 'b', dtype: DT_REG },
  ],
  'D2: the real directory as it is',
);

t.test('which directories are merged', async t => {
  const list = (specs: readonly Spec[], ...path: string[]): string => {
    const layers = specs.map((spec, i) => new FakeLayer('ABC'[i] as string, spec));
    const overlay = new Overlay(layers, [], plainOptions);
    let at = overlay.root;
    for (const name of path) {
      const found = overlay.lookup(at, name);
      if (typeof found === 'number') throw new Error(`${name}: ${found}`);
      at = found;
    }
    return names(overlay.list(at));
  };
  const holds = { w: whiteout, x: xwhiteout };
  const x = { opaque: 'x' };
  for (const [rule, specs, path, want] of [
    ['D1: the root, even of one layer', [dir(holds)], [], 'x'],
    ['D1: a directory of two layers', [dir({ d: dir(holds) }), dir({ d: dir() })], ['d'], 'x'],
    ['D2: not a directory of one layer', [dir({ d: dir(holds) }), dir()], ['d'], 'w x'],
    ['D2: not an opaque one', [dir({ d: dir(holds, { opaque: 'y' }) }), dir({ d: dir() })], ['d'], 'w x'],
    ['D1: one with an origin', [dir({ d: dir(holds, { origin: '' }) }), dir()], ['d'], 'x'],
    ['W5: a directory with opaque=x', [dir({ d: dir(holds, x) }), dir({ d: dir() })], ['d'], ''],
    ['W5: the root, too', [dir(holds, x), dir()], [], ''],
    ['W6: not the root of the lowest layer', [dir(), dir(holds, x)], [], 'x'],
    ['W6: not a directory of the lowest layer', [dir({ d: dir() }), dir({ d: dir(holds, x) })], ['d'], 'x'],
    [
      'W5: the mark of one layer is not that of another',
      [dir({ d: dir({}, x) }), dir({ d: dir(holds) }), dir()],
      ['d'],
      'x',
    ],
    [
      'W5: a layer that showed one mark needs no other',
      [dir({ d: dir({}, x) }), dir({ d: dir(holds) }, x), dir()],
      ['d'],
      '',
    ],
  ] as const) {
    t.equal(list(specs, ...path), want, rule);
  }
});
t.end();
