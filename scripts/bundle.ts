/**
 * Makes dist/bin of what tsc made: what a mount runs, in a file for the command and one for threads that measure. A file of its
 * own takes longer to find than to run, and ES modules take 4 ms more than CommonJS, in every thread. scripts/build.sh runs it.
 * Function names stay, for stack traces; for lines there are source maps, which Node.js does not ask for itself in main.cjs.
 */
import { readFileSync, rmSync, writeFileSync } from 'node:fs';
import { dirname, join, relative } from 'node:path';
import { fileURLToPath } from 'node:url';
import { build, type Plugin } from 'esbuild';

const dist = fileURLToPath(new URL('..', import.meta.url));
const from = join(dist, 'src');
const to = join(dist, 'bin');

/** What each one starts with. */
const bundles: readonly (readonly [file: string, entry: string])[] = [
  ['lowerdata.cjs', join(from, 'cli/start.js')],
  ['main.cjs', join(from, 'cli/main.js')],
  ['measure-worker.cjs', join(from, 'verity/measure-worker.js')],
  ['sha2.cjs', '@noble/hashes/sha2.js'],
];
const bundleOf = (entry: string): string | undefined => bundles.find(row => row[1] === entry)?.[0];

/** Loaded on demand by a mount, and so part of the bundle; all other commands are loaded from where they are. */
const ON_DEMAND = [
  'cli/commands/mount.js',
  'cli/commands/umount.js',
  'cli/composefs-tools.js',
  'mount/daemon.js',
  'mount/launch.js',
].map(name => join(from, name));

/** An expression for the place of a file of dist. */
const placeOf = (file: string): string => `require('node:path').join(__dirname, '${relative(to, file)}')`;

const urlOf = (file: string): string => `require('node:url').pathToFileURL(${placeOf(file)}).href`;

/** The same program, for a bundle: it finds its threads there, and everything else from its own place. */
function relocated(file: string): string {
  return readFileSync(file, 'utf8')
    .replace(/new URL\('(\.[^']+\.js)', import\.meta\.url\)/g, (whole, name: string) => {
      const bundle = bundleOf(join(dirname(file), name));
      return bundle ? placeOf(join(to, bundle)) : whole;
    })
    .replaceAll(/\bimport\(["'](\.[^"']+)["']\)/g, (whole, name: string) => {
      const target = join(dirname(file), name);
      return ON_DEMAND.includes(target) ? whole : `importFile(${urlOf(target)})`;
    })
    .replaceAll('createRequire(import.meta.url)', 'require')
    .replace("modules('node-gyp-build')", "require('node-gyp-build')") // into the bundle: there it is found at once
    .replaceAll('import.meta.url', urlOf(file))
    .replaceAll(/\bawait import\('(@[^']+)'\)/g, (_, name) => `require('./${bundleOf(name)}')`); // at once, here
}

const relocate: Plugin = {
  name: 'relocate',
  setup({ onLoad, onResolve }) {
    onLoad({ filter: /\/dist\/src\/.*\.js$/ }, ({ path }) => ({ contents: relocated(path) }));
    onResolve({ filter: /^\.\/\w+\.cjs$/ }, ({ path }) => ({ path, external: true }));
  },
};

/** cli/start.ts calls what is between. */
const WRAPPER = `(function (exports, require, module, __dirname, importFile) {
const delayed = name => new Proxy({}, { get: (_, key) => require(name)[key] });`;

/**
 * Modules of Node.js that take 4 ms to come up, and that a mount needs later, if at all: they are asked for when they are used.
 * No word gets longer or shorter, so that source maps are right.
 */
const withLateModules = (bundle: string): string =>
  bundle.replaceAll(/=require\("(node:(?:child_process|net|os|readline|worker_threads))"\)/g, '=delayed("$1")');

rmSync(to, { recursive: true, force: true });
for (const [file, entry] of bundles)
  await build({
    entryPoints: [entry],
    outfile: join(to, file),
    bundle: true,
    platform: 'node',
    target: 'node20.18',
    format: 'cjs',
    minifyWhitespace: true, // reading it is half of its time
    minifySyntax: true,
    sourcemap: true,
    sourcesContent: false,
    legalComments: 'external',
    ...(file === 'main.cjs' ? { banner: { js: WRAPPER }, footer: { js: '})' } } : {}),
    plugins: [relocate],
    logLevel: 'warning',
  });

const file = join(to, 'main.cjs');
writeFileSync(file, withLateModules(readFileSync(file, 'latin1')), 'latin1');
