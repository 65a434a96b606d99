/** Proves that the manual pages, made by the build, tell of all that there is, and that the package has them. */
import { execFileSync, spawnSync } from 'node:child_process';
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { optionWords } from '../../src/mount/plan.ts';
import { commandNames, optionNames } from '../fixtures/help.ts';
import { packageFolder } from '../fixtures/mounts/mounted.ts';
import { runCommand } from '../fixtures/run-command.ts';
import { without } from '../fixtures/skips.ts';

const folder = join(packageFolder, 'dist', 'man');
const pages = readdirSync(folder).sort();
/** The text of a page without the escapes of roff. */
const textOf = (page: string): string =>
  readFileSync(join(folder, page), 'utf8')
    .replace(/\\f[BIPR]|\\&/g, '')
    .replaceAll('\\-', '-')
    .replaceAll('\\e', '\\');
const TAG = /^\.TP\n(.*)$/gm;
/** Tags of a page's items: the line after `.TP`. */
const tagsOf = (page: string): string[] => [...textOf(page).matchAll(TAG)].map(([, tag = '']) => tag);
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

/** The sections that every page has, and those that some have, in the order of man-pages(7). */
const SECTIONS = [
  ...['NAME', 'SYNOPSIS', 'DESCRIPTION', 'COMMANDS?', 'ARGUMENTS?', 'OPTIONS', 'WITHOUT EFFECT?', 'REFUSED?'],
  ...['EXIT STATUS', 'ENVIRONMENT?', 'FILES?', 'NOTES?', 'EXAMPLES', 'SEE ALSO'],
];

t.test('sections', async t => {
  for (const page of pages) {
    const sections = [...textOf(page).matchAll(/^\.SH (.*)$/gm)].map(([, name = '']) => name);
    const wanted = SECTIONS.filter(name => !name.endsWith('?') || sections.includes(name.slice(0, -1)));
    t.same(
      sections,
      wanted.map(name => name.replace('?', '')),
      page,
    );
  }
  const tags = tagsOf('lowerdata-bench.1');
  for (const name of ['walk', 'stat-again', 'sequential-again', 'python3-again'])
    t.ok(tags.includes(name), `lowerdata-bench(1) lists the workload ${name}`);
  const seen = pages.flatMap(page => [...textOf(page).matchAll(/^\.BR (lowerdata\S*) \((\d)\)/gm)]);
  t.same(
    seen.filter(([, name, section]) => !pages.includes(`${name}.${section}`)).map(([text]) => text),
    [],
    'pages that a page refers to exist',
  );
});

t.test('mount --help: the options that are often needed', async t => {
  const { stdout } = runCommand(['mount', '--help']);
  const [, list = ''] = /^Mount options .*lowerdata-options\(5\).*:\n((?: {2}\S.*\n)+)/m.exec(stdout) ?? [];
  const lines = list.trimEnd().split('\n');
  t.equal(lines.length, 13);
  for (const line of lines) {
    const [, key = '', values] = /^ {2}([a-z_]+)(?:=(\S+))? {2,}\S/.exec(line) ?? [];
    const words = optionWords.get(key);
    t.equal(words?.effect, 'taken', `${key} is an option with an effect`);
    t.equal(values, Array.isArray(words?.values) ? words.values.join('|') : words?.values, `the values of ${key}`);
    t.ok(line.length <= 80, `${key}: one line`);
  }
  t.match(list, /^ {2}transport=\S*\buring\b/m);
  t.notMatch(list, /^ {2}r[ow]\b/m);
});

t.test('mount options', async t => {
  const [options = ''] = textOf('lowerdata-options.5').split('.SH EXIT STATUS');
  const tags = [...options.matchAll(TAG)].map(([, tag = '']) => tag);
  const keys = tags.flatMap(tag => (tag.includes('=') ? tag.replace(/=.*/, '') : tag.split(', ')));
  t.same(keys.sort(), [...optionWords.keys()].sort());
  const page = readFileSync(join(packageFolder, 'docs', 'mounting.md'), 'utf8');
  const [, table = ''] = /\n\| option \| meaning \|\n\|---\|---\|\n(.*?)\n\n/s.exec(page) ?? [];
  t.ok(table.split('\n').length > 15);
  for (const row of table.split('\n')) {
    const key = /^\| `([^`=]+)/.exec(row)?.[1] ?? '';
    const { values, what } = optionWords.get(key) ?? { what: 'not an option' };
    const value = values && `=${(typeof values === 'string' ? values : values.join('|')).replaceAll('|', '\\|')}`;
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

/** Files of the package that a text names; they are below what `npm root -g` prints, and other ways to name them are wrong. */
function namedFiles(text: string): { files: string[]; wrong: string[] } {
  const pattern = /\$\(npm root -g\)\/lowerdata\/([\w@./-]*\w)/g;
  const files = [...text.matchAll(pattern)].map(([, file = '']) => file);
  const others = text.replace(pattern, '').replace(/Documentation\/\S+/g, ''); // the kernel's
  return {
    files,
    wrong: others.match(/(?<![\w/.-])(?:docs|systemd|scripts|src|dist|bin)\/[\w@.-]*\w|\S+\.md\b/g) ?? [],
  };
}

t.test('files that helps and pages name are in the package', async t => {
  const { files: packed } = JSON.parse(readFileSync(join(packageFolder, 'package.json'), 'utf8'));
  const texts = [
    ...commandNames().map(name => [`${name} --help`, runCommand([name, '--help']).stdout] as const),
    ['--help', runCommand(['--help']).stdout] as const,
    ...pages.map(page => [page, textOf(page)] as const),
  ];
  let count = 0;
  for (const [name, text] of texts) {
    const { files, wrong } = namedFiles(text);
    t.same(wrong, [], `${name}: names that lead nowhere`);
    for (const file of files) {
      t.ok(existsSync(join(packageFolder, file)), `${name}: ${file} exists`);
      t.ok(packed.includes(file.split('/')[0]), `${name}: ${file} is packed`);
    }
    count += files.length;
  }
  t.ok(count > 2, 'files are found');
  t.same(namedFiles('See docs/x.md, $(npm root -g)/lowerdata/systemd, y.md.'), {
    files: ['systemd'],
    wrong: ['docs/x.md', 'y.md'],
  });
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
