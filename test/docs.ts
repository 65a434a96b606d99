/** Proves that the documents lead somewhere: links and anchors exist, commands and options are those that there are. */
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { dirname, join, normalize } from 'node:path';
import t from 'tap';
import { commands } from '../src/cli/commands.ts';
import { optionWords } from '../src/mount/plan.ts';
import { optionNames } from './fixtures/help.ts';
import { packageFolder } from './fixtures/mounts/mounted.ts';

const README_LINES_MAX = 200;
/** What a page shows without scrolling. */
const COLUMNS_MAX = 6;

const pages = [
  ...['README.md', 'CONTRIBUTING.md', 'CHANGELOG.md'].filter(name => existsSync(join(packageFolder, name))),
  ...readdirSync(join(packageFolder, 'docs')).flatMap(name => (name.endsWith('.md') ? `docs/${name}` : [])),
];
const textOf = (page: string): string => readFileSync(join(packageFolder, page), 'utf8');

const FENCED = /^```.*?^```$/gms;
const withoutBlocks = (text: string): string => text.replace(FENCED, '');
/** Lines of code blocks, and code within sentences. */
const codeOf = (text: string): string[] => [
  ...(text.match(FENCED) ?? []).flatMap(block => block.split('\n').slice(1, -1)),
  ...[...withoutBlocks(text).matchAll(/`([^`]+)`/g)].map(([, code = '']) => code.replaceAll('\n', ' ')),
];

/** The anchors of a page's headings, as GitHub makes them. */
const anchorsOf = (text: string): string[] =>
  [...withoutBlocks(text).matchAll(/^#+ (.*)$/gm)].map(([, heading = '']) =>
    heading
      .toLowerCase()
      .replace(/[^\p{L}\p{N}\- _]/gu, '')
      .replaceAll(' ', '-'),
  );

/** Links within the checkout that lead to nothing. */
function brokenLinks(page: string, text: string): string[] {
  const links = [
    ...withoutBlocks(text)
      .replace(/`[^`]*`/g, '')
      .matchAll(/\]\(([^()\s]+)\)/g),
  ].map(([, to = '']) => to);
  return links.filter(link => {
    if (/^\w+:/.test(link)) return false;
    const [path = '', anchor] = link.split('#');
    const file = path === '' ? page : normalize(join(dirname(page), path));
    if (path !== '' && !existsSync(join(packageFolder, file))) return true;
    return anchor !== undefined && !anchorsOf(file === page ? text : textOf(file)).includes(anchor);
  });
}

const known = new Map<string, string[]>();
const optionsOf = (command: string): string[] => {
  const options = known.get(command) ?? optionNames(command);
  known.set(command, options);
  return options;
};

/** Calls of the command that it would refuse, with the word that it would refuse. */
function wrongCalls(text: string): string[] {
  const wrong: string[] = [];
  for (const code of codeOf(text))
    for (const [, command = '', rest = ''] of code.matchAll(/(?<!\S|-t )\(?lowerdata ([a-z][\w-]*)(.*)/g)) {
      const [call = ''] = rest.split(/ {2,}| \|\|? | && |[;>]/);
      if (command === 'help' || command === 'version') continue;
      if (!commands.has(command)) {
        wrong.push(`lowerdata ${command}`);
        continue;
      }
      const options = call.match(/(?<![^ [])--?\w[\w-]*/g) ?? [];
      wrong.push(...options.filter(name => !optionsOf(command).includes(name)).map(name => `${command} ${name}`));
      if (optionsOf(command).includes('--options'))
        wrong.push(...unknownWords(call).map(word => `${command} -o ${word}`));
    }
  for (const code of codeOf(text))
    for (const [call] of code.matchAll(/\bmount -t (fuse\.)?lowerdata .*/g))
      wrong.push(...unknownWords(call).map(word => `mount -o ${word}`));
  return wrong;
}

/** Mount options of a call that no table has. */
function unknownWords(call: string): string[] {
  const lists = [...call.matchAll(/ (?:-o|--options)[ =](\S+)/g)].map(([, list = '']) => list);
  return lists
    .flatMap(list => list.split(',').map(word => word.replace(/=.*/, '')))
    .filter(word => !optionWords.has(word));
}

const wideTables = (text: string): string[] =>
  withoutBlocks(text)
    .split('\n')
    .filter(line => line.startsWith('|') && line.replaceAll('\\|', '').split('|').length - 2 > COLUMNS_MAX);

t.ok(textOf('README.md').split('\n').length - 1 <= README_LINES_MAX, 'README.md is a front page');
for (const page of pages) {
  const text = textOf(page);
  t.strictSame(brokenLinks(page, text), [], `${page}: links`);
  t.strictSame(wrongCalls(text), [], `${page}: commands and options`);
  t.strictSame(wideTables(text), [], `${page}: tables`);
}

t.test('what is wrong is found', async t => {
  const links = '# A `b`, c\n[1](#a-b-c) [2](nope.md) [3](#nope) [4](../README.md#nope) [5](https://nope)';
  t.strictSame(brokenLinks('docs/x.md', links), ['nope.md', '#nope', '../README.md#nope']);
  const calls =
    'Try `lowerdata unmount X` or\n```\n$ lowerdata fsck --nope S   -x\nlowerdata mount -o nope=1,ro A:B M\n```\n';
  t.strictSame(wrongCalls(calls).sort(), ['fsck --nope', 'lowerdata unmount', 'mount -o nope']);
  t.strictSame(wrongCalls('`mount -t lowerdata -o metacopy=on,nope A M`'), ['mount -o nope']);
  t.equal(
    wideTables('| 1 | 2 | 3 | 4 | 5 | 6 |\n| 1 | 2 | 3 | 4 | 5 | 6 \\| |\n| 1 | 2 | 3 | 4 | 5 | 6 | 7 |').length,
    1,
  );
});
t.end();
