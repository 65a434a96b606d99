/** `lowerdata images`, `inspect`, `tag` and `untag`, on repositories that other programs have filled. */
import {
  existsSync,
  lstatSync,
  lutimesSync,
  mkdirSync,
  readdirSync,
  readlinkSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { withMount } from '../../fixtures/mounts/mounted.ts';
import { withoutSplitstreams } from '../../fixtures/oci/splitstreams.ts';
import { makeStore, objectOf, putImage, putLink, recordImage } from '../../fixtures/oci/stored.ts';
import { type Result, runCommand } from '../../fixtures/run-command.ts';
import { withScratch, withScratchAsync } from '../../fixtures/scratch.ts';
import { withoutFuse } from '../../fixtures/skips.ts';

t.setTimeout(300_000);

const CONFIG = {
  created: '2024-05-06T07:08:09.123Z',
  author: 'A\u00e9',
  os: 'linux',
  architecture: 'arm64',
  variant: 'v8',
  config: {
    User: '1000:1000',
    WorkingDir: '/usr',
    Entrypoint: ['/usr/init', '--x y'],
    Cmd: ['run'],
    Env: ['PATH=/usr', 'X=1'],
    ExposedPorts: { '80/tcp': {} },
    Volumes: { '/data': {} },
    StopSignal: 'SIGINT',
    Labels: { 'org.example': 'a b\nc' },
  },
};
const LARGE = ['a'.repeat(5000), 'b'.repeat(1_000_000)];

/** A repository with a tagged image, one with a name alone, and one without a name. */
function fill(home: string) {
  const store = join(home, 'store');
  makeStore(store);
  const [tagged, named, unnamed] = [LARGE, LARGE.slice(1), ['c'.repeat(70)]].map(data =>
    putImage(store, Object.fromEntries(data.map((text, i) => [`file${i}`, text]))),
  ) as [ReturnType<typeof putImage>, ReturnType<typeof putImage>, ReturnType<typeof putImage>];
  const oci = recordImage(store, {
    ...{ tag: 'quay.io/team/app:v1', image: tagged.image, config: CONFIG, layers: [tagged.objects, []] },
    manifest: { annotations: { made: 'by hand' } },
  });
  putLink(store, 'images/refs/old/app', `../../${named.image}`);
  const run = (...args: string[]): Result => runCommand([...args, '--store', 'store'], { directory: home });
  const json = (...args: string[]) => JSON.parse(Buffer.from(run(...args, '--json').stdout, 'latin1').toString());
  const sizeOf = (digest: string): number => lstatSync(join(store, objectOf(digest))).size;
  return { store, tagged, named, unnamed, oci, run, json, sizeOf };
}

t.test('images', { skip: withoutSplitstreams }, async t =>
  withScratch(home => {
    const { tagged, named, unnamed, oci, run, json, sizeOf } = fill(home);
    const none = { created: null, platform: null, layers: null, manifest: null };
    const objectsOf = (data: string[]) => ({ objects: data.length, objectBytes: data.join('').length });
    t.match(json('images'), {
      version: 1,
      images: [
        {
          name: 'old/app',
          digest: named.image,
          ...none,
          imageBytes: sizeOf(named.image),
          ...objectsOf(LARGE.slice(1)),
        },
        {
          ...{ name: 'quay.io/team/app:v1', digest: tagged.image, created: CONFIG.created, platform: 'linux/arm64/v8' },
          ...{ layers: 2, manifest: oci.manifest, imageBytes: sizeOf(tagged.image), ...objectsOf(LARGE) },
        },
        { name: null, digest: unnamed.image, ...none },
      ],
    });
    const age = Date.now() / 1000 - Number(json('images').images[0].named);
    t.ok(age >= -1 && age < 300, 'when it was named');
    const lines = run('images').stdout.trimEnd().split('\n');
    t.match(lines[0], /^NAME +CREATED +SIZE +LAYERS +PLATFORM +DIGEST$/);
    t.equal(lines[1]?.replace(/ +/g, ' '), `old/app - 1.0 MB - - ${named.image}`);
    t.equal(lines[2]?.replace(/ +/g, ' '), `quay.io/team/app:v1 2024-05-06 1.0 MB 2 linux/arm64/v8 ${tagged.image}`);
    t.match(lines[3], /^- {2,}- .* kB .*/);
    t.equal(new Set(lines.map(line => line.search(/\S+$/))).size, 1, 'columns');
  }),
);

t.test('inspect', { skip: withoutSplitstreams }, async t =>
  withScratch(home => {
    const { tagged, unnamed, oci, run, json } = fill(home);
    const { layers, ...facts } = json('inspect', 'quay.io/team/app:v1');
    t.match(facts, {
      ...{ version: 1, name: 'quay.io/team/app:v1', digest: tagged.image, created: CONFIG.created, author: 'A\u00e9' },
      ...{ platform: 'linux/arm64/v8', entries: 3, objects: 2, manifest: oci.manifest, config: oci.config },
      ...{ user: '1000:1000', workingDir: '/usr', entrypoint: CONFIG.config.Entrypoint, cmd: ['run'] },
      ...{ env: CONFIG.config.Env, exposedPorts: ['80/tcp'], volumes: ['/data'], stopSignal: 'SIGINT' },
      ...{ labels: CONFIG.config.Labels, annotations: { made: 'by hand' } },
      mount: 'lowerdata mount quay.io/team/app:v1 MOUNTPOINT -o store=store',
    });
    t.match(layers, [
      { size: 1000, mediaType: 'application/vnd.oci.image.layer.v1.tar+gzip', stored: true },
      { size: 2000, stored: true },
    ]);
    t.match(json('inspect', unnamed.image), { name: unnamed.image, digest: unnamed.image, layers: null, cmd: null });
    const text = run('inspect', 'quay.io/team/app:v1').stdout;
    for (const line of [
      `digest        ${tagged.image}`,
      'size          1.0 MB: 3 entries, 2 objects',
      'entrypoint    "/usr/init" "--x y"',
      'labels        org.example=a b\\x0ac',
    ])
      t.ok(text.split('\n').includes(line), line);
    t.match(run('inspect', 'none'), { status: 1, stderr: /no image has the name none; the names are: old\/app, quay/ });
  }),
);

t.test('tag and untag', { skip: withoutSplitstreams }, async t =>
  withScratch(home => {
    const { store, tagged, named, unnamed, oci, run, json } = fill(home);
    const names = () => json('images').images.map((one: { name: string; digest: string }) => [one.name, one.digest]);
    t.match(run('tag', 'quay.io/team/app:v1', 'team/app'), { status: 0, stdout: '', stderr: '' });
    t.equal(readlinkSync(join(store, 'streams/refs/oci/team%2Fapp')), `../../oci-manifest-${oci.manifest}`);
    t.equal(readlinkSync(join(store, 'images/refs/team/app')), `../../${tagged.image}`);
    t.match(run('tag', unnamed.image, 'new'), { status: 0 }, 'by a digest');
    t.equal(readlinkSync(join(store, 'images/refs/new')), `../${unnamed.image}`);
    t.strictSame(names(), [
      ['new', unnamed.image],
      ['old/app', named.image],
      ['quay.io/team/app:v1', tagged.image],
      ['team/app', tagged.image],
    ]);
    t.match(run('tag', 'old/app', 'team/app'), { status: 0 }, 'in place of a tag');
    t.notOk(existsSync(join(store, 'streams/refs/oci/team%2Fapp')));
    t.strictSame(names()[3], ['team/app', named.image]);
    t.match(run('tag', 'quay.io/team/app:v1', 'old/app'), { status: 0 }, 'in place of a name');
    t.strictSame(names()[1], ['old/app', tagged.image]);
    for (const [rule, name, other, message] of [
      ['no such image', 'none', 'x', /no image has the name none/],
      ['a path up', 'new', '../x', /parts that are empty, begin with a dot/],
      ['a digest', 'new', '00'.repeat(32), /is no digest/],
      ['what composefs-rs reserves', 'new', '@x', /begins with @/],
      ['a directory of names', 'new', 'team', /images\/refs\/team: /],
      ['a name below a name', 'new', 'new/er', /images\/refs\/new\/er: /],
    ] as const)
      t.match(run('tag', name, other), { status: 1, stderr: message }, rule);

    symlinkSync('../nothing', join(store, 'images/refs/broken'));
    symlinkSync(home, join(store, 'images/refs/out'));
    mkdirSync(join(home, 'sub'));
    writeFileSync(join(store, 'images/refs/file'), '');
    t.match(run('tag', 'new', 'out/sub/x'), { status: 1, stderr: /images\/refs\/out\/sub\/x: / }, 'a name outside');
    t.strictSame(readdirSync(join(home, 'sub')), []);
    for (const name of ['team/app', 'broken', 'out', 'old/app', 'new'])
      t.match(run('untag', name), { status: 0, stdout: '', stderr: '' }, name);
    const left = [named.image, unnamed.image].sort().map(image => [null, image]);
    t.strictSame(names(), [['quay.io/team/app:v1', tagged.image], ...left]);
    for (const name of ['team/app', 'team', 'file', '..', '', unnamed.image])
      t.match(run('untag', name), { status: 1, stderr: /no image has the name / }, `no name: ${name}`);
    t.match(run('untag', 'quay.io/team/app:v1'), { status: 0 });
    t.strictSame(readdirSync(join(store, 'streams/refs/oci')), []);
  }),
);

t.test('images that are damaged', { skip: withoutSplitstreams }, async t =>
  withScratch(home => {
    const { store, tagged, run, json } = fill(home);
    writeFileSync(join(store, objectOf(tagged.image)), 'nothing');
    const listed = run('images');
    t.match(listed, { status: 1, stderr: /not an EROFS image/ });
    t.match(listed.stdout, /^old\/app /m, 'the others are listed');
    t.match(run('inspect', 'quay.io/team/app:v1'), { status: 1, stderr: /not an EROFS image/ });
    const artifact = { config: { mediaType: 'application/vnd.example', digest: `sha256:${'00'.repeat(32)}`, size: 2 } };
    recordImage(store, { tag: 'wrong', manifest: artifact });
    t.match(run('inspect', 'wrong'), {
      status: 1,
      stderr: /oci-manifest-sha256:\w+: does not lead to its configuration/,
    });
    recordImage(store, { tag: 'without', config: { os: 'linux' } });
    t.match(json('inspect', 'without'), { digest: null, mount: null, config: /^sha256:/ }, 'without an image');
    for (const [rule, config, message] of [
      ['a label that is a number', { config: { Labels: { a: 1 } } }, /config.Labels.a: /],
      ['digests that are none', { rootfs: { diff_ids: 7 } }, /rootfs.diff_ids: /],
    ] as const) {
      recordImage(store, { tag: 'odd', config });
      t.match(run('inspect', 'odd'), { status: 1, stderr: message }, rule);
    }
  }),
);

t.test('mounts by tags', { skip: withoutSplitstreams || withoutFuse }, t =>
  withScratchAsync(async home => {
    const { store, named } = fill(home);
    await withMount(['quay.io/team/app:v1', '-o', `store=${store}`], root =>
      t.strictSame(readdirSync(root), ['file0', 'file1']),
    );
    putLink(store, 'images/refs/quay.io/team/app:v1', `../../../${named.image}`);
    const shows = (names: string[], rule: string) =>
      withMount(['quay.io/team/app:v1', '-o', `store=${store}`], root => t.strictSame(readdirSync(root), names, rule));
    await shows(['file0'], 'a name that is newer than the tag counts');
    lutimesSync(join(store, 'images/refs/quay.io/team/app:v1'), 1, 1);
    await shows(['file0', 'file1'], 'a tag that is newer than the name counts');
    recordImage(store, { tag: 'none' });
    const mount = runCommand(['mount', 'none', home, '-o', `store=${store}`]);
    t.match(mount, { status: 32, stderr: /none: has no image of composefs yet; `lowerdata pull` makes it$/ });
  }),
);
t.end();
