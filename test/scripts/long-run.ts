/** A short run of scripts/long-run.ts. */
import { spawnSync } from 'node:child_process';
import { join } from 'node:path';
import t from 'tap';
import { packageFolder } from '../fixtures/mounts/mounted.ts';
import { withoutFuse } from '../fixtures/skips.ts';

const SECONDS = 24;

t.test('a short run', { skip: withoutFuse, timeout: 300_000 }, async t => {
  const script = join(packageFolder, 'dist', 'scripts', 'long-run.js');
  const { status, stdout } = spawnSync(process.execPath, [script, '--minutes', String(SECONDS / 60)], {
    encoding: 'utf8',
  });
  t.equal(status, 0, stdout);
  const [, turns, processes, changes] = /^(\d+) turns of (\d+) processes .*, (\d+) changes/m.exec(stdout) ?? [];
  t.equal(processes, '16');
  t.ok(Number(turns) > 1000, `${turns} turns`);
  t.ok(Number(changes) > 50, `${changes} changes of objects`);
  t.match(stdout, /^all was as it must be$/m);
});

t.test('a wrong call', async t => {
  const script = join(packageFolder, 'dist', 'scripts', 'long-run.js');
  t.equal(spawnSync(process.execPath, [script, '--minutes', 'x']).status, 2);
});
t.end();
