/** The kernel's recorded answers, and random stacks against the running kernel, through real mounts. */
import t from 'tap';
import { runOracle } from '../fixtures/corpus.ts';
import { noProgram } from '../fixtures/mounts/kernel-mount.ts';
import { lowerdata } from '../fixtures/mounts/mounted.ts';
import { withoutFuse } from '../fixtures/skips.ts';

/** Random stacks of each seed. `LOWERDATA_FUZZ=1000` for a longer look. */
const STACKS = process.env.LOWERDATA_FUZZ ?? '60';

/** Cases of the proposals, and those of them that need mkfs.erofs. */
const PROPOSED = 36;
const PROPOSED_IMAGES = 1;

/** The option string is last but for a case that ends in a backslash, which would take the comma of what follows. */
const mounting = (options: string): string => `${lowerdata} mount -o allow_other,${options}{stack} overlay {mnt}`;

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
      const args = ['--cmd', mounting(semantics), '--count', STACKS, '--seed', seed, ...proposed];
      const { failed, passed, output } = runOracle('fuzz.py', ...args);
      t.strictSame([...failed], [], output.slice(-2000));
      t.equal(passed, Number(STACKS));
      t.end();
    });
  }
  t.end();
});
