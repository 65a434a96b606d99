/** Whose certificates are taken, and how a registry is reached through a proxy. */

import { once } from 'node:events';
import { copyFileSync, mkdirSync, readFileSync } from 'node:fs';
import { createServer, type IncomingMessage } from 'node:http';
import { type AddressInfo, connect, type Socket } from 'node:net';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { scratch } from '../../fixtures/layers.ts';
import { Authority } from '../../fixtures/oci/certificates.ts';
import { FakeRegistry, type TlsFiles } from '../../fixtures/oci/fake-registry.ts';
import { pullFrom, withVariables, writeNoisyImage } from '../../fixtures/oci/pulls.ts';
import { without } from '../../fixtures/skips.ts';

const home = scratch(t);
const layout = join(home, 'layout');
writeNoisyImage(layout);
const local = await pullFrom(`oci:${layout}:test`, { store: join(home, 'local') });
const skip = without('openssl');

async function start(t: Test, tls?: TlsFiles): Promise<FakeRegistry> {
  const registry = await FakeRegistry.start(layout, tls);
  t.teardown(() => registry.stop());
  return registry;
}

/** Nothing of the user who runs the test. */
const NOBODY = {
  HOME: join(home, 'user'),
  SSL_CERT_FILE: undefined,
  SSL_CERT_DIR: undefined,
  HTTPS_PROXY: undefined,
  https_proxy: undefined,
  NO_PROXY: undefined,
  no_proxy: undefined,
};
let stores = 0;
const pull = (
  host: string,
  variables: Record<string, string>,
  verifies = true,
  certDirectory?: string,
): Promise<string> => {
  const options = { store: join(home, `store-${stores++}`), verifies, ...(certDirectory && { certDirectory }) };
  return withVariables({ ...NOBODY, ...variables }, () => pullFrom(`docker://${host}/team/app:test`, options));
};

t.test('certificates', { skip }, async t => {
  const [mine, other] = ['mine', 'other'].map(name => {
    mkdirSync(join(home, name));
    return new Authority(join(home, name));
  }) as [Authority, Authority];
  const good = await start(t, mine.sign('good', 'IP:127.0.0.1'));
  const trusted = { SSL_CERT_FILE: mine.certFile };
  const refused = (host: string, why: string): string =>
    `docker://${host}/team/app: ${host}: its certificate is refused: ${why}`;
  t.equal(await pull(good.host, trusted), local, 'SSL_CERT_FILE');
  const directory = join(home, 'directory');
  mkdirSync(directory);
  copyFileSync(mine.certFile, join(directory, 'any.pem'));
  t.equal(await pull(good.host, { SSL_CERT_DIR: `${home}/none:${directory}` }), local, 'SSL_CERT_DIR');
  const unknown = 'nobody who is trusted has signed it (UNABLE_TO_VERIFY_LEAF_SIGNATURE)';
  t.equal(await pull(good.host, {}), refused(good.host, unknown), 'the certificates of the system');
  t.equal(await pull(good.host, { SSL_CERT_FILE: other.certFile }), refused(good.host, unknown));
  t.equal(await pull(good.host, {}, false), local, 'any, if that is asked for');
  t.equal(await pull(good.host, { SSL_CERT_FILE: `${home}/none` }), `${home}/none: No such file or directory`);

  const away = await start(t, mine.sign('away', 'DNS:else.example'));
  t.equal(await pull(away.host, trusted), refused(away.host, 'it is for another host (ERR_TLS_CERT_ALTNAME_INVALID)'));
  const old = await start(t, mine.sign('old', 'IP:127.0.0.1', -1));
  t.equal(await pull(old.host, trusted), refused(old.host, 'it has expired (CERT_HAS_EXPIRED)'));

  t.test('certs.d', async t => {
    const client = mine.sign('client', 'DNS:client.example');
    const guarded = await start(t, { ...mine.sign('guarded', 'IP:127.0.0.1'), clientCa: readFileSync(mine.certFile) });
    t.match(
      await pull(guarded.host, trusted),
      /: TLS failed \(ERR_SSL_\w+\)|the connection broke/,
      'a client without a certificate',
    );
    const own = join(home, 'user', '.config/containers/certs.d', guarded.host);
    mkdirSync(own, { recursive: true });
    copyFileSync(mine.certFile, join(own, 'ca.crt'));
    copyFileSync(client.certFile, join(own, 'client.cert'));
    copyFileSync(client.keyFile, join(own, 'client.key'));
    t.equal(await pull(guarded.host, {}), local, 'an authority, and a certificate of the client');
    t.match(await pull(good.host, {}), 'its certificate is refused', 'for this host alone');

    const named = join(home, 'named');
    mkdirSync(named);
    t.match(
      await pull(guarded.host, {}, true, named),
      'its certificate is refused',
      'not those of certs.d beside --cert-dir',
    );
    for (const name of ['ca.crt', 'client.cert', 'client.key']) copyFileSync(join(own, name), join(named, name));
    t.equal(await pull(guarded.host, {}, true, named), local, '--cert-dir');
    t.equal(await pull(guarded.host, {}, false, named), local, 'the client is known without verification, too');
    t.equal(await pull(good.host, {}, true, named), local, 'for any registry');
    const leading = await start(t, mine.sign('leading', 'IP:127.0.0.1'));
    leading.fault = ({ path }, response) =>
      path.includes('/blobs/') && !!response.writeHead(302, { location: `${guarded.url}${path}` }).end();
    t.match(
      await pull(leading.host, {}, true, named),
      /: TLS failed \(ERR_SSL_\w+\)|the connection broke/,
      'the certificate of the client is shown to the registry alone',
    );
    t.equal(await pull(good.host, {}, true, join(home, 'none')), `${home}/none: no such directory`);
    copyFileSync(join(home, 'mine', 'good.key'), join(own, 'client.key'));
    t.match(await pull(guarded.host, {}), new RegExp(`^${own}/client.cert: no certificate that fits its key: `));
  });

  t.test('from HTTPS to HTTP', async t => {
    const plain = await start(t);
    good.fault = ({ path }, response) => {
      if (!path.includes('/blobs/')) return false;
      response.writeHead(302, { location: `${plain.url}${path}` }).end();
      return true;
    };
    t.match(
      await pull(good.host, trusted),
      `${good.host} redirects to plain HTTP on ${plain.host}, which --tls-verify=false allows`,
    );
    t.strictSame(plain.requests, []);
    t.equal(await pull(good.host, {}, false), local);
    good.fault = (_, response) => {
      response.writeHead(401, { 'www-authenticate': `Bearer realm="${plain.url}/token"` }).end();
      return true;
    };
    plain.requests.length = 0;
    t.match(await pull(good.host, trusted), 'the registry names no address by HTTPS where tokens are given');
    t.strictSame(plain.requests, []);
    good.fault = () => false;
  });

  t.test('a proxy', async t => {
    const inside = await start(t, mine.sign('inside', 'DNS:registry.test'));
    const asked: IncomingMessage[] = [];
    const proxy = createServer().on('connect', (request: IncomingMessage, socket: Socket) => {
      asked.push(request);
      socket.on('error', () => {});
      if (request.headers['proxy-authorization'] !== `Basic ${Buffer.from('me:secret').toString('base64')}`)
        return socket.end('HTTP/1.1 407 Proxy Authentication Required\r\n\r\n');
      const there = connect(inside.port, '127.0.0.1', () => socket.write('HTTP/1.1 200 OK\r\n\r\n'));
      there.on('error', () => socket.destroy());
      return socket.pipe(there).pipe(socket);
    });
    proxy.listen(0, '127.0.0.1');
    await once(proxy, 'listening');
    t.teardown(() => proxy.close());
    const { port } = proxy.address() as AddressInfo;
    const HTTPS_PROXY = `http://me:secret@127.0.0.1:${port}`;
    t.equal(await pull('registry.test', { ...trusted, HTTPS_PROXY }), local);
    t.ok(asked.length > 0);
    t.ok(asked.every(({ url, headers }) => url === 'registry.test:443' && headers.authorization === undefined));
    const wrong = await pull('registry.test', { ...trusted, HTTPS_PROXY: `http://me:wrong@127.0.0.1:${port}` });
    t.equal(wrong, 'docker://registry.test/team/app: registry.test: the proxy answers 407');
    asked.length = 0;
    t.match(
      await pull('registry.test', { ...trusted, HTTPS_PROXY, NO_PROXY: 'example,.test' }),
      /no such host|cannot be resolved/,
      'NO_PROXY',
    );
    t.equal(await pull(good.host, { ...trusted, HTTPS_PROXY }), local);
    t.strictSame(asked, [], 'nor for this machine');
  });
});

t.test('plain HTTP', async t => {
  const registry = await start(t);
  const { host } = registry;
  t.equal(
    await pull(host, {}),
    `docker://${host}/team/app: ${host}: it does not speak TLS; --tls-verify=false allows plain HTTP`,
  );
  t.equal(await pull(host, {}, false), local);
  registry.stop();
  t.equal(await pull(host, {}), `docker://${host}/team/app: ${host}: Connection refused`);
  t.equal(await pull(host, {}, false), `docker://${host}/team/app: ${host}: Connection refused`);
});
t.end();
