/** Proves the words that are no command: help, versions, and what was mistyped. */
import { readFileSync } from 'node:fs';
import t from 'tap';
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
