/** Who asks a registry, and who learns that: passwords and tokens, where they are sent, and where never. */
import { chmodSync, mkdirSync, writeFileSync } from 'node:fs';
import { delimiter, join } from 'node:path';
import t from 'tap';
import { findCredentials } from '../../../src/oci/registry/credentials.ts';
import { scratch } from '../../fixtures/layers.ts';
import { FakeRegistry, type Fault, largestBlob, type Request } from '../../fixtures/oci/fake-registry.ts';
import { pullFrom, withVariables, writeNoisyImage } from '../../fixtures/oci/pulls.ts';

const home = scratch(t);
const layout = join(home, 'layout');
writeNoisyImage(layout);
const largest = largestBlob(layout);
const local = await pullFrom(`oci:${layout}:test`, { store: join(home, 'local') });
const registry = await FakeRegistry.start(layout);
const elsewhere = await FakeRegistry.start(layout);
t.teardown(() => {
  registry.stop();
  elsewhere.stop();
});
const { host } = registry;
const repository = `docker://${host}/team/app`;

const PASSWORD = 'p4ss:wörd';
const authOf = (user: string, password: string): string => Buffer.from(`${user}:${password}`).toString('base64');
const GOOD = authOf('ann', PASSWORD);
const BAD = authOf('ann', 'wrong');

/** Writes a file with credentials, and has nothing else with some. */
function authFile(content: object | string, name = 'auth.json'): string {
  const path = join(home, name);
  mkdirSync(join(path, '..'), { recursive: true });
  writeFileSync(path, typeof content === 'string' ? content : JSON.stringify(content));
  return path;
}
const empty = authFile('{}', 'empty.json');
const good = authFile({ auths: { [host]: { auth: GOOD } } }, 'good.json');
const bad = authFile({ auths: { [host]: { auth: BAD } } }, 'bad.json');

const answer =
  (status: number, headers: Record<string, string>, body = ''): Fault =>
  (_, response) => {
    response.writeHead(status, headers).end(body);
    return true;
  };
const wants = (challenge: string): Fault => answer(401, { 'www-authenticate': challenge });

/** Lets in by a header alone. */
const behind =
  (challenge: string, isRight: (authorization: string | undefined) => boolean): Fault =>
  (request, response) =>
    !isRight(request.headers.authorization) && wants(challenge)(request, response);
const basic = behind('Basic realm="here"', authorization => authorization === `Basic ${GOOD}`);

let count = 0;
async function pull(authfile: string | undefined): Promise<string> {
  registry.requests.length = 0;
  elsewhere.requests.length = 0;
  return pullFrom(`${repository}:test`, { store: join(home, `store-${count++}`), ...(authfile && { authfile }) });
}

t.test('Basic', async t => {
  registry.fault = basic;
  t.equal(await pull(good), local);
  const [first, ...others] = registry.requests;
  t.strictSame([first?.path, first?.headers.authorization], ['/v2/', undefined], 'nothing is sent unasked');
  t.ok(others.every(({ headers }) => headers.authorization === `Basic ${GOOD}`));
  t.equal(await pull(bad), `${repository}/manifests/test: the registry refuses the credentials of ${bad}`);
  t.equal(registry.requests.length, 3, 'without a loop');
  t.equal(
    await pull(empty),
    `${repository}/manifests/test: the registry wants credentials, and there are none for it in ${empty}`,
  );
});

t.test('a way that is not known', async t => {
  registry.fault = wants('Negotiate, NTLM');
  t.equal(
    await pull(good),
    `${repository}/manifests/test: the registry wants to know who asks, but neither by Basic nor by Bearer`,
  );
});

/** A server of tokens on another host. @param isGood whether a token, by its number from 1, is good for a path */
function bearer(isGood: (token: number, path: string) => boolean = () => true, key = 'token'): void {
  let made = 0;
  const challenge = `Bearer realm="${elsewhere.url}/token?a=b",service="the service",scope="repository:team/app:pull"`;
  elsewhere.fault = (request, response) => {
    const isRight = request.method === 'POST' || request.headers.authorization === `Basic ${GOOD}`;
    if (!isRight) return wants('Basic')(request, response);
    return answer(200, {}, JSON.stringify({ [key]: `token-${++made}`, expires_in: 1 }))(request, response);
  };
  registry.fault = (request, response) => {
    const [, token] = /^Bearer token-(\d+)$/.exec(request.headers.authorization ?? '') ?? [];
    return !(token && isGood(Number(token), request.path)) && wants(challenge)(request, response);
  };
}

t.test('Bearer', async t => {
  bearer();
  t.equal(await pull(good), local);
  const [token, ...more] = elsewhere.requests;
  t.equal(token?.path, '/token?a=b&service=the+service&scope=repository%3Ateam%2Fapp%3Apull');
  t.strictSame(more, [], 'one token is enough');
  t.ok(
    registry.requests.every(({ headers }) => headers.authorization !== `Basic ${GOOD}`),
    'the password is sent for a token alone',
  );
  bearer(undefined, 'access_token');
  t.equal(await pull(good), local, 'access_token');
  bearer((token, path) => path.includes('/manifests/') || token === 2);
  t.equal(await pull(good), local, 'a token that expires');
  t.equal(elsewhere.requests.length, 2);
  t.equal(await pull(bad), `${repository}/manifests/test: the registry refuses the credentials of ${bad}`);
  t.equal(elsewhere.requests.length, 1);
  bearer(() => false);
  t.equal(await pull(good), `${repository}/manifests/test: the registry refuses the credentials of ${good}`);
  t.equal(elsewhere.requests.length, 2, 'a token that never helps is fetched once more, without a loop');
});

t.test('a token without credentials', async t => {
  bearer();
  elsewhere.fault = answer(200, {}, '{"token":"token-0"}');
  t.equal(await pull(empty), local);
  t.equal(elsewhere.requests[0]?.headers.authorization, undefined);
  t.match(elsewhere.requests[0]?.path, /scope=repository%3Ateam%2Fapp%3Apull/);
});

t.test('an identity token', async t => {
  bearer();
  t.equal(await pull(authFile({ auths: { [host]: { identitytoken: 'refresh me' } } })), local);
  const [{ method, body }] = elsewhere.requests as [Request];
  t.equal(method, 'POST');
  t.strictSame(Object.fromEntries(new URLSearchParams(body)), {
    grant_type: 'refresh_token',
    client_id: 'lowerdata',
    refresh_token: 'refresh me',
    service: 'the service',
    scope: 'repository:team/app:pull',
  });
});

for (const [rule, reply, message] of [
  ['no JSON', answer(200, {}, 'hello'), `the token of ${elsewhere.host}: no JSON in UTF-8`],
  ['no token', answer(200, {}, '{}'), `${elsewhere.host} gives no token`],
  ['a token with a line break', answer(200, {}, '{"token":"a\\r\\nb: c"}'), `${elsewhere.host} gives no token`],
  [
    'an endless token',
    answer(200, {}, `{"token":"${'x'.repeat(70_000)}"}`),
    `the token of ${elsewhere.host}: more than 65536 bytes`,
  ],
  ['404', answer(404, {}), `${elsewhere.host} gives no token: 404 Not Found`],
  ['503', answer(503, {}), `503 Service Unavailable; given up after 4 attempts`],
] as const)
  t.test(`tokens: ${rule}`, async t => {
    bearer();
    elsewhere.fault = reply;
    t.equal(await pull(good), `${repository}/manifests/test: ${message}`);
  });

t.test('redirects to another host', async t => {
  registry.fault = (request, response) =>
    basic(request, response) ||
    (request.path.includes('/blobs/') &&
      answer(307, { location: `${elsewhere.url}${request.path}?signature=s` })(request, response));
  elsewhere.fault = () => false;
  t.equal(await pull(good), local);
  t.ok(elsewhere.requests.length >= 4, 'configuration and layers come from there');
  t.strictSame(
    elsewhere.requests.filter(({ headers }) => headers.authorization !== undefined),
    [],
    'and nobody shows who asks',
  );

  elsewhere.fault = ({ path }, response) =>
    path.includes(largest) && answer(307, { location: `${registry.url}/stolen${path}` })(undefined as never, response);
  await pull(good);
  const back = registry.requests.filter(({ path }) => path.startsWith('/stolen'));
  t.ok(back.length > 0);
  t.ok(
    back.every(({ headers }) => headers.authorization === undefined),
    'nor after a redirect back',
  );

  elsewhere.fault = wants('Basic realm="give it to me"');
  t.match(await pull(good), /: the registry refuses access \(401 Unauthorized\)$/);
  t.strictSame(
    elsewhere.requests.filter(({ headers }) => headers.authorization !== undefined),
    [],
    'nor where that is asked for',
  );
});

t.test('a redirect of the first request', async t => {
  registry.fault = ({ path }, response) =>
    path === '/v2/' && answer(307, { location: `${elsewhere.url}/v2/` })(undefined as never, response);
  elsewhere.fault = wants('Basic realm="give it to me"');
  t.match(await pull(good), `${host} is no registry: it answers 401 Unauthorized to /v2/`);
  t.ok(elsewhere.requests.length > 0);
});

t.test('a realm that is no address', async t => {
  registry.fault = wants('Bearer realm="ftp://there"');
  t.equal(
    await pull(good),
    `${repository}/manifests/test: the registry names no address by HTTPS where tokens are given`,
  );
});

t.test('files with credentials', async t => {
  registry.fault = basic;
  const right = { auths: { [host]: { auth: GOOD } } };
  const wrong = { auths: { [host]: { auth: BAD } } };
  const places = {
    HOME: join(home, 'user'),
    REGISTRY_AUTH_FILE: undefined,
    DOCKER_CONFIG: undefined,
    XDG_CONFIG_HOME: undefined,
    XDG_RUNTIME_DIR: join(home, 'run'),
  };
  const inOrder = ['run/containers/auth.json', 'user/.config/containers/auth.json', 'user/.docker/config.json'];
  t.equal(
    await withVariables(places, () => pull(undefined)),
    `${repository}/manifests/test: the registry wants credentials, and there are none for it in ${inOrder.map(name => join(home, name)).join(', ')}`,
  );
  for (const name of [...inOrder].reverse()) {
    authFile(right, name);
    t.equal(await withVariables(places, () => pull(undefined)), local, name);
    authFile(wrong, name);
    t.match(await withVariables(places, () => pull(undefined)), join(home, name), `${name} goes before the later ones`);
  }
  const variables = { ...places, REGISTRY_AUTH_FILE: good };
  t.equal(await withVariables(variables, () => pull(undefined)), local, 'REGISTRY_AUTH_FILE');
  t.match(await withVariables(variables, () => pull(bad)), bad, '--authfile goes before it');
  t.equal(await pull(join(home, 'missing')), `${join(home, 'missing')}: No such file or directory`);
});

t.test('a registry that is called as what objects have', async t => {
  const path = authFile({ auths: {}, credHelpers: {} });
  const reference = { transport: 'docker', registry: 'hasOwnProperty', repository: 'a', target: 'b' } as const;
  t.strictSame(findCredentials(reference, path), { credentials: undefined, files: [path] });
});

/** What an entry applies to, each in a file whose other entries are wrong. */
for (const [rule, auths, isRight] of [
  ['the registry', { [host]: GOOD }, true],
  ['the team', { [host]: BAD, [`${host}/team`]: GOOD }, true],
  ['the repository', { [host]: BAD, [`${host}/team`]: BAD, [`${host}/team/app`]: GOOD }, true],
  [
    'another repository',
    { [host]: GOOD, [`${host}/team/ap`]: BAD, [`${host}/team/app/x`]: BAD, [`${host}/te`]: BAD },
    true,
  ],
  ['an address, as docker writes it', { [`https://${host}/v1/`]: GOOD }, true],
  ['the same host with another port', { '127.0.0.1:1': GOOD, '127.0.0.1': GOOD }, false],
] as const)
  t.test(`an entry: ${rule}`, async t => {
    registry.fault = basic;
    const entries = Object.entries(auths).map(([key, auth]) => [key, { auth }]);
    const result = await pull(authFile({ auths: Object.fromEntries(entries) }));
    if (isRight) t.equal(result, local);
    else t.match(result, 'there are none for it');
  });

for (const [rule, content, message] of [
  ['no JSON', 'pässword', 'no JSON in UTF-8'],
  ['another shape', { auths: { [host]: 'secret' } }, 'not as containers-auth.json(5) says'],
  [
    'no base64 of a password',
    { auths: { [host]: { auth: 'secret' } } },
    'an entry whose auth is not the base64 of USER:PASSWORD',
  ],
  [
    'a program by its path',
    { credHelpers: { [host]: '../../bin/sh' } },
    'the program docker-credential-../../bin/sh: not a name of one',
  ],
  [
    'a missing program',
    { credHelpers: { [host]: 'missing' } },
    'the program docker-credential-missing: No such file or directory',
  ],
] as const)
  t.test(`a file with ${rule}`, async t => {
    registry.fault = basic;
    const path = authFile(content);
    t.equal(await withVariables({ PATH: home }, () => pull(path)), `${path}: ${message}`);
  });

t.test('programs with credentials', async t => {
  registry.fault = basic;
  const program = (name: string, script: string): void => {
    const path = join(home, `docker-credential-${name}`);
    writeFileSync(path, `#!/bin/sh\n${script}\n`);
    chmodSync(path, 0o755);
  };
  const Secret = PASSWORD;
  program(
    'keeper',
    `[ "$1" = get ] && [ "$(cat)" = ${host} ] && echo '${JSON.stringify({ ServerURL: host, Username: 'ann', Secret })}'`,
  );
  program('empty', 'echo credentials not found in native keychain; exit 1');
  program('broken', `echo ${PASSWORD}; exit 3`);
  program('strange', `echo '{"Secret":"${PASSWORD}"}'`);
  program('token', `echo '${JSON.stringify({ Username: '<token>', Secret: 'refresh me' })}'`);
  const pullBy = (content: object): Promise<string> =>
    withVariables({ PATH: `${home}${delimiter}${process.env.PATH}` }, () => pull(authFile(content)));
  const path = join(home, 'auth.json');
  t.equal(
    await pullBy({ credHelpers: { [host]: 'keeper' }, auths: { [host]: { auth: BAD } } }),
    local,
    'of the registry',
  );
  t.equal(await pullBy({ credsStore: 'keeper', auths: { [host]: {} } }), local, 'of all registries');
  t.equal(await pullBy({ credsStore: 'missing', auths: { [host]: { auth: GOOD } } }), local, 'is not asked in vain');
  t.match(await pullBy({ credHelpers: { [host]: 'empty' } }), 'there are none for it');
  t.equal(await pullBy({ credsStore: 'broken' }), `${path}: the program docker-credential-broken: exit status 3`);
  t.equal(
    await pullBy({ credsStore: 'strange' }),
    `${path}: the program docker-credential-strange: its answer has no user and no secret`,
  );
  bearer();
  t.equal(await pullBy({ credsStore: 'token' }), local, 'an identity token');
});
t.end();
