/** Proves that the package, packed and installed, is what docs/library.md says it is to programs: import, types, the examples. */
import { execFileSync, spawnSync } from 'node:child_process';
import { copyFileSync, existsSync, mkdirSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import t from 'tap';
import { newInode, setPayload, type TreeInode } from '../src/composefs/tree.ts';
import { writeImage } from '../src/composefs/write.ts';
import { goldenDumps } from './fixtures/images/golden-dumps.ts';
import { goldenFolder } from './fixtures/images/golden-images.ts';
import { scratch } from './fixtures/layers.ts';
import { packageFolder } from './fixtures/mounts/mounted.ts';

t.setTimeout(600_000);

/** What a program needs around it that is no dependency of the package: types of Node. */
const TYPES = ['@types/node', 'undici-types'];

/** As strict as a program may be: the declarations of the package are checked as well. */
const TSCONFIG = {
  compilerOptions: {
    ...{ strict: true, module: 'nodenext', target: 'es2023', types: ['node'], skipLibCheck: false },
    ...{ exactOptionalPropertyTypes: true, noUncheckedIndexedAccess: true, verbatimModuleSyntax: true },
    ...{ noPropertyAccessFromIndexSignature: true, noImplicitOverride: true, isolatedModules: true },
  },
  include: ['*.ts'],
};

/** A project with the packed package in it, built as npm builds it; the packages it needs are those of the checkout. */
function makeProject(project: string): string {
  const files = execFileSync('npm', ['pack', '--json', '--ignore-scripts', '--pack-destination', project], {
    cwd: packageFolder,
    encoding: 'utf8',
  });
  const [{ filename }] = JSON.parse(files) as [{ filename: string }];
  const home = join(project, 'node_modules', 'lowerdata');
  mkdirSync(home, { recursive: true });
  execFileSync('tar', ['-xzf', join(project, filename), '-C', home, '--strip-components=1']);
  const { dependencies } = JSON.parse(readFileSync(join(home, 'package.json'), 'utf8'));
  for (const name of [...Object.keys(dependencies), ...TYPES]) {
    const place = join(project, 'node_modules', name);
    mkdirSync(dirname(place), { recursive: true });
    symlinkSync(join(packageFolder, 'node_modules', name), place);
  }
  execFileSync('npm', ['run', '--silent', 'install'], { cwd: home });
  writeFileSync(join(project, 'package.json'), '{ "private": true, "type": "module" }');
  writeFileSync(join(project, 'tsconfig.json'), JSON.stringify(TSCONFIG));
  return home;
}

/** What tsc has to say of the project's programs, which are compiled. */
const compile = (project: string): string =>
  spawnSync(join(packageFolder, 'node_modules', '.bin', 'tsc'), ['-p', project], { encoding: 'utf8' }).stdout;

const run = (project: string, program: string, ...args: string[]): string =>
  execFileSync(process.execPath, [program, ...args], { cwd: project, encoding: 'utf8' });

/** The program in a section of a page of docs/. */
function example(page: string, heading: string): string {
  const [, section = ''] = readFileSync(join(packageFolder, 'docs', page), 'utf8').split(`\n## ${heading}\n`);
  return /```ts\n(.*?)```/s.exec(section)?.[1] ?? '';
}

const directory = (entries: Record<string, TreeInode>): TreeInode => {
  const made = newInode(0o40755);
  for (const [name, inode] of Object.entries(entries)) made.entries.set(name, { inode, link: false });
  return made;
};

t.test('an empty project', async t => {
  const project = scratch(t);
  const home = makeProject(project);
  copyFileSync(join(packageFolder, 'test', 'fixtures', 'consumer.ts'), join(project, 'consumer.ts'));
  writeFileSync(join(project, 'library.ts'), example('library.md', 'As a library'));
  writeFileSync(join(project, 'rule.ts'), example('kernel-developers.md', 'A rule of your own'));
  t.ok(existsSync(join(home, 'docs', 'schemas', 'status.json')), 'the schemas of JSON are in the package');
  t.equal(compile(project), '', 'types: the programs and the declarations are right by the strictest options');

  t.match(readFileSync(join(home, 'dist/src/index.d.ts'), 'utf8'), /Expected outcomes are values/, 'words');

  t.test('an image is read, explained and written', async t => {
    const golden = goldenDumps().find(({ name }) => name === 'overlay-0.dump');
    const image = join(goldenFolder, 'images', 'overlay-0.cfs');
    const { names, ...others } = JSON.parse(run(project, 'consumer.js', image, join(project, 'copy')));
    const paths = Buffer.from(golden?.text ?? [])
      .toString('latin1')
      .matchAll(/^\/([^ /]+) /gm);
    t.strictSame(names, [...paths].map(([, name]) => name).sort(), 'the names of the dump that it was made from');
    t.match(others, { digest: golden?.images[0]?.digest, hello: 'from memory', merged: 1 });
    t.ok(readFileSync(join(project, 'copy')).equals(readFileSync(image)), 'the bytes that mkcomposefs wrote');
  });

  t.test('docs/library.md', async t => {
    const poem =
      'so much depends\nupon\n\na red wheel\nbarrow\n\nglazed with rain\nwater\n\nbeside the white\nchickens\n';
    mkdirSync(join(project, 'tree'));
    writeFileSync(join(project, 'tree', 'poem'), poem);
    t.equal(run(project, 'library.js'), `poem\n${poem}\nlayer tree: /poem\n`);
  });

  t.test('docs/kernel-developers.md: a rule', async t => {
    const foo = newInode(0o100644);
    foo.sizeBytes = 4;
    setPayload(foo, '1e/de');
    writeFileSync(join(project, 'A'), writeImage(directory({ foo })));
    writeFileSync(join(project, 'B'), writeImage(directory({ '1e': directory({}) })));
    mkdirSync(join(project, 'C', '1e'), { recursive: true });
    writeFileSync(join(project, 'C', '1e', 'de'), 'data');
    t.equal(run(project, 'rule.js'), 'regular file of A, data at /1e/de in data-only layers; Linux: EIO\n');
  });
});

t.end();
