/**
 * Images of layers: stacked, they show what the merged image of the same layers shows, for each number of layers from the lowest one
 * on; to commands, and in the kernel.
 */
import { execFileSync } from 'node:child_process';
import { existsSync, mkdirSync, readdirSync, realpathSync } from 'node:fs';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { dump } from '../fixtures/dump.ts';
import { noErofs, run } from '../fixtures/mounts/kernel-mount.ts';
import { lowerdata } from '../fixtures/mounts/mounted.ts';
import { type Fields, member, ociFixtures } from '../fixtures/oci/archives.ts';
import { archiveOf, makeLayout, TAG, writeImage, writeIndex } from '../fixtures/oci/layout.ts';
import { runCommand } from '../fixtures/run-command.ts';
import { withScratch } from '../fixtures/scratch.ts';
import { without, withoutFuse } from '../fixtures/skips.ts';

t.setTimeout(600_000);

const SEEDS = Number(process.env.LOWERDATA_FUZZ ?? 6);
const program = (name: string, ...args: string[]): string[] => [join(ociFixtures, name), ...args];
const layersIn = (home: string): string[] =>
  readdirSync(home)
    .filter(name => name.endsWith('.tar'))
    .sort()
    .map(name => join(home, name));

interface Pulled {
  readonly digest: string;
  readonly layers: readonly string[];
}

/** Pulls an image with its layers. @returns the digest of the image and those of its layers, or why there is none */
function pull(layout: string, store: string, ...args: string[]): Pulled | string {
  const { status, stdout, stderr } = runCommand([
    'pull',
    `oci:${layout}`,
    '--store',
    store,
    '--layers',
    '--json',
    ...args,
  ]);
  if (status !== 0) return stderr;
  const { digest, layerImages } = JSON.parse(stdout);
  return { digest, layers: layerImages.map((each: { digest: string }) => each.digest) };
}

const imageIn = (store: string, digest: string): string => join(store, 'images', digest);
/** From the lowest layer upwards to a stack, in which an image has its highest place alone. */
const topFirst = (layers: readonly string[]): string[] => [...new Set([...layers].reverse())];
const stackOf = (store: string, layers: readonly string[]): string =>
  `${topFirst(layers)
    .map(digest => imageIn(store, digest))
    .join(':')}::${join(store, 'objects')}`;

/** The dump lines of a stack of images, mounted by the kernel. */
function kernelLines(home: string, store: string, images: readonly string[]): string[] {
  const mounted: string[] = [];
  try {
    for (const [i, digest] of topFirst(images).entries()) {
      const place = join(home, `layer-${i}`);
      mkdirSync(place, { recursive: true });
      run('mount', '-t', 'erofs', '-o', 'loop,ro', imageIn(store, digest), place);
      mounted.push(place);
    }
    const lower = `${mounted.join(':')}::${join(store, 'objects')}`;
    mkdirSync(join(home, 'kernel'), { recursive: true });
    const options = `ro,metacopy=on,redirect_dir=follow,lowerdir=${lower}`;
    run('mount', '-t', 'overlay', 'overlay', '-o', options, join(home, 'kernel'));
    mounted.push(join(home, 'kernel'));
    return dump(join(home, 'kernel'));
  } finally {
    for (const place of mounted.reverse()) run('umount', place);
  }
}

/** Compares the stacks of the lowest layers with their merged images. @param inKernel whether the kernel is asked, too */
function compare(t: Test, home: string, rule: string, layoutOf: (count: number) => string, args: string[] = []): void {
  const store = join(home, 'store');
  const count = layersIn(home).length;
  const made = pull(layoutOf(count), store, ...args);
  if (typeof made === 'string') return void t.match(made, /a hard link to/, `${rule}: refused`);
  t.equal(made.layers.length, count, `${rule}: an image a layer`);
  const missing = noErofs() ?? (without('losetup') || undefined);
  if (missing !== undefined) t.pass(`${rule}: in the kernel`, { skip: missing });
  for (let k = 1; k <= count; k++) {
    const merged = pull(layoutOf(k), store, ...args) as Pulled;
    const layers: readonly string[] = made.layers.slice(0, k);
    t.strictSame(merged.layers, layers, `${rule}: images of ${k} layers do not depend on those above`);
    const compared = runCommand(['compare', stackOf(store, layers), stackOf(store, [merged.digest])]);
    t.match(compared, { stdout: '', stderr: '', status: 0 }, `${rule}: ${k} of ${count} layers`);
    if (missing !== undefined) continue;
    const want = kernelLines(home, store, [merged.digest]);
    t.strictSame(kernelLines(home, store, layers), want, `${rule}: ${k} of ${count} layers in the kernel`);
  }
}

/** Layouts of the lowest layers of a directory. */
const layoutsOf =
  (home: string) =>
  (count: number): string => {
    const layout = join(home, `layout-${count}`);
    makeLayout(layout, 'gzip', layersIn(home).slice(0, count));
    return layout;
  };

t.test('all that an image can have', { skip: without('python3') }, async t =>
  withScratch(home => {
    execFileSync('python3', program('make-layers.py', home));
    compare(t, home, 'everything', layoutsOf(home));
  }),
);

t.test('layers by chance', { skip: without('python3') }, async t => {
  const start = Date.now() % 1e6;
  for (let seed = start; seed < start + SEEDS; seed++)
    withScratch(home => {
      execFileSync('python3', program('make-layers.py', home, String(seed)));
      compare(t, home, `seed ${seed}`, layoutsOf(home), seed % 3 === 0 ? ['--whiteouts=composefs-rs'] : []);
    });
});

const dir = (name: string, fields: Fields = {}): Buffer => member({ name, type: '5', mode: 0o755, ...fields });
const file = (name: string, data: string | Buffer = '', fields: Fields = {}): Buffer =>
  member({ name, ...fields }, data);
const link = (name: string, linkname: string): Buffer => member({ name, type: '1', linkname });
const LARGE = 'x'.repeat(5000);

/** Layers, and what the image of the last one has: the name, its type and mode, its links, and whether it is opaque. */
const TOPMOST: readonly (readonly [rule: string, layers: readonly (readonly Buffer[])[], names: readonly string[]])[] =
  [
    ['a file', [[file('a')], [file('b')]], ['/b 0o100644 1']],
    ['a whiteout', [[file('a')], [file('.wh.a')]], ['/a 0o20000 1']],
    ['whiteouts of nothing', [[file('a')], [file('.wh.b'), file('c/.wh.d'), file('c/.wh..wh..opq')]], []],
    [
      'whiteouts in the lowest layer',
      [[file('.wh.a'), dir('b/'), file('b/.wh..wh..opq'), file('b/.wh.c')]],
      ['/b 0o40755'],
    ],
    [
      'the attributes of a directory without an entry',
      [[dir('d/', { mode: 0o700 }), dir('d/e/', { mode: 0o750 })], [file('d/e/f')]],
      ['/d 0o40700', '/d/e 0o40750', '/d/e/f 0o100644 1'],
    ],
    [
      'a whiteout in a directory without an entry',
      [[dir('d/', { mode: 0o700 }), file('d/a')], [file('d/.wh.a')]],
      ['/d 0o40700', '/d/a 0o20000 1'],
    ],
    [
      'an opaque directory',
      [
        [dir('d/'), file('d/a')],
        [file('d/.wh..wh..opq'), file('d/b')],
      ],
      ['/d 0o40755 opaque', '/d/b 0o100644 1'],
    ],
    [
      'no whiteouts in an opaque directory',
      [
        [dir('d/'), file('d/a')],
        [file('d/.wh.a'), file('d/.wh..wh..opq'), file('d/b')],
      ],
      ['/d 0o40755 opaque', '/d/b 0o100644 1'],
    ],
    [
      'a directory in place of another',
      [
        [dir('d/'), file('d/a')],
        [file('.wh.d'), dir('d/', { mode: 0o711 })],
      ],
      ['/d 0o40711 opaque'],
    ],
    [
      'an opaque directory that is new',
      [[file('a')], [dir('d/'), file('d/.wh..wh..opq'), file('d/.wh.x'), file('d/b')]],
      ['/d 0o40755', '/d/b 0o100644 1'],
    ],
    [
      'a directory in place of a file',
      [[dir('d/'), file('d/a')], [file('d', 'f')], [dir('d/'), file('d/b')]],
      ['/d 0o40755 opaque', '/d/b 0o100644 1'],
    ],
    ['a file in place of a directory', [[dir('d/'), file('d/a')], [file('d', LARGE)]], ['/d 0o100644 1']],
    [
      'a whole layer that is opaque',
      [
        [file('a'), dir('d/'), file('d/e')],
        [dir('d/'), file('.wh..wh..opq')],
      ],
      ['/a 0o20000 1', '/d 0o40755 opaque'],
    ],
    ['a hard link to a lower layer', [[file('a', LARGE)], [link('b', 'a')]], ['/a 0o100644 2', '/b 0o100644 2']],
    [
      'one of three names is hidden',
      [[file('a', LARGE), link('b', 'a'), dir('d/'), link('d/c', 'a')], [file('.wh.a')]],
      ['/a 0o20000 1', '/b 0o100644 2', '/d 0o40755', '/d/c 0o100644 2'],
    ],
    [
      'one of two names is replaced, and all names go',
      [[file('a'), link('b', 'a')], [file('a', 'new')], [file('.wh.a'), file('.wh.b')]],
      ['/a 0o20000 1', '/b 0o20000 1'],
    ],
    [
      'names that no change concerns',
      [[file('a', LARGE), link('b', 'a'), file('c')], [file('.wh.c')]],
      ['/c 0o20000 1'],
    ],
    ['a device 0:0 is no whiteout', [[file('a')], [member({ name: 'a', type: '3', mode: 0o600 })]], ['/a 0o100600 1']],
    [
      '/run',
      [
        [dir('run/'), file('run/a')],
        [file('run/.wh.a'), file('run/b')],
      ],
      ['/run 0o40755'],
    ],
    [
      'odd names',
      [
        [file('.wh.d/x'), file('a')],
        [file('.wh..wh.plnk/1.2'), file('.wh.'), file('.wh..'), file('d/.wh...')],
      ],
      [],
    ],
  ];

/** The names of an image as the kernel shows it. */
const namesOf = (lines: readonly string[]): string[] =>
  lines.flatMap(line => {
    const [, path, mode = '', links] = /^b'(.*?)' (0o\d+) \d+ \d+ \d+ (\d+) /.exec(line) ?? [];
    if (path === undefined) return [];
    const opaque = line.includes("('trusted.overlay.opaque', b'y')") ? ' opaque' : '';
    return [`${path} ${mode}${mode.startsWith('0o4') ? '' : ` ${links}`}${opaque}`];
  });

t.test('what the image of a layer has', { skip: noErofs() ?? without('losetup') }, async t => {
  for (const [rule, layers, names] of TOPMOST)
    withScratch(home => {
      const at = (name: string): string => join(home, name);
      writeIndex(at('layout'), [
        {
          ...writeImage(
            at('layout'),
            layers.map(each => archiveOf(...each)),
          ),
          annotations: { [TAG]: 'test' },
        },
      ]);
      const made = pull(at('layout'), at('store')) as Pulled;
      mkdirSync(at('erofs'));
      run('mount', '-t', 'erofs', '-o', 'loop,ro', imageIn(at('store'), made.layers.at(-1) as string), at('erofs'));
      try {
        t.strictSame(namesOf(dump(at('erofs'))), names, rule);
      } finally {
        run('umount', at('erofs'));
      }
      const stacks = [stackOf(at('store'), made.layers), stackOf(at('store'), [made.digest])];
      t.match(runCommand(['compare', ...stacks]), { stdout: '', status: 0 }, `${rule}: the stack is the merged image`);
      t.strictSame(
        kernelLines(home, at('store'), made.layers),
        kernelLines(home, at('store'), [made.digest]),
        `${rule}: in the kernel`,
      );
    });
});

t.test('images by name', async t =>
  withScratch(home => {
    const at = (name: string): string => join(home, name);
    const pullAs = (name: string, layers: readonly (readonly Buffer[])[]) => {
      writeIndex(at('layout'), [
        writeImage(
          at('layout'),
          layers.map(each => archiveOf(...each)),
        ),
      ]);
      return pull(at('layout'), at('store'), '--name', name) as Pulled;
    };
    const refs = (name: string): string[] => readdirSync(at(`store/images/refs/${name}.layers`)).sort();
    const layers = [[dir('usr/'), file('a', LARGE)], [file('b')], [file('.wh.a')]];
    const made = pullAs('some/name', layers);
    t.strictSame(refs('some/name'), ['1', '2', '3']);
    for (const [i, digest] of made.layers.entries())
      t.equal(
        realpathSync(at(`store/images/refs/some/name.layers/${i + 1}`)),
        realpathSync(imageIn(at('store'), digest)),
        `layer ${i + 1}`,
      );
    pullAs('some/name', layers.slice(0, 1));
    t.strictSame(refs('some/name'), ['1'], 'names of more layers are gone');
    const untagged = runCommand(['untag', 'some/name', '--store', at('store')]);
    t.match(untagged, { status: 0 });
    t.strictSame(refs('some/name'), [], 'untag takes them away');
    pullAs('other', layers);
    runCommand(['pull', `oci:${at('layout')}`, '--store', at('store'), '--name', 'other']);
    t.strictSame(refs('other'), [], 'a pull without --layers has none');
  }),
);

t.test('what umoci unpacks', { skip: withoutFuse || without('umoci') || without('python3') }, async t =>
  withScratch(home => {
    const at = (name: string): string => join(home, name);
    execFileSync('python3', program('make-layers.py', home));
    makeLayout(at('layout'), 'gzip', layersIn(home));
    execFileSync('umoci', ['unpack', '--image', `${at('layout')}:test`, at('bundle')], { stdio: 'pipe' });
    const linesOf = (directory: string): string[] => dump(directory).filter(line => !/^b'\/run/.test(line));
    const want = linesOf(at('bundle/rootfs'));
    t.ok(want.length > 25, `${want.length} names`);
    const { stdout } = runCommand(['pull', `oci:${at('layout')}`, '--store', at('store'), '--layers']);
    const call = stdout.split('\n').findLast(line => line.startsWith('lowerdata mount')) as string;
    mkdirSync(at('mnt'));
    const words = call.replace('lowerdata', `'${process.execPath}' '${lowerdata}'`).replace('MOUNTPOINT', at('mnt'));
    execFileSync('sh', ['-ec', words]);
    try {
      t.strictSame(linesOf(at('mnt')), want, 'mounted by the call that is printed last');
    } finally {
      run('umount', at('mnt'));
    }
  }),
);

t.test('what is refused, and what is not left', async t =>
  withScratch(home => {
    const at = (name: string): string => join(home, name);
    writeIndex(at('layout'), [
      writeImage(
        at('layout'),
        Array.from({ length: 500 }, () => archiveOf(dir('usr/'))),
      ),
    ]);
    t.match(pull(at('layout'), at('store')), /: 500 layers; overlayfs takes 499$/);
    writeIndex(at('layout'), [writeImage(at('layout'), [archiveOf(dir('usr/')), archiveOf(file('usr/a'))])]);
    t.match(pull(at('layout'), at('store'), '--expect', '0'.repeat(64)), / is expected$/);
    t.notOk(existsSync(at('store/images')), 'no image is made');
  }),
);
t.end();
