/** `lowerdata pull docker://…` as a command: what it prints, and what it leaves behind. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout } from 'node:timers/promises';
import t from 'tap';
import { scratch } from '../../fixtures/layers.ts';
import { lowerdata } from '../../fixtures/mounts/mounted.ts';
import { FakeRegistry, largestBlob } from '../../fixtures/oci/fake-registry.ts';
import { blobPath } from '../../fixtures/oci/layout.ts';
import { writeNoisyImage } from '../../fixtures/oci/pulls.ts';
import { runCommand } from '../../fixtures/run-command.ts';

const home = scratch(t);
const layout = join(home, 'layout');
const image = writeNoisyImage(layout);
const registry = await FakeRegistry.start(layout);
t.teardown(() => registry.stop());
const ref = `docker://${registry.host}/team/app:test`;
const store = join(home, 'store');

/** Starts the command; this process has to serve it meanwhile. */
function start(...args: string[]) {
  const child = spawn(process.execPath, [lowerdata, 'pull', ...args], { stdio: ['ignore', 'pipe', 'pipe'] });
  let output = '';
  for (const stream of [child.stdout, child.stderr]) stream.setEncoding('utf8').on('data', text => (output += text));
  const ended = once(child, 'close').then(([status, signal]) => ({ status, signal, output }));
  return { child, ended };
}
const pull = (...args: string[]) => start(...args).ended;

const PASSWORD = 'p4ssword';
const TOKEN = 't0ken';
const auth = Buffer.from(`ann:${PASSWORD}`).toString('base64');
const authfile = join(home, 'auth.json');
writeFileSync(authfile, JSON.stringify({ auths: { [registry.host]: { auth } } }));
const options = ['--store', store, '--tls-verify=false', '--authfile', authfile];

/** Lets in by a token, and repeats in every refusal what it was asked with. */
registry.fault = ({ path, headers }, response) => {
  const isToken = path.startsWith('/token');
  const isRight = headers.authorization === (isToken ? `Basic ${auth}` : `Bearer ${TOKEN}`);
  if (isToken && isRight) response.end(JSON.stringify({ token: TOKEN }));
  else if (isRight) return false;
  else {
    const said = `${headers.authorization} ${Buffer.from(headers.authorization?.slice(6) ?? '', 'base64')}`;
    response.writeHead(401, { 'www-authenticate': `Bearer realm="${registry.url}/token",service="${said}"` });
    response.end(JSON.stringify({ errors: [{ code: 'UNAUTHORIZED', message: said, detail: said }] }));
  }
  return true;
};

t.test('what is printed', async t => {
  const local = runCommand(['pull', `oci:${layout}:test`, '--store', join(home, 'local'), '--json']);
  const made = await pull(ref, ...options, '--json');
  t.equal(made.status, 0, made.output);
  const { digest, manifest, config, layers } = JSON.parse(made.output);
  t.match(JSON.parse(local.stdout), { digest, manifest, config, layers }, 'the same as for a layout');
  t.equal(manifest, image.digest);

  const wrongAuth = Buffer.from(`ann:${PASSWORD}wrong`).toString('base64');
  const wrong = join(home, 'wrong.json');
  writeFileSync(wrong, JSON.stringify({ auths: { [registry.host]: { auth: wrongAuth } } }));
  const refused = await pull(ref, '--store', join(home, 'none'), '--tls-verify=false', '--authfile', wrong);
  t.strictSame(
    [refused.status, refused.output],
    [
      1,
      `lowerdata: docker://${registry.host}/team/app/manifests/test: the registry refuses the credentials of ${wrong}\n`,
    ],
    'one line',
  );
  t.notOk(existsSync(join(home, 'none')), 'no store is made');
  const missing = await pull(`docker://${registry.host}/team/app:no`, ...options);
  t.equal(missing.status, 1);
  for (const { output } of [made, refused, missing])
    for (const secret of [PASSWORD, auth, wrongAuth, TOKEN]) t.notOk(output.includes(secret), 'no secret is printed');

  for (const [args, message] of [
    [['--tls-verify=no'], '--tls-verify=no: true or false'],
    [['--authfile', join(home, 'no')], `${join(home, 'no')}: No such file or directory`],
  ] as const)
    t.strictSame(await pull(ref, ...options, ...args), { status: 1, signal: null, output: `lowerdata: ${message}\n` });
});

t.test('an interruption', async t => {
  const largest = largestBlob(layout);
  const admit = registry.fault;
  let isStalled = false;
  registry.fault = (request, response) => {
    if (admit(request, response)) return true;
    if (!request.path.endsWith(largest)) return false;
    response.writeHead(200);
    response.write(registry.bytesAt(request.path)?.subarray(0, 100_000), () => (isStalled = true));
    return true;
  };
  const other = join(home, 'other');
  const { child, ended } = start(ref, ...options, '--store', other);
  while (!isStalled) await setTimeout(20);
  child.kill('SIGINT');
  const { signal } = await ended;
  t.equal(signal, 'SIGINT');
  t.strictSame(
    readdirSync(other, { recursive: true, encoding: 'utf8' }).filter(name => !/^(meta\.json|objects)$/.test(name)),
    [],
    'nothing incomplete stays',
  );
  registry.fault = admit;
  const { status, output } = await pull(ref, ...options, '--store', other);
  t.equal(status, 0, output);
  t.match(output, readFileSync(join(store, 'meta.json')) && /^[0-9a-f]{64} /);
});
/** The digests of the layers' blobs, from the lowest one upwards. */
const layerBlobs: readonly string[] = JSON.parse(readFileSync(blobPath(layout, image.digest), 'utf8')).layers.map(
  ({ digest }: { digest: string }) => digest,
);
/** The layers that a pull asks for. */
async function layersAsked(...args: string[]): Promise<readonly string[]> {
  registry.requests.length = 0;
  const { status, output } = await pull(ref, ...options, ...args);
  t.equal(status, 0, output);
  return layerBlobs.filter(digest => registry.requests.some(({ path }) => path.endsWith(digest)));
}

t.test('layers that the store has', async t => {
  t.strictSame(await layersAsked('--store', join(home, 'again')), layerBlobs, 'all are fetched at first');
  t.strictSame(await layersAsked('--store', join(home, 'again')), [], 'and none of them again');
  const other = join(home, 'complete');
  const [, , last = ''] = layerBlobs;
  const admit = registry.fault;
  registry.fault = (request, response) => admit(request, response) || request.path.endsWith(last); // never answers
  const { child, ended } = start(ref, ...options, '--store', other);
  const recorded = (): string[] => {
    const streams = join(other, 'streams');
    return existsSync(streams) ? readdirSync(streams).filter(name => name.startsWith('oci-layer-')) : [];
  };
  while (recorded().length < 2) await setTimeout(20);
  child.kill('SIGINT');
  await ended;
  registry.fault = admit;
  t.equal(recorded().length, 2, 'an interrupted pull keeps the layers that were complete');
  t.notOk(existsSync(join(other, 'images')), 'and makes no image');
  t.strictSame(await layersAsked('--store', other), [last], 'the next one goes on from them');
});
t.end();
