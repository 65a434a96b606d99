/** Proves scripts/prototype-rule.ts: the unchanged rules are the kernel's, and the new one differs where it is meant to. */
import { spawnSync } from 'node:child_process';
import { join } from 'node:path';
import t from 'tap';
import { packageFolder } from '../fixtures/mounts/mounted.ts';
import { withoutRoot } from '../fixtures/skips.ts';

t.setTimeout(300_000);

t.test('scripts/prototype-rule.ts', { skip: withoutRoot }, async t => {
  const script = join(packageFolder, 'dist', 'scripts', 'prototype-rule.js');
  const { status, stdout } = spawnSync(process.execPath, [script, '20', '1'], { encoding: 'utf8' });
  t.equal(status, 0, 'ends well');
  const lines = stdout.trim().split('\n');
  t.match(
    lines.pop(),
    /^20 stacks, \d+ paths: the unchanged rules differ from the kernel 0 times, the prototype 2 times as/,
  );
  for (const line of lines) t.match(line, /^fuzz-1-\d+ \/\S+: kernel EIO, prototype file \S+$/);
  t.equal(lines.length, 2, 'a line a difference');
});
t.end();
