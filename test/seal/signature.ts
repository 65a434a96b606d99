/** Signatures beside openssl and fsverity, in both directions, and signatures that must not be taken. */
import { createPrivateKey, X509Certificate } from 'node:crypto';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { type Key, NOT_SIGNED, OTHER_DATA, readKey, reasonAgainst } from '../../src/seal/key.ts';
import { readSignature, type Signer, writeSignature } from '../../src/seal/signature.ts';
import { signedBytes } from '../../src/seal/signed-bytes.ts';
import { attempt, ErrnoError } from '../../src/sys/errno.ts';
import { fsverityDigest } from '../fixtures/images/verity.ts';
import { scratch } from '../fixtures/layers.ts';
import { noProgram, run } from '../fixtures/mounts/kernel-mount.ts';
import { KEY_KINDS, makeSignatory, openssl, type Signatory, signWith } from '../fixtures/seals.ts';
import { without } from '../fixtures/skips.ts';

const HASHES = ['sha256', 'sha384', 'sha512'] as const;
const noOpenssl = without('openssl');
const home = scratch(t);
const signatories = noOpenssl
  ? []
  : Object.entries(KEY_KINDS).map(([name, kind]) => [name, makeSignatory(home, name, kind)] as const);
const keyOf = ({ certFile }: Signatory): Key => readKey(readFileSync(certFile, 'latin1')) as Key;
const [DATA, OTHER] = ['signed', 'not signed'].map(text => Buffer.from(text)) as [Buffer, Buffer];

/** undefined if the key has signed the data. */
const reason = (signature: Uint8Array, signatory: Signatory, data: Uint8Array = DATA): string | undefined =>
  reasonAgainst(keyOf(signatory), readSignature(signature), data, new Date());

t.test('what the kernel signs', async t => {
  // Source: fsverity digest --for-builtin-sig --compact, of an empty file.
  const sha256 = '3d248ca542a24fc62d1c43b916eae5016878e2533c88238480b26128a1f1af95';
  t.equal(Buffer.from(signedBytes(sha256)).toString('hex'), `465356657269747901002000${sha256}`);
  t.test('as fsverity prints it', { skip: without('fsverity') }, async t => {
    const file = join(home, 'measured');
    writeFileSync(file, 'x'.repeat(5000));
    for (const algorithm of ['sha256', 'sha512'] as const) {
      const printed = run('fsverity', 'digest', '--for-builtin-sig', '--compact', `--hash-alg=${algorithm}`, file);
      t.equal(Buffer.from(signedBytes(fsverityDigest(file, algorithm))).toString('hex'), printed.trim(), algorithm);
    }
  });
});

t.test('by openssl', { skip: noOpenssl }, async t => {
  for (const [name, signatory] of signatories)
    for (const hash of HASHES)
      for (const more of [[], ['-noattr'], ['-nocerts'], ['-noattr', '-nocerts', '-keyid']]) {
        const signature = signWith(home, DATA, signatory, '-md', hash, ...more);
        const what = [name, hash, ...more].join(' ');
        t.equal(reason(signature, signatory), undefined, what);
        t.equal(
          reason(signature, signatory, OTHER),
          more.includes('-noattr') ? NOT_SIGNED : OTHER_DATA,
          `${what}: other`,
        );
        for (const [other, stranger] of signatories)
          if (other !== name) t.equal(reason(signature, stranger), NOT_SIGNED, `${what}: the key of ${other}`);
      }
  const [[, rsa]] = signatories as [[string, Signatory]];
  const smime = join(home, 'smime');
  writeFileSync(join(home, 'content'), DATA);
  const words = ['-sign', '-binary', '-outform', 'DER', '-signer', rsa.certFile, '-inkey', rsa.keyFile];
  openssl('smime', ...words, '-in', join(home, 'content'), '-out', smime);
  t.equal(reason(readFileSync(smime), rsa), undefined, 'smime');
});

t.test('for openssl', { skip: noOpenssl }, async t => {
  const [content, file] = [join(home, 'content'), join(home, 'ours')];
  for (const [name, { keyFile, certFile }] of signatories)
    for (const hash of HASHES) {
      const { raw } = new X509Certificate(readFileSync(certFile));
      writeFileSync(file, writeSignature(DATA, hash, createPrivateKey(readFileSync(keyFile)), raw));
      const words = ['smime', '-verify', '-binary', '-inform', 'DER', '-in', file, '-certfile', certFile];
      const verify = (data: Uint8Array): Buffer => {
        writeFileSync(content, data);
        return openssl(...words, '-CAfile', certFile, '-purpose', 'any', '-content', content);
      };
      t.ok(verify(DATA).equals(DATA), `${name} ${hash}`);
      t.throws(() => verify(OTHER), `${name} ${hash}: other data`);
    }
});

t.test('beside fsverity', { skip: noOpenssl || noProgram('fsverity') || false }, async t => {
  const [image, file] = [join(home, 'image'), join(home, 'signed')];
  writeFileSync(image, 'y'.repeat(10_000));
  for (const [name, signatory] of signatories)
    for (const algorithm of ['sha256', 'sha512'] as const) {
      const { keyFile, certFile } = signatory;
      run('fsverity', 'sign', `--hash-alg=${algorithm}`, image, file, `--key=${keyFile}`, `--cert=${certFile}`);
      const data = signedBytes(fsverityDigest(image, algorithm));
      const theirs = readFileSync(file);
      t.equal(reason(theirs, signatory, data), undefined, `${name} ${algorithm}`);
      const ours = writeSignature(
        data,
        algorithm,
        createPrivateKey(readFileSync(keyFile)),
        new X509Certificate(readFileSync(certFile)).raw,
      );
      // a signature by ECDSA has a random number in it, and one of three lengths
      if (name === 'rsa') t.ok(theirs.equals(ours), `${name} ${algorithm}: the same bytes`);
      else t.equal(shapeOf(ours), shapeOf(theirs), `${name} ${algorithm}: the same shape`);
    }
});

/** What openssl says of the values, without lengths and places, and without the signature itself. */
function shapeOf(signature: Uint8Array): string {
  const file = join(home, 'shape');
  writeFileSync(file, signature);
  const lines = openssl('asn1parse', '-inform', 'DER', '-in', file).toString().split('\n');
  return lines.map(line => line.replace(/^.*l= *\d+ /, '').replace(/(OCTET STRING).*/, '$1')).join('\n');
}

t.test('several signers', { skip: noOpenssl }, async t => {
  const [[, first], [, second], [, third]] = signatories as [
    [string, Signatory],
    [string, Signatory],
    [string, Signatory],
  ];
  const { keyFile, certFile } = second;
  const signature = signWith(home, DATA, first, '-signer', certFile, '-inkey', keyFile);
  t.equal(reason(signature, first), undefined);
  t.equal(reason(signature, second), undefined);
  t.equal(reason(signature, third), NOT_SIGNED);
  const words = Array.from({ length: 16 }, () => ['-signer', certFile, '-inkey', keyFile]).flat();
  t.match(
    attempt(() => readSignature(signWith(home, DATA, first, '-nocerts', ...words))),
    {
      name: 'EFBIG',
      message: 'more than 16 signers',
    },
  );
});

t.test('signatures that are not taken', { skip: noOpenssl }, async t => {
  const [[, rsa], [, p256]] = signatories as [[string, Signatory], [string, Signatory]];
  const methodIn = (signature: Uint8Array): unknown => readSignature(signature)[0]?.method;
  t.match(methodIn(signWith(home, DATA, rsa, '-md', 'sha1')), 'its digest algorithm is SHA-1, not SHA-256');
  t.match(methodIn(signWith(home, DATA, rsa, '-keyopt', 'rsa_padding_mode:pss')), 'RSASSA-PSS, not RSA');
  t.equal(reason(signWith(home, DATA, rsa, '-md', 'sha1'), rsa), NOT_SIGNED);
  const refusal = (signature: Uint8Array): string => (attempt(() => readSignature(signature)) as ErrnoError).message;
  t.match(refusal(signWith(home, DATA, rsa, '-nodetach')), 'the signature brings its own data: it is not detached');
  t.match(refusal(signWith(home, DATA, rsa, '-stream')), 'has no length before its contents: BER, not DER');
  t.match(refusal(signWith(home, DATA, rsa, '-econtent_type', '1.2.3.4')), 'the type of the content is 1.2.3.4');
  openssl('cms', '-data_create', '-in', join(home, 'content'), '-outform', 'DER', '-out', join(home, 'data'));
  t.match(refusal(readFileSync(join(home, 'data'))), 'the type of the signature is 1.2.840.113549.1.7.1');
  t.match(refusal(readFileSync(p256.certFile)), 'byte 0: the signature has tag 0x2d');
  t.match(refusal(new Uint8Array(0)), 'byte 0: the signature is missing');
  t.match(refusal(new Uint8Array(65_537)), 'a signature of more than 65536 bytes');
  const whole = signWith(home, DATA, p256);
  t.match(refusal(Buffer.concat([whole, Buffer.of(0)])), `byte ${whole.length}: 1 bytes after the signature`);
});

t.test('a byte more or less', { skip: noOpenssl }, async t => {
  for (const [name, signatory] of signatories)
    for (const more of [[], ['-noattr']]) {
      const whole = signWith(home, DATA, signatory, '-nocerts', ...more);
      const what = [name, ...more].join(' ');
      const cut = Array.from(whole.keys()).filter(
        end => !(attempt(() => readSignature(whole.subarray(0, end))) instanceof ErrnoError),
      );
      t.strictSame(cut, [], `${what}: cut anywhere, it is refused`);
      const value = whole.lastIndexOf(readSignature(whole)[0]?.signature as Uint8Array);
      const key = keyOf(signatory);
      const taken = Array.from(whole.subarray(value).keys()).filter(at => {
        const changed = Buffer.from(whole);
        changed[value + at] = (changed[value + at] as number) ^ 1;
        return reasonAgainst(key, readSignature(changed), DATA, new Date()) === undefined;
      });
      t.strictSame(taken, [], `${what}: with another byte, it is not taken`);
      const [signer] = readSignature(whole) as [Signer];
      for (const length of [0, 1, signer.signature.length - 1, signer.signature.length + 1, 10_000]) {
        const signature = Buffer.concat([signer.signature, Buffer.alloc(10_000)]).subarray(0, length);
        t.equal(
          reasonAgainst(key, [{ ...signer, signature }], DATA, new Date()),
          NOT_SIGNED,
          `${what}: ${length} bytes`,
        );
      }
    }
});
t.end();
