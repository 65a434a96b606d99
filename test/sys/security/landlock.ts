import { spawnSync } from 'node:child_process';
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { landlockVersion } from '../../../src/sys/security/landlock.ts';

/** Each line is one attempt, in a process that has restricted itself by `rules`. */
const script = (rules: string): string => `
  import { mkdirSync, openSync, readdirSync, readFileSync, renameSync, statSync, unlinkSync } from 'node:fs';
  import { Ruleset } from '${new URL('../../../src/sys/security/landlock.js', import.meta.url)}';
  import { refuseNewPrivileges } from '${new URL('../../../src/sys/security/privileges.js', import.meta.url)}';
  const [at] = process.argv.slice(-1);
  refuseNewPrivileges(0);
  ${rules}
  const tried = f => { try { f(); return 'done'; } catch (error) { return error.code; } };
  console.log([
    tried(() => readFileSync(at + '/in/d/file')),
    tried(() => readdirSync(at + '/in')),
    tried(() => readFileSync(at + '/out/file')),
    tried(() => readFileSync(at + '/in/../out/file')),
    tried(() => readdirSync('/')),
    tried(() => statSync(at + '/out/file')),
    tried(() => openSync(at + '/in/d/file', 'r+')),
    tried(() => openSync(at + '/in/new', 'w')),
    tried(() => mkdirSync(at + '/out/new')),
    tried(() => unlinkSync(at + '/in/d/file')),
  ].join(' '));`;

const skip = landlockVersion() === 0 ? 'this kernel has no Landlock' : false;
const READ = 'done done EACCES EACCES EACCES done EACCES EACCES EACCES EACCES';
for (const [rule, rules, want] of [
  [
    'nothing is written',
    `new Ruleset({ reading: false }).restrict(0);`,
    READ.replace('EACCES EACCES EACCES', 'done done done'),
  ],
  [
    'and read where that is allowed',
    `const r = new Ruleset({ reading: true }); r.allowReading(at + '/in'); r.restrict(0);`,
    READ,
  ],
  ['or nowhere', `new Ruleset({ reading: true }).restrict(0);`, READ.replace('done done', 'EACCES EACCES')],
  ['but without rules all is allowed', '', 'done done done done done done done done done done'],
] as const) {
  const home = t.testdir();
  for (const path of ['in', 'in/d', 'out']) mkdirSync(join(home, path));
  for (const path of ['in/d/file', 'out/file']) writeFileSync(join(home, path), path);
  const args = ['--input-type=module', '-e', script(rules), home];
  const { stdout, stderr } = spawnSync(process.execPath, args, { encoding: 'utf8' });
  t.equal(stdout.trim(), want, `${rule} ${stderr}`, { skip });
}
t.end();
