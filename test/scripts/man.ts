/** Proves that the manual pages, made by the build, tell of all that there is, and that the package has them. */
import { execFileSync, spawnSync } from 'node:child_process';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { optionWords } from '../../src/mount/plan.ts';
import { commandNames, optionNames } from '../fixtures/help.ts';
import { packageFolder } from '../fixtures/mounts/mounted.ts';
import { without } from '../fixtures/skips.ts';

const folder = join(packageFolder, 'dist', 'man');
const pages = readdirSync(folder).sort();
/** The text of a page without the escapes of roff. */
const textOf = (page: string): string =>
  readFileSync(join(folder, page), 'utf8')
    .replace(/\\f[BIPR]|\\&/g, '')
    .replaceAll('\\-', '-')
    .replaceAll('\\e', '\\');
/** Tags of a page's items: the line after `.TP`. */
const tagsOf = (page: string): string[] => [...textOf(page).matchAll(/^\.TP\n(.*)$/gm)].map(([, tag = '']) => tag);
const pageOf = (command: string): string =>
  pages.find(page => /^(.*)\.\d$/.exec(page)?.[1] === `lowerdata-${command}`) ?? '';

t.test('commands', async t => {
  const names = commandNames();
  t.ok(names.length > 10);
  t.equal(pages.length, names.length + 2, 'a page for each, one for options, one for all');
  const listed = tagsOf('lowerdata.1').flatMap(tag => /^lowerdata-([\w-]+)\(\d\)$/.exec(tag)?.[1] ?? []);
  t.same(listed, names, 'lowerdata(1) lists them');
  for (const name of names) {
    const tags = tagsOf(pageOf(name)).flatMap(tag => tag.match(/(?<![^ ])--?[\w-]+/g) ?? []);
    t.same(tags, optionNames(name), `${pageOf(name)} has every option of the help`);
  }
  t.match(textOf('lowerdata-fsck.1'), /\.SH EXIT STATUS\nas of fsck\(8\): 0 no problems/);
  t.match(textOf('lowerdata-relink.1'), /\.TP\ndata-only\nredirect .*\n/, 'what a help explains is an item');
});

t.test('mount options', async t => {
  const keys = tagsOf('lowerdata-options.5').flatMap(tag =>
    tag.includes('=') ? tag.replace(/=.*/, '') : tag.split(', '),
  );
  t.same(keys.sort(), [...optionWords.keys()].sort());
  const page = readFileSync(join(packageFolder, 'docs', 'mounting.md'), 'utf8');
  const [, table = ''] = /\n\| option \| meaning \|\n\|---\|---\|\n(.*?)\n\n/s.exec(page) ?? [];
  t.ok(table.split('\n').length > 15);
  for (const row of table.split('\n')) {
    const key = /^\| `([^`=]+)/.exec(row)?.[1] ?? '';
    const { values, what } = optionWords.get(key) ?? { what: 'not an option' };
    const value = values && `=${typeof values === 'string' ? values : values.join('\\|')}`;
    t.equal(row, `| \`${key}${value ?? ''}\` | ${what} |`, `docs/mounting.md has the words of ${key}`);
  }
});

t.test('the package has the pages', async t => {
  const { man } = JSON.parse(readFileSync(join(packageFolder, 'package.json'), 'utf8'));
  t.same(
    [...man].sort(),
    pages.map(page => `dist/man/${page}`),
    'package.json names them, for npm install -g',
  );
  const packed = execFileSync('npm', ['pack', '--dry-run', '--json', '--ignore-scripts'], { cwd: packageFolder });
  const [{ files }] = JSON.parse(packed.toString()) as [{ files: { path: string }[] }];
  const paths = files.map(({ path }) => path);
  t.same(
    [...man].filter(page => !paths.includes(page)),
    [],
  );
});

t.test('mandoc has nothing to say', { skip: without('mandoc') }, async t => {
  const { stdout } = spawnSync('mandoc', ['-Tlint', '-Wwarning', ...pages.map(page => join(folder, page))]);
  t.equal(stdout.toString(), '');
});

t.test('man has nothing to say', { skip: without('man') || without('groff') }, async t => {
  for (const page of pages) {
    const { status, stderr } = spawnSync('man', ['--warnings', '-l', join(folder, page)]);
    t.same([status, stderr.toString()], [0, ''], page);
  }
});
t.end();
