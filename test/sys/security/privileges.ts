import { spawnSync } from 'node:child_process';
import t from 'tap';
import { CAP_DAC_READ_SEARCH, CAP_SYS_ADMIN } from '../../../src/sys/security/privileges.ts';
import { noProgram } from '../../fixtures/mounts/kernel-mount.ts';
import { withoutRoot } from '../../fixtures/skips.ts';

const source = `
  import * as p from '${new URL('../../../src/sys/security/privileges.js', import.meta.url)}';
  console.log([p.hasCapability(p.CAP_SYS_ADMIN), p.hasCapability(p.CAP_DAC_READ_SEARCH), p.inInitialUserNamespace()].join(' '));`;
/** What a process that is started by `how` says of itself. */
const said = (...how: string[]): string => {
  const [program = '', ...args] = [...how, process.execPath, '--input-type=module', '-e', source];
  return spawnSync(program, args, { encoding: 'utf8', cwd: '/' }).stdout.trim();
};

t.strictSame([CAP_DAC_READ_SEARCH, CAP_SYS_ADMIN], [2, 21], 'linux/capability.h');
for (const [rule, how, want] of [
  ['root has both', [], 'true true true'],
  ['another user has none', ['setpriv', '--reuid=65534', '--regid=65534', '--clear-groups'], 'false false true'],
  ['root without one', ['setpriv', '--bounding-set=-sys_admin'], 'false true true'],
  ['root without the other', ['setpriv', '--bounding-set=-dac_read_search'], 'true false true'],
  ['root of a user namespace has both, there', ['unshare', '-Ur'], 'true true false'],
] as const) {
  const missing = withoutRoot || how.map(noProgram)[0] || false;
  const cannot = missing || (how.length > 0 && spawnSync(how[0] as string, [...how.slice(1), 'true']).status !== 0);
  t.equal(cannot ? '' : said(...how), cannot ? '' : want, rule, {
    skip: cannot && (missing || `${how[0]} is refused`),
  });
}
t.end();
