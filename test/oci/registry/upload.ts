/** Seals that are uploaded: to the registry of distribution, and to one with the referrers API; and what registries refuse. */
import { execFileSync } from 'node:child_process';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { openRegistryImage } from '../../../src/oci/registry/image.ts';
import { parseRegistryReference } from '../../../src/oci/registry/reference.ts';
import { makeSeal } from '../../../src/oci/seals/make.ts';
import { fsverityDigest } from '../../fixtures/images/verity.ts';
import { scratch } from '../../fixtures/layers.ts';
import { startRegistry, stop } from '../../fixtures/oci/docker-registry.ts';
import { FakeRegistry, type Fault } from '../../fixtures/oci/fake-registry.ts';
import { blobPath, sha256 } from '../../fixtures/oci/layout.ts';
import { pullImage, SHORT } from '../../fixtures/oci/pulls.ts';
import { ARTIFACT, makeSealedLayout, type SealArtifact } from '../../fixtures/oci/sealed.ts';
import { error, Uploads } from '../../fixtures/oci/uploads.ts';
import { type Result, runCommand } from '../../fixtures/run-command.ts';
import { openssl, type Signatory } from '../../fixtures/seals.ts';
import { without } from '../../fixtures/skips.ts';

t.setTimeout(180_000);
const INDEX = 'application/vnd.oci.image.index.v1+json';
const MANIFEST = 'application/vnd.oci.image.manifest.v1+json';
const noOpenssl = without('openssl');
if (noOpenssl) t.plan(0, noOpenssl);
else {
  const home = scratch(t);
  const sealed = makeSealedLayout(home);
  const { layout, subject, digest, signer, stranger } = sealed;
  const listTag = subject.digest.replace(':', '-');

  t.test('the registry of distribution', { skip: without('docker-registry') || without('skopeo') }, async t => {
    const { child, host } = await startRegistry(home);
    t.teardown(() => stop(child));
    const skopeo = (...words: string[]): string =>
      execFileSync('skopeo', ['--insecure-policy', ...words], { encoding: 'utf8', stdio: 'pipe' });
    const raw = (name: string): string =>
      skopeo('inspect', '--raw', '--tls-verify=false', `docker://${host}/team/app${name}`);
    const copied = ['copy', '--preserve-digests', '--dest-tls-verify=false', `oci:${layout}:test`];
    skopeo(...copied, `docker://${host}/team/app:test`);
    const ref = `docker://${host}/team/app:test`;
    const call = (...args: string[]): Result => runCommand([...args, '--tls-verify=false'], { directory: home });
    const seal = (by: Signatory): Result =>
      call('seal', ref, '--store', 'store', '--key', by.keyFile, '--cert', by.certFile);
    const verify = (): Result => call('verify', ref, '--keys', 'keys');
    t.match(verify(), { status: 32, stdout: '', stderr: `has the manifest ${subject.digest} as its subject` });

    const other = {
      mediaType: MANIFEST,
      digest: subject.digest,
      size: subject.size,
      artifactType: 'text/x',
      data: 'eA==',
    };
    const list = { schemaVersion: 2, mediaType: INDEX, annotations: { by: 'others' }, manifests: [other] };
    const path = `http://${host}/v2/team/app/manifests/${listTag}`;
    const put = await fetch(path, {
      ...{ method: 'PUT', headers: { 'content-type': INDEX }, body: JSON.stringify(list) },
    });
    t.equal(put.status, 201);
    t.match(seal(stranger), { status: 0, stderr: '' });
    t.match(verify(), { status: 32, stderr: 'keys/signer.pem (CN=signer): has not signed this digest' });
    const made = seal(signer);
    const artifact = made.stdout.trim().split('  ').at(-1) ?? '';
    t.strictSame(made, { status: 0, stdout: `sha256:${digest}  ${artifact}\n`, stderr: '' });
    t.strictSame(verify(), { status: 0, stdout: `sha256:${digest}  keys/signer.pem (CN=signer)\n`, stderr: '' });
    const before = raw(`:${listTag}`);
    t.match(seal(signer), { status: 0, stdout: made.stdout });
    t.equal(raw(`:${listTag}`), before, 'the same seal is there once');
    const { manifests, annotations } = JSON.parse(before);
    t.strictSame([manifests[0], annotations], [other, list.annotations], 'what others put there stays');
    t.strictSame(
      manifests
        .slice(1)
        .map((each: { digest: string; artifactType: string }) => [each.digest, each.artifactType])
        .at(-1),
      [artifact, ARTIFACT],
    );
    t.equal(manifests.length, 3);

    const bytes = raw(`@${artifact}`);
    t.equal(sha256(bytes), artifact);
    const { layers, subject: about, config } = JSON.parse(bytes) as SealArtifact;
    t.match(about, { digest: subject.digest, size: subject.size, mediaType: MANIFEST });
    skopeo('copy', '--src-tls-verify=false', `docker://${host}/team/app@${artifact}`, `dir:${join(home, 'copied')}`);
    const blob = (digest: string): Buffer => readFileSync(join(home, 'copied', digest.replace('sha256:', '')));
    t.equal(blob(config.digest).toString(), '{}');
    const files = [subject.digest, JSON.parse(raw(':test')).config.digest].map(each => blobPath(layout, each));
    const digests = [...files.map(file => fsverityDigest(file)), digest];
    for (const [i, layer] of layers.entries()) {
      writeFileSync(join(home, 'sig'), blob(layer.digest));
      writeFileSync(join(home, 'signed'), Buffer.from(`4653566572697479${'01002000'}${digests[i]}`, 'hex'));
      const words = ['-in', join(home, 'sig'), '-content', join(home, 'signed'), '-certfile', signer.certFile];
      openssl('smime', '-verify', '-binary', '-inform', 'DER', ...words, '-noverify', '-out', join(home, 'out'));
      t.strictSame(Object.values(layer.annotations), [digests[i]], 'openssl takes the signature of this digest');
    }
    t.match(call('pull', ref, '--store', 'pulled').stdout, `\nseal: ${artifact}\n`);
    t.match(
      call('seal', `docker://${host}/team/none`, '--store', 'x', '--key', signer.keyFile, '--cert', signer.certFile),
      {
        ...{ status: 1, stdout: '', stderr: 'the registry has nothing by this name (404 Not Found, MANIFEST_UNKNOWN)' },
      },
    );
  });

  const registry = await FakeRegistry.start(layout);
  t.teardown(() => registry.stop());
  const authfile = join(home, 'auth.json');
  const login = Buffer.from('ann:secret').toString('base64');
  writeFileSync(authfile, JSON.stringify({ auths: { [registry.host]: { auth: login } } }));
  const sign = (hex: string): Uint8Array => Buffer.from(`signature of ${hex}`);

  /** Seals the image, and returns the digest of the artifact, or the message of what prevents that. */
  async function upload(fault: Fault): Promise<string> {
    registry.fault = fault;
    registry.requests.length = 0;
    const reference = parseRegistryReference(`//${registry.host}/team/app:test`);
    try {
      const image = await openRegistryImage(reference, undefined, {
        authfile,
        verifies: false,
        timing: SHORT,
        writes: true,
      });
      try {
        const seal = makeSeal(image, digest, sign);
        await image.addSeal(seal);
        return seal.digest;
      } finally {
        image.source.close();
      }
    } catch (error) {
      return (error as Error).message;
    }
  }
  /** Answers one kind of request in place of a registry that takes uploads. */
  const instead =
    (method: string, kind: string, answer: Fault, uploads = new Uploads()): Fault =>
    (request, response) =>
      (request.method === method && request.path.includes(kind) && answer(request, response)) ||
      uploads.answer(request, response);

  t.test('with the API', async t => {
    const uploads = new Uploads();
    const artifact = await upload(uploads.answer);
    t.match(artifact, /^sha256:/);
    t.strictSame([...uploads.manifests.keys()], [artifact], 'no tag');
    const { layers, config } = JSON.parse(uploads.manifests.get(artifact)?.bytes.toString() ?? '') as SealArtifact;
    t.strictSame(
      [...layers, config].map(blob => uploads.blobs.get(blob.digest)?.length),
      [...layers, config].map(({ size }) => size),
    );
    const { seals } = await pullImage(`docker://${registry.host}/team/app:test`, {
      store: join(home, 'api'),
      seals: true,
    });
    t.strictSame(seals, { seals: [{ artifact, digest }], faults: [] }, 'a pull finds it');
  });

  t.test('without the API', async t => {
    const uploads = new Uploads();
    uploads.hasApi = false;
    const artifact = await upload(uploads.answer);
    t.match(JSON.parse(uploads.manifests.get(listTag)?.bytes.toString() ?? ''), {
      ...{ schemaVersion: 2, mediaType: INDEX, manifests: [{ digest: artifact, artifactType: ARTIFACT }] },
    });
    t.equal(uploads.manifests.get(listTag)?.type, INDEX);
    const lost = new Uploads();
    lost.hasApi = false;
    let losses = 0;
    const another = { mediaType: MANIFEST, digest: sha256('x'), size: 1 };
    const losing: Fault = ({ method, path }) => {
      if (method !== 'GET' || !path.endsWith(listTag) || losses++ !== 1) return false;
      const bytes = Buffer.from(JSON.stringify({ schemaVersion: 2, mediaType: INDEX, manifests: [another] }));
      lost.manifests.set(listTag, { bytes, type: INDEX });
      return false;
    };
    t.equal(await upload((request, response) => losing(request, response) || lost.answer(request, response)), artifact);
    t.match(
      JSON.parse(lost.manifests.get(listTag)?.bytes.toString() ?? '').manifests,
      [another, { digest: artifact }],
      'somebody else has written the list meanwhile',
    );
    const none = new Uploads();
    none.hasApi = false;
    t.match(
      await upload(instead('PUT', listTag, (_, response) => !!response.writeHead(201).end(), none)),
      `manifests/${listTag}: others change it all the time`,
    );
    none.manifests.set(listTag, { bytes: Buffer.from('{}'), type: MANIFEST });
    t.match(await upload(none.answer), `is no list of what refers to the image, but ${MANIFEST}`);
    none.manifests.set(listTag, { bytes: Buffer.from('{}'), type: INDEX });
    t.match(await upload(none.answer), `manifests/${listTag}: manifests: `);
  });

  t.test('who asks', async t => {
    const uploads = new Uploads();
    const scopes: (string | null)[] = [];
    const admitting: Fault = (request, response) => {
      const { path, headers } = request;
      if (path.startsWith('/token')) {
        scopes.push(new URL(path, 'http://x').searchParams.get('scope'));
        response.end(JSON.stringify({ token: headers.authorization === `Basic ${login}` ? 't0ken' : 'none' }));
      } else if (headers.authorization === 'Bearer t0ken') return uploads.answer(request, response);
      else response.writeHead(401, { 'www-authenticate': `Bearer realm="${registry.url}/token"` }).end();
      return true;
    };
    t.match(await upload(admitting), /^sha256:/);
    t.strictSame([...new Set(scopes)], ['repository:team/app:pull,push']);
    const denied: Fault = (_, response) => !!response.writeHead(403).end(error('DENIED'));
    const isDenied = ({ method, headers }: Parameters<Fault>[0]): boolean =>
      method === 'POST' && headers.authorization !== undefined;
    t.match(
      await upload((request, response) => (isDenied(request) ? denied : admitting)(request, response)),
      `: the registry refuses access (403 Forbidden, DENIED); the credentials are those of ${authfile}`,
    );
    t.match(
      await upload(
        instead('POST', 'uploads', (_, response) => !!response.writeHead(401, { 'www-authenticate': 'Basic' }).end()),
      ),
      `the registry refuses the credentials of ${authfile}`,
    );

    const elsewhere = await FakeRegistry.start(layout);
    t.teardown(() => elsewhere.stop());
    elsewhere.fault = uploads.answer;
    uploads.place = `${elsewhere.url}/v2/team/app/blobs/uploads/`;
    t.match(await upload(admitting), /^sha256:/);
    t.equal(elsewhere.requests.length, 4, 'blobs go where the registry wants them');
    t.strictSame(
      [...new Set(elsewhere.requests.map(({ headers }) => headers.authorization))],
      [undefined],
      'without the token',
    );
    uploads.place = '/v2/team/app/blobs/uploads/';
    elsewhere.requests.length = 0;
    const moved: Fault = ({ path }, response) => !!response.writeHead(307, { location: elsewhere.url + path }).end();
    t.match(
      await upload((request, response) =>
        (request.method === 'PUT' && request.path.includes('/blobs/') ? moved : admitting)(request, response),
      ),
      /^sha256:/,
    );
    t.strictSame(
      elsewhere.requests.map(({ method, headers }) => [method, headers.authorization]),
      Array(4).fill(['PUT', undefined]),
      'a redirect takes the body along, and not the token',
    );
  });

  t.test('what is refused', async t => {
    const status =
      (code: number, headers = {}, body = ''): Fault =>
      (_, response) =>
        !!response.writeHead(code, headers).end(body);
    for (const [rule, fault, message] of [
      ['no uploads', instead('POST', 'uploads', status(405)), 'the registry takes nothing (405 Method Not Allowed)'],
      [
        'no such place',
        instead('POST', 'uploads', status(404, {}, error('NAME_UNKNOWN'))),
        'takes nothing by this name (404 Not Found, NAME_UNKNOWN)',
      ],
      [
        '403',
        instead('POST', 'uploads', status(403)),
        'refuses access (403 Forbidden); it has not asked for credentials',
      ],
      [
        'no place',
        instead('POST', 'uploads', status(202)),
        `${registry.host} does not say where it wants what is sent`,
      ],
      [
        'a place that is none',
        instead('POST', 'uploads', status(202, { location: 'ftp://x/' })),
        'redirects to something other than an address',
      ],
      ['an upload at once', instead('POST', 'uploads', status(200)), 'an answer that is not understood (200 OK)'],
      [
        'too large',
        instead('PUT', '/blobs/', status(413)),
        'the registry takes nothing so large (413 Payload Too Large)',
      ],
      [
        'another digest',
        instead('PUT', '/blobs/', status(400, {}, error('DIGEST_INVALID'))),
        'the registry refuses what it was sent (400 Bad Request, DIGEST_INVALID)',
      ],
      [
        'a change on the way',
        instead('PUT', '/blobs/', status(201, { 'docker-content-digest': sha256('x') })),
        `has stored something else, ${sha256('x')}`,
      ],
      [
        'no manifest',
        instead('PUT', '/manifests/', status(400, {}, error('MANIFEST_INVALID'))),
        'the registry refuses what it was sent (400 Bad Request, MANIFEST_INVALID)',
      ],
      [
        'a redirect that forgets',
        instead('PUT', '/manifests/', status(302, { location: '/x' })),
        'an answer that is not understood (302 Found)',
      ],
      ['busy', instead('PUT', '/manifests/', status(503)), '503 Service Unavailable; given up after 4 attempts'],
      ['no answer', instead('PUT', '/blobs/', () => true), 'too slow'],
    ] as const) {
      const said = await upload(fault);
      t.match(said, message, rule);
      t.match(said, `docker://${registry.host}/team/app/`, rule);
      t.notMatch(said, '\n', 'one line');
    }
    let failures = 0;
    const recovering: Fault = (_, response) => failures++ < 2 && !!response.writeHead(502).end();
    t.match(await upload(instead('PUT', '/blobs/', recovering)), /^sha256:/, 'what fails in passing is repeated');
    t.match(
      await upload(instead('PUT', '/blobs/', (_, response) => failures++ < 5 && !!response.destroy())),
      /^sha256:/,
    );
  });
}
t.end();
