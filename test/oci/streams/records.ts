/**
 * What a repository records of images: another program puts each layer together again, bit for bit, and finds the configuration and
 * the manifest; and layers that are recorded are not read again, unless something of them is missing or damaged.
 */
import { execFileSync } from 'node:child_process';
import {
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  realpathSync,
  rmSync,
  symlinkSync,
  truncateSync,
  unlinkSync,
  writeFileSync,
} from 'node:fs';
import { dirname, join } from 'node:path';
import t from 'tap';
import { fsverityDigests } from '../../fixtures/images/verity.ts';
import { member, ociFixtures, paxHeader } from '../../fixtures/oci/archives.ts';
import { archiveOf, makeLayout, sha256, TAG, writeImage, writeIndex } from '../../fixtures/oci/layout.ts';
import {
  joinSplitstream,
  makeSplitstream,
  partsOfArchive,
  showSplitstream,
  withoutSplitstreams,
} from '../../fixtures/oci/splitstreams.ts';
import { type Result, runCommand } from '../../fixtures/run-command.ts';
import { withScratch } from '../../fixtures/scratch.ts';
import { without } from '../../fixtures/skips.ts';

t.setTimeout(300_000);

const usr = member({ name: 'usr/', type: '5', mode: 0o755 });
const large = (byte: string, bytes = 5000): string => byte.repeat(bytes);

/** Sparse files of each kind, files at the limit, entries that are ignored, and zeros after the end. */
const ODD = archiveOf(
  usr,
  member({ name: 'usr/64' }, large('a', 64)),
  member({ name: 'usr/65' }, large('b', 65)),
  member({ name: 'usr/512' }, large('c', 512)),
  member({ name: '.wh..wh.plnk/1.2' }, large('d')),
  paxHeader(['GNU.sparse.map', '0,100,5000,100'], ['GNU.sparse.size', '9000'], ['GNU.sparse.name', 'usr/s0']),
  member({ name: 'usr/GNUSparseFile.0/s0' }, large('e', 200)),
  paxHeader(
    ...([
      ['GNU.sparse.major', '1'],
      ['GNU.sparse.minor', '0'],
    ] as const),
    ...([
      ['GNU.sparse.name', 'usr/s1'],
      ['GNU.sparse.realsize', '70000'],
    ] as const),
  ),
  member({ name: 'usr/GNUSparseFile.0/s1' }, `${'1\n60000\n2000\n'.padEnd(512, '\0')}${large('f', 2000)}`),
  paxHeader(['GNU.sparse.map', '0,10'], ['GNU.sparse.size', '9000'], ['GNU.sparse.name', 'usr/s2']),
  member({ name: 'usr/GNUSparseFile.0/s2' }, large('g', 10)),
  member({ name: 'usr/h', type: '1', linkname: 'usr/65' }),
  Buffer.alloc(10_240 - 1024),
);

const pull = (ref: string, store: string, ...args: string[]): Result =>
  runCommand(['pull', ref, '--store', store, ...args]);
const digestIn = ({ stdout }: Result): string => stdout.slice(0, 64);
const streamsIn = (store: string): string[] =>
  readdirSync(join(store, 'streams'))
    .filter(name => name !== 'refs')
    .sort();

/** Makes a layout of archives, tagged `test`. @returns the reference */
function layoutOf(layout: string, archives: readonly Buffer[]): string {
  rmSync(layout, { recursive: true, force: true });
  writeIndex(layout, [{ ...writeImage(layout, archives), annotations: { [TAG]: 'test' } }]);
  return `oci:${layout}:test`;
}

/** Objects whose names are not their digests. */
function wrongObjects(store: string): string[] {
  const names = readdirSync(join(store, 'objects'), { recursive: true, encoding: 'utf8' }).filter(name =>
    /\/./.test(name),
  );
  const digests = fsverityDigests(names.map(name => join(store, 'objects', name)));
  return names.filter((name, i) => name.replace('/', '') !== digests[i]);
}

/** Adds a file to the objects of a store. @returns its path among them */
function addObject(store: string, path: string): string {
  const [digest] = fsverityDigests([path]) as [string];
  const name = `${digest.slice(0, 2)}/${digest.slice(2)}`;
  mkdirSync(dirname(join(store, 'objects', name)), { recursive: true });
  writeFileSync(join(store, 'objects', name), readFileSync(path));
  return name;
}

t.test('what is recorded', { skip: withoutSplitstreams }, async t =>
  withScratch(home => {
    execFileSync('python3', [join(ociFixtures, 'make-layers.py'), home]);
    writeFileSync(join(home, 'odd.tar'), ODD);
    const archives = readdirSync(home)
      .filter(name => name.endsWith('.tar'))
      .sort();
    const paths = archives.map(name => join(home, name));
    const manifest = makeLayout(join(home, 'layout'), 'gzip', paths).trim();
    const store = join(home, 'store');
    const at = (...names: string[]): string => join(store, ...names);
    const made = pull(`oci:${join(home, 'layout')}:test`, store, '--name', 'docker.io/an/image:100%');
    t.equal(made.status, 0, made.stderr);
    t.strictSame(wrongObjects(store), [], 'all objects are named by their digests');

    const streamOf = (name: string): { path: string; digest: string } => {
      const [, directory, rest] = /^\.\.\/objects\/(..)\/(.*)$/.exec(readlinkSync(at('streams', name))) as string[];
      return { path: at('streams', name), digest: `${directory}${rest}` };
    };
    const diffIds = paths.map(path => sha256(readFileSync(path)));
    for (const [i, path] of paths.entries()) {
      const stream = streamOf(`oci-layer-${diffIds[i]}`).path;
      const shown = showSplitstream(stream);
      t.match(shown, { algorithm: 1, contentType: 'ocilayer', streams: [], names: [] }, `${archives[i]}: what it is`);
      t.equal(shown.fileBytes, readFileSync(path).length, `${archives[i]}: its size`);
      t.ok(joinSplitstream(stream, at('objects')).equals(readFileSync(path)), `${archives[i]}: bit for bit`);
      let offset = 0;
      const cut: number[][] = [];
      for (const chunk of shown.chunks) {
        const digest = 'object' in chunk ? (shown.objects[chunk.object] as string) : '';
        const bytes =
          'inline' in chunk
            ? chunk.inline.length / 2
            : readFileSync(at('objects', digest.slice(0, 2), digest.slice(2))).length;
        if ('object' in chunk) cut.push([offset, bytes]);
        offset += bytes;
      }
      t.strictSame(cut, partsOfArchive(path), `${archives[i]}: the data of files of more than 64 bytes, and no other`);
    }

    const document = (
      name: string,
    ): { json: Buffer; names: Record<string, string>; contentType: string; digest: string } => {
      const { path, digest } = streamOf(name);
      const { names, streams, contentType, chunks } = showSplitstream(path);
      t.strictSame(chunks, [{ object: 0 }], `${name}: one object`);
      const pairs = names.map(record => [record.slice(record.indexOf(':') + 1), streams[Number.parseInt(record, 10)]]);
      return { json: joinSplitstream(path, at('objects')), names: Object.fromEntries(pairs), contentType, digest };
    };
    const layers = Object.fromEntries(diffIds.map(id => [id, streamOf(`oci-layer-${id}`).digest]));
    const found = document(`oci-manifest-${manifest}`);
    t.equal(sha256(found.json), manifest, 'the manifest');
    const { config } = JSON.parse(found.json.toString());
    const configured = document(`oci-config-${config.digest}`);
    t.equal(sha256(configured.json), config.digest, 'the configuration');
    t.strictSame([found.contentType, configured.contentType], ['ocimanif', 'ociconfg']);
    t.strictSame(
      found.names,
      { [`config:${config.digest}`]: configured.digest, ...layers },
      'what the manifest leads to',
    );
    t.strictSame(
      configured.names,
      { 'composefs.image.v1': digestIn(made), ...layers },
      'what the configuration leads to',
    );
    t.equal(
      readlinkSync(at('streams/refs/oci/docker.io%2Fan%2Fimage:100%25')),
      `../../oci-manifest-${manifest}`,
      'a tag',
    );
    t.equal(streamsIn(store).length, paths.length + 2, 'nothing else');
  }),
);

t.test('layers that are known', async t =>
  withScratch(home => {
    const [layout, store] = [join(home, 'layout'), join(home, 'store')];
    const layers = [
      archiveOf(usr, member({ name: 'a' }, large('x')), member({ name: 's' }, 'small')),
      ODD,
      archiveOf(usr),
    ];
    const ref = layoutOf(layout, layers);
    const first = pull(ref, store);
    t.match(first.stdout, /\n3 layers \(0 known\), \d+ entries, 6 files in objects: 6 new, 0 known, 0 replaced\n/);
    const blobs = readdirSync(join(layout, 'blobs/sha256')).map(name => join(layout, 'blobs/sha256', name));
    for (const path of blobs) if (readFileSync(path)[0] === 0x1f) unlinkSync(path);
    const again = pull(ref, store);
    t.match(again.stdout, /\n3 layers \(3 known\), \d+ entries, 6 files in objects: 0 new, 6 known, 0 replaced\n/);
    t.equal(digestIn(again), digestIn(first), 'the same image without the blobs');

    const wide = join(home, 'sha512');
    const [made512, again512] = [1, 2].map(() => pull(layoutOf(layout, layers), wide, '--algorithm=sha512'));
    t.match(again512?.stdout, '3 layers (3 known)', 'in a store of SHA-512, too');
    t.equal(again512?.stdout.slice(0, 128), made512?.stdout.slice(0, 128));

    const twice = layoutOf(layout, [layers[0] as Buffer, archiveOf(usr), layers[0] as Buffer]);
    const third = pull(twice, join(home, 'other'));
    t.match(third.stdout, '3 layers (0 known)', 'a layer that is there twice');
    t.strictSame(wrongObjects(join(home, 'other')), []);
    t.equal(digestIn(pull(twice, store)), digestIn(third), 'is the same from the store');
    t.match(pull(layoutOf(layout, [archiveOf(usr, member({ name: 'h', type: '1', linkname: 's' }))]), store), {
      status: 1,
      stderr: /: entry h at byte 512: a hard link to \/s, which does not exist$/,
    });
    const below = [layers[0] as Buffer, archiveOf(usr, member({ name: 'h', type: '1', linkname: 's' }))];
    t.equal(pull(layoutOf(layout, below), store).status, 0);
    const { status, stderr } = pull(layoutOf(layout, below.slice(1)), store);
    t.equal(status, 1, 'a known layer that cannot be applied');
    t.match(
      stderr,
      /^lowerdata: .*\/blobs\/sha256\/\w+: entry h at byte 512: a hard link to \/s, which does not exist$/,
    );
  }),
);

/** What can be wrong with a layer in a store, which is then read again. */
t.test('layers that are damaged', { skip: withoutSplitstreams }, async t =>
  withScratch(home => {
    const [layout, store] = [join(home, 'layout'), join(home, 'store')];
    const layers = [
      archiveOf(usr, member({ name: 'a' }, large('x'))),
      archiveOf(usr, member({ name: 'b' }, large('y'))),
    ];
    const ref = layoutOf(layout, layers);
    const want = digestIn(pull(ref, store));
    const link = join(store, 'streams', `oci-layer-${sha256(layers[0] as Buffer)}`);
    const sound = showSplitstream(link);
    const digest = sound.objects[0] as string;
    const object = join(store, 'objects', digest.slice(0, 2), digest.slice(2));
    const relink = (target: string) => (): void => {
      unlinkSync(link);
      symlinkSync(target, link);
    };
    const noLink = (): void => {
      unlinkSync(link);
      writeFileSync(link, 'x');
    };
    /** Puts another stream in the place of the layer's. */
    const replace = (changes: object) => (): void => {
      const path = join(home, 'made');
      makeSplitstream(path, { ...sound, ...changes });
      relink(`../objects/${addObject(store, path)}`)();
    };
    const [head, , tail] = sound.chunks as [{ inline: string }, object, { inline: string }];
    for (const [rule, damage] of [
      ['a missing object', () => unlinkSync(object)],
      ['an object of another size', () => truncateSync(object, 4999)],
      ['a missing stream', () => unlinkSync(realpathSync(link))],
      ['a damaged stream', () => truncateSync(realpathSync(link), 200)],
      ['a link to nowhere', relink('nowhere')],
      ['a link out of the store', relink('../objects/../../layout/index.json')],
      ['no link', noLink],
      ['another content', replace({ contentType: 'ociconfg' })],
      ['another algorithm', replace({ algorithm: 2, objects: [], chunks: [], fileBytes: 0 })],
      ['another size', replace({ fileBytes: sound.fileBytes + 1 })],
      ['an end before the data', replace({ fileBytes: head.inline.length / 2, chunks: [head] })],
      ['no header', replace({ fileBytes: 5000, chunks: [{ object: 0 }] })],
      ['an object that is not there', replace({ chunks: [head, { object: 1 }, tail] })],
    ] as const) {
      damage();
      const again = pull(ref, store);
      t.match(again, { status: 0, stderr: '', stdout: '2 layers (1 known)' }, rule);
      t.equal(digestIn(again), want, rule);
      t.strictSame(wrongObjects(store), [], rule);
      t.match(pull(ref, store).stdout, '2 layers (2 known)', `${rule}: is known again`);
    }
    // What other programs may have written: parts that are cut elsewhere.
    const bytes = Buffer.concat([
      Buffer.from(head.inline, 'hex'),
      Buffer.from(large('x')),
      Buffer.from(tail.inline, 'hex'),
    ]);
    replace({ objects: [], chunks: [{ inline: bytes.toString('hex') }] })();
    const inline = pull(ref, store);
    t.match(inline.stdout, '2 layers (2 known)', 'all of it inline');
    t.equal(digestIn(inline), want, 'all of it inline');
    writeFileSync(join(home, 'all'), bytes);
    const all = addObject(store, join(home, 'all')).replace('/', '');
    replace({ objects: [all], chunks: [{ object: 0 }] })();
    const whole = pull(ref, store);
    t.match(whole.stdout, '2 layers (2 known)', 'all of it an object');
    t.equal(digestIn(whole), want, 'all of it an object');
  }),
);

t.test('other names of a configuration stay', { skip: withoutSplitstreams }, async t =>
  withScratch(home => {
    const store = join(home, 'store');
    const ref = layoutOf(join(home, 'layout'), [archiveOf(usr)]);
    const made = pull(ref, store);
    const link = join(store, 'streams', streamsIn(store).find(name => name.startsWith('oci-config')) as string);
    const shown = showSplitstream(link);
    const [other, old] = ['ab'.repeat(32), 'cd'.repeat(32)];
    const names = ['0:composefs.image', '1:composefs.image.v1', '0:composefs.image.boot', `1:${'sha256:no-layer'}`];
    const path = join(home, 'made');
    makeSplitstream(path, { ...shown, streams: [other, old], names });
    unlinkSync(link);
    symlinkSync(`../objects/${addObject(store, path)}`, link);
    t.equal(pull(ref, store).status, 0);
    const { names: kept, streams } = showSplitstream(link);
    const pairs = kept.map(record => [record.slice(record.indexOf(':') + 1), streams[Number.parseInt(record, 10)]]);
    const [layer = ''] = streamsIn(store)
      .filter(name => name.startsWith('oci-layer'))
      .map(name => name.slice(10));
    t.match(Object.fromEntries(pairs), {
      ...{ 'composefs.image': other, 'composefs.image.boot': other, 'composefs.image.v1': digestIn(made) },
      [layer]: /^[0-9a-f]{64}$/,
    });
    t.equal(pairs.length, 4, 'those of images');
  }),
);

t.test('an archive of docker save', { skip: without('skopeo') || withoutSplitstreams }, async t =>
  withScratch(home => {
    const [layout, store] = [join(home, 'layout'), join(home, 'store')];
    const layers = [archiveOf(usr, member({ name: 'a' }, large('x'))), archiveOf(usr)];
    const ref = layoutOf(layout, layers);
    const archive = join(home, 'archive.tar');
    execFileSync('skopeo', ['copy', '-q', ref, `docker-archive:${archive}:app:v1`]);
    const made = pull(`docker-archive:${archive}`, store, '--name=app');
    t.equal(made.status, 0, made.stderr);
    const name = readlinkSync(join(store, 'streams/refs/oci/app')).slice('../../'.length);
    const json = joinSplitstream(join(store, 'streams', name), join(store, 'objects'));
    t.equal(name, `oci-manifest-${sha256(json)}`, 'it gets a manifest');
    const { config, layers: described } = JSON.parse(json.toString());
    t.strictSame(
      described.map(({ digest, size }: { digest: string; size: number }) => [digest, size]),
      layers.map(layer => [sha256(layer), layer.length]),
      'which names the archives of layers',
    );
    t.ok(existsSync(join(store, 'streams', `oci-config-${config.digest}`)));
    t.match(pull(ref, store).stdout, '2 layers (2 known)', 'the layers are those of the layout');
  }),
);
t.end();
