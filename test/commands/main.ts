/** Proves the words that are no command: help, versions, and what was mistyped. */
import { spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { packageFolder } from '../fixtures/mounts/mounted.ts';
import { runCommand } from '../fixtures/run-command.ts';

const { version } = JSON.parse(readFileSync(new URL('../../../package.json', import.meta.url), 'utf8'));

for (const word of ['version', '--version', '-V', '-v'])
  t.match(runCommand([word]), { status: 0, stdout: `lowerdata ${version}\n`, stderr: '' }, word);
for (const word of ['help', '--help', '-h'])
  t.match(runCommand([word]), { status: 0, stdout: /^ {2}lowerdata umount /m, stderr: '' }, word);
t.same(runCommand(['help', 'ls']), runCommand(['ls', '--help']), 'the help of a command');

for (const [args, line] of [
  [['help', 'mout'], 'mout: unknown command; did you mean mount?'],
  [['list'], 'list: unknown command; did you mean ls?'],
  [['frobnicate', 'A', 'B'], 'frobnicate: unknown command; see lowerdata --help'],
  [['--frob'], '--frob: unknown option; see lowerdata --help'],
  [['ls', 'A'], 'ls: the argument <paths> is missing; see lowerdata ls --help'],
  [['status', '--jsno'], 'status: --jsno: unknown option; did you mean --json?'],
  [['ls', 'A', '/', '-o'], 'ls: -o, --options <list>: its value is missing; see lowerdata ls --help'],
  [['umount', 'A', 'B\n'], 'umount: B\\x0a: one argument too many; see lowerdata umount --help'],
] as const)
  t.match(runCommand([...args]), { status: 1, stdout: '', stderr: `lowerdata: ${line}` }, args.join(' '));

const installed = spawnSync(join(packageFolder, 'bin', 'lowerdata'), [
  'mount',
  'v1',
  '/',
  '-o',
  `store=${packageFolder}`,
]);
t.match(
  { status: installed.status, stderr: `${installed.stderr}` },
  { status: 32, stderr: /^lowerdata: .*: no repository of composefs: it has no meta\.json\n$/ },
  'an error of a file outside the bundle is told in one line',
);
