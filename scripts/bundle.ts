/**
 * Bundles the output of tsc into dist/bin: one file for the command and one for the threads that measure. Finding a separate file
 * takes longer than running it, and ES modules take 4 ms more than CommonJS in every thread. scripts/build.sh runs this script.
 * Function names are kept for stack traces. Source maps give the lines, but Node.js does not look for one for main.cjs by itself.
 */
import { readFileSync, rmSync, writeFileSync } from 'node:fs';
import { dirname, join, relative } from 'node:path';
import { fileURLToPath } from 'node:url';
import { build, type Plugin } from 'esbuild';

const dist = fileURLToPath(new URL('..', import.meta.url));
const from = join(dist, 'src');
const to = join(dist, 'bin');

/** The output files with their entry points. */
const bundles: readonly (readonly [file: string, entry: string])[] = [
  ['lowerdata.cjs', join(from, 'cli/start.js')],
  ['main.cjs', join(from, 'cli/main.js')],
  ['measure-worker.cjs', join(from, 'verity/measure-worker.js')],
  ['sha2.cjs', '@noble/hashes/sha2.js'],
];
const bundleOf = (entry: string): string | undefined => bundles.find(row => row[1] === entry)?.[0];

/** Files that a mount loads on demand, and that are therefore part of the bundle. Other commands are loaded from dist/src. */
const ON_DEMAND = [
  'cli/commands/mount.js',
  'cli/commands/umount.js',
  'cli/composefs-tools.js',
  'mount/daemon.js',
  'mount/launch.js',
].map(name => join(from, name));

/** An expression for the path of a file in dist. */
const placeOf = (file: string): string => `require('node:path').join(__dirname, '${relative(to, file)}')`;

const urlOf = (file: string): string => `require('node:url').pathToFileURL(${placeOf(file)}).href`;

/** A program adapted to the bundle: it finds bundled threads in dist/bin, and all other files from its original place. */
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
    .replace("modules('node-gyp-build')", "require('node-gyp-build')") // bundled, so it is found at once
    .replaceAll('import.meta.url', urlOf(file))
    .replaceAll(/\bawait import\('(@[^']+)'\)/g, (_, name) => `require('./${bundleOf(name)}')`); // synchronous in a bundle
}

const relocate: Plugin = {
  name: 'relocate',
  setup({ onLoad, onResolve }) {
    onLoad({ filter: /\/dist\/src\/.*\.js$/ }, ({ path }) => ({ contents: relocated(path) }));
    onResolve({ filter: /^\.\/\w+\.cjs$/ }, ({ path }) => ({ path, external: true }));
  },
};

/** The function around the bundle, which cli/start.ts calls. */
const WRAPPER = `(function (exports, require, module, __dirname, importFile) {
const delayed = name => new Proxy({}, { get: (_, key) => require(name)[key] });`;

/**
 * Delays the loading of Node.js modules that take 4 ms to initialise and that a mount needs late or never. The replacement has
 * the same length, so that source maps stay valid.
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
    minifyWhitespace: true, // reading the file is half of its load time
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
