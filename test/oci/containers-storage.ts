/**
 * Images in the storage of podman and buildah: their layers are given back byte for byte, as their digests say, and the image is that
 * of the same layers in a layout; what cannot be given back is refused.
 */
import { execFileSync, spawnSync } from 'node:child_process';
import { appendFileSync, mkdirSync, readFileSync, renameSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import t from 'tap';
import { member, paxHeader } from '../fixtures/oci/archives.ts';
import { archiveOf, TAG, writeImage, writeIndex } from '../fixtures/oci/layout.ts';
import { type Layer, type Stored, writeStorage } from '../fixtures/oci/storage.ts';
import { type Result, runCommand } from '../fixtures/run-command.ts';
import { withScratch } from '../fixtures/scratch.ts';
import { without, withoutRoot } from '../fixtures/skips.ts';

t.setTimeout(300_000);

const digestIn = ({ stdout }: Result): string => stdout.slice(0, 64);
const LARGE = 'x'.repeat(300_000);
const LAYERS: readonly Layer[] = [
  [
    ['usr/', '5'],
    ['usr/a', '0', LARGE],
    ['usr/\xff', '0', 'not UTF-8'],
    ['./usr//b', '0', 'spelled oddly'],
    ['usr/empty', '0'],
  ],
  [
    ['usr/', '5'],
    ['usr/.wh.a', '0'],
    ['usr/c', '0', 'of the second layer'],
  ],
];

/** Pulls from a storage. */
const pull = (home: string, name: string, ...args: string[]): Result =>
  runCommand(['pull', `containers-storage:${name}`, '--store', join(home, 'store'), ...args]);

/** The digest of the same archives in a layout. */
function wantedDigest(home: string, { archives }: Stored): string {
  const layout = join(home, 'layout');
  writeIndex(layout, [writeImage(layout, archives)]);
  return digestIn(runCommand(['pull', `oci:${layout}`, '--store', join(home, 'other')]));
}

t.test('names of images', async t =>
  withScratch(home => {
    const root = join(home, 'storage');
    const stored = writeStorage(root, LAYERS);
    const want = wantedDigest(home, stored);
    t.match(want, /^[0-9a-f]{64}$/);
    for (const name of ['test', 'test:latest', 'localhost/test', stored.image, `@${stored.image.slice(0, 12)}`])
      t.equal(digestIn(pull(home, `[${root}]${name}`)), want, name);
    for (const place of [`overlay@${root}`, `overlay@${root}+/run`, `${root}+/run:overlay.x=y`])
      t.equal(digestIn(pull(home, `[${place}]test`)), want, place);
    for (const [name, message] of [
      [
        `[${root}]none`,
        `${root}: no image has the name none; the names are: localhost/test:latest, docker.io/library/other:1`,
      ],
      [`[${root}]0000`, `${root}: the IDs of several images begin with 0000`],
      [`[${root}]other:1`, `${root}/overlay-images/${'0'.repeat(63)}1/manifest: No such file or directory`],
      [`[vfs@${root}]test`, `${root}: the driver vfs is not supported; overlay is`],
      [`[${root}]`, 'containers-storage:.*: not containers-storage:\\[\\[DRIVER@\\]/ROOT\\[\\+RUNROOT\\]\\]IMAGE'],
      ['[storage]test', 'containers-storage:.*: not containers-storage:'],
    ] as const)
      t.match(pull(home, name), { status: 1, stderr: new RegExp(`^lowerdata: ${message}`) }, name);
  }),
);

t.test('the storage of the user', async t =>
  withScratch(home => {
    const at = (name: string): string => join(home, name);
    const want = wantedDigest(home, writeStorage(at('some where'), LAYERS));
    const pullWith = (config: string): Result => {
      writeFileSync(at('storage.conf'), config);
      const env = { CONTAINERS_STORAGE_CONF: at('storage.conf') };
      return runCommand(['pull', 'containers-storage:test', '--store', at('store')], { env });
    };
    const graph = `graphroot = "${at('some where')}"`;
    t.equal(digestIn(pullWith(`# a comment\n[storage]\ndriver = "overlay"\n${graph} # another\n`)), want);
    t.equal(digestIn(pullWith(`[storage.options]\ngraphroot = "/x"\n[ storage ]\n ${graph}`)), want);
    t.match(pullWith(`[storage]\ndriver = "btrfs"\n${graph}`).stderr, /the driver btrfs is not supported; overlay is$/);
    const { stderr } = pullWith('[storage]\ngraphroot = "/no/such/storage"');
    t.equal(stderr, 'lowerdata: /no/such/storage: No such file or directory');
  }),
);

/** Changes of a storage, and what is said of them. */
const FAULTS: readonly (readonly [rule: string, change: (root: string, stored: Stored) => void, message: string])[] = [
  [
    'a file of another size',
    (root, s) => appendFileSync(fileOf(root, s, 'usr/a'), 'x'),
    'diff/usr/a: 300001 bytes, but the layer has 300000',
  ],
  [
    'a file of other data',
    (root, s) => writeFileSync(fileOf(root, s, 'usr/a'), LARGE.replace('x', 'y')),
    '.tar-split.gz, decompressed: its digest is sha256:',
  ],
  ['a missing file', (root, s) => rmSync(fileOf(root, s, 'usr/a')), 'diff/usr/a: No such file or directory'],
  [
    'a symlink that leads out',
    (root, s) => {
      renameSync(fileOf(root, s, 'usr'), join(root, 'elsewhere'));
      symlinkSync(join(root, 'elsewhere'), fileOf(root, s, 'usr'));
    },
    'diff/usr/a: No such file or directory',
  ],
  [
    'a directory',
    (root, s) => {
      rmSync(fileOf(root, s, 'usr/a'));
      mkdirSync(fileOf(root, s, 'usr/a'));
    },
    'diff/usr/a: not a regular file',
  ],
  [
    'no file of tar-split',
    (root, s) => rmSync(splitOf(root, s)),
    'has no overlay-layers/[0-9a-f]{64}.tar-split.gz, and its archive cannot be made again; take',
  ],
  [
    'composefs',
    (root, s) => mkdirSync(join(root, 'overlay', s.layers[0] as string, 'composefs-data')),
    'is kept for composefs, and its archive cannot be made again; take',
  ],
  [
    'an unknown line',
    (root, s) => writeFileSync(splitOf(root, s), gzipSync('{"type":3}\n')),
    ': line 1: type: is neither 1 nor 2',
  ],
  ['no JSON', (root, s) => writeFileSync(splitOf(root, s), gzipSync('{}}\n')), ': line 1: no JSON in UTF-8'],
  [
    'a size below 0',
    (root, s) => writeFileSync(splitOf(root, s), gzipSync('{"type":1,"size":-5}\n')),
    ': line 1: size: is no size',
  ],
  [
    'no base64',
    (root, s) => writeFileSync(splitOf(root, s), gzipSync('{"type":2,"payload":"?"}')),
    ': line 1: is no base64',
  ],
  [
    'a line without end',
    (root, s) => writeFileSync(splitOf(root, s), gzipSync(Buffer.alloc(20_000_000, 'x'))),
    'a line of more than 16777216 bytes',
  ],
  [
    'a damaged file of tar-split',
    (root, s) => writeFileSync(splitOf(root, s), readFileSync(splitOf(root, s)).subarray(0, 100)),
    '.tar-split.gz: gzip: ',
  ],
  [
    'zstd:chunked',
    root => changeLayers(root, all => Object.assign(all[0] ?? {}, { 'diff-digest': '' })),
    'was pulled in parts \\(zstd:chunked\\), and its archive cannot be made again',
  ],
  [
    'another digest',
    root => changeLayers(root, all => Object.assign(all[0] ?? {}, { 'diff-digest': 'sha256:0' })),
    'has the digest sha256:0, but the configuration has sha256:',
  ],
  [
    'a layer too few',
    root => changeLayers(root, all => Object.assign(all[1] ?? {}, { parent: '' })),
    ': 1 layers, but the configuration has 2 digests of layers',
  ],
  [
    'layers in a circle',
    (root, s) => changeLayers(root, all => Object.assign(all[0] ?? {}, { parent: s.layers[1] })),
    ': more layers than the 2 digests of layers that the configuration has',
  ],
  ['a missing layer', root => changeLayers(root, all => all.shift()), ' is not in overlay-layers/layers.json'],
  [
    'an ID that is a path',
    root => changeLayers(root, all => Object.assign(all[1] ?? {}, { parent: '../x' })),
    'layer "../x" is no ID',
  ],
  [
    'another manifest',
    (root, s) => appendFileSync(join(root, 'overlay-images', s.image, 'manifest'), ' '),
    '/manifest: its digest is sha256:',
  ],
];

const fileOf = (root: string, { layers }: Stored, name: string): string =>
  join(root, 'overlay', layers[0] as string, 'diff', name);
const splitOf = (root: string, { layers }: Stored): string => join(root, 'overlay-layers', `${layers[0]}.tar-split.gz`);
function changeLayers(root: string, change: (all: Record<string, unknown>[]) => void): void {
  const path = join(root, 'overlay-layers/layers.json');
  const all = JSON.parse(readFileSync(path, 'utf8'));
  change(all);
  writeFileSync(path, JSON.stringify(all));
}

t.test('what is refused', async t => {
  for (const [rule, change, message] of FAULTS)
    withScratch(home => {
      const root = join(home, 'storage');
      change(root, writeStorage(root, LAYERS));
      const { status, stderr, stdout } = pull(home, `[${root}]test`);
      t.match(stderr, new RegExp(`^lowerdata: ${root}.*${message}`), rule);
      t.strictSame([status, stdout], [1, ''], rule);
    });
});

const buildah = (home: string, ...words: string[]) =>
  spawnSync(
    'buildah',
    ['--storage-driver', 'overlay', '--root', join(home, 'storage'), '--runroot', join(home, 'run'), ...words],
    { cwd: home, encoding: 'utf8' },
  );

t.test('what buildah stores', { skip: withoutRoot || without('buildah') }, async t =>
  withScratch(home => {
    const at = (name: string): string => join(home, name);
    const long = `usr/${'long/'.repeat(40)}name`;
    const capability = '\x01\0\0\x02\0\x20\0\0\0\0\0\0\xff\x80\0\0\0\0\0\0';
    const layers = [
      archiveOf(
        ...[member({ name: 'usr/', type: '5', mode: 0o755 }), member({ name: 'usr/a', mode: 0o4755 }, LARGE)],
        ...[
          member({ name: 'usr/hl', type: '1', linkname: 'usr/a' }),
          member({ name: 'usr/s', type: '2', linkname: 'a' }),
        ],
        ...[paxHeader(['path', 'usr/\xff']), member({ name: 'x' }, 'not UTF-8'), member({ name: 'usr/empty' })],
        ...[paxHeader(['SCHILY.xattr.security.capability', capability]), member({ name: 'usr/cap' }, LARGE)],
        ...[paxHeader(['path', long]), member({ name: 'x', uid: 1000, gid: 1001 }, 'deep')],
        ...[member({ name: 'usr/null', type: '3', devmajor: 1, devminor: 3 }), member({ name: 'usr/gone' }, 'gone')],
      ),
      archiveOf(
        ...[
          member({ name: 'usr/', type: '5', mode: 0o711 }),
          member({ name: 'usr/.wh.gone' }),
          member({ name: 'usr/new' }, 'new'),
        ],
        ...[member({ name: 'usr/long/', type: '5' }), member({ name: 'usr/long/.wh..wh..opq' })],
      ),
      Buffer.concat([archiveOf(member({ name: 'usr/b' }, 'b')), Buffer.alloc(9000)]),
    ];
    writeIndex(at('layout'), [{ ...writeImage(at('layout'), layers), annotations: { [TAG]: 'test' } }]);
    writeFileSync(at('policy.json'), '{"default":[{"type":"insecureAcceptAnything"}]}');
    const pulled = buildah(home, 'pull', '--signature-policy', at('policy.json'), 'oci:layout:test');
    t.equal(pulled.status, 0, pulled.stderr);
    const want = runCommand(['pull', `oci:${at('layout')}`, '--store', at('other')]);
    const id = pulled.stdout.trim();
    const got = pull(home, `[${at('storage')}]${id}`, '--layers', '--name=n');
    t.equal(got.status, 0, got.stderr);
    t.equal(digestIn(got), digestIn(want), 'the image of the same layers');

    try {
      const box = buildah(home, 'from', '--pull-never', '--signature-policy', at('policy.json'), id).stdout.trim();
      const mounted = buildah(home, 'mount', box).stdout.trim();
      execFileSync('sh', [
        '-ec',
        'cd "$1/usr"; rm -r long; mkdir long; echo changed >a; mv new newer; mkfifo pipe',
        'sh',
        mounted,
      ]);
      const committed = buildah(home, 'commit', '--signature-policy', at('policy.json'), box, 'localhost/changed');
      t.equal(committed.status, 0, committed.stderr);
      const out = buildah(
        home,
        'push',
        '--signature-policy',
        at('policy.json'),
        'localhost/changed',
        'oci:pushed:test',
      );
      t.equal(out.status, 0, out.stderr);
      const pushed = runCommand(['pull', `oci:${at('pushed')}`, '--store', at('other')]);
      t.equal(
        digestIn(pull(home, `[${at('storage')}]changed`)),
        digestIn(pushed),
        'a committed image, as buildah pushes it',
      );
      buildah(home, 'rm', box);
    } finally {
      spawnSync('umount', [at('storage/overlay')]); // buildah leaves a mount there
    }
  }),
);
t.end();
