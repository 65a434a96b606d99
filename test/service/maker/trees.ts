/** `MakeImage` of the service from a tree: it is read with the client's rights, whatever the client hands over. */
import { spawnSync } from 'node:child_process';
import { chmodSync, chownSync, existsSync, mkdirSync, mkdtempSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { soon } from '../../fixtures/mounts/foreground.ts';
import { command } from '../../fixtures/mounts/mounted.ts';
import { ended, helpersOf, type Service, startService, USER } from '../../fixtures/service/served.ts';
import { without, withoutFuse, withoutRoot, withoutUserNamespaces } from '../../fixtures/skips.ts';

t.setTimeout(120_000);
const STRANGER = 1001;
const GROUP = 4711;
const missing = withoutRoot || ['setpriv', 'python3'].map(without).find(reason => reason);

const MAKE = `
import fcntl
def make(path, flags=os.O_RDONLY | os.O_DIRECTORY, **options):
    fd = os.open(path, flags) if isinstance(path, str) else path
    reply, fds = client.call('MakeImage', [fd], treeFileDescriptor=0, options=options)
    return reply['digest'], fds[0]
def fails(*given):
    return tried(lambda: make(*given))
`;

/** A directory that a service is in, and others may enter. @returns what makes paths in it */
function prepare(): (name: string) => string {
  const home = mkdtempSync('/tmp/make-'); // a short path: an address has at most 108 bytes
  const at = (name: string): string => join(home, name);
  for (const name of ['store', 'store/objects', 'keys', 'tree', 'tree/d', 'tree/hidden', 'deep', 'upper'])
    mkdirSync(at(name));
  writeFileSync(at('tree/small'), 'small');
  writeFileSync(at('tree/d/large'), 'large '.repeat(10_000));
  spawnSync('mkfifo', [at('tree/fifo')]);
  writeFileSync(at('tree/hidden/members'), 'for members '.repeat(10));
  chownSync(at('tree/hidden'), 0, GROUP);
  chmodSync(at('tree/hidden'), 0o750);
  const descend = `for i in $(seq 40); do mkdir ${'d'.repeat(200)}; cd -P ${'d'.repeat(200)}; done; seq 100 >end`;
  spawnSync('sh', ['-c', descend], { cwd: at('deep') });
  chmodSync(home, 0o755);
  chmodSync(at('upper'), 0o777);
  return at;
}

async function withService(use: (service: Service, at: (name: string) => string) => Promise<void>): Promise<void> {
  const at = prepare();
  const service = await startService(at(''));
  try {
    await use(service, at);
  } finally {
    const end = ended(service.process);
    service.process.kill('SIGTERM');
    await end;
    spawnSync('rm', ['-rf', at('')]); // rmSync calls itself for each level
  }
}

async function checkImages(t: Test, { user, log }: Service, at: (name: string) => string): Promise<void> {
  const program = `${MAKE}
digest, image = make('tree')
open('upper/image', 'wb').write(os.read(image, 1 << 20))
print(digest, fcntl.fcntl(image, 1034), fcntl.fcntl(image, fcntl.F_GETFL) & 3)
print(tried(lambda: os.pwrite(image, b'x', 0)), tried(lambda: os.pwrite(os.open(f'/proc/self/fd/{image}', os.O_RDWR), b'x', 0)))
`;
  const member = user(STRANGER, program, [GROUP]);
  const [line = '', refused] = (await member.said).split('\n');
  const [digest, ...rest] = line.split(' ');
  t.same(rest, ['15', '0'], 'the image has all seals, and is open for reading');
  t.equal(refused, 'Bad file descriptor Operation not permitted', 'nobody writes to it');
  command('mkfs', at('tree'), at('wanted'));
  t.ok(readFileSync(at('upper/image')).equals(readFileSync(at('wanted'))), 'it is the image that the command makes');
  const skip = without('fsverity');
  t.test('its digest is that of fsverity', { skip }, async t => {
    const { stdout } = spawnSync('fsverity', ['digest', '--compact', at('wanted')], { encoding: 'utf8' });
    t.equal(digest, stdout.trim());
  });
  t.ok(await soon(() => log().includes(`uid ${STRANGER}, process ${member.process.pid}: make: ${digest} of a tree`)));
  const said = user(
    USER,
    `${MAKE}\nprint(make('deep', useEpoch=True)[0] != make('deep', useEpoch=True, algorithm='sha512')[0])`,
  );
  t.equal(await said.said, 'True\n', 'a deep tree, twice');
}

async function checkCommand(t: Test, { ask }: Service, at: (name: string) => string): Promise<void> {
  command('mkfs', '--use-epoch', '--algorithm=sha512', at('deep'), at('wanted'));
  const options = ['--use-epoch', '--algorithm=sha512', '--print-digest'];
  const said = await ask(USER, 'mkfs', ...options, 'deep', 'upper/by-service').said;
  t.match(said, /^[0-9a-f]{128}\n$/);
  t.ok(readFileSync(at('upper/by-service')).equals(readFileSync(at('wanted'))), 'the command asks the service');
  const refused = await ask(USER, 'mkfs', 'tree', 'upper/none').said;
  t.match(refused, /^lowerdata: tree: the service says: \.\/hidden: Permission denied\n$/);
  t.notOk(existsSync(at('upper/none')), 'and writes nothing if that fails');
  const other = await ask(USER, 'mkfs', '--digest-store=upper/objects', 'deep', 'upper/none').said;
  t.match(other, /--digest-store: not with --service/);
}

async function checkRefusals(t: Test, { user, log }: Service): Promise<void> {
  const said = user(
    USER,
    `${MAKE}
print(fails('tree'))
print(fails('tree/small', os.O_RDONLY))
print(fails(os.pipe()[0]))
`,
  );
  const lines = (await said.said).split('\n');
  t.match(lines[0], /^io\.lowerdata\.Mount\.Failed .*\.\/hidden: Permission denied/, 'what the client may not read');
  for (const line of lines.slice(1, 3))
    t.match(line, /^org\.varlink\.service\.InvalidParameter .*treeFileDescriptor/, 'a file, or a pipe');
  t.match(log(), new RegExp(`uid ${USER}, process \\d+: make: failed: ./hidden: Permission denied`));
}

t.test('images of trees', { skip: missing }, t =>
  withService(async (service, at) => {
    await checkImages(t, service, at);
    await checkRefusals(t, service);
    await checkCommand(t, service, at);
  }),
);

/** Mounts a filesystem that answers INIT and nothing else, and tells what is asked for. Source: linux/fuse.h, fuse_init_out. */
const SILENT = `${MAKE}
import struct, threading
fuse = os.open('/dev/fuse', os.O_RDWR)
check(libc.mount(b'test', b'upper', b'fuse.test', 6, f'fd={fuse},rootmode=40000,user_id=0,group_id=0'.encode()))
unique = struct.unpack_from('IIQ', os.read(fuse, 1 << 17))[2]
os.write(fuse, struct.pack('IiQ', 80, 0, unique) + struct.pack('IIII', 7, 31, 4096, 0) + bytes(4) + struct.pack('I', 4096) + bytes(40))
threading.Thread(target=lambda: print('asked', len(os.read(fuse, 1 << 17)) > 0, flush=True), daemon=True).start()
make('upper', os.O_PATH | os.O_DIRECTORY)
`;

t.test('a filesystem of the client that never answers', { skip: missing || withoutFuse || withoutUserNamespaces }, t =>
  withService(async service => {
    const { user, log } = service;
    const helpers = (): number[] => helpersOf(service.process);
    const blocked = user(USER, SILENT, [], ['unshare', '-Urm']);
    let said = '';
    blocked.process.stdout?.on('data', piece => {
      said += piece;
    });
    t.ok(await soon(() => said === 'asked True\n'), 'the filesystem is asked, in vain');
    const own = user(USER, `${MAKE}\nprint(fails('deep'))`);
    t.match(await own.said, /^io\.lowerdata\.Mount\.Busy /, 'its user has no second process');
    const other = user(STRANGER, `${MAKE}\nprint(len(make('deep')[0]))`);
    t.equal(await other.said, '64\n', 'others are served');
    t.equal(helpers().length, 1);
    blocked.process.kill('SIGKILL');
    t.ok(await soon(() => helpers().length === 0), 'when the client is gone, so is the process');
    t.ok(await soon(() => log().includes('make: failed: the client is gone')));
    const again = user(USER, `${MAKE}\nprint(len(make('deep')[0]))`);
    t.equal(await again.said, '64\n', 'and its user is served again');
  }),
);
t.end();
