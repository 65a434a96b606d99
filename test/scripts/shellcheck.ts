/** The shell programs as ShellCheck reads them, also the one that is passed to a shell as text, bin/watcher.sh. */
import { spawnSync } from 'node:child_process';
import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { packageFolder } from '../fixtures/mounts/mounted.ts';
import { without } from '../fixtures/skips.ts';

const filesOf = (folder: string, ending: string): string[] =>
  readdirSync(join(packageFolder, folder))
    .filter(name => name.endsWith(ending))
    .map(name => join(folder, name));
const programs = [...filesOf('bin', ''), ...filesOf('.ci', ''), ...filesOf('scripts', '.sh')];

t.ok(programs.includes('bin/watcher.sh'), 'programs are found');
for (const program of programs)
  t.test(program, { skip: without('shellcheck') }, async t => {
    const words = ['--norc', '--severity=warning', program];
    const { status, stdout, stderr } = spawnSync('shellcheck', words, { cwd: packageFolder, encoding: 'utf8' });
    t.equal(status, 0, `no warnings ${stdout}${stderr}`);
  });
t.end();
