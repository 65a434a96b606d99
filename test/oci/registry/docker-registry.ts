/** The registry of distribution, which skopeo fills: every compression makes the image that the local layout makes. */
import { execFileSync } from 'node:child_process';
import { createPrivateKey, randomBytes, sign, X509Certificate } from 'node:crypto';
import { once } from 'node:events';
import { mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:https';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import t from 'tap';
import { scratch } from '../../fixtures/layers.ts';
import { ociFixtures } from '../../fixtures/oci/archives.ts';
import { Authority, type Certificate } from '../../fixtures/oci/certificates.ts';
import { startRegistry, stop } from '../../fixtures/oci/docker-registry.ts';
import { makeLayout } from '../../fixtures/oci/layout.ts';
import { noisyArchive, pullFrom, withVariables } from '../../fixtures/oci/pulls.ts';
import { without } from '../../fixtures/skips.ts';

const skip = without('docker-registry') || without('skopeo') || without('openssl');

const CHUNKED = ['--dest-compress', '--dest-compress-format=zstd:chunked'];
/** bcrypt of `secret`, as htpasswd -B makes it. */
const HTPASSWD = 'ann:$2b$04$dUtRrm.VvDyGsYRKCJMAeuJQq6FLHJHn0q3egBtCnucBAT4VCpwRi\n';

t.test('images of skopeo', { skip }, async t => {
  const home = scratch(t);
  const authority = new Authority(home);
  const certificate = authority.sign('registry', 'IP:127.0.0.1');
  writeFileSync(join(home, 'htpasswd'), HTPASSWD);
  const { child, host } = await startRegistry(home, {
    certificate,
    auth: { htpasswd: { realm: 'here', path: join(home, 'htpasswd') } },
  });
  t.teardown(() => stop(child));
  execFileSync('python3', [join(ociFixtures, 'make-layers.py'), home]);
  const everything = readdirSync(home).filter(name => name.endsWith('.tar'));
  everything.sort();
  const noisy = ['one.tar', 'two.tar'];
  for (const name of noisy) writeFileSync(join(home, name), noisyArchive(name, 400_000));
  const layoutOf = (compression: 'none' | 'gzip' | 'zstd', archives: readonly string[]): string => {
    const layout = join(home, `layout-${compression}`);
    makeLayout(
      layout,
      compression,
      archives.map(name => join(home, name)),
    );
    return `oci:${layout}:test`;
  };

  const authfile = join(home, 'auth.json');
  writeFileSync(
    authfile,
    JSON.stringify({ auths: { [host]: { auth: Buffer.from('ann:secret').toString('base64') } } }),
  );
  const variables = { HOME: home, SSL_CERT_FILE: authority.certFile };
  const certs = join(home, 'certs');
  mkdirSync(certs);
  writeFileSync(join(certs, 'ca.crt'), readFileSync(authority.certFile));
  const push = (tag: string, from: string, ...words: string[]): Buffer =>
    execFileSync(
      'skopeo',
      [
        ...['--insecure-policy', 'copy', '--dest-authfile', authfile, '--dest-cert-dir', certs, ...words],
        ...[from, `docker://${host}/team/app:${tag}`],
      ],
      { stdio: 'pipe', env: { ...process.env, HOME: home, XDG_DATA_HOME: join(home, 'cache', tag) } },
    );
  const pull = (tag: string, file = authfile): Promise<string> =>
    withVariables(variables, () =>
      pullFrom(`docker://${host}/team/app:${tag}`, {
        store: join(home, tag),
        authfile: file,
        verifies: true,
        stallMs: 5000,
      }),
    );

  const manifestOf = (tag: string): string =>
    execFileSync(
      'skopeo',
      ['inspect', '--raw', '--authfile', authfile, '--cert-dir', certs, `docker://${host}/team/app:${tag}`],
      { encoding: 'utf8' },
    );
  const gzipped = layoutOf('gzip', everything);
  for (const [tag, mark, from, ...words] of [
    ['gzip', 'oci.image.layer.v1.tar+gzip', gzipped, '--preserve-digests'],
    ['docker', 'vnd.docker.image.rootfs.diff.tar.gzip', gzipped, '--format=v2s2'],
    ['zstd', 'oci.image.layer.v1.tar+zstd', layoutOf('zstd', everything), '--preserve-digests'],
    ['chunked', 'zstd-chunked.manifest-checksum', layoutOf('none', noisy), ...CHUNKED],
  ] as [string, string, string, ...string[]][]) {
    push(tag, from, ...words);
    t.match(manifestOf(tag), mark);
    const local = await pullFrom(from, { store: join(home, 'local') });
    t.match(local, /^[0-9a-f]{64}$/);
    t.equal(await pull(tag), local, tag);
  }
  t.match(
    await pull('none'),
    `docker://${host}/team/app/manifests/none: ${host}: the registry has nothing by this name (404 Not Found, MANIFEST_UNKNOWN)`,
  );
  const wrong = join(home, 'wrong.json');
  writeFileSync(wrong, JSON.stringify({ auths: { [host]: { auth: Buffer.from('ann:wrong').toString('base64') } } }));
  t.equal(
    await pull('gzip', wrong),
    `docker://${host}/team/app/manifests/gzip: the registry refuses the credentials of ${wrong}`,
  );

  t.test('tokens', async t => {
    const tokens = createServer({ cert: certificate.cert, key: certificate.key }, ({ url = '', headers }, response) => {
      const isRight = headers.authorization === `Basic ${Buffer.from('ann:secret').toString('base64')}`;
      const { searchParams } = new URL(url, 'https://x');
      const [type, name, action] = (searchParams.get('scope') ?? '').split(':');
      const token = isRight && tokenFor({ type, name, actions: action?.split(',') }, certificate);
      response.writeHead(isRight ? 200 : 401).end(JSON.stringify({ token }));
    }).listen(0, '127.0.0.1');
    await once(tokens, 'listening');
    t.teardown(() => tokens.close());
    const realm = `https://127.0.0.1:${(tokens.address() as AddressInfo).port}/token`;
    const token = { realm, service: 'registry', issuer: 'tests', rootcertbundle: authority.certFile };
    const guarded = await startRegistry(home, { certificate, auth: { token } });
    t.teardown(() => stop(guarded.child));
    const pullBy = (password: string): Promise<string> => {
      const file = join(home, `${password}.json`);
      const auth = Buffer.from(`ann:${password}`).toString('base64');
      writeFileSync(file, JSON.stringify({ auths: { [`${guarded.host}/team`]: { auth } } }));
      const options = { store: join(home, 'tokens'), authfile: file, verifies: true, stallMs: 5000 };
      return withVariables(variables, () => pullFrom(`docker://${guarded.host}/team/app:chunked`, options));
    };
    t.match(await pullBy('secret'), /^[0-9a-f]{64}$/);
    t.match(await pullBy('wrong'), `: the registry refuses the credentials of ${join(home, 'wrong.json')}`);
  });
});

/** A JSON Web Token as distribution wants it: docs/spec/auth/jwt.md. */
function tokenFor(access: object, { cert, key }: Certificate): string {
  const seconds = Math.floor(Date.now() / 1000);
  const header = { typ: 'JWT', alg: 'ES256', x5c: [new X509Certificate(cert).raw.toString('base64')] };
  const claims = {
    ...{ iss: 'tests', sub: 'ann', aud: 'registry', jti: randomBytes(8).toString('hex') },
    ...{ iat: seconds - 10, nbf: seconds - 10, exp: seconds + 60, access: [access] },
  };
  const text = [header, claims].map(part => Buffer.from(JSON.stringify(part)).toString('base64url')).join('.');
  const signature = sign('sha256', Buffer.from(text), { key: createPrivateKey(key), dsaEncoding: 'ieee-p1363' });
  return `${text}.${signature.toString('base64url')}`;
}
t.end();
