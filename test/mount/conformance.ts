/** The kernel's recorded answers, and random stacks against the running kernel, through real mounts. */
import t from 'tap';
import { runOracle } from '../fixtures/corpus.ts';
import { lowerdata } from '../fixtures/mounted.ts';
import { withoutFuse } from '../fixtures/skips.ts';

/** Random stacks of each seed. `LOWERDATA_FUZZ=1000` for a longer look. */
const STACKS = process.env.LOWERDATA_FUZZ ?? '60';

/** The option string is last but for a case that ends in a backslash, which would take the comma of what follows. */
const mounting = (options: string): string => `${lowerdata} mount -o allow_other,${options}{stack} overlay {mnt}`;

t.test('through a mount', { skip: withoutFuse, timeout: 1_200_000 }, t => {
  t.test('every recorded case, by the rules of today’s kernel', t => {
    const { failed, passed, output } = runOracle('oracle.py', '--check', mounting('semantics=kernel,'), '-q');
    t.strictSame([...failed], [], output.slice(-2000));
    t.ok(passed > 200, `${passed} cases passed`);
    t.end();
  });

  t.test('`//` redirects, which no kernel has: every case of the proposal', t => {
    const args = ['--check', mounting(''), '--proposed', '--filter', 'proposed-data-redirect', '-q'];
    const { failed, passed } = runOracle('oracle.py', ...args);
    t.strictSame([...failed], []);
    t.equal(passed, 11);
    t.end();
  });

  t.test('understanding `//` changes nothing else: only the cases that have one differ from today’s kernel', t => {
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

  for (const [seed, semantics, proposed] of [
    ['1', 'semantics=kernel,', []],
    ['2', 'semantics=kernel,', []],
  ] as const) {
    t.test(`${STACKS} random stacks of seed ${seed}, as the kernel shows them`, t => {
      const args = ['--cmd', mounting(semantics), '--count', STACKS, '--seed', seed, ...proposed];
      const { failed, passed, output } = runOracle('fuzz.py', ...args);
      t.strictSame([...failed], [], output.slice(-2000));
      t.equal(passed, Number(STACKS));
      t.end();
    });
  }
  t.end();
});
