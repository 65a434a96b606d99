/** `lowerdata pull`: what is refused and where, what the repository has afterwards, and what an interruption leaves. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import {
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmSync,
  statSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { setTimeout } from 'node:timers/promises';
import t from 'tap';
import { fsverityDigests } from '../../fixtures/images/verity.ts';
import { lowerdata } from '../../fixtures/mounts/mounted.ts';
import { type Fields, member, paxHeader } from '../../fixtures/oci/archives.ts';
import { archiveOf, blobPath, TAG, writeBlob, writeImage, writeIndex } from '../../fixtures/oci/layout.ts';
import { type Result, runCommand } from '../../fixtures/run-command.ts';
import { withScratch, withScratchAsync } from '../../fixtures/scratch.ts';

t.setTimeout(300_000);

const usr = member({ name: 'usr/', type: '5', mode: 0o755, mtime: 1_234_567_890 });
const file = (name: string, data: string | Buffer = '', fields: Fields = {}): Buffer =>
  member({ name, ...fields }, data);
const LARGE = 'x'.repeat(5000);
/** Source: fsverity digest --compact. */
const LARGE_DIGEST = '838b2c37e0ad28bb545e3edbe665a04a8ef1b3d559fe568db29b546e4458e1d4';

/** Pulls an image of tar archives. */
function pull(home: string, archives: readonly Buffer[], ...args: string[]): Result {
  const layout = join(home, 'layout');
  rmSync(layout, { recursive: true, force: true });
  writeIndex(layout, [{ ...writeImage(layout, archives), annotations: { [TAG]: 'test' } }]);
  return runCommand(['pull', `oci:${layout}:test`, '--store', join(home, 'store'), ...args]);
}

const digestIn = ({ stdout }: Result): string => stdout.split(' ')[0] as string;

/** The names of an image with their dump lines, without those of the object store. */
function dumpOf(home: string, result: Result): string[] {
  const { stdout } = runCommand(['info', 'dump', join(home, 'store', 'images', digestIn(result))]);
  return stdout.split('\n').filter(line => line !== '' && !/^\/[0-9a-f]{2} /.test(line));
}

/** Objects with their names, which have to be their digests; and all other files of a store. */
function filesIn(objects: string): { wrong: string[]; others: string[]; count: number } {
  const names = readdirSync(objects, { recursive: true, encoding: 'utf8' }).filter(name =>
    statSync(join(objects, name)).isFile(),
  );
  const named = names.filter(name => /^[0-9a-f]{2}\/[0-9a-f]{62}$/.test(name));
  const digests = named.length > 0 ? fsverityDigests(named.map(name => join(objects, name))) : [];
  const wrong = named.filter((name, i) => name.replace('/', '') !== digests[i]);
  return { wrong, others: names.filter(name => !named.includes(name)), count: named.length };
}

withScratch(home => {
  // The image of composefs-rs that its tests have: crates/composefs-integration-tests/src/tests/cli.rs, OCI_LAYOUT_COMPOSEFS_V1_ID.
  const gnu = { mtime: 1_234_567_890, magic: 'ustar  \0', devmajor: '', devminor: '' };
  const archive = archiveOf(
    member({ ...gnu, name: 'usr/', type: '5', mode: 0o755 }),
    file('hello.txt', 'hello from test layer\n', gnu),
    member({ ...gnu, name: 'hello-link.txt', type: '1', linkname: 'hello.txt' }),
  );
  const published =
    'd06f1f6a73f62ed48e05ce9442ff045cdf2a9f5ba1ec623795de3d6177a253d9' +
    '1076459795d94f55d8c3d71dab458bb3fc0071255a50c0a4896d86ffdc870b9a';
  const made = pull(home, [archive], '--algorithm=sha512', '--expect', published);
  t.match(made, { status: 0, stderr: '' }, 'the digest that composefs-rs publishes');
  t.equal(digestIn(made), published);
});

/** Layers that are refused, with the message after the path of the layer. */
const REFUSED: readonly (readonly [rule: string, layer: readonly Buffer[], message: string])[] = [
  ['..', [file('usr/../../etc/x')], 'entry usr/../../etc/x at byte 512: the path has ..'],
  [
    'a path through a symlink',
    [member({ name: 'l', type: '2', linkname: 'usr' }), file('l/x')],
    'entry l/x at byte 1024: /l is not a directory',
  ],
  ['a path through a file', [file('f'), file('f/x')], 'entry f/x at byte 1024: /f is not a directory'],
  ['a whiteout through a file', [file('f'), file('f/.wh.x')], 'entry f/.wh.x at byte 1024: /f is not a directory'],
  ['a root that is a file', [file('./')], 'entry ./ at byte 512: the root is a file'],
  [
    'a root that is a hard link',
    [member({ name: '/', type: '1', linkname: 'x' })],
    'entry / at byte 512: the root is a hard link',
  ],
  [
    'a hard link to nothing',
    [member({ name: 'h', type: '1', linkname: 'no/such' })],
    'entry h at byte 512: a hard link to /no/such, which does not exist',
  ],
  [
    'a hard link to a directory',
    [member({ name: 'h', type: '1', linkname: 'usr' })],
    'entry h at byte 512: a hard link to /usr, which is a directory',
  ],
  [
    'a hard link out of the image',
    [member({ name: 'h', type: '1', linkname: '../x' })],
    'entry h at byte 512: the path has ..',
  ],
  ['a symlink without a target', [member({ name: 's', type: '2' })], 'entry s at byte 512: a symlink without a target'],
  [
    'a long name',
    [paxHeader(['path', 'n'.repeat(256)]), file('')],
    `entry ${'n'.repeat(256)} at byte 512: a name of 256 bytes; 255 are allowed`,
  ],
  [
    'a long path',
    [paxHeader(['path', 'n/'.repeat(2048)]), file('')],
    `entry ${'n/'.repeat(128)}\xe2\x80\xa6 at byte 512: a path of 4096 bytes; 4095 are allowed`,
  ],
  [
    'a device beyond the numbers of Linux',
    [member({ name: 'd', type: '3', devmajor: 4096 })],
    'entry d at byte 512: device 4096:0 is beyond the numbers of Linux',
  ],
  [
    'an xattr beyond the limit',
    [paxHeader(['SCHILY.xattr.security.capability', 'x'.repeat(40_000)]), file('f')],
    'entry f at byte 512: the xattrs need up to 40038 bytes; 32767 are allowed',
  ],
  [
    'holes without end',
    [paxHeader(['GNU.sparse.map', ''], ['GNU.sparse.size', String(2 ** 40)]), file('f')],
    'entry f at byte 512: the sparse files have 1099511627776 bytes; 68719476736 are allowed',
  ],
  ['a type that is not known', [file('f', '', { type: 'V' })], 'entry f at byte 512: type "V" is not known'],
];

t.test('layers that are refused', async t =>
  withScratch(home => {
    for (const [rule, layer, message] of REFUSED) {
      const { status, stderr, stdout } = pull(home, [archiveOf(usr), archiveOf(usr, ...layer)]);
      const [, shown] = /^lowerdata: .*\/layout\/blobs\/sha256\/[0-9a-f]{64}: (.*)$/s.exec(stderr) ?? [];
      t.equal(shown, message, rule);
      t.strictSame([status, stdout], [1, ''], rule);
    }
    const deep = (i: number): Buffer[] => [paxHeader(['path', `${i}/${'a/'.repeat(2030)}x`]), file('')];
    const { status, stderr } = pull(home, [archiveOf(...Array.from({ length: 1100 }, (_, i) => deep(i)).flat())]);
    t.equal(status, 1, 'paths that make very many directories');
    t.match(stderr, / at byte \d+: the entries up to this one need \d+ bytes; 2147483648 are allowed$/);
    t.notOk(existsSync(join(home, 'store', 'images')), 'no image is made');
  }),
);

/** Layers, and the lines of the image after the root, cut after the owner. */
const MERGED: readonly (readonly [rule: string, layers: readonly (readonly Buffer[])[], lines: readonly string[]])[] = [
  ['no layers', [], []],
  ['an absolute name', [[file('/a')]], ['/a 0 100644 1 0 0']],
  ['slashes and dots', [[usr, file('.//usr/./b')]], ['/usr 0 40755 2 0 0', '/usr/b 0 100644 1 0 0']],
  [
    'what aufs left',
    [[member({ name: '.wh..wh.plnk/', type: '5' }), file('.wh..wh.plnk/1.2', 'x'), file('a')]],
    ['/a 0 100644 1 0 0'],
  ],
  [
    'whiteouts of nothing',
    [[file('.wh.a'), file('no/.wh.b'), file('no/.wh..wh..opq'), file('.wh.'), file('.wh...')]],
    [],
  ],
  ['a whiteout with data', [[file('a')], [file('.wh.a', 'data'), file('b')]], ['/b 0 100644 1 0 0']],
  ['a missing directory', [[file('a/b/c')]], ['/a 0 40755 3 0 0', '/a/b 0 40755 2 0 0', '/a/b/c 0 100644 1 0 0']],
  [
    'a hard link to a symlink',
    [[member({ name: 's', type: '2', linkname: 't' })], [member({ name: 'r', type: '1', linkname: 's' })]],
    ['/r 1 120644 2 0 0', '/s 1 @120644 2 0 0'],
  ],
  [
    'a whiteout of one of two names',
    [[file('a', LARGE), member({ name: 'b', type: '1', linkname: 'a' })], [file('.wh.a')]],
    ['/b 5000 100644 1 0 0'],
  ],
  [
    'other xattrs are left out',
    [[paxHeader(['SCHILY.xattr.user.a', 'b'], ['SCHILY.xattr.security.selinux', 'c']), file('a')]],
    ['/a 0 100644 1 0 0'],
  ],
];

t.test('merged', async t =>
  withScratch(home => {
    for (const [rule, layers, lines] of MERGED) {
      const made = pull(
        home,
        layers.map(layer => archiveOf(...layer)),
      );
      const [root, ...others] = dumpOf(home, made).map(line =>
        line
          .split(' ')
          .slice(0, 6)
          .join(' ')
          .replace(/ \d+ 4/, ' 0 4'),
      );
      t.strictSame(others, lines, rule);
      if (lines[0]?.startsWith('/usr')) continue;
      t.match(root, /^\/ 0 40755 \d+ 0 0$/, `${rule}: the root`);
      t.match(made.stderr, 'lowerdata: the image has no canonical digest: it has no directory /usr', rule);
    }
    t.match(pull(home, [archiveOf(file('a/b'))]).stderr, 'no canonical digest: 1 directories have no entry');
    const link = member({ name: 'run', type: '2', linkname: 'var/run' });
    t.equal(
      pull(home, [archiveOf(usr, link)]).stderr,
      'lowerdata: the image has no canonical digest: /run is not a directory',
    );
  }),
);

t.test('the repository', async t =>
  withScratch(home => {
    const at = (...names: string[]): string => join(home, 'store', ...names);
    const layers = [archiveOf(usr, file('large', LARGE), file('small', 'y'.repeat(64)), file('just', 'y'.repeat(65)))];
    const made = pull(home, layers, '--name', 'some/name');
    const digest = digestIn(made);
    t.match(made.stdout, /\n1 layers \(0 known\), 4 entries, 2 files in objects: 2 new, 0 known, 0 replaced\n/);
    t.strictSame(filesIn(at('objects')), { wrong: [], others: [], count: 8 }, 'objects are named by their digests');
    t.equal(readFileSync(at('objects', LARGE_DIGEST.slice(0, 2), LARGE_DIGEST.slice(2)), 'latin1'), LARGE);
    t.equal(readlinkSync(at('images', digest)), `../objects/${digest.slice(0, 2)}/${digest.slice(2)}`);
    t.equal(readlinkSync(at('images', 'refs', 'some', 'name')), `../../${digest}`);
    // As composefs-rs writes it: crates/composefs/src/repository.rs, RepoMetadata.
    t.strictSame(JSON.parse(readFileSync(at('meta.json'), 'utf8')), {
      version: 1,
      algorithm: 'fsverity-sha256-12',
      features: { compatible: [], 'read-only-compatible': ['v1_erofs'], incompatible: [] },
      erofs_formats: { default: 1 },
    });

    truncateSync(at('objects', LARGE_DIGEST.slice(0, 2), LARGE_DIGEST.slice(2)), 100);
    const again = pull(home, layers);
    t.match(again.stdout, /: 0 new, 1 known, 1 replaced\n/, 'an object that is damaged is replaced');
    t.equal(digestIn(again), digest);
    const other = pull(home, [archiveOf(usr)], '--name=some/name');
    t.equal(
      readlinkSync(at('images', 'refs', 'some', 'name')),
      `../../${digestIn(other)}`,
      'a name leads to the last image',
    );
    t.ok(existsSync(at('images', digest)), 'the image that had it stays');

    const wrong = pull(home, [archiveOf(usr, file('x'))], '--expect', digest);
    t.match(wrong, { status: 1, stdout: '' }, 'another digest than is expected');
    t.match(wrong.stderr, new RegExp(`^lowerdata: the image has the digest \\w{64}, but ${digest} is expected$`));
    t.equal(readdirSync(at('images')).length, 3, 'and no image is made');

    for (const [rule, meta, message] of [
      [
        'another version',
        { version: 2, algorithm: 'fsverity-sha256-12' },
        /version 2 of a repository is not supported/,
      ],
      [
        'an unknown feature',
        { version: 1, algorithm: 'fsverity-sha256-12', features: { incompatible: ['new'] } },
        /not supported: new$/,
      ],
      [
        'another block size',
        { version: 1, algorithm: 'fsverity-sha256-16' },
        /algorithm fsverity-sha256-16 is not supported/,
      ],
      ['images of format 2', { version: 1, algorithm: 'fsverity-sha256-12' }, /its images have format 2/],
      ['no version', {}, /meta.json: version: /],
    ] as const) {
      writeFileSync(at('meta.json'), JSON.stringify(meta));
      t.match(pull(home, layers), { status: 1, stderr: message }, rule);
    }
    writeFileSync(
      at('meta.json'),
      JSON.stringify({ version: 1, algorithm: 'fsverity-sha256-12', erofs_formats: { default: 0 } }),
    );
    t.not(digestIn(pull(home, layers)), digest, 'a repository of format 0 has images of another digest');
    rmSync(at('meta.json'));
    t.match(pull(home, layers), {
      status: 1,
      stderr: /\/store: neither empty nor a repository of composefs: it has no meta.json$/,
    });
  }),
);

t.test('wrong calls', async t =>
  withScratch(home => {
    const layers = [archiveOf(usr)];
    for (const [args, message] of [
      [['--name=../x'], '--name=../x: parts that are empty, begin with a dot, or are too long'],
      [['--name=a//b'], '--name=a//b: parts that are empty, begin with a dot, or are too long'],
      [['--name=@sha256:0'], '--name=@sha256:0: begins with @, as digests do'],
      [[`--name=${'a/'.repeat(85)}b`], `--name=${'a/'.repeat(85)}b: as a file name, it has 341 bytes; 255 are allowed`],
      [['--expect=abc'], '--expect=abc: not the 64 hexadecimal digits of a SHA-256 digest, nor the 128 of SHA-512'],
      [['--whiteouts=aufs'], '--whiteouts=aufs: spec or composefs-rs'],
      [['--algorithm=md5'], '--algorithm=md5: sha256 or sha512'],
      [['--platform=linux'], '--platform=linux: not OS/ARCH or OS/ARCH/VARIANT'],
    ] as const)
      t.match(pull(home, layers, ...args), { status: 1, stdout: '', stderr: `lowerdata: ${message}` }, args.join(' '));
    t.notOk(existsSync(join(home, 'store')), 'nothing is made');
    t.match(
      runCommand(['pull', 'oci:x']).stderr,
      'lowerdata: --store is missing: the repository for the image and its data',
    );
    pull(home, layers);
    t.match(pull(home, layers, '--algorithm=sha512').stderr, /meta.json: the repository has sha256, not sha512$/);
  }),
);

t.test('a layer that is damaged in its middle', async t =>
  withScratch(home => {
    const data = Buffer.from(Array.from({ length: 300_000 }, (_, i) => (i * i) % 251));
    const layout = join(home, 'layout');
    const image = writeImage(layout, [archiveOf(usr, file('a', LARGE), file('b', data))]);
    writeIndex(layout, [image]);
    const [largest] = readdirSync(join(layout, 'blobs/sha256'))
      .map(name => blobPath(layout, `sha256:${name}`))
      .sort((a, b) => statSync(b).size - statSync(a).size) as [string];
    const bytes = readFileSync(largest);
    bytes.fill(0, bytes.length - 100, bytes.length - 50);
    writeFileSync(largest, bytes);
    const { status, stderr } = runCommand(['pull', `oci:${layout}`, '--store', join(home, 'store')]);
    t.equal(status, 1);
    t.match(stderr, new RegExp(`^lowerdata: ${largest}: (gzip: |its digest is )`));
    t.strictSame(filesIn(join(home, 'store', 'objects')), { wrong: [], others: [], count: 0 }, 'nothing has a name');
    t.notOk(existsSync(join(home, 'store', 'images')));
  }),
);

/** More objects than one batch has, each of its own data. */
const manyFiles = (count: number): Buffer =>
  archiveOf(usr, ...Array.from({ length: count }, (_, i) => file(`usr/${i}`, Buffer.alloc(4000, `${i} `))));

t.test('an interruption', async t =>
  withScratchAsync(async home => {
    const layout = join(home, 'layout');
    writeIndex(layout, [writeImage(layout, [manyFiles(9000)])]);
    const objects = join(home, 'store', 'objects');
    const args = ['pull', `oci:${layout}`, '--store', join(home, 'store')];
    const child = spawn(process.execPath, [lowerdata, ...args], { stdio: 'ignore' });
    while (!existsSync(objects) || readdirSync(objects).length < 50) await setTimeout(2);
    child.kill('SIGINT');
    const [status, signal] = await once(child, 'exit');
    t.strictSame([status, signal], [null, 'SIGINT'], 'the parent sees the signal');
    const { wrong, others, count } = filesIn(objects);
    t.strictSame([wrong, others], [[], []], 'objects are complete, and nothing else is left');
    t.ok(count > 0 && count < 9000, `${count} objects`);
    t.notOk(existsSync(join(home, 'store', 'images')), 'no image');
    const again = runCommand(args);
    const [, fresh, known] = / (\d+) new, (\d+) known, 0 replaced/.exec(again.stdout) ?? [];
    t.strictSame(
      [Number(fresh) + Number(known), Number(known) >= count],
      [9000, true],
      'a second run adds what is missing',
    );
  }),
);

t.test('an index of two platforms', async t =>
  withScratch(home => {
    const layout = join(home, 'layout');
    const image = (architecture: string, name: string) => ({
      ...writeImage(layout, [archiveOf(usr, file(name))], { architecture }),
      platform: { os: 'linux', architecture },
    });
    mkdirSync(layout, { recursive: true });
    writeIndex(layout, [
      writeBlob(layout, { schemaVersion: 2, manifests: [image('amd64', 'a'), image('arm64', 'b')] }),
    ]);
    for (const [platform, name] of [
      ['linux/amd64', '/a'],
      ['linux/arm64', '/b'],
    ] as const) {
      const made = runCommand(['pull', `oci:${layout}`, '--platform', platform, '--store', join(home, 'store')]);
      t.match(dumpOf(home, made)[1], new RegExp(`^${name} `), platform);
    }
  }),
);
t.end();
