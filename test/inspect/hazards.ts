/** Proves src/inspect/hazards.ts: each hazard that the corpus plants is found where it is, and nothing in clean stacks. */
import t from 'tap';
import { hazards } from '../../src/inspect/hazards.ts';
import { Overlay } from '../../src/overlay/overlay.ts';
import { ErrnoError, EUCLEAN } from '../../src/sys/errno.ts';
import { type Case, materialised, stackOf } from '../fixtures/corpus-stacks.ts';
import { dir, FakeLayer, file, meta, type Spec } from '../fixtures/fake-layer.ts';
import { plainOptions } from '../fixtures/layers.ts';
import { withoutRoot } from '../fixtures/skips.ts';

const found = (overlay: Overlay): string[] =>
  [...hazards(overlay)].map(({ path, code, layer }) => `${path} ${code}${layer ? ` by ${layer}` : ''}`).sort();

/** What docs/semantics.md says of each case, R7 for the first ones. */
const planted: readonly (readonly [name: string, want: readonly string[]])[] = [
  ['data-only.json:hazard-same-path-in-a-normal-layer', ['/foo captured by B', '/foo size']],
  ['data-only.json:hazard-plain-directory-on-the-way', ['/bar hidden by B', '/deep hidden by B', '/foo hidden by B']],
  ['data-only.json:hazard-directory-at-the-path', ['/foo hidden by B']],
  [
    'data-only.json:hazard-other-types-at-the-path',
    ['/chr hidden by B', '/fifo hidden by B', '/sym hidden by B', '/wht hidden by B', '/xwht hidden by B'],
  ],
  ['data-only.json:hazard-redirected-directory', ['/bar hidden by B', '/foo rewritten by B', '/foo size']],
  ['data-only.json:hazard-opaque-directory', ['/bar captured by B', '/bar size', '/opx hidden by B']],
  ['data-only.json:data-appears-and-disappears', ['/f missing']],
  ['data-only.json:composefs-two-images', []],
  ['data-only.json:without-metacopy-on', ['/low-none broken', '/low-rel broken', '/top not-followed']],
  ['metacopy.json:sizes', ['/long size', '/short size', '/zero size']],
  ['metacopy.json:sizes-data-only', ['/long size', '/short size', '/zero size']],
  ['proposed-data-redirect.json:no-data-only-layer', ['/f no-data-layer', '/g no-data-layer', '/low no-data-layer']],
  ['proposed-data-redirect.json:hardlinks-and-nul', ['/a needs-lowerdata', '/nul needs-lowerdata']],
  ['proposed-origin.json:other-uuid', ['/abs missing', '/empty foreign-origin', '/empty needs-lowerdata']],
  ['proposed-origin.json:stale-handle', ['/abs missing', '/empty needs-lowerdata', '/empty stale-origin']],
  ['proposed-origin.json:empty-redirect', ['/d/g needs-lowerdata', '/f needs-lowerdata']],
  ['proposed-origin.json:hazard-plain-directory', ['/foo hidden by B']],
];

/** Files of these recorded cases whose mounts show no error at all: nothing may be found in them. */
const isClean = ({ case: { expect, proposed } }: Case): boolean =>
  !proposed &&
  expect.tree !== undefined &&
  !Object.values(expect.tree).some(record =>
    ['lookup_errno', 'open_errno', 'read_errno', 'readdir_errno', 'read_len'].some(key => key in record),
  );

t.test('the corpus', { skip: withoutRoot }, async t => {
  const home = process.cwd();
  t.teardown(() => process.chdir(home));
  const cases = new Map(materialised(t).map(one => [one.name, one]));
  for (const [name, want] of planted) {
    const { base, case: one } = cases.get(name) as Case;
    process.chdir(base);
    const overlay = stackOf(one.stack, 'lowerdata');
    t.strictSame(found(overlay), want, name);
    overlay.close();
  }

  const others = [...cases.values()].filter(one => isClean(one) && !planted.some(([name]) => name === one.name));
  t.ok(others.length > 80, 'cases without an error');
  for (const { name, base, case: one } of others) {
    process.chdir(base);
    const overlay = stackOf(one.stack, 'lowerdata');
    t.strictSame(found(overlay), [], `nothing in ${name}`);
    overlay.close();
  }
});

t.test('what is no hazard', async t => {
  const stack = (top: Spec, middle: Spec, data?: Spec): Overlay =>
    new Overlay(
      [new FakeLayer('A', top), new FakeLayer('B', middle)],
      data ? [new FakeLayer('C', data)] : [],
      plainOptions,
    );
  const absolute = dir({ f: file('....', { metacopy: '', redirect: '/p' }) });
  for (const [rule, overlay, want] of [
    ['a redirect to a normal layer where there are no others', stack(absolute, dir({ p: file('data') })), []],
    ['nor where the others do not have it', stack(absolute, dir({ p: file('data') }), dir()), []],
    [
      'the same path in both',
      stack(absolute, dir({ p: file('data') }), dir({ p: file('data') })),
      ['/f captured by B'],
    ],
    ['redirects=data-only does not hide that', stack(absolute, dir(), dir({ p: file('data') })), []],
    ['a metacopy file above its data', stack(dir({ f: meta() }), dir({ f: file('') })), []],
  ] as const) {
    t.strictSame(found(overlay), want, rule);
  }
});
t.test('what cannot be read at all is one, too', async t => {
  const layer = new FakeLayer('A', dir({ f: file(), g: meta() }));
  const { lookup } = layer;
  layer.lookup = (directory, name) => {
    if (name === 'f') throw new ErrnoError(EUCLEAN, 'nid 36: no inode');
    return lookup.call(layer, directory, name);
  };
  t.strictSame(found(new Overlay([layer], [], plainOptions)), ['/f broken', '/g broken'], 'beside the others');
});
t.end();
