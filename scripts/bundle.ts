/**
 * Makes dist/bin of what tsc made: what a mount runs, in a file for the command and one for threads that measure. A file of its
 * own takes longer to find than to run, and ES modules take 4 ms more than CommonJS, in every thread. scripts/build.sh runs it. Function names stay, for stack traces; `node --enable-source-maps` has the lines, too.
 */
import { readFileSync } from 'node:fs';
import { dirname, join, relative } from 'node:path';
import { fileURLToPath } from 'node:url';
import { build, type Plugin } from 'esbuild';

const dist = fileURLToPath(new URL('..', import.meta.url));
const from = join(dist, 'src');
const to = join(dist, 'bin');

/** What each one starts with. */
const bundles: readonly (readonly [file: string, entry: string])[] = [
  ['lowerdata.cjs', join(from, 'cli/main.js')],
  ['measure-worker.cjs', join(from, 'verity/measure-worker.js')],
  ['sha2.cjs', '@noble/hashes/sha2.js'],
];
const bundleOf = (entry: string): string | undefined => bundles.find(row => row[1] === entry)?.[0];

/** Loaded on demand by a mount, and so part of the bundle; all other commands are loaded from where they are. */
const ON_DEMAND = ['mount', 'daemon', 'launch', 'umount', 'tools'].map(name => join(from, 'cli', `${name}.js`));

/** An expression for the place of a file of dist. */
const placeOf = (file: string): string => `require('node:path').join(__dirname, '${relative(to, file)}')`;

/** The same program, for a bundle: it finds its threads there, and everything else from its own place. */
function relocated(file: string): string {
  return readFileSync(file, 'utf8')
    .replace(/new URL\('(\.[^']+\.js)', import\.meta\.url\)/g, (whole, name: string) => {
      const bundle = bundleOf(join(dirname(file), name));
      return bundle ? placeOf(join(to, bundle)) : whole;
    })
    .replaceAll('import.meta.url', `require('node:url').pathToFileURL(${placeOf(file)}).href`)
    .replaceAll(/\bawait import\('(@[^']+)'\)/g, (_, name) => `require('./${bundleOf(name)}')`); // at once, here
}

const relocate: Plugin = {
  name: 'relocate',
  setup({ onLoad, onResolve }) {
    onLoad({ filter: /\/dist\/src\/.*\.js$/ }, ({ path }) => ({ contents: relocated(path) }));
    onResolve({ filter: /^\.\/\w+\.cjs$/ }, ({ path }) => ({ path, external: true }));
    onResolve({ filter: /^\./ }, ({ path, resolveDir, kind }) => {
      const file = join(resolveDir, path);
      const isElsewhere = kind === 'dynamic-import' && !ON_DEMAND.includes(file);
      return isElsewhere ? { path: relative(to, file), external: true } : undefined;
    });
  },
};

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
    plugins: [relocate],
    logLevel: 'warning',
  });
