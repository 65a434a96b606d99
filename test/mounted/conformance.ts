/** The kernel's recorded answers, and random stacks against the running kernel, through real mounts. */
import { join } from 'node:path';
import t from 'tap';
import { runOracle } from '../fixtures/corpus.ts';
import { goldenFolder } from '../fixtures/images/golden-images.ts';
import { noProgram } from '../fixtures/mounts/kernel-mount.ts';
import { lowerdata } from '../fixtures/mounts/mounted.ts';
import { python } from '../fixtures/native.ts';
import { withoutFuse, withoutRoot } from '../fixtures/skips.ts';

/** Random stacks of each seed. `LOWERDATA_FUZZ=1000` for a longer look. */
const STACKS = process.env.LOWERDATA_FUZZ ?? '60';

/** Cases of the proposals, and those of them that need mkfs.erofs. */
const PROPOSED = 36;
const PROPOSED_IMAGES = 1;

/** The option string is last but for a case that ends in a backslash, which would take the comma of what follows. */
const mounting = (options: string): string => `${lowerdata} mount -o allow_other,${options}{stack} overlay {mnt}`;

/** Shrinks random stacks by a predicate: a whiteout and two redirects in the top, and the layer D0. */
const SHRINKING = `
import sys
sys.path.insert(0, sys.argv[1])
import fuzz
def entries(case):
    return [e for tree in case['layers'].values() for e in tree.values()]
def fails(case):
    top = case['layers'].get('N0', {}).values()
    redirects = [e for e in top if 'trusted.overlay.redirect' in e.get('xattrs', {})]
    return any(e.get('type') == 'whiteout' for e in top) and len(redirects) >= 2 and 'D0' in case['layers']
found = 0
for seed in range(60):
    case = fuzz.Gen(str(seed)).case('x')
    if not fails(case): continue
    found += 1
    small = fuzz.shrink(case, fails)
    xattrs = sum(len(e.get('xattrs', {})) for e in entries(small))
    print(len(entries(small)), len(small['layers']), small['stack'].count(','), xattrs)
print(found)
`;

t.test('through a mount', { skip: withoutFuse, timeout: 1_200_000 }, t => {
  t.test('every recorded case, by the rules of today’s kernel', t => {
    const { failed, passed, output } = runOracle('oracle.py', '--check', mounting('semantics=kernel,'), '-q');
    t.strictSame([...failed], [], output.slice(-2000));
    t.ok(passed > 200, `${passed} cases passed`);
    t.end();
  });

  t.test('what no kernel has: every case of `//` redirects and of data by origin', t => {
    const { failed, passed } = runOracle(
      'oracle.py',
      '--check',
      mounting(''),
      '--proposed',
      '--filter',
      'proposed',
      '-q',
    );
    t.strictSame([...failed], []);
    t.equal(passed, noProgram('mkfs.erofs') ? PROPOSED - PROPOSED_IMAGES : PROPOSED);
    t.end();
  });

  t.test('understanding them changes nothing else: only cases with a `//` redirect differ from today’s kernel', t => {
    const args = [
      '--check',
      mounting(''),
      '-q',
      '--filter',
      'metacopy',
      '--filter',
      'redirect',
      '--filter',
      'userxattr',
    ];
    const { failed, passed } = runOracle('oracle.py', ...args);
    t.strictSame([...failed.keys()].sort(), ['metacopy.json:invalid-redirects', 'userxattr.json:data-redirect']);
    t.ok(passed > 50, `${passed} cases passed`);
    t.end();
  });

  for (const [what, seed, semantics, proposed] of [
    ['random stacks, as the kernel shows them', '1', 'semantics=kernel,', []],
    ['others', '2', 'semantics=kernel,', []],
    ['random stacks with `//` and origins, as the kernel shows an equivalent one', '3', '', ['--proposed']],
  ] as const) {
    t.test(what, t => {
      const args = ['--cmd', mounting(semantics), '--count', STACKS, '--seed', seed, '--shrink', ...proposed];
      const { failed, passed, output } = runOracle('fuzz.py', ...args);
      t.strictSame([...failed], [], output.slice(-2000));
      t.equal(passed, Number(STACKS));
      t.end();
    });
  }
  t.end();
});

t.test('a stack that differs is shrunk before it is printed', { skip: withoutRoot, timeout: 300_000 }, async t => {
  const mount = join(goldenFolder, '../oracle/kernel-mount.py');
  const wrong = `sh -c 'exec ${mount} "$(echo "$1" | sed s/metacopy=on/metacopy=off/)" "$2"' sh {stack} {mnt}`;
  const { failed, output } = runOracle('fuzz.py', '--cmd', wrong, '--count', '3', '--seed', '1', '--shrink');
  t.ok(failed.size > 0, 'a mount that is wrong on purpose fails', { output });
  for (const lines of failed.values()) {
    const at = lines.findIndex(line => line.startsWith('layer '));
    const layers = lines.slice(at).filter(line => line.startsWith('layer '));
    const entries = lines.slice(at).filter(line => !line.startsWith('layer '));
    t.equal(layers.length, 2, 'two layers are left, as the kernel needs them', { lines });
    t.equal(entries.length, 1, 'and one entry', { lines });
    t.match(
      entries[0],
      /^ {2}\w \{"type": "reg",.* "xattrs": \{"trusted.overlay.metacopy": "[^"]*"\}\}$/,
      'a metacopy file',
    );
  }

  const lines = python(SHRINKING, [join(goldenFolder, '../oracle')])
    .trim()
    .split('\n');
  t.ok(Number(lines.pop()) >= 3, 'stacks of which a predicate says that they differ');
  t.strictSame(
    [...new Set(lines)],
    ['3 2 0 2'],
    'three entries, two layers, no option and two xattrs are left of each',
  );
});
