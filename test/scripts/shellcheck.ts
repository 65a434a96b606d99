/** The shell programs as ShellCheck reads them, also the one that is passed to a shell as text, bin/watcher.sh. */
import { spawnSync } from 'node:child_process';
import { readdirSync, readFileSync } from 'node:fs';
import { join, relative } from 'node:path';
import t from 'tap';
import { packageFolder } from '../fixtures/mounts/mounted.ts';
import { without } from '../fixtures/skips.ts';

const isShell = (path: string): boolean =>
  path.endsWith('.sh') || /^#!.*\b(?:ba|da)?sh\n/.test(readFileSync(path, 'latin1'));

const programs = ['bin', '.ci', 'scripts'].flatMap(folder =>
  readdirSync(join(packageFolder, folder), { recursive: true, withFileTypes: true })
    .filter(entry => entry.isFile())
    .map(entry => join(entry.parentPath, entry.name))
    .filter(isShell)
    .map(path => relative(packageFolder, path))
    .sort(),
);

for (const known of [
  'bin/lowerdata',
  'bin/watcher.sh',
  '.ci/run',
  'scripts/verity-vm/boot.sh',
  'scripts/verity-vm/init',
])
  t.ok(programs.includes(known), `${known} is found`);
for (const program of programs)
  t.test(program, { skip: without('shellcheck') }, async t => {
    const words = ['--norc', '--severity=warning', program];
    const { status, stdout, stderr } = spawnSync('shellcheck', words, { cwd: packageFolder, encoding: 'utf8' });
    t.equal(status, 0, `no warnings ${stdout}${stderr}`);
  });
t.end();
