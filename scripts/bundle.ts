/**
 * Bundles the output of tsc into dist/bin: one file for the command, and one for each kind of thread that measures. Finding a separate file
 * takes longer than running it, and ES modules take 4 ms more than CommonJS in every thread. scripts/build.sh runs this script.
 * Function names are kept for stack traces. Source maps give the lines, but Node.js does not look for one for main.cjs by itself.
 */
import { rmSync } from 'node:fs';
import { join, relative } from 'node:path';
import { fileURLToPath } from 'node:url';
import { build, type Plugin } from 'esbuild';

const dist = fileURLToPath(new URL('..', import.meta.url));
const from = join(dist, 'src');
const to = join(dist, 'bin');

/** The output files with their entry points. */
const bundles: readonly (readonly [file: string, entry: string])[] = [
  ['lowerdata.cjs', join(from, 'cli/start.js')],
  ['main.cjs', join(from, 'cli/main.js')],
  ['file-worker.cjs', join(from, 'store/file-worker.js')],
  ['measure-worker.cjs', join(from, 'verity/measure-worker.js')],
  ['copy-worker.cjs', join(from, 'upper/copy-worker.js')],
  ['sha2.cjs', '@noble/hashes/sha2.js'],
];
/**
 * Files that a mount or an image tool loads on demand, and that are therefore part of the bundle: container engines run these for
 * each layer. Other commands are loaded from dist/src.
 */
const ON_DEMAND = [
  'cli/commands/info.js',
  'cli/commands/mkfs.js',
  'cli/commands/mount.js',
  'cli/commands/umount.js',
  'cli/composefs-tools.js',
  'mount/daemon.js',
  'mount/launch.js',
].map(name => join(from, name));

/** Has `import()` of all other files load them from their place in dist/src. */
const loadOutside: Plugin = {
  name: 'load outside',
  setup({ onResolve }) {
    onResolve({ filter: /^\./ }, ({ kind, path, resolveDir }) => {
      const file = join(resolveDir, path);
      if (kind !== 'dynamic-import' || ON_DEMAND.includes(file)) return undefined;
      return { path: relative(to, file), external: true };
    });
  },
};

/**
 * The function around the bundle, which cli/start.ts calls. A script has no `import()`, so esbuild turns it into calls of the
 * function's own `require`.
 */
const wrapper = {
  supported: { 'dynamic-import': false },
  banner: { js: '(function (exports, require, module, __filename, __dirname) {' },
  footer: { js: '})' },
};

rmSync(to, { recursive: true, force: true });
for (const [file, entry] of bundles)
  await build({
    entryPoints: [entry],
    outfile: join(to, file),
    bundle: true,
    platform: 'node',
    target: 'node20.18',
    format: 'cjs',
    define: {
      'import.meta.bundled': 'true',
      'import.meta.dirname': '__dirname',
      'import.meta.filename': '__filename',
    },
    minifyWhitespace: true, // reading the file is half of its load time
    minifySyntax: true,
    sourcemap: true,
    sourcesContent: false,
    legalComments: 'external',
    ...(file === 'main.cjs' ? wrapper : {}),
    plugins: [loadOutside],
    logLevel: 'warning',
  });
