/** `lowerdata seal`, `lowerdata verify` and `-o signature=`: what counts, and what is said when nothing does. */
import { copyFileSync, existsSync, mkdirSync, readFileSync, symlinkSync, truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { planHere } from '../../src/mount/plan.ts';
import { openOverlay } from '../../src/overlay/open.ts';
import { attempt } from '../../src/sys/errno.ts';
import { fsverityDigest } from '../fixtures/images/verity.ts';
import { scratch } from '../fixtures/layers.ts';
import { noProgram, run } from '../fixtures/mounts/kernel-mount.ts';
import { command, withMount } from '../fixtures/mounts/mounted.ts';
import { type Result, runCommand } from '../fixtures/run-command.ts';
import { KEY_KINDS, makeSignatory, openssl, signWith } from '../fixtures/seals.ts';
import { without, withoutFuse } from '../fixtures/skips.ts';

t.setTimeout(120_000);
const noOpenssl = without('openssl');
if (noOpenssl) t.plan(0, noOpenssl);
else {
  const home = scratch(t);
  const at = (name: string): string => join(home, name);
  for (const name of ['tree', 'keys', 'more', 'mnt']) mkdirSync(at(name));
  writeFileSync(at('tree/numbers'), '0123456789'.repeat(100));
  command('mkfs', `--digest-store=${at('objects')}`, at('tree'), at('image'));
  const digest = fsverityDigest(at('image'));
  const sha512 = fsverityDigest(at('image'), 'sha512');
  const [rsa, p256, p384] = (['rsa', 'p256', 'p384'] as const).map(name => makeSignatory(home, name, KEY_KINDS[name]));
  if (!rsa || !p256 || !p384) throw new Error('no keys');
  copyFileSync(rsa.certFile, at('keys/rsa.pem'));
  openssl('pkey', '-in', p256.keyFile, '-pubout', '-out', at('more/p256.pem'));

  const lines = ({ stderr }: Result): string[] => stderr.split('\n');
  const seal = (...args: string[]): Result => runCommand(['seal', ...args], { directory: home });
  const verify = (...args: string[]): Result => runCommand(['verify', ...args], { directory: home });

  t.test('seal and verify', async t => {
    for (const [name, { keyFile, certFile }] of Object.entries({ rsa, p256, p384 }))
      for (const [algorithm, measured] of Object.entries({ sha256: digest, sha512 })) {
        const file = `${name}.${algorithm}`;
        const made = seal('image', '--key', keyFile, '--cert', certFile, '-o', file, `--algorithm=${algorithm}`);
        t.strictSame(made, { status: 0, stdout: `${algorithm}:${measured}  ${file}\n`, stderr: '' }, file);
        const found = verify('image', '--signature', file, '--keys', 'keys:more');
        if (name === 'p384') t.match(found, { status: 32, stdout: '' }, `${file}: unknown`);
        else {
          const by = name === 'rsa' ? 'keys/rsa.pem (CN=rsa)' : 'more/p256.pem';
          t.strictSame(found, { status: 0, stdout: `${algorithm}:${measured}  ${by}\n`, stderr: '' }, file);
        }
      }
    const out = runCommand(['seal', at('image'), '--key', rsa.keyFile, '--cert', rsa.certFile, '-o', '-']);
    t.equal(out.stdout, readFileSync(at('rsa.sha256'), 'latin1'), 'to stdout');
  });

  t.test('signatures of fsverity', { skip: noProgram('fsverity') || false }, async t => {
    for (const algorithm of ['sha256', 'sha512']) {
      const words = [`--key=${p256.keyFile}`, `--cert=${p256.certFile}`, `--hash-alg=${algorithm}`];
      run('fsverity', 'sign', at('image'), at('theirs'), ...words);
      t.match(verify('image', '--signature', 'theirs', '--keys', 'more'), { status: 0 }, algorithm);
    }
  });

  t.test('what is not sealed', async t => {
    openssl('pkey', '-in', rsa.keyFile, '-aes256', '-passout', 'pass:x', '-out', at('encrypted'));
    const dates = { from: '20000101000000Z', to: '20010101000000Z' };
    const old = makeSignatory(home, 'old', KEY_KINDS.p256, dates);
    const both = ['--key', rsa.keyFile, '--cert', rsa.certFile];
    for (const [rule, args, message] of [
      ['no key', ['image', '--cert', 'rsa.pem', '-o', 'x'], '--key is missing: the private key'],
      ['no certificate', ['image', '--key', 'rsa.key', '-o', 'x'], '--cert is missing'],
      ['no file', ['image', ...both], 'no file to write is named: -o FILE'],
      ['no image', ['none', ...both, '-o', 'x'], 'image none: No such file or directory'],
      ['a directory', ['tree', ...both, '-o', 'x'], 'image tree: not a regular file'],
      [
        'another key',
        ['image', '--key', p256.keyFile, '--cert', 'rsa.pem', '-o', 'x'],
        'is not the key of the certificate rsa.pem',
      ],
      [
        'an encrypted key',
        ['image', '--key', 'encrypted', '--cert', 'rsa.pem', '-o', 'x'],
        'encrypted is encrypted: decrypt it first',
      ],
      [
        'a certificate as key',
        ['image', '--key', 'rsa.pem', '--cert', 'rsa.pem', '-o', 'x'],
        'rsa.pem holds no private key in PEM',
      ],
      [
        'a key as certificate',
        ['image', '--key', 'rsa.key', '--cert', 'rsa.key', '-o', 'x'],
        'rsa.key holds a private key',
      ],
      [
        'an old certificate',
        ['image', '--key', old.keyFile, '--cert', 'old.pem', '-o', 'x'],
        'old.pem: its certificate has expired on 2001-01-01',
      ],
      ['another algorithm', ['image', ...both, '-o', 'x', '--algorithm=md5'], '--algorithm=md5: sha256 or sha512'],
    ] as const)
      t.match(seal(...args), { status: 1, stdout: '', stderr: message }, rule);
    t.notOk(existsSync(at('x')), 'nothing is written');
  });

  t.test('each key that was tried is named, with the reason', async t => {
    mkdirSync(at('tried'));
    const old = makeSignatory(home, 'expired', KEY_KINDS.rsa, { from: '20000101000000Z', to: '20010101000000Z' });
    const signature = signWith(home, Buffer.alloc(0), old, '-noattr');
    for (const [name, file] of [
      ['a.pem', rsa.certFile],
      ['c.pem', old.certFile],
      ['d.crt', p256.certFile],
    ] as const)
      copyFileSync(file, at(`tried/${name}`));
    symlinkSync('/dev/null', at('tried/b.pem'));
    writeFileSync(at('by-old'), signature);
    t.strictSame(lines(verify('image', '--signature', 'by-old', '--keys', 'tried')), [
      `lowerdata: image: by-old is no signature of its digest sha256:${digest} or sha512:${sha512} by a key that counts`,
      'lowerdata: tried/a.pem (CN=rsa): has not signed this digest',
      'lowerdata: tried/b.pem: is revoked by a link to /dev/null',
      'lowerdata: tried/c.pem (CN=expired): has not signed this digest',
      'lowerdata: tried/d.crt: is not looked at: its name does not end in .pem',
    ]);
    writeFileSync(at('empty'), '');
    const data = Buffer.from(`46535665726974790200400${'0'}${sha512}`, 'hex');
    writeFileSync(at('by-old'), signWith(home, data, old));
    const expired =
      'lowerdata: tried/c.pem (CN=expired): has signed it, but its certificate has expired on 2001-01-01T00:00:00.000Z';
    t.equal(lines(verify('image', '--signature', 'by-old', '--keys', 'tried'))[3], expired);
    writeFileSync(at('sha1'), signWith(home, data, rsa, '-md', 'sha1'));
    const [, why] = lines(verify('image', '--signature', 'sha1', '--keys', 'tried'));
    t.equal(why, 'lowerdata: sha1: its digest algorithm is SHA-1, not SHA-256, SHA-384 or SHA-512');
    truncateSync(at('empty'), 2 ** 40);
    mkdirSync(at('none'));
    for (const [rule, args, status, message] of [
      ['no signature', ['image', '--keys', 'keys'], 1, '--signature is missing'],
      [
        'an empty directory',
        ['image', '--signature', 'rsa.sha256', '--keys', 'none'],
        32,
        'image: there is no key in none',
      ],
      [
        'no directory',
        ['image', '--signature', 'rsa.sha256', '--keys', 'nowhere'],
        32,
        'keys in nowhere: No such file',
      ],
      ['an empty path', ['image', '--signature', 'rsa.sha256', '--keys', 'keys:'], 1, '--keys: an empty path'],
      ['another file', ['image', '--signature', 'image', '--keys', 'keys'], 32, 'image: byte 0: '],
      [
        'a huge one',
        ['image', '--signature', 'empty', '--keys', 'keys'],
        32,
        'empty: a signature of more than 65536 bytes',
      ],
      ['a directory', ['image', '--signature', 'tree', '--keys', 'keys'], 32, 'signature tree: not a regular file'],
      [
        '/dev/zero',
        ['image', '--signature', '/dev/zero', '--keys', 'keys'],
        32,
        'signature /dev/zero: not a regular file',
      ],
      [
        'an image without end',
        ['empty', '--signature', 'rsa.sha256', '--keys', 'keys'],
        32,
        'image empty: 1099511627776 bytes; 8589934592',
      ],
      ['no image', ['nothing', '--signature', 'rsa.sha256', '--keys', 'keys'], 32, 'image nothing: No such file'],
    ] as const)
      t.match(verify(...args), { status, stdout: '', stderr: message }, rule);
  });

  t.test('a stack with a signature', async t => {
    const options = ['-o', 'signature=rsa.sha256,keys=keys'];
    const ls = (image: string, ...words: string[]): Result =>
      runCommand(['ls', `${image}::objects`, '/', ...words], { directory: home });
    t.match(ls('image', ...options), { status: 0, stdout: 'numbers\n' });
    const changed = Buffer.from(readFileSync(at('image')));
    changed[changed.length - 1] = 1;
    writeFileSync(at('changed'), changed);
    t.match(ls('changed', ...options), {
      status: 1,
      stdout: '',
      stderr: 'changed: rsa.sha256 is no signature of its digest',
    });
    t.match(ls('image', '-o', `signature=rsa.sha256,keys=keys,digest=${digest}`), { status: 0 });
    t.match(ls('image', '-o', `signature=rsa.sha256,keys=keys,digest=${sha512}`), {
      status: 1,
      stderr: `digest sha512:${sha512} by`,
    });
    t.match(ls('changed', '-o', `signature=rsa.sha256,keys=keys,digest=${digest}`), {
      status: 1,
      stderr: 'the digest of the image is',
    });
    t.match(ls('tree', ...options), { status: 1, stderr: 'image tree: not a regular file' });
    t.match(ls('image', '-o', 'keys=keys'), { status: 1, stderr: 'option keys: goes with signature' });
    t.match(ls('image', '-o', 'signature=rsa.sha256,keys=keys:'), { status: 1, stderr: 'an empty path' });
  });

  t.test('the file that was verified is replaced before it is opened', async t => {
    copyFileSync(at('image'), at('target'));
    const { stack } = await planHere(at('target'), [`signature=${at('p256.sha256')},keys=${at('more')}`]);
    t.match(stack, { imageDigest: digest, verity: 'require' });
    copyFileSync(at('changed'), at('target'));
    t.match(
      attempt(() => openOverlay(stack)),
      { name: 'EIO', message: `target: the digest of the image is` },
    );
  });

  t.test('mounts', { skip: withoutFuse }, async t => {
    const source = `${at('image')}::${at('objects')}`;
    await withMount([source, '-o', `signature=${at('p256.sha512')},keys=${at('keys')}:${at('more')}`], root => {
      t.equal(readFileSync(join(root, 'numbers')).length, 1000);
      const status = JSON.parse(command('status', root, '--json')).mounts[0];
      t.match(status, { protection: { metadata: 'digest', required: true } }, 'as with digest=');
    });
    const mount = (...words: string[]): Result => runCommand(['mount', source, at('mnt'), ...words]);
    const options = `signature=${at('p256.sha256')},keys=${at('keys')}`;
    const refused = mount('-o', options);
    t.equal(refused.status, 32);
    t.match(lines(refused), [
      /is no signature of its digest sha256/,
      /keys\/rsa\.pem \(CN=rsa\): has not signed this digest/,
    ]);
    t.match(mount('-f', '-o', options), { status: 32 }, 'in the foreground');
    t.match(mount('--fake', '-o', options), { status: 32 }, 'as mount -f');
    t.notMatch(readFileSync('/proc/self/mountinfo', 'latin1'), at('mnt'), 'nothing is mounted');
  });
}
t.end();
