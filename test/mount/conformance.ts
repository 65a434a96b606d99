/** The kernel's recorded answers, and random stacks against the running kernel, through real mounts. */
import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t from 'tap';
import { goldenFolder } from '../fixtures/golden-images.ts';
import { lowerdata } from '../fixtures/mounted.ts';
import { withoutFuse } from '../fixtures/skips.ts';

const oracle = join(goldenFolder, '..', 'oracle');
/** Random stacks of each seed. `LOWERDATA_FUZZ=1000` for a longer look. */
const STACKS = process.env.LOWERDATA_FUZZ ?? '60';

/** The option string is last but for a case that ends in a backslash, which would take the comma of what follows. */
const mounting = (options: string): string => `${lowerdata} mount -o allow_other,${options}{stack} overlay {mnt}`;

interface Verdict {
  /** The names of the cases that failed, with what differed. */
  failed: Map<string, string>;
  passed: number;
  output: string;
}

function run(script: string, ...args: string[]): Verdict {
  const work = mkdtempSync(join(tmpdir(), 'lowerdata-oracle-'));
  const python = spawnSync(join(oracle, script), [...args, '--workdir', work], {
    encoding: 'utf8',
    maxBuffer: 1 << 28,
  });
  rmSync(work, { recursive: true, force: true });
  const output = python.stdout + python.stderr;
  const failed = new Map<string, string>();
  for (const [, name = '', what = ''] of output.matchAll(/^FAIL (\S+)(.*(?:\n {5}.*)*)/gm)) failed.set(name, what);
  const passed = Number(/^(\d+) passed, \d+ failed$/m.exec(output)?.[1] ?? 0);
  return { failed, passed, output };
}

t.test('through a mount', { skip: withoutFuse, timeout: 1_200_000 }, t => {
  t.test('every recorded case, by the rules of today’s kernel', t => {
    const { failed, passed, output } = run('oracle.py', '--check', mounting('semantics=kernel,'), '-q');
    t.strictSame([...failed], [], output.slice(-2000));
    t.ok(passed > 200, `${passed} cases passed`);
    t.end();
  });

  t.test('`//` redirects, which no kernel has: every case of the proposal', t => {
    const args = ['--check', mounting(''), '--proposed', '--filter', 'proposed-data-redirect', '-q'];
    const { failed, passed } = run('oracle.py', ...args);
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
    const { failed, passed } = run('oracle.py', ...args);
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
      const { failed, passed, output } = run('fuzz.py', ...args);
      t.strictSame([...failed], [], output.slice(-2000));
      t.equal(passed, Number(STACKS));
      t.end();
    });
  }
  t.end();
});
