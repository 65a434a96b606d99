/** Seals in the annotations of manifests: what `seal --inline` writes, and what pulls, mounts and `verify` take and refuse. */
import { execFileSync, spawnSync } from 'node:child_process';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { fsverityDigest } from '../../fixtures/images/verity.ts';
import { scratch } from '../../fixtures/layers.ts';
import { command, withMount } from '../../fixtures/mounts/mounted.ts';
import { member } from '../../fixtures/oci/archives.ts';
import { archiveOf, type Blob, blobPath, TAG, writeBlob, writeImage, writeIndex } from '../../fixtures/oci/layout.ts';
import { makeSealedLayout } from '../../fixtures/oci/sealed.ts';
import { type Result, runCommand } from '../../fixtures/run-command.ts';
import { openssl, type Signatory } from '../../fixtures/seals.ts';
import { without, withoutFuse } from '../../fixtures/skips.ts';

t.setTimeout(180_000);
const MERGED = 'composefs.merged.erofs.v1.fsverity-sha256-12';
const CONFIG = 'composefs.config.fsverity-sha256-12';
const LAYER = 'composefs.layer.erofs.v1.fsverity-sha256-12';

type Annotations = Record<string, string>;
interface Manifest {
  config: Blob;
  layers: Blob[];
  annotations?: Annotations;
}

const noOpenssl = without('openssl');
if (noOpenssl) t.plan(0, noOpenssl);
else {
  const home = scratch(t);
  const at = (name: string): string => join(home, name);
  const sealed = makeSealedLayout(home);
  const { layout, subject, other, signer, stranger, digest, otherDigest } = sealed;
  const json = <T>(path: string): T => JSON.parse(readFileSync(path, 'utf8'));
  const manifestOf = ({ digest }: { digest: string }): Manifest => json(blobPath(layout, digest));
  const listed = (): Blob[] => json<{ manifests: Blob[] }>(join(layout, 'index.json')).manifests;
  const call = (...args: string[]): Result => runCommand(args, { directory: home });
  const seal = (by: Signatory, ref = 'oci:layout:test', ...words: string[]): Result =>
    call('seal', ref, '--store', 'store', '--inline', '--key', by.keyFile, '--cert', by.certFile, ...words);
  let stores = 0;
  const nextStore = (): string => `store-${stores++}`;
  const pull = (store: string, ...words: string[]): Result =>
    call('pull', 'oci:layout:test', '--store', store, '--name', 'v1', ...words);
  const verify = (ref = 'oci:layout:test', ...words: string[]): Result =>
    call('verify', ref, '--keys', 'keys', ...words);
  const good = { status: 0, stdout: `sha256:${digest}  keys/signer.pem (CN=signer)\n`, stderr: '' };
  mkdirSync(at('mnt'));
  t.teardown(() => spawnSync('umount', ['-l', at('mnt')])); // what a failed test has left

  sealed.list();
  const before = manifestOf(subject);
  const made = seal(signer);
  const [own] = listed() as [Blob];
  const after = manifestOf(own);

  t.test('what is written', async t => {
    t.strictSame(made, { status: 0, stdout: `sha256:${digest}  ${own.digest}\n`, stderr: '' });
    t.strictSame(listed(), [{ ...subject, digest: own.digest, size: own.size }, other], 'the tag leads to it');
    t.equal(readFileSync(blobPath(layout, own.digest)).length, own.size);
    const { annotations = {}, config } = after;
    t.strictSame(
      { ...after, config: { ...config, annotations: undefined }, annotations: undefined },
      {
        ...before,
        config: { ...before.config, annotations: undefined },
        annotations: undefined,
      },
    );
    const measured = {
      [CONFIG]: fsverityDigest(blobPath(layout, config.digest)),
      [MERGED]: fsverityDigest(at(`store/images/${digest}`)),
    };
    for (const [key, found] of [
      [CONFIG, config.annotations ?? {}],
      [MERGED, annotations],
    ] as const) {
      t.strictSame(Object.keys(found).sort(), [key, `${key}.sig`]);
      t.equal(found[key], measured[key], 'the digest is that of fsverity');
      writeFileSync(at('sig'), Buffer.from(found[`${key}.sig`] ?? '', 'base64'));
      writeFileSync(at('signed'), Buffer.from(`465356657269747901002000${measured[key]}`, 'hex'));
      const words = ['-in', at('sig'), '-content', at('signed'), '-certfile', signer.certFile, '-noverify'];
      openssl('smime', '-verify', '-binary', '-inform', 'DER', ...words, '-out', at('out'));
    }
    t.match(seal(signer), { status: 0, stdout: made.stdout }, 'the same again');
    seal(signer, 'oci:layout:test', '--algorithm=sha512', '--store', 'sha512');
    t.strictSame(
      Object.keys(manifestOf(listed()[0] as Blob).annotations ?? {}),
      [MERGED, `${MERGED}.sig`, MERGED.replace('256', '512'), `${MERGED.replace('256', '512')}.sig`],
      'digests by the other algorithm stay',
    );
    t.strictSame(verify(), good);
  });

  /** Lists the image with other annotations. */
  function put(annotations: Annotations | undefined, config = after.config.annotations, layer?: Annotations): Blob {
    const layers = after.layers.map(each => ({ ...each, ...(layer && { annotations: layer }) }));
    const manifest = { ...after, config: { ...after.config, annotations: config }, layers, annotations };
    const blob = { ...writeBlob(layout, manifest, subject.mediaType), annotations: { [TAG]: 'test' } };
    writeIndex(layout, [blob, other]);
    return blob;
  }
  const { [MERGED]: hex = '', [`${MERGED}.sig`]: signature = '' } = after.annotations ?? {};
  const { [`${CONFIG}.sig`]: configSignature = '', [CONFIG]: configHex = '' } = after.config.annotations ?? {};

  t.test('what is taken', async t => {
    const { digest: manifest } = put(after.annotations);
    t.strictSame(verify(), good);
    const store = nextStore();
    const pulled = pull(store);
    t.match(pulled, { status: 0, stderr: '' });
    t.match(pulled.stdout, `\nseal: annotations of ${manifest}\n`);
    t.match(JSON.parse(pull(store, '--json').stdout).seals, [{ artifact: null, digest }]);
    t.strictSame(verify('v1', '--store', store), good);
    t.strictSame(verify(digest, '--store', store), good, 'by its digest');
    sealed.list();
    call('pull', 'oci:layout:test', '--store', store, '--name', 'plain');
    t.strictSame(verify('plain', '--store', store), good, 'another manifest of the same image');
    call('untag', 'v1', '--store', store);
    call('gc', '--store', store);
    t.match(verify('plain', '--store', store), { status: 32, stderr: 'has no seal of its digest' }, 'until it is gone');
  });

  t.test('mounts', { skip: withoutFuse }, async t => {
    put(after.annotations);
    const store = nextStore();
    pull(store);
    await withMount(['v1', '-o', `store=${at(store)},signature=auto,keys=${sealed.keys}`], root => {
      t.equal(readFileSync(join(root, 'usr/test'), 'latin1'), 'usr/test');
      t.match(JSON.parse(command('status', root, '--json')).mounts[0], { protection: { metadata: 'digest' } });
    });
  });

  t.test('a copy by skopeo has the seal', { skip: without('skopeo') }, async t => {
    put(after.annotations);
    execFileSync('skopeo', ['--insecure-policy', 'copy', `oci:${layout}:test`, `oci:${at('copy')}:test`], {
      stdio: 'pipe',
    });
    t.strictSame(verify('oci:copy:test'), good);
  });

  t.test('what no key vouches for', async t => {
    const { annotations: theirs = {}, config: theirConfig } = (() => {
      sealed.list();
      seal(stranger);
      return manifestOf(listed()[0] as Blob);
    })();
    const unsigned = { [MERGED]: hex };
    for (const [rule, annotations, config, message, stored] of [
      [
        'no signature',
        unsigned,
        after.config.annotations,
        'its manifest names its image, but has no signature of that',
        'names this digest, but has no signature of it',
      ],
      [
        'of another key',
        theirs,
        theirConfig.annotations,
        'keys/signer.pem (CN=signer): has not signed this digest',
        'keys/signer.pem (CN=signer): has not signed this digest',
      ],
      [
        'of the configuration',
        { [MERGED]: hex, [`${MERGED}.sig`]: configSignature },
        after.config.annotations,
        'keys/signer.pem (CN=signer): has not signed this digest',
        'keys/signer.pem (CN=signer): has not signed this digest',
      ],
      [
        'no base64',
        { [MERGED]: hex, [`${MERGED}.sig`]: `${signature}!` },
        after.config.annotations,
        `annotation ${MERGED}.sig: no base64 of up to 65536 bytes`,
        'has no signature of it',
      ],
      [
        'too large',
        { [MERGED]: hex, [`${MERGED}.sig`]: Buffer.alloc(65_537).toString('base64') },
        after.config.annotations,
        `annotation ${MERGED}.sig: no base64 of up to 65536 bytes`,
        'has no signature of it',
      ],
      [
        'capitals',
        { [MERGED]: hex.toUpperCase(), [`${MERGED}.sig`]: signature },
        after.config.annotations,
        `annotation ${MERGED}: no digest of sha256 in hex`,
        'has no seal of its digest',
      ],
      [
        'of another length',
        { [MERGED]: hex + hex },
        after.config.annotations,
        `annotation ${MERGED}: no digest of sha256`,
        'has no seal of its digest',
      ],
      [
        'other blocks',
        { [MERGED.replace('12', '16')]: hex },
        after.config.annotations,
        'no seal: no artifact',
        'has no seal of its digest',
      ],
    ] as const) {
      put(annotations, config);
      t.match(verify(), { status: 32, stdout: '', stderr: message }, rule);
      const store = nextStore();
      t.match(pull(store), { status: 0 }, rule);
      t.match(verify('v1', '--store', store), { status: 32, stdout: '', stderr: stored }, rule);
    }
    put(after.annotations, { [CONFIG]: configHex });
    t.match(verify(), { status: 32, stderr: 'has a signature of its image, but none of its configuration' });
    const { config } = (() => {
      sealed.list();
      seal(signer, 'oci:layout:other');
      return manifestOf(listed()[1] as Blob);
    })();
    put(after.annotations, config.annotations);
    t.match(verify(), {
      status: 32,
      stderr: `names the digest sha256:${config.annotations?.[CONFIG]} for the configuration`,
    });
  });

  t.test('another image than the manifest names', async t => {
    put({ [MERGED]: otherDigest });
    const store = nextStore();
    const words = `its manifest names the digest ${otherDigest} for the image, which has ${digest}`;
    t.strictSame(pull(store), {
      ...{ status: 1, stdout: '' },
      stderr: `lowerdata: layout: ${words}; --expect=${digest} takes it nevertheless`,
    });
    t.match(verify('v1', '--store', store), { status: 32, stderr: 'no image has the name v1' }, 'it was not added');
    t.match(pull(store, '--expect', digest), { status: 0, stderr: words });
    t.match(verify('v1', '--store', store), { status: 32, stderr: `names other images: merged sha256:${otherDigest}` });
    t.match(pull(nextStore(), '--xattrs=user'), { status: 0, stderr: words }, 'with xattrs, it is another one');
    t.match(pull(nextStore(), '--algorithm=sha512'), { status: 0, stderr: '' }, 'by another algorithm');
    put(undefined, { [CONFIG]: otherDigest });
    t.match(pull(nextStore()), {
      status: 1,
      stderr: `names the digest ${otherDigest} for the configuration, which has ${configHex}`,
    });
  });

  t.test('the other rule for whiteouts', async t => {
    const archive = archiveOf(
      member({ name: 'usr/', type: '5', mode: 0o755 }),
      member({ name: 'usr/a' }),
      member({ name: 'usr/.wh.a' }),
    );
    const place = at('whiteouts');
    const pulling = (...words: string[]): Result => call('pull', 'oci:whiteouts', '--store', nextStore(), ...words);
    writeIndex(place, [writeImage(place, [archive])]);
    const theirs = JSON.parse(pulling('--whiteouts=composefs-rs', '--json').stdout).digest;
    writeIndex(place, [writeImage(place, [archive], { manifest: { annotations: { [MERGED]: theirs } } })]);
    t.match(pulling(), { status: 1, stderr: '--whiteouts=composefs-rs makes that' });
    t.match(pulling('--whiteouts=composefs-rs'), { status: 0 });
  });

  t.test('images of layers', async t => {
    put(undefined, undefined, { [LAYER]: otherDigest });
    t.match(pull(nextStore()), { status: 0, stderr: '' }, 'are compared only if they are made');
    const made = pull(nextStore(), '--layers');
    t.match(made, { status: 0, stderr: 'its manifest names other digests for the images of layers: 1' });
    put(undefined, undefined, { [LAYER]: /layer 1: (\w+)/.exec(made.stdout)?.[1] ?? '' });
    t.match(pull(nextStore(), '--layers'), { status: 0, stderr: '' });
  });

  t.test('what is not sealed', async t => {
    const index = writeBlob(
      layout,
      { schemaVersion: 2, manifests: [subject] },
      'application/vnd.oci.image.index.v1+json',
    );
    writeIndex(layout, [{ ...index, annotations: { [TAG]: 'test' } }]);
    t.match(seal(signer), { status: 1, stdout: '', stderr: 'index.json leads to the manifest by another index' });
    const docker = 'application/vnd.docker.distribution.manifest.v2+json';
    const image = writeBlob(layout, { ...before, mediaType: docker }, docker);
    writeIndex(layout, [{ ...image, annotations: { [TAG]: 'test' } }]);
    t.match(seal(signer), { status: 1, stdout: '', stderr: `its manifest is ${docker}, which has no annotations` });
    t.match(seal(signer, 'docker://x.example/y'), { status: 1, stderr: '--inline goes with oci:DIR' });
    t.match(call('seal', 'image', '--inline', '-o', 'x', '--key', signer.keyFile, '--cert', signer.certFile), {
      ...{ status: 1, stderr: '--inline goes with oci:DIR' },
    });
  });
}
t.end();
