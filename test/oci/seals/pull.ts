/** Seals that a pull takes along: from layouts and registries, by the API and by the tag; and what places answer that is wrong. */
import { readdirSync, readFileSync, readlinkSync, realpathSync } from 'node:fs';
import type { ServerResponse } from 'node:http';
import { join } from 'node:path';
import t from 'tap';
import type { OpenImage } from '../../../src/oci/image.ts';
import type { Pulled } from '../../../src/oci/pull.ts';
import { findSeals } from '../../../src/oci/seals/found.ts';
import { fsverityDigest } from '../../fixtures/images/verity.ts';
import { scratch } from '../../fixtures/layers.ts';
import { startRegistry, stop } from '../../fixtures/oci/docker-registry.ts';
import { FakeRegistry } from '../../fixtures/oci/fake-registry.ts';
import { type Blob, blobPath, sha256, TAG, writeBlob } from '../../fixtures/oci/layout.ts';
import { pullImage } from '../../fixtures/oci/pulls.ts';
import { ARTIFACT, makeSealedLayout, type SealLayer } from '../../fixtures/oci/sealed.ts';
import { joinSplitstream, showSplitstream, withoutSplitstreams } from '../../fixtures/oci/splitstreams.ts';
import { runCommand } from '../../fixtures/run-command.ts';
import { without } from '../../fixtures/skips.ts';

t.setTimeout(180_000);
const INDEX = 'application/vnd.oci.image.index.v1+json';
const noOpenssl = without('openssl');
if (noOpenssl) t.plan(0, noOpenssl);
else {
  const home = scratch(t);
  const sealed = makeSealedLayout(home);
  const { layout, subject, digest } = sealed;
  let stores = 0;
  const nextStore = (): string => join(home, `store-${stores++}`);
  const pull = (ref: string, store = nextStore()): Promise<Pulled> => pullImage(ref, { store, seals: true });
  const artifactsOf = ({ seals }: Pulled): (string | undefined)[] => seals.seals.map(({ artifact }) => artifact);
  const referrersIn = (store: string): string[] => {
    const directory = join(store, 'streams/refs/oci-referrers', subject.digest);
    return readdirSync(directory).sort();
  };
  const index = (manifests: readonly object[]): string =>
    JSON.stringify({ schemaVersion: 2, mediaType: INDEX, manifests });

  t.test('a layout', { skip: withoutSplitstreams }, async t => {
    const store = nextStore();
    const pulled = await pull(`oci:${layout}:test`, store);
    t.strictSame(pulled.seals, { seals: [{ artifact: sealed.seal.digest, digest }], faults: [] });
    t.equal(pulled.digest, digest);
    t.strictSame(referrersIn(store), [sealed.seal.digest]);
    const link = join(store, 'streams/refs/oci-referrers', subject.digest, sealed.seal.digest);
    const stream = `oci-manifest-${sealed.seal.digest}`;
    t.equal(readlinkSync(link), `../../../${stream}`, 'as composefs-rs makes it');
    const at = (name: string): string => realpathSync(join(store, 'streams', name));
    const shown = showSplitstream(at(stream));
    t.match(shown, { contentType: 'ocimanif', fileBytes: sealed.seal.size });
    const { config, layers } = sealed.artifact(sealed.seal);
    const named = Object.fromEntries(
      shown.names.map(text => [text.replace(/^\d+:/, ''), shown.streams[Number.parseInt(text, 10)]]),
    );
    const blobs = layers.map(layer => [layer.digest, `oci-blob-${layer.digest}`, 'oci_blob'] as const);
    const parts = [[`config:${config.digest}`, `oci-config-${config.digest}`, 'ociconfg'] as const, ...blobs];
    t.strictSame(Object.keys(named).sort(), parts.map(([name]) => name).sort());
    for (const [name, stream, contentType] of parts) {
      t.equal(named[name], fsverityDigest(at(stream)), name);
      t.equal(showSplitstream(at(stream)).contentType, contentType);
      const file = joinSplitstream(at(stream), join(store, 'objects'));
      t.equal(sha256(file), name.replace('config:', ''), 'bit for bit');
    }
    t.strictSame((await pull(`oci:${layout}:other`)).seals, { seals: [], faults: [] }, 'another image has none');
    const untyped: Blob = { digest: sealed.seal.digest, size: sealed.seal.size };
    sealed.list(untyped);
    t.strictSame(artifactsOf(await pull(`oci:${layout}:test`)), [untyped.digest], 'an index without types');
    const images = Array.from({ length: 40 }, (_, i) => ({ digest: sha256(`${i}`), size: 1000 + i }));
    sealed.list(...images, sealed.seal);
    const { seals } = await pull(`oci:${layout}:test`);
    t.strictSame(
      seals,
      { seals: [{ artifact: sealed.seal.digest, digest }], faults: [] },
      'other images do not matter',
    );
    sealed.list(sealed.seal);
  });

  t.test('the command', async t => {
    const store = nextStore();
    const call = (...args: string[]) => runCommand(['pull', `oci:${layout}:test`, '--store', store, ...args]);
    const made = call();
    t.match(made, { status: 0, stderr: '' });
    t.match(made.stdout, `\nseal: ${sealed.seal.digest}\n`);
    t.match(JSON.parse(call('--json').stdout), { seals: [{ artifact: sealed.seal.digest, digest }] });
    sealed.list(sealed.sha512);
    const other = call();
    t.match(other, { status: 0, stderr: `seal ${sealed.sha512.digest}: its digests are by sha512, but those of` });
    t.notMatch(other.stdout, 'seal:');
    sealed.list(sealed.seal, sealed.sha512);
    t.match(call(), { status: 0, stderr: '' }, 'a seal for repositories of the other algorithm beside ours');
    sealed.list(sealed.seal);
    t.match(call('--whiteouts=composefs-rs', '--expect', digest), { status: 0 });
  });

  t.test('garbage', async t => {
    const store = nextStore();
    const call = (...args: string[]) => runCommand([...args, '--store', store]);
    t.match(call('pull', `oci:${layout}:test`, '--name', 'v1'), { status: 0 });
    t.match(call('gc'), { status: 0, stderr: '', stdout: 'removed 0 images, 0 streams, 0 objects: 0 B\n' });
    t.strictSame(referrersIn(store), [sealed.seal.digest], 'a seal stays with its image');
    call('untag', 'v1');
    t.match(call('gc'), { status: 0, stderr: '' });
    const left = readdirSync(store, { recursive: true, encoding: 'utf8' });
    t.strictSame(
      left.filter(name => /^(streams|images)\/.|^objects\/..\/./.test(name)).sort(),
      ['images/refs', 'streams/refs'],
      'and goes with it',
    );
  });

  const registry = await FakeRegistry.start(layout);
  t.teardown(() => registry.stop());
  const ref = `docker://${registry.host}/team/app:test`;
  const plain = registry.fault;
  /** Answers by the API. */
  const answering =
    (answer: (response: ServerResponse, path: string) => void): typeof registry.fault =>
    ({ path }, response) => {
      if (!path.includes('/referrers/')) return false;
      answer(response, path);
      return true;
    };
  const listing = (manifests: readonly object[]) =>
    answering(response => response.writeHead(200, { 'content-type': INDEX }).end(index(manifests)));
  /** Pulls, and returns the requests, too. */
  async function ask(fault = plain, store = nextStore()): Promise<Pulled & { paths: string[] }> {
    registry.fault = fault;
    registry.requests.length = 0;
    try {
      return { ...(await pull(ref, store)), paths: registry.requests.map(({ path }) => path) };
    } finally {
      registry.fault = plain;
    }
  }
  const api = `/v2/team/app/referrers/${subject.digest}?artifactType=${encodeURIComponent(ARTIFACT)}`;
  const tag = `/v2/team/app/manifests/${subject.digest.replace(':', '-')}`;
  const extra = (paths: readonly string[]): string[] => paths.filter(path => path === api || path === tag);

  t.test('a registry', async t => {
    const empty = await ask(listing([]));
    t.strictSame([empty.seals, extra(empty.paths)], [{ seals: [], faults: [] }, [api]], 'with the API, without seals');
    const none = await ask();
    t.strictSame([none.seals, extra(none.paths)], [{ seals: [], faults: [] }, [api, tag]], 'without the API and seals');
    t.equal(none.paths.length, empty.paths.length + 1);

    const store = nextStore();
    const found = await ask(listing([sealed.seal]), store);
    t.strictSame(found.seals, { seals: [{ artifact: sealed.seal.digest, digest }], faults: [] }, 'by the API');
    t.strictSame(referrersIn(store), [sealed.seal.digest]);

    const tagged = { ...writeBlob(layout, Buffer.from(index([sealed.seal])), INDEX) };
    sealed.list({ ...tagged, annotations: { [TAG]: subject.digest.replace(':', '-') } });
    for (const [rule, fault] of [
      ['no API', plain],
      ['a page for people', answering(response => response.writeHead(200, { 'content-type': 'text/html' }).end('<p>'))],
      ['no type', answering(response => response.end(index([])))],
      ['405', answering(response => response.writeHead(405).end())],
    ] as const) {
      const { seals, paths } = await ask(fault);
      t.strictSame(seals, { seals: [{ artifact: sealed.seal.digest, digest }], faults: [] }, `${rule}: by the tag`);
      t.strictSame(extra(paths), [api, tag]);
    }
    sealed.list(sealed.seal);
  });

  t.test('pages', async t => {
    const others = Array.from({ length: 3 }, (_, i) => ({ ...sealed.seal, artifactType: 'text/plain', size: i }));
    const paged = await ask(
      answering((response, path) => {
        const isLast = path.endsWith('&last=2');
        const link = isLast ? {} : { link: `<http://elsewhere.example${api}&last=2>; rel="next"` };
        response.writeHead(200, { 'content-type': INDEX, ...link }).end(index(isLast ? [sealed.seal] : others));
      }),
    );
    t.strictSame(artifactsOf(paged), [sealed.seal.digest], 'the next page is that of the same registry');
    const endless = await ask(
      answering(response => {
        response.writeHead(200, { 'content-type': INDEX, link: `<${api}>; rel="next"` }).end(index([sealed.seal]));
      }),
    );
    t.strictSame(endless.seals, { seals: [{ artifact: sealed.seal.digest, digest }], faults: [] });
    t.equal(extra(endless.paths).length, 8);
  });

  t.test('failures leave the image, and one message', async t => {
    const stalled = Array.from({ length: 2 }, () => sealed.seal);
    for (const [rule, fault, message] of [
      ['403', answering(response => response.writeHead(403).end()), 'the registry refuses access (403 Forbidden)'],
      ['500', answering(response => response.writeHead(500).end()), 'given up after 4 attempts'],
      ['a broken connection', answering(response => response.destroy()), 'given up after 4 attempts'],
      ['no answer', answering(() => {}), 'too slow'],
      [
        'no JSON',
        answering(response => response.writeHead(200, { 'content-type': INDEX }).end('{')),
        'no JSON in UTF-8',
      ],
      ['no index', answering(response => response.writeHead(200, { 'content-type': INDEX }).end('{}')), 'manifests: '],
      [
        'an endless list',
        answering(response => response.writeHead(200, { 'content-type': INDEX }).end(' '.repeat((1 << 23) + 1))),
        'more than 8388608 bytes',
      ],
      [
        'artifacts without an answer',
        (request: { path: string }, response: ServerResponse) =>
          request.path.includes(sealed.seal.digest) || listing(stalled)(request as never, response),
        'too slow',
      ],
    ] as [string, typeof registry.fault, string][]) {
      const { digest: made, seals } = await ask(fault);
      t.equal(made, digest, rule);
      t.match(seals, { seals: [], faults: [message] }, rule);
      t.equal(seals.faults.length, 1);
      t.match(seals.faults[0], `a seal of the image is missing: docker://${registry.host}/team/app/`);
    }
    const source = {
      shown: 'here',
      document: () => new Promise<never>(() => {}),
      blob: () => t.fail(),
      close: () => {},
    };
    const places = { top: '', manifest: String, blob: String, referrers: async () => [sealed.seal] };
    const late = await findSeals({ manifest: subject.digest, source, places } as unknown as OpenImage, 50);
    t.strictSame(late, { seals: [], faults: ['here: its seals were not all read in 0.05 s'] }, 'a limit for all of it');
  });

  t.test('artifacts that are not taken', async t => {
    const own = sealed.artifact(sealed.seal);
    const [manifest, config, merged] = own.layers as [SealLayer, SealLayer, SealLayer];
    const withMerged = (change: Partial<SealLayer>): Blob =>
      sealed.write({ ...own, layers: [manifest, config, { ...merged, ...change }] });
    for (const [rule, artifact, message] of [
      ['of another image', sealed.otherSeal, undefined],
      ['of another type', { ...sealed.seal, artifactType: 'text/plain' }, undefined],
      ['the image itself', { ...subject, artifactType: ARTIFACT }, undefined],
      ['another image', { ...sealed.other, artifactType: ARTIFACT }, 'artifactType: '],
      ['smaller than it is', { ...sealed.seal, size: 10 }, 'more than 10 bytes'],
      ['larger than it is', { ...sealed.seal, size: 10_000 }, 'bytes, but it should have 10000'],
      ['huge', { ...sealed.seal, size: 1e9 }, '1000000000 bytes; 65536 are allowed for an artifact'],
      ['missing', { ...sealed.seal, digest: sha256('none') }, 'the registry has nothing by this name'],
      ['with a configuration', sealed.write({ ...own, config: manifest }), 'is not that of the empty configuration'],
      ['a signature that is smaller than it is', withMerged({ size: 10 }), 'more than 10 bytes'],
      ['a signature that is larger than it is', withMerged({ size: merged.size + 1 }), 'bytes, but it should have'],
      ['a huge signature', withMerged({ size: 1e9 }), 'layers.2: a signature of more than 65536 bytes'],
      ['a signature that is missing', withMerged({ digest: sha256('none') }), 'the registry has nothing by this name'],
      ['without the image', sealed.write({ ...own, layers: [manifest, config] }), 'no signature of merged'],
    ] as const) {
      const store = nextStore();
      const { seals, digest: made, paths } = await ask(listing([artifact, sealed.seal]), store);
      t.equal(made, digest, rule);
      t.strictSame(artifactsOf({ seals } as Pulled), [sealed.seal.digest], `${rule}: the other one is taken`);
      t.strictSame(referrersIn(store), [sealed.seal.digest]);
      t.match(seals.faults, message === undefined ? [] : [message]);
      t.equal(seals.faults.length, message === undefined ? 0 : 1);
      const asked = paths.filter(path => path.endsWith(`manifests/${artifact.digest}`)).length;
      if (['huge', 'of another type'].includes(rule)) t.equal(asked, 1, 'it is not asked for, but the other one');
    }
    const wrong = sha256('another').slice('sha256:'.length);
    const [key = ''] = Object.keys(merged.annotations);
    const lying = withMerged({ annotations: { [key]: wrong } });
    const { seals } = await ask(listing([lying, sealed.seal]));
    t.strictSame(seals.faults, [`seal ${lying.digest}: its image has the digest ${wrong}, but this one has ${digest}`]);
  });

  t.test('thousands', async t => {
    const many = Array.from({ length: 5000 }, (_, i) => ({ ...sealed.seal, digest: sha256(`${i}`) }));
    const { seals, paths } = await ask(listing([sealed.seal, sealed.seal, ...many]));
    t.strictSame(artifactsOf({ seals } as Pulled), [sealed.seal.digest]);
    t.match(seals.faults[0], `5001 artifacts of ${subject.digest}; the first 32 are looked at`);
    t.equal(seals.faults.length, 32);
    t.equal(paths.filter(path => path.includes('/manifests/sha256:')).length, 32);
  });

  t.test('the registry of distribution', { skip: without('docker-registry') }, async t => {
    const { child, host } = await startRegistry(home);
    t.teardown(() => stop(child));
    const url = `http://${host}/v2/team/app`;
    const put = async (path: string, bytes: Uint8Array | string, type: string): Promise<void> => {
      const response = await fetch(`${url}/${path}`, { method: 'PUT', body: bytes, headers: { 'content-type': type } });
      t.equal(response.status, 201, await response.text());
    };
    for (const name of readdirSync(join(layout, 'blobs/sha256'))) {
      const started = await fetch(`${url}/blobs/uploads/`, { method: 'POST' });
      const location = started.headers.get('location') ?? '';
      const body = readFileSync(blobPath(layout, `sha256:${name}`));
      await fetch(`${location}&digest=sha256:${name}`, { method: 'PUT', body });
    }
    const type = 'application/vnd.oci.image.manifest.v1+json';
    const bytesOf = ({ digest }: Blob): Buffer => readFileSync(blobPath(layout, digest));
    await put('manifests/test', bytesOf(subject), type);
    const from = `docker://${host}/team/app:test`;
    t.strictSame((await pull(from)).seals, { seals: [], faults: [] });
    await put(`manifests/${sealed.seal.digest}`, bytesOf(sealed.seal), type);
    await put(`manifests/${subject.digest.replace(':', '-')}`, index([{ ...sealed.seal, mediaType: type }]), INDEX);
    t.strictSame((await pull(from)).seals, { seals: [{ artifact: sealed.seal.digest, digest }], faults: [] });
  });
}
t.end();
