/** Which layers a lookup asks for what. What it finds is proved by the conformance corpus in cases.ts. */
import t from 'tap';
import type { Node } from '../../src/overlay/node.ts';
import type { StackOptions } from '../../src/overlay/options/rules.ts';
import { Overlay } from '../../src/overlay/overlay.ts';
import { type Judge, MISSING, step } from '../../src/overlay/step.ts';
import { EACCES, EINVAL, EIO, ENAMETOOLONG, ENOENT, EPERM } from '../../src/sys/errno.ts';
import { dir, FakeLayer, file, link, meta, type Spec, whiteout } from '../fixtures/fake-layer.ts';
import { plainOptions } from '../fixtures/layers.ts';

interface Stack {
  overlay: Overlay;
  layers: FakeLayer[];
}

/** Layers A, B, C... of which those after `|` are data-only. */
function stack(specs: readonly (Spec | '|')[], options: Partial<StackOptions> = {}): Stack {
  const bar = specs.indexOf('|');
  const roots = specs.filter(spec => spec !== '|');
  const layers = roots.map((root, i) => new FakeLayer('ABCDEFG'[i] as string, root));
  const normal = bar < 0 ? layers.length : bar;
  return {
    overlay: new Overlay(layers.slice(0, normal), layers.slice(normal), { ...plainOptions, ...options }),
    layers,
  };
}

/** Walks a path; the last result. */
function walk(overlay: Overlay, path: string): Node | number {
  let at: Node | number = overlay.root;
  for (const name of path.split('/').slice(1)) {
    if (typeof at === 'number') return at;
    at = overlay.lookup(at, name);
  }
  return at;
}

/** What each layer was asked, as `A:lookup /x B:-`, in the order of the layers. */
const trace = (layers: readonly FakeLayer[]): string =>
  layers
    .map(layer => `${layer.path}:${layer.asked.map(words => words.replace('lookup ', '')).join(' ') || '-'}`)
    .join('  ');

const a = (entry: Spec): Spec => dir({ a: entry });
const objects = dir({ '1e': dir({ de: file('object') }) });

interface Row {
  rule: string;
  layers: readonly (Spec | '|')[];
  path?: string;
  options?: Partial<StackOptions>;
  want: string;
  errno?: number;
}

const rows: Row[] = [
  { rule: 'L4: a file ends the search', layers: [a(file()), a(file())], want: 'A:/a  B:-' },
  { rule: 'W2: so does a whiteout', layers: [a(whiteout), a(file())], want: 'A:/a  B:-', errno: -ENOENT },
  { rule: 'O1: so does an opaque directory', layers: [a(dir({}, { opaque: 'y' })), a(dir())], want: 'A:/a  B:-' },
  { rule: 'L4: a gap does not', layers: [dir(), a(file()), a(file())], want: 'A:/a  B:/a  C:-' },
  { rule: 'L4: directories merge down to a file', layers: [a(dir()), a(link('x')), a(dir())], want: 'A:/a  B:/a  C:-' },
  {
    rule: 'L4: a miss asks every normal layer',
    layers: [dir(), dir(), '|', a(file())],
    want: 'A:/a  B:/a  C:-',
    errno: -ENOENT,
  },
  {
    rule: 'L3: a long name asks none',
    layers: [dir(), dir()],
    path: `/${'n'.repeat(256)}`,
    want: 'A:-  B:-',
    errno: -ENAMETOOLONG,
  },
  {
    rule: 'O3: below an opaque directory no lower layer comes back',
    layers: [a(dir({ f: file() }, { opaque: 'y' })), a(dir({ g: file() }))],
    path: '/a/g',
    want: 'A:/a /a/g  B:-',
    errno: -ENOENT,
  },
  {
    rule: 'O3: but the absolute redirect of a child starts at the roots again',
    layers: [a(dir({ d: dir({}, { redirect: '/e' }) }, { opaque: 'y' })), dir({ e: dir() })],
    path: '/a/d',
    want: 'A:/a /a/d  B:/e',
  },
  {
    rule: 'R6: redirects lead downwards only',
    layers: [a(dir({}, { redirect: '/b' })), dir({ b: dir({}, { redirect: '/c' }) }), dir({ c: dir() })],
    want: 'A:/a  B:/b  C:/c',
  },
  {
    rule: 'M1: a metacopy file asks down to its data and no further',
    layers: [a(meta()), a(file()), a(file())],
    want: 'A:/a  B:/a  C:-',
  },
  {
    rule: 'L7: a deferred path asks the normal layers, and no data-only one',
    layers: [a(meta({ redirect: '/1e/de' })), dir(), '|', objects],
    want: 'A:/a  B:/1e  C:-',
  },
  {
    rule: 'R7: a directory on the way in a normal layer is EIO',
    layers: [a(meta({ redirect: '/1e/de' })), dir({ '1e': dir() }), '|', objects],
    want: 'A:/a  B:/1e /1e/de  C:-',
    errno: -EIO,
  },
  {
    rule: 'R4: two dots ask nothing, if the walk gets that far',
    layers: [a(meta({ redirect: '/..' })), dir()],
    want: 'A:/a  B:-',
    errno: -EACCES,
  },
  {
    rule: 'L5: without metacopy=on the layer below is not asked',
    layers: [a(meta()), a(file())],
    options: { metacopy: false },
    want: 'A:/a  B:-',
    errno: -EPERM,
  },
  {
    rule: 'L5: nor without followed redirects, where a redirect is read at all',
    layers: [a(dir({}, { redirect: '/b' })), dir({ b: dir() }), '|', objects],
    options: { redirectDir: 'nofollow' },
    want: 'A:/a  B:-  C:-',
    errno: -EPERM,
  },
  {
    rule: 'P-D2: // asks no layer below',
    layers: [a(meta({ redirect: '//1e/de' })), dir({ '1e': dir({ de: file() }) }), '|', objects],
    want: 'A:/a  B:-  C:-',
  },
  {
    rule: 'P-D2: nor by its own name, in a directory that goes on',
    layers: [a(dir({ f: meta({ redirect: '//1e/de' }) })), a(dir({ f: file() })), '|', objects],
    path: '/a/f',
    want: 'A:/a /a/f  B:/a  C:-',
  },
  {
    rule: 'P-D4: // needs neither metacopy=on nor followed redirects',
    layers: [a(meta({ redirect: '//1e/de' })), dir(), '|', objects],
    options: { metacopy: false, redirectDir: 'nofollow' },
    want: 'A:/a  B:-  C:-',
  },
  {
    rule: 'P-D3: // without a data-only layer is EIO, and asks none',
    layers: [a(meta({ redirect: '//1e/de' })), objects],
    want: 'A:/a  B:-',
    errno: -EIO,
  },
  {
    rule: 'P-D3: and EPERM without metacopy=on',
    layers: [a(meta({ redirect: '//1e/de' })), objects],
    options: { metacopy: false },
    want: 'A:/a  B:-',
    errno: -EPERM,
  },
  {
    rule: 'semantics=kernel: // is EINVAL',
    layers: [a(meta({ redirect: '//1e/de' })), dir(), '|', objects],
    options: { semantics: 'kernel' },
    want: 'A:/a  B:-  C:-',
    errno: -EINVAL,
  },
  {
    rule: 'redirects=data-only: what a normal layer has under the path does not matter',
    layers: [a(meta({ redirect: '/1e/de' })), dir({ '1e': dir({ de: file('wrong') }) }), '|', objects],
    options: { redirects: 'data-only' },
    want: 'A:/a  B:-  C:-',
  },
  {
    rule: 'redirects=strict: the same',
    layers: [a(meta({ redirect: '/1e/de' })), dir({ '1e': dir() }), '|', objects],
    options: { redirects: 'strict' },
    want: 'A:/a  B:-  C:-',
  },
  {
    rule: 'redirects=data-only: relative redirects still lead to the next layer',
    layers: [a(meta({ redirect: 'b' })), dir({ b: file() }), '|', objects],
    options: { redirects: 'data-only' },
    want: 'A:/a  B:/b  C:-',
  },
];

for (const { rule, layers: specs, path = '/a', options, want, errno } of rows) {
  const { overlay, layers } = stack(specs, options);
  const found = walk(overlay, path);
  t.equal(typeof found === 'number' ? found : undefined, errno, rule);
  t.equal(trace(layers), want, `${rule}: what is asked`);
}

t.test('a repeat asks no layer', async t => {
  const { overlay, layers } = stack([a(dir()), a(dir({ f: file() })), '|', objects]);
  const found = walk(overlay, '/a/f');
  const missing = walk(overlay, '/a/g');
  const asked = trace(layers);
  t.equal(walk(overlay, '/a/f'), found, 'the same node');
  t.equal(walk(overlay, '/a/g'), missing, 'and the same miss');
  t.equal(trace(layers), asked, 'without a question');
});

t.test('an error is not remembered', async t => {
  const { overlay, layers } = stack([a(dir({}, { redirect: '' })), dir()]);
  t.equal(walk(overlay, '/a'), -EINVAL);
  t.equal(walk(overlay, '/a'), -EINVAL);
  t.equal(trace(layers), 'A:/a /a  B:-', 'it is found again each time');
});

t.test('where the data is', async t => {
  const data = (specs: readonly (Spec | '|')[], options?: Partial<StackOptions>): unknown => {
    const found = walk(stack(specs, options).overlay, '/a');
    if (typeof found === 'number') return found;
    return typeof found.data === 'object' ? `in ${found.data.layer.path}` : found.data;
  };
  const absolute = a(meta({ redirect: '/1e/de' }));
  const shadow = dir({ '1e': dir({ de: file('shadow') }) });
  for (const [rule, specs, options, want] of [
    ['a plain file has its own', [a(file()), a(file())], {}, undefined],
    ['M1: a metacopy file has it below', [a(meta()), dir(), a(file())], {}, 'in C'],
    ['M1: a chain, in the last', [a(meta()), a(meta()), a(file())], {}, 'in C'],
    ['L7: or at a path in data-only layers', [absolute, dir(), '|', objects], {}, '/1e/de'],
    ['R7: a normal layer comes first', [absolute, shadow, '|', objects], {}, 'in B'],
    ['redirects=data-only: not so', [absolute, shadow, '|', objects], { redirects: 'data-only' }, '/1e/de'],
    ['P-D2: nor with //', [a(meta({ redirect: '//1e/de' })), shadow, '|', objects], {}, '/1e/de'],
    ['P-D7: the last of a chain decides', [a(meta()), a(meta({ redirect: '//z' })), shadow, '|', objects], {}, '/z'],
  ] as const) {
    t.equal(data(specs, options), want, rule);
  }
});

t.test('another rule takes the place of step', async t => {
  const { overlay } = stack([a(meta({ redirect: '/1e/de' })), dir({ '1e': dir() }), '|', objects]);
  const judged: string[] = [];
  const keeping: Judge = (rules, search, found, prefixBytes, rest) => {
    judged.push(`${found.layer.path} ${rest}`);
    const { absolute } = search;
    const verdict = step(rules, search, found, prefixBytes, rest);
    search.absolute ||= absolute;
    return verdict;
  };
  const tried = overlay.withRules({}, keeping);
  const found = walk(tried, '/a');
  t.equal(walk(overlay, '/a'), -EIO, 'R7: by the rules of the kernel, a directory in the way hides the data');
  t.equal(typeof found === 'object' && found.data, '/1e/de', 'by the other, it does not');
  t.strictSame(judged, ['A ', 'B /de'], 'it judges each dentry that is there');
  t.equal(tried.withRules({ verity: 'on' }).judge, keeping, 'and stays when options change');
  for (const [rule, answer, want] of [
    ['MISSING: as if nothing were there', MISSING, -ENOENT],
    ['an errno ends the lookup', -EACCES, -EACCES],
  ] as const) {
    t.equal(
      walk(
        overlay.withRules({}, () => answer),
        '/a',
      ),
      want,
      rule,
    );
  }
});

t.test('the walk ends', async t => {
  const deep = `/${Array.from({ length: 20_000 }, () => 'd').join('/')}`;
  const loop: { -readonly [K in keyof Spec]: Spec[K] } = dir();
  loop.entries = { d: loop }; // a corrupt image may hold a directory in itself
  const { overlay, layers } = stack([a(dir({}, { redirect: deep })), loop]);
  const found = walk(overlay, '/a');
  t.ok(typeof found === 'object' && found.stack.length === 2, 'a path of 20,000 components is walked');
  t.equal(layers[1]?.asked.length, 20_000, 'once');
});
t.end();
