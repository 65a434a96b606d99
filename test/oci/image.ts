/** Images in local places: which one is chosen, what skopeo copies, and what is refused. */
import { execFileSync } from 'node:child_process';
import { appendFileSync, mkdirSync, rmSync, symlinkSync, truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import t from 'tap';
import { openLocalImage, readLayer } from '../../src/oci/image.ts';
import { parsePlatform } from '../../src/oci/platform.ts';
import { type LocalReference, parseReference } from '../../src/oci/reference.ts';
import { EINVAL, ENOENT, EUCLEAN } from '../../src/sys/errno.ts';
import { END, listArchive, member } from '../fixtures/oci/archives.ts';
import {
  archiveWith,
  type Blob,
  blobPath,
  sha256,
  TAG,
  writeBlob,
  writeImage,
  writeIndex,
} from '../fixtures/oci/layout.ts';
import { withScratchAsync } from '../fixtures/scratch.ts';
import { without } from '../fixtures/skips.ts';

/** The names in the layers of an image, which are read to their ends. */
async function namesIn(ref: string, platform?: string): Promise<string[]> {
  const image = await openLocalImage(
    parseReference(ref) as LocalReference,
    platform === undefined ? undefined : parsePlatform(platform),
  );
  try {
    const names: string[] = [];
    for (const layer of image.layers) {
      const pieces: Uint8Array[] = [];
      for await (const piece of readLayer(image.source, layer, () => {})) pieces.push(piece);
      names.push(...listArchive(Buffer.concat(pieces)).map(({ name }) => name));
    }
    return names.filter(name => name !== 'usr');
  } finally {
    image.source.close();
  }
}

for (const [text, want] of [
  ['oci:dir', { transport: 'oci', path: 'dir', name: undefined }],
  ['oci:/a/b:tag', { transport: 'oci', path: '/a/b', name: 'tag' }],
  ['oci:dir:docker.io/x/y:1', { transport: 'oci', path: 'dir', name: 'docker.io/x/y:1' }],
  ['oci-archive:caf\xc3\xa9:caf\xc3\xa9', { transport: 'oci-archive', path: 'caf\xc3\xa9', name: 'café' }],
  ['dir:x', { transport: 'dir', path: 'x', name: undefined }],
  ['containers-storage:x', { transport: 'containers-storage', driver: undefined, root: undefined, image: 'x' }],
  [
    'containers-storage:[overlay@/a+/b:o=p]x@sha256:0',
    { transport: 'containers-storage', driver: 'overlay', root: '/a', image: 'x@sha256:0' },
  ],
] as const)
  t.strictSame(parseReference(text), want, text);
for (const [text, message] of [
  [
    'alpine',
    /^alpine: not one of docker:\/\/HOST\/NAME\[:TAG\|@DIGEST\], oci:DIR\[:TAG\], oci-archive:FILE\[:TAG\], dir:DIR, docker-archive:FILE\[:NAME\], containers-storage:\[\[DRIVER@\]ROOT\]NAME$/,
  ],
  ['constructor:x', /^constructor:x: not one of/],
  ['oci:', /^oci:: no path follows oci:$/],
  ['oci::tag', /no path/],
  ['oci:dir:', /nothing follows the last colon/],
  ['dir:x:y', /dir: has one image/],
] as const)
  t.throws(() => parseReference(text), { errno: EINVAL, message }, text);

t.test('which image of a layout', async t => {
  await withScratchAsync(async home => {
    const at = (name: string): string => join(home, name);
    const one = writeImage(at('one'), [archiveWith('a'), archiveWith('b')]);
    writeIndex(at('one'), [one]);
    t.strictSame(await namesIn(`oci:${at('one')}`), ['a', 'b'], 'the only one, layers from the lowest one upwards');
    await t.rejects(namesIn(`oci:${at('one')}:x`), {
      errno: ENOENT,
      message: /no image has the tag x; the tags are: none$/,
    });
    await t.rejects(namesIn(`oci:${at('one')}`, 'linux/arm64'), {
      errno: ENOENT,
      message: /no image for linux\/arm64; the only one is for linux\/amd64$/,
    });

    writeIndex(at('one'), [writeImage(at('one'), [archiveWith('c')], { mediaTypes: false })]);
    t.strictSame(await namesIn(`oci:${at('one')}`), ['c'], 'without media types');

    const several = at('several');
    const platform = (architecture: string): Blob => ({
      ...writeImage(several, [archiveWith(architecture)], { architecture }),
      platform: { os: 'linux', architecture },
    });
    const attestation = {
      ...writeImage(several, [archiveWith('no')]),
      platform: { os: 'unknown', architecture: 'unknown' },
    };
    const images = { manifests: [attestation, platform('amd64'), platform('arm64')] };
    const tagged = (blob: Blob, tag: string): Blob => ({ ...blob, annotations: { [TAG]: tag } });
    writeIndex(several, [
      tagged(writeBlob(several, images), 'list'),
      tagged(writeBlob(several, { schemaVersion: 2, manifests: [writeBlob(several, images)] }), 'nested'),
      tagged(writeImage(several, [archiveWith('single')]), 'single'),
    ]);
    t.strictSame(await namesIn(`oci:${several}:single`), ['single'], 'by its tag');
    t.strictSame(await namesIn(`oci:${several}:list`, 'linux/arm64'), ['arm64'], 'by its platform');
    t.strictSame(await namesIn(`oci:${several}:nested`, 'linux/arm64/v8'), ['arm64'], 'in an index of an index');
    t.match(await namesIn(`oci:${several}:list`), [/^a[mr][dm]64$/], 'that of this machine');
    await t.rejects(namesIn(`oci:${several}`), {
      errno: EINVAL,
      message: `${several}: several images; choose one by its tag: list, nested, single`,
    });
    await t.rejects(namesIn(`oci:${several}:list`, 'linux/s390x'), {
      errno: ENOENT,
      message: `${several}: no image for linux/s390x; choose with --platform: linux/amd64, linux/arm64`,
    });
  });
});

/** What is changed in a layout, and the message. */
const DAMAGE: readonly (readonly [rule: string, damage: (layout: string) => void, errno: number, message: RegExp])[] = [
  ['no layout', layout => rmSync(layout, { recursive: true }), ENOENT, /No such file or directory$/],
  ['no index', layout => rmSync(join(layout, 'index.json')), ENOENT, /index.json: No such file/],
  ['an index that is a directory', asDirectory, EINVAL, /index.json: not a regular file$/],
  [
    'an index that is no JSON',
    layout => writeFileSync(join(layout, 'index.json'), '{'),
    EUCLEAN,
    /index.json: no JSON in UTF-8$/,
  ],
  [
    'an index that is too large',
    layout => truncateSync(join(layout, 'index.json'), 1 << 24),
    EUCLEAN,
    /index.json: 16777216 bytes; 8388608 are allowed$/,
  ],
  ['an empty index', layout => writeIndex(layout, []), ENOENT, /: no image$/],
  [
    'an index of another shape',
    layout => writeIndex(layout, [{ digest: 'sha256:../../x', size: 1 }]),
    EUCLEAN,
    /index.json: manifests.0.digest: is no digest sha256:HEX/,
  ],
  [
    'a size that is none',
    layout => writeIndex(layout, [{ digest: sha256(''), size: -1 }]),
    EUCLEAN,
    /manifests.0.size: is no size$/,
  ],
  [
    'schema 1',
    layout => writeIndex(layout, [writeBlob(layout, { schemaVersion: 1 })]),
    EUCLEAN,
    /schema 1 is not supported; schema 2 is$/,
  ],
  [
    'a manifest that is missing',
    layout => writeIndex(layout, [{ digest: sha256('x'), size: 1 }]),
    ENOENT,
    /No such file/,
  ],
  [
    'a manifest of another size',
    layout => grow(layout, image => image),
    EUCLEAN,
    /more than the \d+ bytes that it should have$/,
  ],
  [
    'an artifact',
    layout => rewrite(layout, { config: writeBlob(layout, {}, 'application/vnd.oci.empty.v1+json') }),
    EINVAL,
    /: not an image of a container: its configuration is application\/vnd.oci.empty/,
  ],
  [
    'a layer of another type',
    layout => rewrite(layout, { layers: [writeBlob(layout, Buffer.from('x'), 'text/plain')] }),
    EINVAL,
    /: a layer of type text\/plain is not supported$/,
  ],
  [
    'fewer layers than digests',
    layout => rewrite(layout, { layers: [] }),
    EUCLEAN,
    /: 0 layers, but its configuration has 1 digests of layers$/,
  ],
];

function asDirectory(layout: string): void {
  rmSync(join(layout, 'index.json'));
  mkdirSync(join(layout, 'index.json'));
}

const base = (layout: string): Blob => writeImage(layout, [archiveWith('a')]);
function grow(layout: string, which: (image: Blob) => Blob): void {
  appendFileSync(blobPath(layout, which(base(layout)).digest), ' ');
}
function rewrite(layout: string, manifest: object): void {
  writeIndex(layout, [writeImage(layout, [archiveWith('a')], { manifest })]);
}

t.test('what is refused', async t => {
  for (const [rule, damage, errno, message] of DAMAGE)
    await withScratchAsync(async home => {
      const layout = join(home, 'layout');
      writeIndex(
        layout,
        [base(layout)].filter(() => mkdirSync(layout, { recursive: true }) === undefined),
      );
      damage(layout);
      await t.rejects(namesIn(`oci:${layout}`), { errno, message }, rule);
    });
});

t.test('layers that are not what they should be', async t => {
  await withScratchAsync(async home => {
    const archive = archiveWith('a');
    const layer = (layout: string): string => {
      const { digest } = writeBlob(layout, gzipSync(archive));
      return blobPath(layout, digest);
    };
    const make = (name: string, config: object = {}): string => {
      const layout = join(home, name);
      writeIndex(layout, [writeImage(layout, [archive], { config })]);
      return layout;
    };
    const longer = make('longer');
    appendFileSync(layer(longer), 'x');
    await t.rejects(namesIn(`oci:${longer}`), {
      errno: EUCLEAN,
      message: /: more than the \d+ bytes that it should have$/,
    });
    const shorter = make('shorter');
    truncateSync(layer(shorter), 50);
    await t.rejects(namesIn(`oci:${shorter}`), {
      errno: EUCLEAN,
      message: /: (50 bytes, but it should have \d+|gzip: unexpected)/,
    });
    const other = make('other', { rootfs: { diff_ids: [sha256('other')] } });
    await t.rejects(namesIn(`oci:${other}`), {
      errno: EUCLEAN,
      message: new RegExp(`, decompressed: its digest is ${sha256(archive)}, but it should be ${sha256('other')}$`),
    });
    const changed = make('changed');
    writeFileSync(layer(changed), gzipSync(archiveWith('b')));
    await t.rejects(namesIn(`oci:${changed}`), {
      errno: EUCLEAN,
      message: /: its digest is sha256:\w+, but it should be sha256:/,
    });
  });
});

t.test('what skopeo copies', { skip: without('skopeo') }, async t => {
  await withScratchAsync(async home => {
    const layout = join(home, 'layout');
    writeIndex(layout, [{ ...writeImage(layout, [archiveWith('a'), archiveWith('b')]), annotations: { [TAG]: 't' } }]);
    const copy = (to: string, ...options: string[]): void =>
      void execFileSync('skopeo', ['--insecure-policy', 'copy', '-q', ...options, `oci:${layout}:t`, to], {
        env: { ...process.env, HOME: home },
      });
    for (const ref of ['dir:dir', 'oci:copy:x', 'oci-archive:oci.tar:x/y:1', 'docker-archive:docker.tar:x/y:1']) {
      const [transport, path] = ref.split(':');
      const place = `${transport}:${join(home, path as string)}`;
      copy(ref.replace(`${transport}:${path}`, place));
      t.strictSame(await namesIn(place), ['a', 'b'], ref);
    }
    t.strictSame(
      await namesIn(`docker-archive:${home}/docker.tar:x/y`.replace('/y', '/y:1')),
      ['a', 'b'],
      'by its name',
    );
    await t.rejects(namesIn(`docker-archive:${home}/docker.tar:z`), {
      message: /no image has the name z; the names are: .*x\/y:1$/,
    });
    copy(`oci:${home}/zstd:x`, '--dest-compress', '--dest-compress-format', 'zstd');
    t.strictSame(await namesIn(`oci:${home}/zstd`), ['a', 'b'], 'layers in zstd');
  });
});

t.test('archives', async t => {
  await withScratchAsync(async home => {
    const file = join(home, 'archive');
    const layer = archiveWith('a');
    const config = JSON.stringify({ rootfs: { diff_ids: [sha256(layer), sha256(layer)] } });
    const manifest = JSON.stringify([{ Config: 'c.json', RepoTags: null, Layers: ['0/layer.tar', '1/layer.tar'] }]);
    const write = (...members: Buffer[]): void => writeFileSync(file, Buffer.concat([...members, END]));
    const parts = [
      member({ name: './c.json' }, config),
      member({ name: '0/layer.tar' }, layer),
      member({ name: 'manifest.json' }, manifest),
    ];
    write(member({ name: '1/layer.tar', type: '2', linkname: '../0/layer.tar' }), ...parts);
    t.strictSame(await namesIn(`docker-archive:${file}`), ['a', 'a'], 'a layer that is a symlink to another one');
    write(member({ name: '1/layer.tar', type: '1', linkname: '0/layer.tar' }), ...parts);
    t.strictSame(await namesIn(`docker-archive:${file}`), ['a', 'a'], 'a hard link');
    write(member({ name: '1/layer.tar', type: '2', linkname: 'layer.tar' }), ...parts);
    await t.rejects(namesIn(`docker-archive:${file}`), {
      name: 'ELOOP',
      message: `${file}: 1/layer.tar: Too many levels of symbolic links`,
    });
    write(...parts);
    await t.rejects(namesIn(`docker-archive:${file}`), {
      errno: ENOENT,
      message: `${file}: 1/layer.tar: No such file or directory`,
    });
    writeFileSync(file, gzipSync(layer));
    await t.rejects(namesIn(`oci-archive:${file}`), { message: /the archive is compressed; decompress it first/ });
    write(...parts);
    truncateSync(file, 700);
    await t.rejects(namesIn(`docker-archive:${file}`), { errno: EUCLEAN, message: /the archive is cut off$/ });
    symlinkSync('archive', join(home, 'link'));
    await t.rejects(namesIn(`docker-archive:${home}`), { errno: EINVAL, message: `${home}: not a regular file` });
  });
});
t.end();
