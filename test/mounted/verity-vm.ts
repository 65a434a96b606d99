/** fs-verity as a real kernel has it, which scripts/verity-vm boots: each line of its checks.ts is an assertion here. */
import { spawnSync } from 'node:child_process';
import { join } from 'node:path';
import t from 'tap';
import { packageFolder } from '../fixtures/mounts/mounted.ts';

/** The exit status of boot.sh where something is missing. */
const MISSING = 77;
/** A line of TAP, and the comments below it. */
const LINE = /^(not )?ok \d+ - (.*?)(?: # SKIP (.*))?$((?:\n# .*)*)/gm;

const isWanted = process.env.LOWERDATA_VM === '1' || process.env.CI !== undefined;
const skip = isWanted ? false : 'set LOWERDATA_VM=1';
const timeout = 1_000_000;

const boot = (): { status: number | null; stdout: string; stderr: string } =>
  spawnSync(join(packageFolder, 'scripts/verity-vm/boot.sh'), { encoding: 'utf8' });

t.setTimeout(timeout);
t.test('a kernel with fs-verity', { skip, timeout }, async t => {
  let { status, stdout, stderr } = boot();
  if (status !== MISSING && !stdout.match(LINE)) {
    t.comment(`the guest died before its first check, and is booted once more: ${stderr}`); // an emulated kernel sometimes does
    ({ status, stdout, stderr } = boot());
  }
  if (status === MISSING) return void t.pass('boots', { skip: stderr.trim() });
  for (const [, not, rule = '', reason, comments] of stdout.matchAll(LINE)) {
    if (not) t.fail(rule, { guest: comments });
    else t.pass(rule, reason === undefined ? {} : { skip: reason });
  }
  t.match(stdout, /^1\.\.\d+$/m, 'the guest makes all checks', { guest: stderr });
});
