/**
 * Proves the examples in the docstrings of what src/index.ts exports: each has the right types and runs, as a program that
 * imports the package. An example imports nothing itself and runs in a directory of its own, which holds
 *
 *     small.cfs, small.dump   a golden image, and the dump that mkcomposefs made it of
 *     tree                    a directory: `poem` has 128 bytes, `link` is a symlink to it
 *     image.cfs               an image of `tree`, whose file has its data at /poem in a data-only layer
 *     empty                   an empty directory
 */
import { spawnSync } from 'node:child_process';
import { copyFileSync, mkdirSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import ts from 'typescript';
import { scanTree } from '../src/composefs/scan.ts';
import { writeImage } from '../src/composefs/write.ts';
import { goldenFolder } from './fixtures/images/golden-images.ts';
import { scratch } from './fixtures/layers.ts';
import { packageFolder } from './fixtures/mounts/mounted.ts';

t.setTimeout(120_000);

const FS_NAMES = `
  closeSync existsSync fstatSync lstatSync openSync readFileSync readdirSync statSync`;
const LINES_MAX = 6;

interface Example {
  readonly name: string;
  readonly lines: readonly string[];
}

/** The exported values of src/index.ts, each with the lines of its example. */
function examples(values: readonly string[]): Example[] {
  const entry = join(packageFolder, 'src', 'index.ts');
  const { config } = ts.readConfigFile(join(packageFolder, 'tsconfig.json'), ts.sys.readFile);
  const { options } = ts.parseJsonConfigFileContent(config, ts.sys, packageFolder);
  const program = ts.createProgram([entry], options);
  const checker = program.getTypeChecker();
  const module = checker.getSymbolAtLocation(program.getSourceFile(entry) as ts.SourceFile) as ts.Symbol;
  const found: Example[] = [];
  for (const exported of checker.getExportsOfModule(module)) {
    const symbol = exported.flags & ts.SymbolFlags.Alias ? checker.getAliasedSymbol(exported) : exported;
    if (!values.includes(exported.name)) continue;
    const tags = symbol.getJsDocTags(checker).filter(({ name }) => name === 'example');
    found.push({
      name: exported.name,
      lines: tags.flatMap(({ text }) => ts.displayPartsToString(text).trim().split('\n')),
    });
  }
  return found;
}

/** The program of an example: it imports what the example names. */
function programOf({ lines }: Example, exported: readonly string[]): string {
  const words = new Set(lines.join('\n').match(/\w+/g));
  const imports = (names: readonly string[], from: string): string =>
    `import { ${names.filter(name => words.has(name)).join(', ')} } from '${from}';\n`;
  return (
    `import assert from 'node:assert/strict';\n${imports(FS_NAMES.trim().split(' '), 'node:fs')}` +
    `${imports(exported, 'lowerdata')}${lines.join('\n')}\nexport {};\n`
  );
}

function makeHome(home: string): void {
  mkdirSync(join(home, 'tree'), { recursive: true });
  mkdirSync(join(home, 'empty'));
  writeFileSync(join(home, 'tree', 'poem'), 'so much depends\n'.repeat(8));
  symlinkSync('poem', join(home, 'tree', 'link'));
  copyFileSync(join(goldenFolder, 'images', 'small-0.cfs'), join(home, 'small.cfs'));
  copyFileSync(join(goldenFolder, 'small-0.dump'), join(home, 'small.dump'));
  const { root, files } = scanTree(join(home, 'tree'));
  for (const { path, inode } of files) inode.payload = path;
  writeFileSync(join(home, 'image.cfs'), writeImage(root));
}

/** Compiles the programs. @returns what is wrong with their types */
function compile(project: string, programs: readonly string[]): string[] {
  const program = ts.createProgram([...programs], {
    ...{ strict: true, noUncheckedIndexedAccess: true, exactOptionalPropertyTypes: true, skipLibCheck: true },
    ...{ module: ts.ModuleKind.NodeNext, target: ts.ScriptTarget.ES2022, types: ['node'] },
    typeRoots: [join(packageFolder, 'node_modules', '@types')],
  });
  program.emit();
  return ts.getPreEmitDiagnostics(program).map(({ file, messageText }) => {
    const text = ts.flattenDiagnosticMessageText(messageText, '\n');
    return `${file?.fileName.replace(`${project}/`, '')}: ${text}`;
  });
}

t.test('examples', async t => {
  const values = examples(Object.keys(await import('../src/index.ts')));
  const all = [...values.map(({ name }) => name), 'Judge', 'Verdict'];
  const given = values.filter(({ lines }) => lines.length > 0);
  const missing = values.filter(({ lines }) => lines.length === 0).map(({ name }) => name);
  t.strictSame(missing, [], 'every exported value has one');
  const long = given.filter(({ lines }) => lines.length > LINES_MAX || !lines.join('').includes('assert.'));
  t.strictSame(long, [], 'each is short and asserts something');

  const project = scratch(t);
  mkdirSync(join(project, 'node_modules'));
  symlinkSync(packageFolder, join(project, 'node_modules', 'lowerdata'));
  writeFileSync(join(project, 'package.json'), '{ "private": true, "type": "module" }');
  const programs = given.map((example, i) => {
    const path = join(project, `${i}-${example.name}.ts`); // names may differ in case alone
    writeFileSync(path, programOf(example, all));
    return path;
  });
  t.strictSame(compile(project, programs), [], 'types');
  for (const [i, { name }] of given.entries()) {
    const home = join(project, 'homes', `${i}`);
    makeHome(home);
    const { status, stderr } = spawnSync(process.execPath, [join(project, `${i}-${name}.js`)], {
      cwd: home,
      encoding: 'utf8',
    });
    t.equal(status, 0, `${name}: ${stderr.slice(0, 1000)}`);
  }
});
t.end();
