/** Proves src/inspect/inventory.ts: every regular file once, whatever the tree does, and an error for what is broken. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { inventory } from '../../src/inspect/inventory.ts';
import { openOverlay } from '../../src/overlay/open.ts';
import { Overlay } from '../../src/overlay/overlay.ts';
import { ErrnoError, EUCLEAN } from '../../src/sys/errno.ts';
import { device, dir, FakeLayer, file, link, meta, type Spec, whiteout } from '../fixtures/fake-layer.ts';
import { goldenFolder } from '../fixtures/images/golden-images.ts';
import { optionsOf, plainOptions, scratch } from '../fixtures/layers.ts';

/** Paths of all files, in the order of bytes, and ` !ERRNO` behind what is broken. */
const shown = (overlay: Overlay): string[] =>
  [...inventory(overlay)].map(found => ('error' in found ? `${found.path} !${found.error.name}` : found.path)).sort();

const stack = (...specs: Spec[]): Overlay =>
  new Overlay(
    specs.map((spec, i) => new FakeLayer('ABC'[i] as string, spec)),
    [],
    plainOptions,
  );

/** A layer that cannot list the directory `bad`, nor look up `worse`. */
class Broken extends FakeLayer {
  override readdir(...[directory, visit]: Parameters<FakeLayer['readdir']>): boolean {
    if ((directory as { path?: string }).path === '/bad') throw new ErrnoError(EUCLEAN, 'a corrupt directory');
    return super.readdir(directory, visit);
  }

  override lookup(...[directory, name]: Parameters<FakeLayer['lookup']>): ReturnType<FakeLayer['lookup']> {
    if (name === 'worse') throw new ErrnoError(EUCLEAN, 'a corrupt inode');
    return super.lookup(directory, name);
  }
}

t.test('a walk', async t => {
  const shared = file('shared');
  const loop = dir({ inside: file() });
  (loop.entries as Record<string, Spec>).again = loop;
  for (const [rule, specs, want] of [
    [
      'every file, at any depth',
      [dir({ a: file(), d: dir({ b: file(), e: dir({ c: file() }) }) })],
      ['/a', '/d/b', '/d/e/c'],
    ],
    ['no directory, symlink or device', [dir({ d: dir(), l: link('a'), c: device(1, 3) })], []],
    ['the names of a hard link are one file', [dir({ a: shared, b: shared })], ['/a']],
    ['what a layer below adds', [dir({ d: dir({ a: file() }) }), dir({ d: dir({ b: file() }) })], ['/d/a', '/d/b']],
    ['what a whiteout hides is nothing', [dir({ a: whiteout }), dir({ a: file(), b: file() })], ['/b']],
    ['nor is one that is listed', [dir({ d: dir({ w: whiteout, a: file() }) })], ['/d/a']],
    ['a directory that is inside itself ends', [dir({ loop })], ['/loop/inside']],
    ['a metacopy file without data is an error', [dir({ m: meta(), a: file() }), dir()], ['/a', '/m !EIO']],
  ] as const) {
    t.strictSame(shown(stack(...specs)), want, rule);
  }
  const broken = new Broken('A', dir({ bad: dir({ x: file() }), worse: file(), fine: file() }));
  t.strictSame(
    shown(new Overlay([broken], [], plainOptions)),
    ['/bad !EUCLEAN', '/fine', '/worse !EUCLEAN'],
    'what is corrupt is an error, and the walk goes on',
  );
});

t.test('the golden images', async t => {
  for (const name of ['small-1', 'names-0', 'hardlink-1', 'wide-0', 'deep-1']) {
    const overlay = openOverlay(
      optionsOf(`${join(goldenFolder, 'images', `${name}.cfs`)}::${scratch(t)}`, { redirects: 'data-only' }),
    );
    const files = [...inventory(overlay)].filter(found => 'node' in found).length;
    overlay.close();
    // composefs-dump(5): path, size, mode and links; `@` before the mode of a further name of a hard link
    const dump = readFileSync(join(goldenFolder, `${name}.dump`), 'latin1')
      .trimEnd()
      .split('\n');
    // a whiteout (0:0) of the dump is in the image a regular file, which a mount below another one turns into a whiteout
    const regular = dump.filter(line => /^\S+ \d+ (100\d{3}|20\d{3} \d+ \d+ \d+ 0) /.test(line));
    t.equal(files, regular.length, `${name}: as many files as the dump has`);
  }
});
t.end();
