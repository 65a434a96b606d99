/** Which folder of src/ may import which, read from the import statements themselves. */
import { readdirSync, readFileSync } from 'node:fs';
import { dirname, join, normalize } from 'node:path';
import t from 'tap';
import { goldenFolder } from './fixtures/images/golden-images.ts';

/** The map: a folder's files may import those of these folders, of their own, and of sys. */
const arrows: Readonly<Record<string, readonly string[]>> = {
  cli: ['driver', 'builder', 'overlay', 'fuse'],
  driver: ['fuse', 'overlay', 'verity'],
  overlay: ['layers', 'verity'],
  layers: ['erofs'],
  builder: ['erofs', 'verity'],
  fuse: [],
  erofs: [],
  verity: [],
  sys: [],
};

/** What a folder may import besides, and why. `type` alone: nothing of it is there when the program runs. */
const besides: readonly (readonly [folder: string, file: string, kind: 'type' | 'value', why: string])[] = [
  ['driver', 'layers/layer.ts', 'type', 'the data that an overlay opens is passed on to the kernel'],
  ['cli', 'erofs/image.ts', 'value', 'info and compare read an image without a stack around it'],
  ['cli', 'erofs/format.ts', 'value', 'compare asks for the composefs header of an image'],
  ['cli', 'layers/handle-index.ts', 'value', 'the command index writes what a directory layer reads'],
  ['cli', 'verity/measure-pool.ts', 'value', 'fsck and relink have files measured on other threads'],
  ['cli', 'verity/digest.ts', 'value', 'mkfs, info and compare print the digest of a file'],
];

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
const files = readdirSync(source, { recursive: true, encoding: 'utf8' }).filter(name => name.endsWith('.ts'));
const textOf = (file: string): string => readFileSync(join(source, file), 'utf8');

const statement = /^(?:import|export)\s+(type\s)?[^;'"]*?from\s+'([^']+)'|^import\s+'([^']+)'/gm;
/** `import('x')`, `require('x')`, and the file of a worker. */
const call = /(?:\bimport|\brequire|createRequire\([^)]*\))\(\s*'([^']+)'|new URL\(\s*'([^']+\.[jt]s)'/g;

function importsOf(from: string): Import[] {
  const text = textOf(from);
  const named = [...text.matchAll(statement)].map(([, type, name, bare]) => ({ name: name ?? bare, isType: !!type }));
  const called = [...text.matchAll(call)].map(([, name, worker]) => ({ name: name ?? worker, isType: false }));
  return [...named, ...called].map(({ name = '', isType }) => {
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
const needed = ({ from, to }: Import): boolean => {
  const [folder, other] = [folderOf(from), folderOf(to)];
  return from.includes('/') && folder !== other && other !== 'sys' && !arrows[folder]?.includes(other);
};
const excuse = ({ from, to, isType }: Import) =>
  besides.find(([folder, file, kind]) => folder === folderOf(from) && file === to && (kind === 'value' || isType));

t.ok(inside.length > 200, 'imports are found');
t.strictSame(
  inside.filter(({ to }) => !files.includes(to)).map(words),
  [],
  'every import is that of a file, spelled with its ending',
);
t.strictSame(inside.filter(one => needed(one) && !excuse(one)).map(words), [], 'imports follow the arrows of the map');
for (const rule of besides) {
  t.ok(
    inside.some(one => needed(one) && excuse(one) === rule),
    `${rule[0]} -> ${rule[1]}: ${rule[3]}`,
  );
}
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

const { dependencies, optionalDependencies } = JSON.parse(readFileSync(join(home, 'package.json'), 'utf8'));
const installed = Object.keys({ ...dependencies, ...optionalDependencies });
const packages = imports.filter(({ to, isPackage }) => isPackage && !to.startsWith('node:'));
t.strictSame(
  packages.filter(({ to }) => !installed.some(name => to === name || to.startsWith(`${name}/`))).map(words),
  [],
  'every package is a dependency',
);

t.test('no file waits for itself to load', async t => {
  const loads = inside.filter(({ isType }) => !isType);
  const targets = new Map(files.map(file => [file, loads.filter(({ from }) => from === file).map(({ to }) => to)]));
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
t.end();
