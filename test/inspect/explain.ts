/** Proves src/inspect/explain.ts and trace.ts: the rule that the corpus shows in a case is the one that is told. */
import t from 'tap';
import { Explainer, type Explanation } from '../../src/inspect/explain.ts';
import { hazards } from '../../src/inspect/hazards.ts';
import { Overlay } from '../../src/overlay/overlay.ts';
import { step } from '../../src/overlay/step.ts';
import { RULES, type RuleName } from '../../src/overlay/trace.ts';
import { type Case, materialised, stackOf } from '../fixtures/corpus-stacks.ts';
import { dir, FakeLayer, file, link, meta } from '../fixtures/fake-layer.ts';
import { plainOptions } from '../fixtures/layers.ts';
import { withoutRoot } from '../fixtures/skips.ts';

const rulesOf = ({ lookups, data }: Explanation): RuleName[] =>
  [...lookups.flatMap(({ events }) => events), ...(data?.events ?? [])].flatMap(event =>
    'rule' in event ? [event.rule] : [],
  );

/** docs/semantics.md names for each rule the case that shows it. */
const shown: readonly (readonly [rule: RuleName, name: string, path: string])[] = [
  ['L3', 'data-only.json:long-names', '/f'],
  ['L4', 'merge.json:non-dir-in-the-middle-ends-the-merge', '/dir-chr-dir'],
  ['L4', 'merge.json:symlink-is-not-followed-for-merging', '/d/b'],
  ['L4', 'metacopy.json:redirect-to-every-type', '/to-blk'],
  ['L5', 'metacopy.json:metacopy-off', '/f'],
  ['L5', 'userxattr.json:dir-redirect', '/d'],
  ['L6', 'redirect-dir.json:in-the-lowest-layer', '/d'],
  ['L7', 'data-only.json:composefs', '/bin/tool'],
  ['L8', 'data-only.json:hazard-directory-at-the-path', '/foo'],
  ['W1', 'whiteout.json:hides-every-type', '/dir'],
  ['W3', 'whiteout.json:xattr-whiteout', '/d/gone'],
  ['W5', 'whiteout.json:xattr-whiteout', '/d'],
  ['O2', 'opaque.json:middle', '/d'],
  ['R2', 'redirect-dir.json:relative', ''],
  ['R2', 'redirect-dir.json:absolute', ''],
  ['R3', 'redirect-dir.json:invalid-values', '/slash'],
  ['R4', 'redirect-dir.json:dots', '/abs-dot'],
  ['R6', 'opaque.json:redirect-below-an-opaque-parent', ''],
  ['R7', 'data-only.json:hazard-plain-directory-on-the-way', '/foo'],
  ['R7', 'data-only.json:hazard-same-path-in-a-normal-layer', '/foo'],
  ['M1', 'metacopy.json:same-name', '/f'],
  ['M2', 'metacopy.json:xattr-forms', '/one-byte'],
  ['A1', 'metacopy.json:same-name', '/f'],
  ['A2', 'data-only.json:target-types-next-layer', ''],
  ['A4', 'data-only.json:data-appears-and-disappears', '/f'],
  ['P-D1', 'redirect-dir.json:invalid-values', '/double'],
  ['P-D2', 'proposed-data-redirect.json:normal-layers-are-never-asked', '/file'],
  ['P-D5', 'proposed-data-redirect.json:not-on-a-metacopy-file', '/d'],
  ['P-O1', 'proposed-origin.json:path-missing-in-data-only-layers', '/nodigest'],
  ['P-O2', 'proposed-origin.json:empty-redirect', '/f'],
  ['P-O3', 'proposed-origin.json:path-missing-in-normal-layers', '/abs'],
  ['P-O4', 'proposed-origin.json:data-redirect-missing', '/f'],
  ['P-O5', 'proposed-origin.json:empty-redirect', '/f'],
];

t.test('the rules of the corpus', { skip: withoutRoot }, async t => {
  const home = process.cwd();
  t.teardown(() => process.chdir(home));
  const cases = new Map(materialised(t).map(one => [one.name, one]));
  for (const [rule, name, path] of shown) {
    const one = cases.get(name) as Case;
    process.chdir(one.base);
    const overlay = stackOf(one.case.stack, one.case.proposed ? 'lowerdata' : 'kernel');
    const explainer = new Explainer(overlay);
    const paths = path === '' ? one.probes.map(probe => `/${probe}`) : [path];
    const told = paths.flatMap(each => rulesOf(explainer.explain(each)));
    t.ok(told.includes(rule), `${rule} in ${name}${path && ` at ${path}`}`);
    overlay.close();
  }
  const missing = Object.keys(RULES).filter(rule => !shown.some(([one]) => one === rule));
  t.strictSame(
    missing,
    ['U1'],
    'every rule is shown by a case, but for that of upper layers: test/overlay/hard-links.ts',
  );

  let differing = 0;
  for (const { base, case: one, name } of cases.values()) {
    if (one.expect.mount_errno || one.proposed || !one.expect.tree) continue;
    process.chdir(base);
    const overlay = stackOf(one.stack, 'kernel');
    const explainer = new Explainer(overlay);
    for (const path of Object.keys(one.expect.tree).slice(0, 200)) {
      const { kernel } = explainer.explain(`/${path}`);
      if (!kernel.same) differing++;
      if (!kernel.same) t.comment(`${name} ${path}: ${kernel.outcome}`);
    }
    overlay.close();
  }
  t.equal(differing, 0, 'with semantics=kernel nothing differs from the kernel');
});

const overlayOf = (top: Parameters<typeof dir>[0], data: Parameters<typeof dir>[0]): Overlay =>
  new Overlay(
    [new FakeLayer('A', dir(top)), new FakeLayer('B', dir({ '1e': dir() }))],
    [new FakeLayer('C', dir(data))],
    plainOptions,
  );

t.test('a rule that is tried is told beside that of the kernel', async t => {
  const overlay = overlayOf({ absolute: meta({ redirect: '/1e/de' }) }, { '1e': dir({ de: file('data') }) });
  const skipping = overlay.withRules({}, (rules, ...others) => step({ ...rules, dataOnly: true }, ...others));
  t.match(new Explainer(skipping).explain('/absolute'), {
    lookups: [{ outcome: /data at .1e.de in data-only layers/ }],
    kernel: { same: false, outcome: 'EIO', rule: /^L8/ },
  });
  t.strictSame(
    [...hazards(skipping)].map(({ code }) => code).sort(),
    ['hidden', 'size'],
    'check, too, asks the kernel',
  );
});

t.test('the words', async t => {
  const overlay = overlayOf(
    {
      absolute: meta({ redirect: '/1e/de' }),
      data: meta({ redirect: '//1e/de' }),
      gone: meta({ redirect: '//none' }),
      plain: file('12345'),
      link: link('sub'),
      sub: dir({ x: file('x') }),
    },
    { '1e': dir({ de: file('data') }) },
  );
  const long = 'n'.repeat(256);
  for (const [rule, path, want] of [
    ['L3', `/${long}`, { lookups: [{ outcome: 'ENAMETOOLONG', events: [{ rule: 'L3' }] }] }],
    ['a name that is nowhere', '/none', { lookups: [{ name: 'none', outcome: 'ENOENT' }], kernel: { same: true } }],
    [
      'the hazard of the thread',
      '/absolute',
      {
        lookups: [
          {
            name: 'absolute',
            events: [
              { layer: 'A', asked: 'absolute' },
              { component: 'absolute', found: 'regular file' },
              { rule: 'M1' },
              { rule: 'R2', text: /\/1e\/de/ },
              { layer: 'B', asked: '/1e/de' },
              { component: '1e', found: 'directory' },
              { rule: 'R7' },
              { component: 'de', found: 'nothing' },
              { rule: 'L8' },
            ],
            outcome: 'EIO',
          },
        ],
        kernel: { same: true },
      },
    ],
    [
      'what // does, and the kernel',
      '/data',
      {
        lookups: [{ outcome: 'regular file of A, data at /1e/de in data-only layers' }],
        data: {
          events: [{ layer: 'C', asked: '/1e/de' }, { rule: 'A2' }],
          outcome: 'layer C: /1e/de',
          sizeBytes: 4,
          verity: 'none: verity=off',
        },
        kernel: { same: false, outcome: 'EINVAL', rule: /^P-D1/ },
      },
    ],
    ['data that is nowhere', '/gone', { data: { outcome: 'ENOENT' } }],
    ['data of its own', '/plain', { data: { events: [{ rule: 'A1' }], verity: 'none: its data is its own' } }],
    ['a symlink on the way', '/link/x', { lookups: [{ name: 'link' }, { name: 'sub' }, { name: 'x' }] }],
    ['a symlink at the end', '/link', { lookups: [{ outcome: 'symlink of A' }] }],
    ['the root', '/', { lookups: [], kernel: { same: true } }],
  ] as const) {
    t.match(new Explainer(overlay).explain(path), want, rule);
  }
  t.equal(overlay.trace, undefined, 'nobody listens afterwards');
});
t.end();
