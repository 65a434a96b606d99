/** The service as its clients see it: users in namespaces of their own, who speak with it in Python. */
import { spawnSync } from 'node:child_process';
import {
  chmodSync,
  copyFileSync,
  cpSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { fsverityDigest } from '../../fixtures/images/verity.ts';
import { soon } from '../../fixtures/mounts/foreground.ts';
import { command, packageFolder } from '../../fixtures/mounts/mounted.ts';
import { member } from '../../fixtures/oci/archives.ts';
import { archiveOf, TAG, writeImage, writeIndex } from '../../fixtures/oci/layout.ts';
import { KEY_KINDS, makeSignatory } from '../../fixtures/seals.ts';
import { ended, type Service, startService, USER } from '../../fixtures/service/served.ts';
import { without, withoutFuse, withoutUserMounts, withoutUserNamespaces } from '../../fixtures/skips.ts';

t.setTimeout(240_000);
const missing =
  withoutFuse || withoutUserNamespaces || ['openssl', 'setpriv', 'unshare'].map(without).find(reason => reason);
const launcher = join(packageFolder, 'bin', 'lowerdata');
const LARGE = 'large '.repeat(100_000);

/** A store that nobody but root may enter, with the image `signed` and the image `plain`, which has no seal. */
function makeStore(home: string): { keyFile: string; certFile: string } {
  const at = (name: string): string => join(home, name);
  const layer = (text: string): Buffer =>
    archiveOf(
      member({ name: 'usr/', type: '5', mode: 0o755 }),
      member({ name: 'usr/large', mode: 0o600 }, LARGE),
      member({ name: 'usr/of33', uid: 33, gid: 33, mode: 0o644 }, text.repeat(100)),
    );
  const images = ['signed', 'plain'].map(name => ({
    ...writeImage(at('layout'), [layer(name)]),
    annotations: { [TAG]: name },
  }));
  writeIndex(at('layout'), images);
  const { keyFile, certFile } = makeSignatory(home, 'signer', KEY_KINDS.p256);
  mkdirSync(at('keys'));
  copyFileSync(certFile, join(at('keys'), 'signer.pem'));
  command('seal', `oci:${at('layout')}:signed`, '--store', at('other'), '--key', keyFile, '--cert', certFile);
  for (const name of ['signed', 'plain'])
    command('pull', `oci:${at('layout')}:${name}`, '--store', at('store'), '--name', name);
  for (const entry of readdirSync(at('store/objects'), { recursive: true, withFileTypes: true }))
    if (entry.isFile()) chmodSync(join(entry.parentPath, entry.name), 0o600);
  chmodSync(at('store'), 0o700);
  return { keyFile, certFile };
}

function served(rule: string, use: (t: Test, service: Service) => void | Promise<void>, ...words: string[]): void {
  t.test(rule, async t => {
    const service = await startService(home, ...words);
    try {
      await use(t, service);
    } finally {
      const end = ended(service.process);
      service.process.kill('SIGTERM');
      t.equal(await end, 0, 'the service ends in order');
      rmSync(join(home, 'socket'), { force: true });
    }
  });
}

const home = missing ? '' : mkdtempSync('/tmp/serve-'); // a short path: an address has at most 108 bytes
if (missing) t.plan(0, missing);
else {
  t.teardown(() => rmSync(home, { recursive: true }));
  chmodSync(home, 0o755);
  const { keyFile, certFile } = makeStore(home);
  for (const name of ['mnt', 'mnt/a', 'mnt/b', 'upper']) {
    mkdirSync(join(home, name));
    chmodSync(join(home, name), 0o777);
  }

  served('a user mounts a signed image, with its own ids', async (t, { client, log }) => {
    const said = client(`
first = client.mount('signed', 'mnt/a')
again = client.mount(first['digest'], 'mnt/b')
print(first['mountId'] == again['mountId'], len(first['digest']))
print(open('mnt/a/usr/large').read() == 'large ' * 100000, open('mnt/b/usr/of33').read() == 'signed' * 100)
print(os.stat('mnt/a/usr/large').st_uid, os.stat('mnt/a/usr/of33').st_uid)
print(tried(lambda: open('mnt/a/usr/new', 'w')), tried(lambda: os.listdir('${home}/store')))
print(run('mount', '-t', 'tmpfs', 'none', 'upper'), end='')
for name in ['u', 'w', 'm']: os.mkdir('upper/' + name)
print(run('mount', '-t', 'overlay', 'none', 'upper/m', '-o', 'userxattr,lowerdir=mnt/a,upperdir=upper/u,workdir=upper/w'), end='')
open('upper/m/usr/large', 'a').write('more')
print(open('upper/m/usr/large').read()[-10:], os.listdir('upper/u/usr'))
mounts = client.call('List')[0]['mounts']
print([(one['mountId'], one['users'], one['isOfClient']) for one in mounts] == [(first['mountId'], [${USER}], False)])
print(client.call('Describe', mountId=first['mountId'])[0]['mount'] == mounts[0])
print(client.call('Release', mountId=first['mountId'])[0], open('mnt/b/usr/large').read(5))
`);
    t.equal(
      said,
      `True 64
True True
0 65534
Read-only file system Permission denied
large more ['large']
True
True
{} large
`,
    );
    await soon(() => log().includes('signed by'));
    t.match(
      log(),
      new RegExp(`uid ${USER}, process \\d+: signed \\([0-9a-f]{64}\\): signed by .*signer.pem \\(CN=signer\\)`),
    );
  });

  served('what is not allowed', async (t, { client, log }) => {
    const said = client(`
for name in ['plain', 'none', '../../etc/passwd', '']:
    print(tried(lambda: client.mount(name, 'mnt/a')))
print(tried(lambda: client.mount('signed', 'mnt/a', '/proc/1/ns/user')))
print(tried(lambda: client.call('Mount', [os.open('/etc/passwd', 0)], image='signed', userNamespaceFileDescriptor=0)))
print(tried(lambda: client.call('Describe', mountId='1')), tried(lambda: client.call('Release', mountId='x')))
print(tried(lambda: client.call('Serve', [os.open('/dev/null', 2)], image='signed', fuseFileDescriptor=0)))
print(tried(lambda: client.call('Serve', [os.open('/dev/fuse', 2)], fuseFileDescriptor=0)))
print(os.listdir('mnt/a'))
`);
    const lines = said.split('\n');
    t.match(lines[0], /^io\.lowerdata\.Mount\.DeniedByPolicy .*has no seal of its digest sha256:/);
    for (const line of lines.slice(1, 4))
      t.match(line, /^io\.lowerdata\.Mount\.NoSuchImage|^org\.varlink\.service\.InvalidParameter/);
    t.match(lines[4], /^Permission denied$|^io\.lowerdata\.Mount\.NotOwner/);
    t.match(lines[5], /^org\.varlink\.service\.InvalidParameter .*userNamespaceFileDescriptor/);
    t.match(lines[6], /NoSuchMount .*NoSuchMount/);
    t.match(lines[7], /^org\.varlink\.service\.InvalidParameter .*fuseFileDescriptor/);
    t.match(lines[8], /^org\.varlink\.service\.InvalidParameter .*image/);
    t.same(lines.slice(9), ['[]', '']);
    await soon(() => log().includes('refused'));
    t.match(log(), /: refused: plain: .* has no seal of its digest/);
  });

  served('a user mounts /dev/fuse itself, and is served', (t, { client, home }) => {
    const tree = join(home, 'tree');
    mkdirSync(join(tree, 'd'), { recursive: true });
    writeFileSync(join(tree, 'd', 'own'), LARGE);
    for (const name of ['own-objects']) mkdirSync(join(home, name));
    command('mkfs', `--digest-store=${home}/own-objects`, tree, join(home, 'own-image'));
    const said = client(`
print(sorted(client.serve('mnt/a', image='signed')), open('mnt/a/usr/large').read() == 'large ' * 100000)
own = [os.open('own-image', os.O_RDONLY), os.open('own-objects', os.O_RDONLY)]
given = {'imageFileDescriptor': 1, 'objectDirectoryFileDescriptors': [2]}
print(sorted(client.serve('mnt/b', own, **given)), open('mnt/b/d/own').read() == 'large ' * 100000)
print([one['isOfClient'] for one in client.call('List')[0]['mounts']])
`);
    t.equal(said, "['digest', 'mountId'] True\n['digest', 'mountId'] True\n[True, True]\n");
    rmSync(join(home, 'own-objects'), { recursive: true });
    cpSync(join(home, 'store', 'objects'), join(home, 'own-objects'), { recursive: true }); // which only root may read
    const image = readdirSync(join(home, 'store', 'images')).find(name => /^[0-9a-f]{64}$/.test(name)) ?? '';
    writeFileSync(join(home, 'own-image'), readFileSync(join(home, 'store', 'images', image)));
    const denied = client(`
own = [os.open('own-image', os.O_RDONLY), os.open('own-objects', os.O_RDONLY)]
client.serve('mnt/b', own, imageFileDescriptor=1, objectDirectoryFileDescriptors=[2])
print(tried(lambda: open('mnt/b/usr/of33').read()))
`);
    t.equal(denied, 'Permission denied\n', 'objects are read with the rights of the client');
  });

  served('a user mounts an image of its own that is signed', async (t, { client, home, log }) => {
    const at = (name: string): string => join(home, name);
    for (const name of ['mine', 'mine-objects']) mkdirSync(at(name));
    writeFileSync(at('mine/file'), LARGE);
    for (const [name, mode] of [
      ['mine', 0o600],
      ['other', 0o644],
    ] as const) {
      chmodSync(at('mine/file'), mode);
      command('mkfs', `--digest-store=${at('mine-objects')}`, at('mine'), at(`${name}-image`));
    }
    command('seal', at('mine-image'), '--key', keyFile, '--cert', certFile, '-o', at('mine-signature'));
    const signature = readFileSync(at('mine-signature')).toString('base64');
    const [digest, other] = ['mine', 'other'].map(name => fsverityDigest(at(`${name}-image`)));
    const said = client(`
def mount(at, file='mine-image', **given):
    names = [file, 'mine-objects', '/proc/self/ns/user']
    fds = [os.open(name, os.O_RDONLY) for name in names]
    given = {'imageFileDescriptor': 0, 'objectDirectoryFileDescriptors': [1], 'userNamespaceFileDescriptor': 2, **given}
    return client.attach(at, *client.call('Mount', fds, **given))
signed = {'digest': '${digest}', 'signature': '${signature}'}
first, second = mount('mnt/a', **signed), mount('mnt/b', **signed)
print(open('mnt/a/file').read() == 'large ' * 100000, os.stat('mnt/a/file').st_uid, first['mountId'] != second['mountId'])
print([(one['isOfClient'], one['users']) for one in client.call('List')[0]['mounts']])
for given in [{'digest': '${digest}'}, {**signed, 'digest': '${other}'}, {**signed, 'signature': 'AAAA'}, {**signed, 'image': 'signed'}, {'signature': '${signature}'}]:
    print(tried(lambda: mount('upper', **given)))
print(tried(lambda: mount('upper', 'other-image', **signed)))
print(os.listdir('upper'))
`).split('\n');
    t.same(said.slice(0, 2), ['True 0 True', `[(False, [${USER}]), (False, [${USER}])]`]);
    t.match(said[2], /DeniedByPolicy .*no signature is given/);
    t.match(said[3], /DeniedByPolicy .*is no signature of its digest/);
    t.match(said[4], /DeniedByPolicy .*the signature: /, 'one that is malformed');
    t.match(said[5], /InvalidParameter .*image/);
    t.match(said[6], /InvalidParameter .*digest/);
    t.match(said[7], /System .*E/, 'another image than was signed');
    t.equal(said[8], '[]', 'nothing is mounted');
    await soon(() => log().includes('signed by'));
    t.match(log(), new RegExp(`an image of its own \\(${digest}\\): signed by .*signer.pem`));
  });

  served('the command asks the service', (t, { home }) => {
    const as = ['--reuid', String(USER), '--regid', String(USER), '--clear-groups'];
    const run = (script: string, ...inside: string[]): string => {
      const words = [...as, ...inside, 'sh', '-c', script, launcher, `service=${home}/socket`];
      const { stdout, stderr } = spawnSync('setpriv', words, { cwd: home, encoding: 'utf8', timeout: 60_000 });
      return stdout + stderr;
    };
    const script = `
      "$0" mount signed mnt/a -o "$1" && head -c 6 mnt/a/usr/of33; echo " $?"; stat -c %u mnt/a/usr/large; "$0" umount mnt/a; ls mnt/a
      "$0" mount plain mnt/a -o "$1"; echo "$?"; ls mnt/a
      "$0" mount none mnt/a -o "$1"; "$0" mount signed mnt/a -o "$1,verity=off"; echo "$?"`;
    const denied =
      /has no seal of its digest .*\nlowerdata: the service has no image none\nlowerdata: option verity: not with service/;
    const root = run(script, 'unshare', '-Urm');
    t.match(root, /^signed 0\n0\n32\n1\n/, 'as root of a user namespace');
    t.match(root, denied);
    const noHelper = withoutUserMounts;
    t.test('by fusermount3', { skip: noHelper }, async t => {
      const user = run(script);
      t.match(user, /^signed 0\n0\n32\n1\n/, 'as an ordinary user');
      t.match(user, denied);
    });
  });

  served('the death of a server is a pause', (t, { client }) => {
    const said = client(
      `
import time
client.mount('signed', 'mnt/a')
held = open('mnt/a/usr/large')
print(held.read(6))
open('upper/asked', 'w').write(str(client.call('List')[0]['mounts'][0]['pid']))
while not os.path.exists('upper/killed'): time.sleep(.01)
print(held.read() == 'large ' * 99999, open('mnt/a/usr/of33').read(6), os.listdir('mnt/a'))
`,
      'until [ -s asked ]; do sleep 0.05; done; kill -9 "$(cat asked)"; : >killed',
    );
    t.equal(said, "large \nTrue signed ['usr']\n");
  });

  t.test('what is mounted goes on when the service is killed', async t => {
    const service = await startService(home);
    const said = service.client(
      `
import time
client.mount('signed', 'mnt/a')
held = open('mnt/a/usr/large')
print(held.read(6))
open('upper/mounted', 'w').close()
while not os.path.exists('upper/gone'): time.sleep(.01)
print(held.read() == 'large ' * 99999, open('mnt/a/usr/of33').read(6))
print(tried(lambda: Client('${home}/socket')))
`,
      `until [ -e mounted ]; do sleep 0.05; done; kill -9 ${service.process.pid}; sleep 0.3; : >gone`,
    );
    t.equal(said, 'large \nTrue signed\nConnection refused\n');
    const again = await startService(home);
    t.equal(again.client("client.mount('signed', 'mnt/a')\nprint(open('mnt/a/usr/of33').read(6))"), 'signed\n');
    const end = ended(again.process);
    again.process.kill('SIGTERM');
    t.equal(await end, 0, 'another takes its place');
  });

  const policy = join(home, 'policy.json');
  writeFileSync(
    policy,
    JSON.stringify({
      default: [{ type: 'reject' }],
      transports: { 'lowerdata-store': { [`[${home}/store]plain`]: [{ type: 'insecureAcceptAnything' }] } },
    }),
  );
  served(
    'the policy decides, if there is one',
    (t, { client }) => {
      const said = client(`
client.mount('plain', 'mnt/a')
print(open('mnt/a/usr/of33').read(5))
print(tried(lambda: client.mount('signed', 'mnt/b')))
`);
      t.match(said, /^plain\nio\.lowerdata\.Mount\.DeniedByPolicy .*policy\.json does not allow it, by its default/);
    },
    '--policy',
    policy,
  );

  served(
    'all images of a store, if the administrator says so',
    (t, { client }) => {
      t.equal(client("client.mount('plain', 'mnt/a')\nprint(open('mnt/a/usr/of33').read(5))"), 'plain\n');
    },
    '--allow-unsigned',
  );
}
t.end();
