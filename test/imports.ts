/** Which folder of src/ may import which, read from the import statements themselves. */
import { readdirSync, readFileSync } from 'node:fs';
import { dirname, join, normalize } from 'node:path';
import t from 'tap';
import { goldenFolder } from './fixtures/images/golden-images.ts';

/** The map: a folder's files may import those of these folders, of their own, and of sys. */
const arrows: Readonly<Record<string, readonly string[]>> = {
  cli: [
    ...['inspect', 'bench', 'doctor', 'mount', 'service', 'driver', 'fuse', 'overlay', 'layers'],
    ...['policy', 'oci', 'seal', 'composefs', 'store', 'erofs', 'verity', 'terminal'],
  ],
  policy: ['overlay', 'oci', 'seal'],
  oci: ['composefs', 'seal', 'store', 'erofs', 'verity'],
  inspect: ['mount', 'oci', 'overlay', 'layers', 'composefs', 'store', 'erofs', 'verity', 'terminal'],
  bench: ['mount', 'fuse', 'overlay', 'terminal'],
  doctor: ['fuse'],
  service: [
    ...['policy', 'driver', 'fuse', 'overlay', 'layers', 'oci', 'seal', 'composefs', 'store'],
    ...['erofs', 'verity', 'terminal'],
  ],
  mount: ['driver', 'fuse', 'overlay', 'policy', 'oci', 'seal'],
  driver: ['upper', 'fuse', 'overlay', 'layers', 'verity'],
  upper: ['overlay', 'layers', 'verity'],
  overlay: ['layers', 'verity'],
  layers: ['erofs'],
  composefs: ['store', 'erofs', 'verity'],
  seal: ['verity'],
  store: ['verity'],
  fuse: [],
  erofs: [],
  verity: [],
  terminal: [],
  sys: [],
};

/** Who may name the addon. */
const ADDON = 'sys/native.ts';

interface Import {
  /** The importing file, relative to src/. */
  readonly from: string;
  /** The imported file, relative to src/, or a package. */
  readonly to: string;
  readonly isPackage: boolean;
  readonly isType: boolean;
}

const home = join(goldenFolder, '..', '..', '..');
const source = join(home, 'src');
const files = readdirSync(source, { recursive: true, encoding: 'utf8' }).filter(
  name => name.endsWith('.ts') && !name.endsWith('.d.ts'),
);
const textOf = (file: string): string => readFileSync(join(source, file), 'utf8');

const statement = /^(?:import|export)\s+(type\s)?[^;'"]*?from\s+'([^']+)'|^import\s+'([^']+)'/gm;
/** `import('x')`, `require('x')`, and the file of a worker. */
const call =
  /(?:\bimport|\brequire|createRequire\([^)]*\))\(\s*'([^']+)'|new URL\(\s*'([^']+\.[jt]s)'|join\(import\.meta\.dirname, `([^`$]+)\$/g;

function importsOf(from: string): Import[] {
  const text = textOf(from);
  const named = [...text.matchAll(statement)].map(([, type, name, bare]) => ({ name: name ?? bare, isType: !!type }));
  const called = [...text.matchAll(call)].map(([, name, worker, beside]) => ({
    name: name ?? worker ?? `./${beside}.ts`,
    isType: false,
  }));
  const found = [...named, ...called].filter(({ name = '' }) => !name.endsWith('.cjs')); // another bundle
  return found.map(({ name = '', isType }) => {
    const isPackage = !name.startsWith('.');
    const to = isPackage ? name : normalize(join(dirname(from), name)).replace(/\.js$/, '.ts');
    return { from, to, isPackage, isType };
  });
}

const imports = files.flatMap(importsOf);
const inside = imports.filter(({ isPackage }) => !isPackage);
const folderOf = (file: string): string => file.split('/')[0] as string;
const words = ({ from, to }: Import): string => `${from} -> ${to}`;

/** Whether an import follows no arrow. */
const isAstray = ({ from, to }: Import): boolean => {
  const [folder, other] = [folderOf(from), folderOf(to)];
  return from.includes('/') && folder !== other && other !== 'sys' && !arrows[folder]?.includes(other);
};

t.ok(inside.length > 200, 'imports are found');
t.strictSame(
  inside.filter(({ to }) => !files.includes(to)).map(words),
  [],
  'every import is that of a file, spelled with its ending',
);
t.strictSame(inside.filter(isAstray).map(words), [], 'imports follow the arrows of the map');
const folders = new Set(files.filter(file => file.includes('/')).map(folderOf));
t.strictSame(
  [...folders].filter(folder => !(folder in arrows)),
  [],
  'every folder is on the map',
);

t.strictSame(
  files.filter(file => file !== ADDON && /'[^'\n]*(?:native-shims|node-gyp-build)[^'\n]*'/.test(textOf(file))),
  [],
  `only ${ADDON} names the addon`,
);

const { dependencies, peerDependencies } = JSON.parse(readFileSync(join(home, 'package.json'), 'utf8'));
const installed = Object.keys({ ...dependencies, ...peerDependencies });
const packages = imports.filter(({ to, isPackage }) => isPackage && !to.startsWith('node:'));
t.strictSame(
  packages.filter(({ to }) => !installed.some(name => to === name || to.startsWith(`${name}/`))).map(words),
  [],
  'every package is a dependency',
);

t.test('imports go round in no circle, those of types neither', async t => {
  const targets = new Map(files.map(file => [file, inside.filter(({ from }) => from === file).map(({ to }) => to)]));
  const done = new Set<string>();
  const visit = (file: string, path: readonly string[]): void => {
    const start = path.indexOf(file);
    if (start >= 0) t.fail([...path.slice(start), file].join(' -> '));
    if (start >= 0 || done.has(file)) return;
    for (const next of targets.get(file) ?? []) visit(next, [...path, file]);
    done.add(file);
  };
  for (const file of files) visit(file, []);
  t.equal(done.size, files.length, 'all files are looked at');
});

/** Files of a folder, without those of folders in it. */
const FILES_MAX = 20;
const LINES_MAX = 400;

t.test('folders and files that can be taken in at a glance', async t => {
  const counts = new Map<string, number>();
  for (const root of ['src', 'test', 'scripts', 'native-shims'])
    for (const entry of readdirSync(join(home, root), { recursive: true, withFileTypes: true }))
      if (entry.isFile() && !IN_BULK.test(entry.parentPath))
        counts.set(entry.parentPath, (counts.get(entry.parentPath) ?? 0) + 1);
  for (const [folder, count] of counts) t.ok(count <= FILES_MAX, `${folder.slice(home.length + 1)}: ${count} files`);
  for (const file of files) {
    const lines = textOf(file).split('\n').length - 1;
    t.ok(lines <= LINES_MAX, `${file}: ${lines} lines`);
  }
});
/** What tools make, and collections of cases. */
const IN_BULK = /native-shims\/(build|prebuilds)|test\/fixtures\/(golden|oracle|should-fail)/;
t.end();
