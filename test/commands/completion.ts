import { execFileSync, spawnSync } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { optionWords } from '../../src/mount/plan.ts';
import { commandNames, optionNames } from '../fixtures/help.ts';
import { scratch } from '../fixtures/layers.ts';
import { runCommand } from '../fixtures/run-command.ts';
import { without } from '../fixtures/skips.ts';

const folder = scratch(t);
for (const shell of ['bash', 'zsh', 'fish']) {
  writeFileSync(join(folder, shell), runCommand(['completion', shell]).stdout);
}

/** What readline would put in place of its last word, which begins after the last space, `=` or `:` of the line. */
function bash(line: string): string[] {
  const program = `source "$1"; COMP_LINE=$2 COMP_POINT=\${#2}; _lowerdata; printf '%s\\n' "\${COMPREPLY[@]}"`;
  const { stdout, stderr } = spawnSync('bash', ['--norc', '-c', program, 'bash', join(folder, 'bash'), line], {
    encoding: 'utf8',
  });
  return `${stdout}${stderr}`.split('\n').filter(reply => reply !== '');
}

/** The whole words that fish offers. */
const fish = (line: string): string[] =>
  execFileSync('fish', ['--no-config', '-c', 'source $argv[1]; complete -C $argv[2]', join(folder, 'fish'), line], {
    encoding: 'utf8',
  })
    .split('\n')
    .flatMap(reply => (reply === '' ? [] : (reply.split('\t')[0] as string)));

const takenKeys = [...optionWords].filter(([, { effect }]) => effect === 'taken');

t.test('bash', async t => {
  t.same(bash('lowerdata '), [...commandNames(), '--help', '--version'], 'every command of the help');
  for (const name of commandNames()) {
    t.same(bash(`lowerdata ${name} -`), optionNames(name), `every option of ${name}`);
  }
  for (const [key, { values }] of takenKeys) {
    const before = `lowerdata mount A B -o ${key}`;
    t.ok(bash(before).includes(values ? `${key}=` : key), `mount option ${key}`);
    t.same(bash(`${before}=`), Array.isArray(values) ? values : [], `values of ${key}`);
  }
  for (const [rule, line, want] of [
    ['a command', 'lowerdata mo', ['mount']],
    ['a long option', 'lowerdata mkfs --print', ['--print-digest', '--print-digest-only']],
    ['a value', 'lowerdata mount --transport ', ['dev', 'uring', 'fuse-native']],
    ['a value after =', 'lowerdata mount --transport=f', ['fuse-native']],
    ['a value of relink', 'lowerdata relink A --to=', ['origin', 'data-only', 'absolute']],
    ['the second mount option, after a word that ends at =', 'lowerdata ls -o verity=off,foll', ['off,follow_origin=']],
    ['its value', 'lowerdata mount -o metacopy=on,verity=o', ['off', 'on']],
    ['after the long name', 'lowerdata mount --options=verity=r', ['require']],
    ['a question', 'lowerdata info m', ['missing-objects', 'measure-file']],
    ['a shell', 'lowerdata completion ', ['bash', 'zsh', 'fish']],
    ['files are left to bash', 'lowerdata mount /tm', []],
    ['a stack, too', 'lowerdata mount A:B::/tm', []],
    ['a directory in a mount option, too', 'lowerdata mount -o verity=off,basedir=/tm', []],
    ['nothing for a command that there is not', 'lowerdata nope -', []],
  ] as const) {
    t.same(bash(line), want, rule);
  }
});

t.test('fish', { skip: without('fish') }, async t => {
  execFileSync('fish', ['-n', join(folder, 'fish')]);
  t.same(
    fish('lowerdata ').filter(word => commandNames().includes(word)),
    commandNames().sort(),
    'every command',
  );
  for (const name of commandNames()) {
    const offered = [...fish(`lowerdata ${name} -`), ...fish(`lowerdata ${name} --`)];
    t.same(
      optionNames(name).filter(option => !offered.includes(option)),
      [],
      `every option of ${name}`,
    );
  }
  for (const [rule, line, want] of [
    ['a value', 'lowerdata mount --transport ', ['dev', 'fuse-native', 'uring']],
    ['a value after =', 'lowerdata mount --transport=f', ['--transport=fuse-native']],
    [
      'the second mount option',
      'lowerdata ls -o verity=off,meta',
      ['verity=off,metacopy=off', 'verity=off,metacopy=on'],
    ],
    ['a percent sign before it', 'lowerdata ls -o fsname=%s,tryv', ['fsname=%s,tryverity']],
    ['a question', 'lowerdata info m', ['measure-file', 'missing-objects']],
  ] as const) {
    t.same(fish(line), want, rule);
  }
});

t.test('zsh', { skip: without('zsh') }, async t => {
  t.equal(spawnSync('zsh', ['-n', join(folder, 'zsh')]).status, 0, 'zsh can read it');
  const text = runCommand(['completion', 'zsh']).stdout;
  for (const name of commandNames()) {
    const [, specs = ''] = new RegExp(`\\n    ${name}\\)\n(.*?);;`, 's').exec(text) ?? [];
    t.same(
      optionNames(name).filter(option => !new RegExp(`[)*]${option}[[+=]`).test(specs)),
      [],
      `options of ${name}`,
    );
  }
  for (const [key] of takenKeys) t.ok(text.includes(`\n    '${key}[`), `mount option ${key}`);
});

t.test('a shell that there is not', async t => {
  const { status, stderr } = runCommand(['completion', 'csh']);
  t.same([status, stderr], [1, 'lowerdata: csh: not one of bash, zsh, fish']);
});
t.end();
