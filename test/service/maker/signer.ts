/** `Sign` of the service: who may have it, what is signed, and what becomes of files and clients that do not do as they should. */
import { createHash } from 'node:crypto';
import { chmodSync, mkdirSync, mkdtempSync, readFileSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { soon } from '../../fixtures/mounts/foreground.ts';
import { runCommand } from '../../fixtures/run-command.ts';
import { KEY_KINDS, makeSignatory, openssl } from '../../fixtures/seals.ts';
import { ended, helpersOf, startService, USER } from '../../fixtures/service/served.ts';
import { without, withoutRoot } from '../../fixtures/skips.ts';

t.setTimeout(120_000);
const STRANGER = 1001;
const GROUP = 4711;
const missing = withoutRoot || ['openssl', 'setpriv', 'python3'].map(without).find(reason => reason);

/** The fs-verity digest of a file that is one block. Source: kernel Documentation/filesystems/fsverity.rst. */
function digestOfBlock(bytes: Uint8Array): Buffer {
  const sha256 = (data: Uint8Array): Buffer => createHash('sha256').update(data).digest();
  const descriptor = Buffer.alloc(256);
  descriptor.set([1, 1, 12]);
  descriptor.writeUInt32LE(bytes.length, 8);
  descriptor.set(sha256(Buffer.concat([bytes, Buffer.alloc(4096 - bytes.length)])), 16);
  return sha256(descriptor);
}

const SIGN = `
import base64, time
def sign(path, flags=os.O_RDONLY):
    fd = os.open(path, flags) if isinstance(path, str) else path
    return client.call('Sign', [fd], imageFileDescriptor=0)[0]
`;

t.test('the service signs', { skip: missing }, async t => {
  const home = mkdtempSync('/tmp/sign-'); // a short path: an address has at most 108 bytes
  const at = (name: string): string => join(home, name);
  const { keyFile, certFile } = makeSignatory(home, 'signer', KEY_KINDS.p256);
  chmodSync(keyFile, 0o600);
  for (const name of ['store', 'store/objects', 'keys']) mkdirSync(at(name));
  writeFileSync(at('image'), 'not really an image');
  for (const [name, bytes] of [
    ['long', 2 ** 32],
    ['grows', 2 ** 28],
  ] as const) {
    writeFileSync(at(name), '');
    truncateSync(at(name), bytes);
    chmodSync(at(name), 0o666);
  }
  chmodSync(home, 0o755);
  const key = ['--sign-key', keyFile, '--sign-cert', certFile];
  const service = await startService(home, ...key, '--sign-for', `${USER},@${GROUP}`);
  const helpers = (): number[] => helpersOf(service.process);
  try {
    const digest = digestOfBlock(readFileSync(at('image')));
    const signed = Buffer.concat([Buffer.from('FSVerity'), Buffer.from([1, 0, 32, 0]), digest]);
    writeFileSync(at('signed'), signed);

    const own = service.user(USER, `${SIGN}\nreply = sign('image')\nprint(reply['digest'], reply['signature'])`);
    const [found, signature = ''] = (await own.said).trim().split(' ');
    t.equal(found, digest.toString('hex'), 'the digest of the image');
    writeFileSync(at('sig'), Buffer.from(signature, 'base64'));
    const files = ['-in', at('sig'), '-inform', 'DER', '-content', at('signed'), '-certfile', certFile];
    t.ok(openssl('smime', '-verify', '-binary', '-noverify', ...files), 'openssl verifies the signature');
    t.ok(await soon(() => service.log().includes(`${found}, by the key of CN=signer`)));
    t.match(
      service.log(),
      new RegExp(`uid ${USER}, process ${own.process.pid}: sign: ${found}, by the key of CN=signer`),
    );

    const [holder = 0, ...others] = helpers();
    t.same(others, [], 'the process that measured is gone, the one with the key is there');
    const status = readFileSync(`/proc/${holder}/status`, 'utf8');
    t.match(status, /^Uid:\t(\d+)\t\1\t\1\t\1\n/m);
    t.notMatch(status, /^Uid:\t0/m, 'which is not root');
    t.match(status, /^CapPrm:\t0+\nCapEff:\t0+$/m, 'and has no capabilities');
    t.match(status, /^NoNewPrivs:\t1\nSeccomp:\t2$/m, 'and is confined');

    const refused = service.user(STRANGER, `${SIGN}\nprint(tried(lambda: sign('image')))`);
    t.match(
      await refused.said,
      /^io\.lowerdata\.Mount\.NotAllowed .*uid 1001 is not among those/,
      'a user who is not named',
    );
    t.match(service.log(), /uid 1001, process \d+: refused: sign: uid 1001 is not among/);
    const member = service.user(STRANGER, `${SIGN}\nprint(sign('image')['digest'])`, [GROUP]);
    t.equal(await member.said, `${found}\n`, 'a member of a group that is named');

    const odd = service.user(
      USER,
      `${SIGN}
print(tried(lambda: sign(os.pipe()[0])))
print(tried(lambda: sign('/dev/zero')))
print(tried(lambda: sign('grows', os.O_WRONLY)))
writer = os.fork()
while writer == 0:
    os.truncate('grows', os.stat('grows').st_size + 1)
print(tried(lambda: sign('grows')))
os.kill(writer, 9)
`,
    );
    const lines = (await odd.said).split('\n');
    t.match(lines[0], /^org\.varlink\.service\.InvalidParameter .*imageFileDescriptor/, 'a pipe');
    t.match(lines[1], /^org\.varlink\.service\.InvalidParameter .*imageFileDescriptor/, 'a device without end');
    t.match(lines[2], /^io\.lowerdata\.Mount\.Failed .*Bad file descriptor/, 'a file that is not open for reading');
    t.match(lines[3], /^io\.lowerdata\.Mount\.Failed .*changed while it was read/, 'a file that grows');

    const bySeal = await service.ask(USER, 'seal', 'image', '-o', '-').said;
    t.match(bySeal, 'signer', 'the command has it signed');
    const refusedSeal = await service.ask(STRANGER, 'seal', 'image', '-o', '-').said;
    t.match(refusedSeal, /^lowerdata: image: the service does not do that: sign: uid 1001 is not among/);

    const slow = service.user(USER, `${SIGN}\nsign('long')`);
    t.ok(await soon(() => helpers().length === 2), 'a large file takes its time');
    const second = service.user(USER, `${SIGN}\nprint(tried(lambda: sign('image')))`);
    t.match(await second.said, /^io\.lowerdata\.Mount\.Busy .*"limit": 1/, 'a user has one at a time');
    slow.process.kill('SIGKILL');
    t.ok(await soon(() => helpers().length === 1), 'the work for a client that is gone ends');
    process.kill(holder, 'SIGKILL');
    t.ok(await soon(() => helpers().length === 0));
    const again = service.user(USER, `${SIGN}\nprint(sign('image')['digest'])`);
    t.equal(await again.said, `${found}\n`, 'another process takes the key when that one has died');
  } finally {
    const end = ended(service.process);
    service.process.kill('SIGTERM');
    t.equal(await end, 0, 'the service ends in order');
  }
  const other = makeSignatory(home, 'other', KEY_KINDS.p256);
  const words = ['serve', '--store', at('store'), '--socket', at('socket')];
  const wrong = runCommand([...words, '--sign-key', other.keyFile, '--sign-cert', certFile]);
  t.match(wrong, { status: 1, stderr: /other\.key is not the key of the certificate .*signer\.pem/ }, 'a wrong key');
  const half = runCommand([...words, '--sign-key', keyFile]);
  t.match(half, { status: 1, stderr: /--sign-key and --sign-cert go together/ });
  rmSync(home, { recursive: true });
});
t.end();
