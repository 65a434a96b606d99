/** Seals in OCI layouts: what they are by the specification, openssl and fsverity, and seals that must not be taken. */
import { copyFileSync, cpSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { fsverityDigest } from '../../fixtures/images/verity.ts';
import { scratch } from '../../fixtures/layers.ts';
import { noProgram, run } from '../../fixtures/mounts/kernel-mount.ts';
import {
  archiveWith,
  type Blob,
  blobPath,
  sha256,
  TAG,
  writeBlob,
  writeImage,
  writeIndex,
} from '../../fixtures/oci/layout.ts';
import { type Result, runCommand } from '../../fixtures/run-command.ts';
import { KEY_KINDS, makeSignatory, openssl } from '../../fixtures/seals.ts';
import { without } from '../../fixtures/skips.ts';

t.setTimeout(120_000);
const ARTIFACT = 'application/vnd.composefs.metadata.v1';
const SIGNATURE = 'application/vnd.composefs.signature.v1+pkcs7';

interface Layer {
  mediaType: string;
  digest: string;
  size: number;
  annotations: Record<string, string>;
}
interface Artifact {
  artifactType?: string;
  layers: Layer[];
  subject: { digest: string };
}
interface Index {
  manifests: { digest: string; size: number; artifactType?: string }[];
}

const noOpenssl = without('openssl');
if (noOpenssl) t.plan(0, noOpenssl);
else {
  const home = scratch(t);
  const at = (name: string): string => join(home, name);
  const layout = at('layout');
  const subject = writeImage(layout, [archiveWith('usr/file')]);
  const other = writeImage(layout, [archiveWith('usr/other')]);
  const index = [
    { ...subject, annotations: { [TAG]: 'test' } },
    { ...other, annotations: { [TAG]: 'other' } },
  ];
  writeIndex(layout, index);
  const { keyFile, certFile } = makeSignatory(home, 'signer', KEY_KINDS.rsa);
  const stranger = makeSignatory(home, 'stranger', KEY_KINDS.p256);
  mkdirSync(at('keys'));
  copyFileSync(certFile, at('keys/signer.pem'));

  const json = <T>(path: string): T => JSON.parse(readFileSync(path, 'utf8'));
  const call = (...args: string[]): Result => runCommand(args, { directory: home });
  const seal = (algorithm: string, ref = 'oci:layout:test', key = keyFile, cert = certFile): Result =>
    call('seal', ref, '--store', `store-${algorithm}`, `--algorithm=${algorithm}`, '--key', key, '--cert', cert);
  const verify = (ref = 'oci:layout:test'): Result => call('verify', ref, '--keys', 'keys');
  /** The last artifact of a layout. */
  const artifactIn = (place: string): Artifact =>
    json(blobPath(place, json<Index>(join(place, 'index.json')).manifests.at(-1)?.digest ?? ''));

  const none = `no seal: no artifact of type ${ARTIFACT} has the manifest ${subject.digest} as its subject`;
  t.match(verify(), { status: 32, stdout: '', stderr: none }, 'before');

  for (const algorithm of ['sha256', 'sha512'] as const)
    t.test(algorithm, async t => {
      writeIndex(layout, index);
      const made = seal(algorithm);
      t.match(made, { status: 0, stderr: '' });
      const [, merged = ''] = /^\w+:(\w+) /.exec(made.stdout) ?? [];
      t.equal(fsverityDigest(at(`store-${algorithm}/images/${merged}`), algorithm), merged, 'the image in the store');
      const { artifactType, layers, subject: about } = artifactIn(layout);
      t.strictSame(about, subject, 'its subject is the manifest');
      t.match(json<Index>(join(layout, 'index.json')).manifests.at(-1), { artifactType }, 'the index has its type');
      t.equal(artifactType, ARTIFACT);
      const { config } = json<{ config: { digest: string } }>(blobPath(layout, subject.digest));
      const files = [subject.digest, config.digest].map(digest => blobPath(layout, digest));
      const digests = [...files.map(path => fsverityDigest(path, algorithm)), merged];
      t.strictSame(
        layers.map(({ mediaType, annotations }) => ({ mediaType, annotations })),
        ['manifest', 'config', 'merged.erofs.v1'].map((role, i) => {
          return { mediaType: SIGNATURE, annotations: { [`composefs.${role}.fsverity-${algorithm}-12`]: digests[i] } };
        }),
        'the digests are those of fsverity, by the names of the specification',
      );
      if (!noProgram('fsverity'))
        for (const [i, path] of [...files, at(`store-${algorithm}/images/${merged}`)].entries()) {
          const words = [`--key=${keyFile}`, `--cert=${certFile}`, `--hash-alg=${algorithm}`];
          run('fsverity', 'sign', path, at('theirs'), ...words);
          const ours = readFileSync(blobPath(layout, layers[i]?.digest ?? ''));
          t.ok(readFileSync(at('theirs')).equals(ours), `the signature ${i} is that of fsverity`);
        }
      const signed = { status: 0, stdout: `${algorithm}:${merged}  keys/signer.pem (CN=signer)\n`, stderr: '' };
      t.strictSame(verify(), signed);
      t.match(verify('oci:layout:other'), { status: 32, stderr: 'no seal' }, 'another image has none');
      t.match(call('pull', 'oci:layout:test', '--store', `store-${algorithm}`, '--expect', merged), { status: 0 });
      seal(algorithm);
      t.equal(json<Index>(join(layout, 'index.json')).manifests.length, 3, 'the same seal is there once');
    });

  t.test('one image and its seal need no tag', async t => {
    cpSync(layout, at('single'), { recursive: true });
    const [first, , artifact] = json<Index>(join(layout, 'index.json')).manifests;
    writeFileSync(at('single/index.json'), JSON.stringify({ schemaVersion: 2, manifests: [first, artifact] }));
    t.match(verify('oci:single'), { status: 0 });
    t.match(call('pull', 'oci:single', '--store', 'store-single'), { status: 0 });
  });

  t.test('seals that are not taken', async t => {
    const place = at('changed');
    const sealed = artifactIn(layout);
    /** Puts an artifact in the place of the one that is there. */
    const replaced = (artifact: object, type = ARTIFACT): Result => {
      rmSync(place, { recursive: true, force: true });
      cpSync(layout, place, { recursive: true });
      const added: Blob & { artifactType: string } = { ...writeBlob(place, artifact), artifactType: type };
      writeIndex(place, [...index, added]);
      return verify('oci:changed:test');
    };
    t.match(replaced(sealed), { status: 0 }, 'unchanged');
    const [manifest, config, merged] = sealed.layers as [Layer, Layer, Layer];
    const withMerged = (change: Partial<Layer>): object => ({
      ...sealed,
      layers: [manifest, config, { ...merged, ...change }],
    });
    const [[key = '', digest = '']] = Object.entries(merged.annotations) as [[string, string]];
    const wrong = digest.replace(/.$/, last => (last === '0' ? '1' : '0'));
    for (const [rule, artifact, message] of [
      ['about another manifest', { ...sealed, subject: other }, 'no seal: no artifact'],
      ['of another type', { ...sealed, artifactType: 'text/plain' }, `artifactType: is not ${ARTIFACT}`],
      ['of no type', { ...sealed, artifactType: undefined }, 'artifactType: '],
      ['without a subject', { ...sealed, subject: undefined }, 'subject: '],
      ['without the image', { ...sealed, layers: [manifest, config] }, 'no signature of merged'],
      ['without the manifest', { ...sealed, layers: [config, merged] }, 'no signature of manifest'],
      ['in another order', { ...sealed, layers: [config, manifest, merged] }, 'not in the order manifest, config'],
      ['with one twice', { ...sealed, layers: [manifest, config, merged, merged] }, 'not in the order'],
      ['too long', { ...sealed, layers: Array(17).fill(merged) }, 'layers: more than 16'],
      ['a digest that is not signed', withMerged({ annotations: { [key]: wrong } }), 'is no signature of its digest'],
      ['a short digest', withMerged({ annotations: { [key]: digest.slice(2) } }), 'layers.2: no digest of manifest'],
      ['a digest in capitals', withMerged({ annotations: { [key]: digest.toUpperCase() } }), 'layers.2: no digest'],
      ['two digests', withMerged({ annotations: { [key]: digest, [`${key}.sig`]: digest } }), 'or more than one'],
      ['another version', withMerged({ annotations: { [key.replace('v1', 'v2')]: digest } }), 'layers.2: no digest'],
      ['other blocks', withMerged({ annotations: { [key.replace('-12', '-16')]: digest } }), 'layers.2: no digest'],
      [
        'two algorithms',
        withMerged({ annotations: { [key.replace('sha512', 'sha256')]: digest.slice(64) } }),
        'by more than one algorithm',
      ],
      ['another media type', withMerged({ mediaType: 'text/plain' }), `layers.2: not of type ${SIGNATURE}`],
      [
        'the signature of another',
        withMerged({ digest: config.digest, size: config.size }),
        'is no signature of its digest',
      ],
      ['a signature that is missing', withMerged({ digest: sha256('none') }), 'No such file or directory'],
      ['a large signature', withMerged({ size: 65_537 }), 'a signature of more than 65536 bytes'],
      [
        'the manifest of another',
        {
          ...sealed,
          layers: [{ ...manifest, annotations: { 'composefs.manifest.fsverity-sha512-12': digest } }, config, merged],
        },
        'its manifest has the digest sha512:',
      ],
    ] as const)
      t.match(replaced(artifact), { status: 32, stdout: '', stderr: message }, rule);
    t.match(replaced(sealed, 'text/plain'), { status: 32, stderr: 'no seal' }, 'the index has another type');

    rmSync(place, { recursive: true });
    cpSync(layout, place, { recursive: true });
    writeFileSync(blobPath(place, merged.digest), openssl('rand', String(merged.size)));
    t.match(verify('oci:changed:test'), { status: 32, stderr: 'its digest is sha256:' }, 'a damaged blob');
    rmSync(place, { recursive: true });
    cpSync(layout, place, { recursive: true });
    writeIndex(place, index);
    seal('sha512', 'oci:changed:test', stranger.keyFile, stranger.certFile);
    const unknown = verify('oci:changed:test');
    t.match(unknown, { status: 32, stderr: 'keys/signer.pem (CN=signer): has not signed this digest' }, 'another key');
    seal('sha512', 'oci:changed:test');
    t.match(verify('oci:changed:test'), { status: 0 }, 'one of two seals is enough');
  });

  t.test('calls', async t => {
    const both = ['--key', keyFile, '--cert', certFile];
    for (const [args, status, message] of [
      [['seal', 'oci:layout:test', ...both], 1, '--store is missing'],
      [['seal', 'oci:layout:test', '--store', 'x', '-o', 'y', ...both], 1, '-o goes with an image'],
      [['seal', 'image', '--store', 'x', '-o', 'y', ...both], 1, '--store and --platform go with oci:DIR'],
      [['seal', 'oci:layout:none', '--store', 'x', ...both], 1, 'no image has the tag none'],
      [['verify', 'oci:layout:test', '--signature', 'x'], 1, '--signature goes with an image'],
      [['verify', 'image', '--platform', 'linux/amd64', '--signature', 'x'], 1, '--platform goes with oci:DIR'],
      [['verify', 'oci:nowhere'], 32, 'nowhere: No such file or directory'],
    ] as const)
      t.match(call(...args), { status, stdout: '', stderr: message });
  });
}
t.end();
