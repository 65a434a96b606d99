/** `-o signature=auto` and `lowerdata verify --store`: which seals of a repository count, and what is said when none does. */
import { spawnSync } from 'node:child_process';
import { copyFileSync, cpSync, mkdirSync, readFileSync, realpathSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { fsverityDigest } from '../../fixtures/images/verity.ts';
import { scratch } from '../../fixtures/layers.ts';
import { command, withMount } from '../../fixtures/mounts/mounted.ts';
import { type Blob, blobPath, writeBlob } from '../../fixtures/oci/layout.ts';
import { makeSealedLayout, type SealLayer } from '../../fixtures/oci/sealed.ts';
import { type Result, runCommand } from '../../fixtures/run-command.ts';
import { signWith } from '../../fixtures/seals.ts';
import { without, withoutFuse } from '../../fixtures/skips.ts';

t.setTimeout(180_000);
const noOpenssl = without('openssl');
if (noOpenssl) t.plan(0, noOpenssl);
else {
  const home = scratch(t);
  const at = (name: string): string => join(home, name);
  const sealed = makeSealedLayout(home);
  const { layout, subject, seal, digest, otherDigest } = sealed;
  const call = (...args: string[]): Result => runCommand(args, { directory: home });
  const verify = (store: string, name = 'v1', keys = 'keys'): Result =>
    call('verify', name, '--store', store, '--keys', keys);
  const lines = ({ stderr }: Result): string[] => stderr.split('\n').map(line => line.replace(/^lowerdata: /, ''));
  mkdirSync(at('mnt'));
  t.teardown(() => spawnSync('umount', ['-l', at('mnt')])); // what a failed test has left
  let stores = 0;
  /** A new store, with the image and the artifacts that the layout has of it. */
  function pulled(...artifacts: Blob[]): string {
    sealed.list(...artifacts);
    const store = `store-${stores++}`;
    t.match(call('pull', `oci:${layout}:test`, '--store', store, '--name', 'v1'), { status: 0 });
    return store;
  }
  const own = sealed.artifact(seal);
  const [manifest, config, merged] = own.layers as [SealLayer, SealLayer, SealLayer];
  const [key = ''] = Object.keys(merged.annotations);
  const withMerged = (change: Partial<SealLayer>): Blob =>
    sealed.write({ ...own, layers: [manifest, config, { ...merged, ...change }] });
  /** The struct fsverity_formatted_digest of a digest by SHA-256. */
  const dataOf = (hex: string): Buffer =>
    Buffer.from(`${Buffer.from('FSVerity').toString('hex')}01002000${hex}`, 'hex');
  const byStranger = writeBlob(layout, signWith(home, dataOf(digest), sealed.stranger, '-noattr'));
  const strange = withMerged({ digest: byStranger.digest, size: byStranger.size });
  const good = { status: 0, stdout: `sha256:${digest}  keys/signer.pem (CN=signer)\n`, stderr: '' };

  t.test('what is taken', async t => {
    const store = pulled(seal);
    t.strictSame(verify(store), good);
    t.strictSame(verify(store, digest), good, 'by its digest');
    call('tag', 'v1', 'team/app:stable', '--store', store);
    t.strictSame(verify(store, 'team/app:stable'), good, 'by another name');
    t.strictSame(verify(pulled(strange, seal)), good, 'one of several seals is enough');
    t.match(call('ls', 'v1', '/usr', '-o', `store=${store},signature=auto,keys=keys`), { status: 0, stdout: 'test\n' });
    const theirs = writeBlob(layout, signWith(home, dataOf(digest), sealed.signer, '-md', 'sha384'));
    t.strictSame(verify(pulled(withMerged({ digest: theirs.digest, size: theirs.size }))), good, 'made by openssl');
  });

  /** The message of a refusal, by both ways. */
  function refusal(store: string, name = 'v1', keys = 'keys'): string[] {
    const refused = verify(store, name, keys);
    t.match(refused, { status: 32, stdout: '' });
    if (!withoutFuse) {
      const mount = call('mount', name, 'mnt', '-o', `store=${store},signature=auto,keys=${keys}`);
      t.strictSame(mount, { ...refused, stdout: '' }, 'the mount says the same');
      t.notMatch(readFileSync('/proc/self/mountinfo', 'latin1'), at('mnt'), 'nothing is mounted');
    }
    return lines(refused);
  }
  const unsigned = (artifact: Blob, ...reasons: string[]): string[] => [
    `v1: artifact ${artifact.digest} is no signature of its digest sha256:${digest} by a key that counts`,
    ...reasons,
  ];

  t.test('what is refused', async t => {
    t.strictSame(refusal(pulled()), [`v1: store-${stores - 1} has no seal of its digest sha256:${digest}`], 'no seal');
    const stranger = 'keys/signer.pem (CN=signer): has not signed this digest';
    t.strictSame(refusal(pulled(strange)), unsigned(strange, stranger), 'a key that does not count');
    const other = writeBlob(layout, signWith(home, dataOf(otherDigest), sealed.signer));
    const forged = withMerged({ digest: other.digest, size: other.size });
    const changed = 'keys/signer.pem (CN=signer): has signed other data';
    t.strictSame(
      refusal(pulled(strange, forged)),
      [strange, forged]
        .sort((a, b) => (a.digest < b.digest ? -1 : 1))
        .flatMap(each => unsigned(each, each === forged ? changed : stranger)),
      'a signature of another digest by the same key; each artifact is named',
    );
    const about = withMerged({ ...other, annotations: { [key]: otherDigest } } as Partial<SealLayer>);
    t.strictSame(
      refusal(pulled(about)),
      [`artifact ${about.digest}: is about other images: merged sha256:${otherDigest}`],
      'the digest of another image, well signed',
    );

    const stolen = pulled();
    call('pull', `oci:${layout}:other`, '--store', stolen, '--name', 'other');
    sealed.list(sealed.otherSeal);
    call('pull', `oci:${layout}:other`, '--store', stolen, '--name', 'other');
    t.match(verify(stolen, 'other'), { status: 0 });
    t.match(refusal(stolen), ['has no seal of its digest'], 'seals of other images');
    const referrers = join(home, stolen, 'streams/refs/oci-referrers');
    mkdirSync(join(referrers, subject.digest));
    const { digest: artifact } = sealed.otherSeal;
    symlinkSync(`../../../oci-manifest-${artifact}`, join(referrers, subject.digest, artifact));
    t.strictSame(refusal(stolen), [`artifact ${artifact}: its subject is another manifest`], 'under a wrong subject');
    mkdirSync(at('none'), { recursive: true });
    t.strictSame(refusal(pulled(seal), 'v1', 'none'), ['v1: there is no key in none']);
    t.match(refusal(pulled(seal), 'v2'), ['no image has the name v2; the names are: v1']);
  });

  t.test('damaged stores', async t => {
    const store = pulled(seal);
    /** Damages the object of a stream, in a copy. */
    function damaged(stream: string, bytes: (file: Buffer) => Buffer): string {
      const copy = `${store}-${stores++}`;
      cpSync(at(store), at(copy), { recursive: true, verbatimSymlinks: true });
      const path = realpathSync(join(home, copy, stream));
      writeFileSync(`${path}.new`, bytes(readFileSync(path)));
      copyFileSync(`${path}.new`, path);
      return copy;
    }
    const last = (file: Buffer): Buffer => Buffer.concat([file.subarray(0, -1), Buffer.of(255 ^ (file.at(-1) ?? 0))]);
    t.match(refusal(damaged(`streams/oci-manifest-${seal.digest}`, () => Buffer.from('x'))), ['not a splitstream']);
    t.match(refusal(damaged(`streams/oci-blob-${merged.digest}`, () => Buffer.alloc(200))), ['not a splitstream']);
    const image = damaged(`images/${digest}`, last);
    t.match(verify(image), { status: 32, stdout: '', stderr: 'damaged: its digest is ' });
    if (!withoutFuse)
      t.match(call('mount', 'v1', 'mnt', '-o', `store=${image},signature=auto,keys=keys`), { status: 32 });
    const splitstream = readFileSync(realpathSync(join(home, store, `streams/oci-blob-${merged.digest}`)));
    const object = fsverityDigest(blobPath(layout, merged.digest));
    t.ok(splitstream.includes(Buffer.from(object, 'hex')), 'the object of the signature');
    const changed = damaged(`objects/${object.slice(0, 2)}/${object.slice(2)}`, last);
    t.match(refusal(changed), ['its digest is sha256:'], 'a signature that was changed');
    const large = damaged(`objects/${object.slice(0, 2)}/${object.slice(2)}`, () => Buffer.alloc(65_537));
    t.match(refusal(large), ['65537 bytes; 65536 are allowed'], 'one that is too large');
  });

  t.test('calls', async t => {
    const store = pulled(seal);
    for (const [args, status, message] of [
      [['verify', 'v1', '--store', store, '--signature', 'x'], 1, '--signature and --platform do not go with --store'],
      [['verify', 'v1', '--store', store, '--platform', 'linux/amd64'], 1, 'do not go with --store'],
      [['verify', 'v1', '--store', 'nowhere'], 32, 'nowhere: No such file or directory'],
      [['ls', 'image', '/', '-o', 'signature=auto'], 1, 'option signature=auto: goes with store'],
      [['ls', 'image', '/', '-o', 'signature=./auto'], 1, 'signature ./auto: No such file or directory'],
      [
        ['ls', 'v1', '/', '-o', `store=${store},signature=auto,keys=keys,digest=${otherDigest}`],
        1,
        `artifact ${seal.digest}: is about other images: merged sha256:${digest}`,
      ],
    ] as const)
      t.match(call(...args), { status, stdout: '', stderr: message }, args.join(' '));
  });

  t.test('mounts', { skip: withoutFuse }, async t => {
    const store = pulled(seal);
    await withMount(['v1', '-o', `store=${at(store)},signature=auto,keys=${sealed.keys}`], root => {
      t.equal(readFileSync(join(root, 'usr/test'), 'latin1'), 'usr/test');
      const [status] = JSON.parse(command('status', root, '--json')).mounts;
      t.match(status, { protection: { metadata: 'digest', required: true } }, 'as with digest=');
    });
  });
}
t.end();
