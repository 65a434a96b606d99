/** `MakeImage` of the service from a reference: who may have an image pulled, by which process, and under which name. */
import { spawnSync } from 'node:child_process';
import {
  chmodSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  readlinkSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { basename, join } from 'node:path';
import t from 'tap';
import { soon } from '../../fixtures/mounts/foreground.ts';
import { command } from '../../fixtures/mounts/mounted.ts';
import { member } from '../../fixtures/oci/archives.ts';
import { FakeRegistry } from '../../fixtures/oci/fake-registry.ts';
import { archiveOf, TAG, writeImage, writeIndex } from '../../fixtures/oci/layout.ts';
import { ended, helpersOf, type Service, startService, USER } from '../../fixtures/service/served.ts';
import { without, withoutFuse, withoutRoot } from '../../fixtures/skips.ts';

t.setTimeout(120_000);
const STRANGER = 1001;
/** Whom the repository belongs to. */
const OWNER = 4242;
const missing = withoutRoot || withoutFuse || ['setpriv', 'python3'].map(without).find(reason => reason);

const PULL = `
def pull(reference, name='app'):
    return client.call('MakeImage', reference=reference, name=name)[0]['digest']
def fails(*given):
    return tried(lambda: pull(*given))
`;

const home = mkdtempSync('/tmp/pull-'); // a short path: an address has at most 108 bytes
const at = (name: string): string => join(home, name);
t.teardown(() => rmSync(home, { recursive: true }));

/** Two images in a layout, and a repository of OWNER that has the one called `first`. @returns the digest of the other one */
function prepare(): string {
  chmodSync(home, 0o755);
  mkdirSync(at('keys'));
  const layer = (text: string): Buffer => archiveOf(member({ name: 'file', mode: 0o644 }, text.repeat(100)));
  const images = ['first', 'second'].map(name => ({
    ...writeImage(at('layout'), [layer(name)]),
    annotations: { [TAG]: name },
  }));
  writeIndex(at('layout'), images);
  command('pull', `oci:${at('layout')}:first`, '--store', at('store'), '--name', 'first');
  spawnSync('chown', ['-R', `${OWNER}:${OWNER}`, at('store')]);
  chmodSync(at('store'), 0o700);
  return command('pull', `oci:${at('layout')}:second`, '--store', at('own')).slice(0, 64);
}

async function withService(use: (service: Service) => Promise<void>, ...words: string[]): Promise<void> {
  const service = await startService(home, '--tls-verify=false', '--pull-for', `${USER}`, '--allow-unsigned', ...words);
  try {
    await use(service);
  } finally {
    const end = ended(service.process);
    service.process.kill('SIGTERM');
    await end;
    rmSync(at('socket'), { force: true });
  }
}

t.test('images of registries', { skip: missing }, async t => {
  const wanted = prepare();
  const registry = await FakeRegistry.start(at('layout'));
  t.teardown(() => registry.stop());
  const reference = (tag: string): string => `docker://${registry.host}/team/app:${tag}`;

  await withService(async ({ user, log, ask }) => {
    const own = user(USER, `${PULL}\nprint(pull('${reference('second')}'))`);
    t.equal(await own.said, `${wanted}\n`, 'the digest is that of the same image in a layout');
    t.equal(basename(readlinkSync(at('store/images/refs/app'))), wanted, 'it has the name');
    const { uid, gid } = statSync(at(`store/objects/${wanted.slice(0, 2)}/${wanted.slice(2)}`));
    t.same([uid, gid], [OWNER, OWNER], 'and belongs to the owner of the repository');
    t.ok(
      await soon(() =>
        log().includes(`uid ${USER}, process ${own.process.pid}: pull ${reference('second')}: ${wanted}, named app`),
      ),
    );
    const stranger = user(STRANGER, `${PULL}\nprint(fails('${reference('second')}'))`);
    t.match(await stranger.said, /^io\.lowerdata\.Mount\.NotAllowed .*uid 1001 is not among those/, 'who is not named');
    const said = user(
      USER,
      `${PULL}
print(pull('${reference('second')}'))
print(fails('${reference('second')}', 'first'))
print(fails('${reference('none')}', 'new'))
print(fails('oci:${at('layout')}:second'))
print(fails('${reference('second')}', '${'0'.repeat(64)}'))
print(fails('${reference('second')}', '../app'))
print(tried(lambda: client.call('MakeImage', reference='${reference('second')}')))
`,
    );
    const lines = (await said.said).split('\n');
    t.equal(lines[0], wanted, 'again');
    t.match(
      lines[1],
      /^io\.lowerdata\.Mount\.Failed .*first is the name of [0-9a-f]{64}, and this image is/,
      'a name that is taken',
    );
    t.match(lines[2], /^io\.lowerdata\.Mount\.Failed .*the registry has nothing by this name/, 'no such image');
    t.match(lines[3], /^org\.varlink\.service\.InvalidParameter .*reference/, 'files of the service');
    for (const line of lines.slice(4, 7))
      t.match(line, /^org\.varlink\.service\.InvalidParameter .*name/, 'a digest as a name, a path, no name');
    const byCommand = ask(USER, 'pull', reference('second'), '--name', 'by/command');
    t.equal(await byCommand.said, `${wanted}  by/command\n`, 'the command has it pulled');
    const refused = ask(STRANGER, 'pull', reference('second'), '--name', 'x');
    t.match(await refused.said, /^lowerdata: docker:.*: the service does not do that: pull: uid 1001 is not among/);
    t.match(await ask(USER, 'pull', reference('second')).said, /^lowerdata: --name is missing/);
  });

  await withService(async service => {
    let isAsked = false;
    registry.fault = () => {
      isAsked = true;
      return true; // and never answered
    };
    const client = service.user(USER, `${PULL}\npull('${reference('first')}')`);
    t.ok(await soon(() => isAsked));
    const [helper] = helpersOf(service.process);
    const status = readFileSync(`/proc/${helper}/status`, 'utf8');
    t.match(
      status,
      new RegExp(`^Uid:\t${OWNER}\t${OWNER}\t${OWNER}\t${OWNER}$`, 'm'),
      'the process is one of the owner',
    );
    t.match(status, /^Groups:\t\s*$/m);
    t.match(status, /^CapPrm:\t0+\nCapEff:\t0+$/m, 'without capabilities');
    t.match(status, /^NoNewPrivs:\t1\nSeccomp:\t2$/m, 'and confined');
    client.process.kill('SIGKILL');
    t.ok(await soon(() => helpersOf(service.process).length === 0), 'and ends with the client');
    registry.fault = () => false;
  });

  const policy = at('policy.json');
  const allowed = { docker: { [`${registry.host}/other`]: [{ type: 'insecureAcceptAnything' }] } };
  writeFileSync(policy, JSON.stringify({ default: [{ type: 'reject' }], transports: allowed }));
  const before = registry.requests.length;
  await withService(
    async ({ user }) => {
      const said = user(USER, `${PULL}\nprint(fails('${reference('second')}'))`);
      t.match(await said.said, /^io\.lowerdata\.Mount\.DeniedByPolicy .*policy\.json does not allow it/, 'the policy');
      t.equal(registry.requests.length, before, 'which is asked before the registry');
    },
    '--policy',
    policy,
  );
});
t.end();
