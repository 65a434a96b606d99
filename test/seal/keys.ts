/** Which keys count: what directories of keys hold, who may change them, and when certificates are valid. */
import { execFileSync } from 'node:child_process';
import {
  chmodSync,
  chownSync,
  copyFileSync,
  mkdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { basename, join } from 'node:path';
import t from 'tap';
import { type Key, readKey, reasonAgainst, reasonOfTime } from '../../src/seal/key.ts';
import { readKeys } from '../../src/seal/keys.ts';
import { readSignature } from '../../src/seal/signature.ts';
import { attempt } from '../../src/sys/errno.ts';
import { scratch } from '../fixtures/layers.ts';
import { KEY_KINDS, makeSignatory, openssl, signWith } from '../fixtures/seals.ts';
import { without, withoutRoot } from '../fixtures/skips.ts';

const noOpenssl = without('openssl');
const home = scratch(t);

t.test('files', { skip: noOpenssl }, async t => {
  const { keyFile, certFile } = makeSignatory(home, 'good', KEY_KINDS.p256);
  const pem = readFileSync(certFile, 'latin1');
  t.match(readKey(pem), { subject: 'CN=good' });
  t.match(readKey(`Subject: whatever\n${pem}and more\n`), { subject: 'CN=good' }, 'with text around it');
  const alone = openssl('pkey', '-in', keyFile, '-pubout').toString();
  t.match(readKey(alone), { subject: undefined }, 'a public key');
  t.equal(reasonOfTime(readKey(alone) as Key, new Date(0)), undefined, 'it is valid at any time');
  const made = (name: string, ...kind: string[]): string =>
    readFileSync(makeSignatory(home, name, kind).certFile, 'latin1');
  for (const [rule, text, reason] of [
    ['nothing', '', 'holds no certificate or public key in PEM'],
    ['DER', openssl('x509', '-in', certFile, '-outform', 'DER').toString('latin1'), 'holds no certificate'],
    ['a private key', readFileSync(keyFile, 'latin1'), 'holds a private key, not a certificate or public key'],
    ['two certificates', pem + pem, 'holds 2 keys, not one'],
    ['a certificate and its key', pem + readFileSync(keyFile, 'latin1'), 'holds 2 keys, not one'],
    ['a damaged certificate', pem.replace(/\n[^\n]{20}/, '\n'), 'holds a damaged certificate'],
    ['a certificate without end', pem.slice(0, -30), 'holds a damaged certificate'],
    [
      'short RSA',
      made('short', '-algorithm', 'RSA', '-pkeyopt', 'rsa_keygen_bits:1024'),
      'its key is RSA of 1024 bits',
    ],
    [
      'another curve',
      made('curve', '-algorithm', 'EC', '-pkeyopt', 'ec_paramgen_curve:secp256k1'),
      'its key is secp256k1',
    ],
    ['another kind', made('ed', '-algorithm', 'ED25519'), 'its key is ed25519, not RSA of 2048 to 16384 bits'],
    ['RSA for PSS alone', made('pss', '-algorithm', 'RSA-PSS'), 'its key is rsa-pss'],
  ] as const)
    t.match(readKey(text), reason, rule);
  const subject = join(home, 'subject.pem');
  openssl('req', '-x509', '-key', keyFile, '-out', subject, '-utf8', '-subj', '/CN=a\\\\b\nlowerdata: fine\x1b[2J/O=Ü');
  const odd = readKey(readFileSync(subject, 'latin1')) as Key;
  t.equal(
    odd.subject,
    'CN=a\\\\b\\0Alowerdata: fine\\1B[2J, O=Ü',
    'a subject is one line, without commands for a terminal',
  );
});

t.test('times', { skip: noOpenssl }, async t => {
  const data = Buffer.from('data');
  const dates = { from: '20300101000000Z', to: '20310101000000Z' };
  const signatory = makeSignatory(home, 'times', KEY_KINDS.p256, dates);
  const key = readKey(readFileSync(signatory.certFile, 'latin1')) as Key;
  const signers = readSignature(signWith(home, data, signatory));
  for (const [time, reason] of [
    ['2029-12-31T23:59:59Z', 'has signed it, but its certificate is not valid before 2030-01-01T00:00:00.000Z'],
    ['2030-01-01T00:00:00Z', undefined],
    ['2031-01-01T00:00:00Z', undefined],
    ['2031-01-01T00:00:01Z', 'has signed it, but its certificate has expired on 2031-01-01T00:00:00.000Z'],
  ] as const)
    t.equal(reasonAgainst(key, signers, data, new Date(time)), reason, time);
  const other = Buffer.from('other');
  t.match(reasonAgainst(key, signers, other, new Date()), 'has signed other data', 'first: what it has signed');
  const forever = makeSignatory(home, 'forever', KEY_KINDS.p256, { from: '20200101000000Z', to: '99991231235959Z' });
  const last = readKey(readFileSync(forever.certFile, 'latin1')) as Key;
  t.equal(reasonOfTime(last, new Date('9999-12-31T23:59:59Z')), undefined, 'without an end (RFC 5280, 4.1.2.5)');
  t.match(reasonOfTime({ ...last, validTo: new Date(Number.NaN) }, new Date()), 'has expired on an unreadable date');
});

/** The names in directories, each with its reason or subject. */
const keysIn = (...directories: string[]): Record<string, string | undefined> =>
  Object.fromEntries(
    readKeys(directories).map(({ path, key }) => [
      path.slice(home.length),
      typeof key === 'string' ? key : key.subject,
    ]),
  );

t.test('directories', { skip: noOpenssl }, async t => {
  const [etc, usr] = ['etc', 'usr'].map(name => join(home, name)) as [string, string];
  for (const directory of [etc, usr]) mkdirSync(directory);
  const [a, b] = ['a', 'b'].map(name => makeSignatory(home, name, KEY_KINDS.p256).certFile) as [string, string];
  const put = (from: string, to: string): void => copyFileSync(from, to);
  put(a, join(usr, 'same.pem'));
  put(b, join(etc, 'same.pem'));
  put(a, join(usr, 'gone.pem'));
  symlinkSync('/dev/null', join(etc, 'gone.pem'));
  put(a, join(usr, 'empty.pem'));
  writeFileSync(join(etc, 'empty.pem'), '');
  put(a, join(usr, 'only.pem'));
  put(a, join(etc, 'name.crt'));
  symlinkSync(b, join(etc, 'link.pem'));
  symlinkSync('nowhere', join(etc, 'dangling.pem'));
  symlinkSync('/dev/zero', join(etc, 'endless.pem'));
  execFileSync('mkfifo', [join(etc, 'fifo.pem')]);
  mkdirSync(join(etc, 'directory.pem'));
  put(a, join(etc, 'huge.pem'));
  truncateSync(join(etc, 'huge.pem'), 2 ** 40);
  t.strictSame(keysIn(etc, `${usr}/`), {
    '/etc/dangling.pem': 'cannot be read: No such file or directory',
    '/etc/directory.pem': 'is not a regular file',
    '/etc/empty.pem': 'holds no certificate or public key in PEM',
    '/etc/endless.pem': 'is not a regular file',
    '/etc/fifo.pem': 'is not a regular file',
    '/etc/gone.pem': 'is revoked by a link to /dev/null',
    '/etc/huge.pem': 'has more than 65536 bytes',
    '/etc/link.pem': 'CN=b',
    '/etc/name.crt': 'is not looked at: its name does not end in .pem',
    '/etc/same.pem': 'CN=b',
    '/usr/only.pem': 'CN=a',
  });
  t.match(
    attempt(() => readKeys([join(home, 'nowhere')])),
    { name: 'ENOENT', message: /^keys in .*nowhere: No such/ },
  );
  t.match(
    attempt(() => readKeys([a])),
    { name: 'ENOTDIR' },
  );
  const many = join(home, 'many');
  mkdirSync(many);
  for (let i = 0; i <= 1000; i++) writeFileSync(join(many, `${i}.pem`), '');
  t.match(
    attempt(() => readKeys([many])),
    { name: 'EFBIG', message: /more than 1000 names/ },
  );
});

t.test('directories that others can change', { skip: noOpenssl || withoutRoot }, async t => {
  const { certFile } = makeSignatory(home, 'owned', KEY_KINDS.p256);
  const place = join(home, 'place');
  const [above, keys, file] = [place, join(place, 'keys'), join(place, 'keys', 'key.pem')] as const;
  for (const [rule, change, reason] of [
    ['of root', () => {}, undefined],
    ['a directory of a user', () => chownSync(keys, 1000, 0), `${keys} belongs to user 1000`],
    ['a directory for all', () => chmodSync(keys, 0o777), `${keys} is writable by everyone`],
    ['a directory for all, as /tmp', () => chmodSync(keys, 0o1777), `${keys} is writable by everyone`],
    ['a directory for a group', () => chmodSync(keys, 0o775), `${keys} is writable by group 0`],
    ['a directory above of a user', () => chownSync(above, 1000, 0), `${above} belongs to user 1000`],
    ['a directory above for all', () => chmodSync(above, 0o777), `${above} is writable by everyone`],
    ['a directory above, as /tmp', () => chmodSync(above, 0o1777), undefined],
  ] as const) {
    mkdirSync(keys, { recursive: true });
    copyFileSync(certFile, file);
    change();
    const error = attempt(() => readKeys([keys]));
    const message = `keys in ${keys} do not count: ${reason}`;
    if (reason === undefined) t.match(error, [{ key: { subject: 'CN=owned' } }], rule);
    else t.match(error, { name: 'EACCES', message }, rule);
    rmSync(place, { recursive: true });
  }
  const [between, way] = [join(home, 'between'), join(home, 'way')];
  mkdirSync(between);
  mkdirSync(keys, { recursive: true });
  copyFileSync(certFile, file);
  symlinkSync(keys, join(between, 'link'));
  symlinkSync('between/../between/link', way);
  t.match(
    attempt(() => readKeys([way])),
    [{ key: { subject: 'CN=owned' } }],
    'symlinks in directories of root',
  );
  chownSync(between, 1000, 0);
  t.match(
    attempt(() => readKeys([way])),
    { message: `: ${between} belongs to user 1000` },
    'a symlink in that of a user',
  );
  rmSync(place, { recursive: true });
  const elsewhere = join(place, 'elsewhere.pem');
  for (const [rule, change, reason] of [
    ['a file of a user', () => chownSync(file, 1000, 0), `does not count: ${file} belongs to user 1000`],
    ['a file for all', () => chmodSync(file, 0o666), `does not count: ${file} is writable by everyone`],
    [
      'a link to a file of a user',
      () => {
        copyFileSync(certFile, elsewhere);
        chownSync(elsewhere, 1000, 0);
        rmSync(file);
        symlinkSync(elsewhere, file);
      },
      `does not count: ${elsewhere} belongs to user 1000`,
    ],
  ] as const) {
    mkdirSync(keys, { recursive: true });
    copyFileSync(certFile, file);
    change();
    t.strictSame(
      readKeys([keys]).map(({ path, key }) => [basename(path), key]),
      [['key.pem', reason]],
      rule,
    );
    rmSync(place, { recursive: true });
  }
});
t.end();
