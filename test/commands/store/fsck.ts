/** `lowerdata fsck --store`: each kind of damage is named once, with what to do; and a pull then brings back what was removed. */
import { spawn } from 'node:child_process';
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import t from 'tap';
import { lowerdata } from '../../fixtures/mounts/mounted.ts';
import { member } from '../../fixtures/oci/archives.ts';
import { archiveOf, TAG, writeImage, writeIndex } from '../../fixtures/oci/layout.ts';
import { makeSplitstream, showSplitstream, withoutSplitstreams } from '../../fixtures/oci/splitstreams.ts';
import {
  makeStore,
  objectOf,
  putImage,
  putLink,
  putObject,
  putStream,
  recordImage,
} from '../../fixtures/oci/stored.ts';
import { type Result, runCommand } from '../../fixtures/run-command.ts';
import { withScratch, withScratchAsync } from '../../fixtures/scratch.ts';

t.setTimeout(300_000);

interface Said {
  status: number | null;
  problems: { path: string; code: string }[];
  numbers: Record<string, unknown>;
}

const envOf = (store: string): Record<string, string> => ({ XDG_CACHE_HOME: join(dirname(store), 'cache') });
const run = (store: string, ...args: string[]): Result =>
  runCommand(['fsck', '--store', store, ...args], { env: envOf(store) });

function saidIn(stdout: string, status: number | null): Said {
  const lines = stdout
    .trim()
    .split('\n')
    .map(line => JSON.parse(line));
  return { status, problems: lines.slice(0, -1), numbers: lines.at(-1) };
}

function fsck(store: string, ...args: string[]): Said {
  const { stdout, status } = run(store, '--json', ...args);
  return saidIn(stdout, status);
}

const text = (letter: string): string => letter.repeat(5000);
const codes = ({ problems }: Said): string[] => problems.map(({ path, code }) => `${path} ${code}`).sort();

/** Flips a bit of a file; its size stays. */
function damage(path: string): void {
  const bytes = readFileSync(path);
  bytes[bytes.length - 1] = (bytes.at(-1) as number) ^ 1;
  writeFileSync(path, bytes);
}

/** A repository with an image by a tag and one by a name, made by other programs. */
function fill(home: string) {
  const store = join(home, 'store');
  makeStore(store);
  const tagged = putImage(store, { a: text('a'), b: text('b') });
  const named = putImage(store, { b: text('b'), c: text('c') });
  const oci = recordImage(store, { tag: 'team/app:v1', image: tagged.image, layers: [tagged.objects, []] });
  putLink(store, 'images/refs/dir/named', `../../${named.image}`);
  return { store, tagged, named, ...oci };
}
type Filled = ReturnType<typeof fill>;

/** The digest of the object that a symlink leads to. */
const objectIn = (store: string, start: string): [name: string, digest: string] => {
  const name = readdirSync(join(store, 'streams')).find(name => name.startsWith(start)) as string;
  const [digest] = readdirSync(join(store, 'objects'), { recursive: true, encoding: 'utf8' })
    .filter(path => /^..\/./.test(path))
    .filter(path => readFileSync(join(store, 'objects', path)).equals(readFileSync(join(store, 'streams', name))));
  return [name, (digest as string).replace('/', '')];
};

/** Puts a stream with a change in place of one; its digest is right. @returns the path of the new object */
function changeStream(
  store: string,
  start: string,
  change: (shown: ReturnType<typeof showSplitstream>) => void,
): string {
  const [name] = objectIn(store, start);
  const file = join(store, 'changed');
  const shown = showSplitstream(join(store, 'streams', name));
  change(shown);
  makeSplitstream(file, shown);
  const digest = putObject(store, readFileSync(file));
  rmSync(file);
  putLink(store, `streams/${name}`, `../${objectOf(digest)}`);
  return objectOf(digest);
}

/** Makes a symlink. @returns its path, as the two below do that of the object */
function link(store: string, path: string, target: string): string {
  putLink(store, path, target);
  return path;
}
function damaged(store: string, digest = ''): string {
  damage(join(store, objectOf(digest)));
  return objectOf(digest);
}
function gone(store: string, digest = ''): string {
  rmSync(join(store, objectOf(digest)));
  return objectOf(digest);
}

const AGAIN = 'remove it and pull again';
const NAME = 'remove it, or give the name to an image again';
const NONE = '0'.repeat(64);

t.test('each kind of damage', { skip: withoutSplitstreams }, async t => {
  for (const [rule, harm, code, message, help] of [
    [
      'the data of a file',
      ({ store, tagged }) => damaged(store, tagged.objects[0]),
      'EWRONGVERITY',
      /^the digest of its data is [0-9a-f]{64}$/,
      AGAIN,
    ],
    [
      'an image',
      ({ store, named }) => damaged(store, named.image),
      'EWRONGVERITY',
      /^the digest of its data is [0-9a-f]{64}$/,
      AGAIN,
    ],
    [
      'a stream, which is longer',
      ({ store }) => {
        const path = objectOf(objectIn(store, 'oci-config')[1]);
        writeFileSync(join(store, path), 'x', { flag: 'a' });
        return path;
      },
      'EWRONGVERITY',
      /^the digest of its data is [0-9a-f]{64}$/,
      AGAIN,
    ],
    [
      'a directory for an object',
      ({ store, tagged }) => {
        const path = gone(store, tagged.objects[1]);
        mkdirSync(join(store, path));
        return path;
      },
      'EUCLEAN',
      /^not a file$/,
      AGAIN,
    ],
    [
      'data that is gone, and that two images and a layer need',
      ({ store, tagged }) => gone(store, tagged.objects[1]),
      'ENOENT',
      /^it does not exist, but \S+ needs it$/,
      'pull again',
    ],
    [
      'data that is gone, and that one image needs',
      ({ store, named }) => gone(store, named.objects[1]),
      'ENOENT',
      /^it does not exist, but images\/\S+ needs it$/,
      'pull again',
    ],
    [
      'an image that is gone',
      ({ store, named }) => gone(store, named.image),
      'ENOENT',
      /^it does not exist, but images\/\S+ needs it$/,
      'pull again',
    ],
    [
      'a stream that is gone',
      ({ store }) => gone(store, objectIn(store, 'oci-layer')[1]),
      'ENOENT',
      /^it does not exist, but streams\/oci-config-\S+ needs it$/,
      'pull again',
    ],
    [
      'a symlink of a stream that leads elsewhere',
      ({ store }) => link(store, 'streams/elsewhere', '/etc/hostname'),
      'EXDEV',
      /^leads to \/etc\/hostname, out of the repository$/,
      AGAIN,
    ],
    [
      'a stream that is none',
      ({ store, named }) => link(store, 'streams/oci-layer-x', `../${objectOf(named.image)}`),
      'EUCLEAN',
      /^leads to objects\/\S+, which is no stream$/,
      AGAIN,
    ],
    [
      'an image that is none',
      ({
        store,
        named: {
          objects: [data = ''],
        },
      }) => link(store, `images/${data}`, `../${objectOf(data)}`),
      'EUCLEAN',
      /^leads to objects\/\S+, which is no image$/,
      AGAIN,
    ],
    [
      'the symlink of an image that leads to another',
      ({ store, named, tagged }) => link(store, `images/${named.image}`, `../${objectOf(tagged.image)}`),
      'EUCLEAN',
      /^leads to objects\/\S+, not to objects\/\S+$/,
      AGAIN,
    ],
    [
      'an image that cannot be read, with the right digest',
      ({ store, named }) => {
        const image = putObject(store, readFileSync(join(store, objectOf(named.image))).subarray(0, 4096));
        link(store, `images/${image}`, `../${objectOf(image)}`);
        return objectOf(image);
      },
      'EUCLEAN',
      /./,
      AGAIN,
    ],
    [
      'a stream without the end of its chunks',
      ({ store }) => changeStream(store, 'oci-layer', shown => void shown.chunks.pop()),
      'EUCLEAN',
      /the file ends, but it should have \d+ bytes$/,
      AGAIN,
    ],
    [
      'a name of a stream without its digest',
      ({ store }) => changeStream(store, 'oci-manifest', ({ names }) => void names.push('7:seven')),
      'EUCLEAN',
      /^a name without the index of a stream$/,
      AGAIN,
    ],
    [
      'a stream of another algorithm',
      ({ store }) =>
        changeStream(store, 'oci-manifest', shown =>
          Object.assign(shown, { algorithm: 2, fileBytes: 0, streams: [], objects: [], names: [], chunks: [] }),
        ),
      'EUCLEAN',
      /^its digests are those of sha512, not of sha256$/,
      AGAIN,
    ],
    [
      'a stream that needs another',
      ({ store }) => {
        putStream(store, 'oci-config-x', { contentType: 'ociconfg', names: { x: NONE } });
        return objectOf(NONE);
      },
      'ENOENT',
      /^it does not exist, but streams\/oci-config-x needs it$/,
      'pull again',
    ],
    [
      'a tag that leads to nothing',
      ({ store }) => link(store, 'streams/refs/oci/x', '../../oci-manifest-none'),
      'ENOENT',
      /^leads to streams\/oci-manifest-none, which does not exist$/,
      NAME,
    ],
    [
      'a tag of an object',
      ({ store, tagged }) => link(store, 'streams/refs/x', `../../${objectOf(tagged.image)}`),
      'EUCLEAN',
      /^leads to objects\/\S+, which is no stream of the repository$/,
      NAME,
    ],
    [
      'a name that leads to nothing',
      ({ store }) => link(store, 'images/refs/deep/x', `../../${NONE}`),
      'ENOENT',
      /^leads to images\/0+, which does not exist$/,
      NAME,
    ],
    [
      'a name that leads out',
      ({ store }) => link(store, 'images/refs/x', '../../../other'),
      'EXDEV',
      /^leads to \S+, out of the repository$/,
      NAME,
    ],
  ] as readonly (readonly [string, (filled: Filled) => string, string, RegExp, string])[])
    withScratch(home => {
      const filled = fill(home);
      const path = harm(filled);
      const said = fsck(filled.store);
      t.strictSame(codes(said), [`${path} ${code}`], `${rule}: named once`);
      t.match(said, { status: 4, problems: [{ message, help }], numbers: { problems: 1, cancelled: false } }, rule);
    });
});

t.test('a sound repository', { skip: withoutSplitstreams }, async t =>
  withScratch(home => {
    const { store, named } = fill(home);
    const others = ['notes', 'objects/notes', 'images/notes', 'streams/notes', 'images/refs/notes'];
    for (const path of others) writeFileSync(join(store, path), 'of somebody else');
    putLink(store, `images/.tmp-${'0a'.repeat(8)}`, '../nothing');
    const files = readdirSync(join(store, 'objects'), { recursive: true, encoding: 'utf8' });
    const objects = files.filter(name => /^..\/[0-9a-f]{62}$/.test(name));
    t.match(fsck(store), {
      ...{ status: 0, problems: [] },
      numbers: { objects: objects.length, streams: 4, images: 2, names: 2, known: 0, problems: 0 },
    });
    t.match(run(store), {
      status: 0,
      stderr: '',
      stdout: /^\d+ objects \(.* kB\), 4 streams, 2 images, 2 names; no problems\n$/,
    });
    damage(join(store, objectOf(named.image)));
    const line = new RegExp(`^${objectOf(named.image)}: EWRONGVERITY: the digest of its data is \\w{64}; ${AGAIN}\n`);
    t.match(run(store), { status: 4, stdout: line }, 'for people');
  }),
);

t.test('what a pull brings back', async t =>
  withScratch(home => {
    const layout = join(home, 'layout');
    const usr = member({ name: 'usr/', type: '5', mode: 0o755 });
    const layers = ['x', 'y'].map(name => archiveOf(usr, member({ name: `usr/${name}` }, text(name))));
    writeIndex(layout, [{ ...writeImage(layout, layers), annotations: { [TAG]: 'test' } }]);
    const store = join(home, 'store');
    const pull = (): Result => runCommand(['pull', `oci:${layout}:test`, '--store', store, '--name', 'test']);
    t.equal(pull().status, 0);
    t.match(fsck(store), { status: 0, numbers: { streams: 4, images: 1, names: 2 } });
    const objects = readdirSync(join(store, 'objects'), { recursive: true, encoding: 'utf8' }).filter(name =>
      /^..\//.test(name),
    );
    t.ok(objects.length >= 9, 'two files, an image, four streams and two documents');
    for (const name of objects) {
      const path = join(store, 'objects', name);
      const kept = readFileSync(path);
      damage(path);
      t.strictSame(codes(fsck(store)), [`objects/${name} EWRONGVERITY`], 'damaged');
      if (kept.equals(Buffer.from(text('x')))) {
        t.equal(pull().status, 0);
        t.strictSame(codes(fsck(store)), [`objects/${name} EWRONGVERITY`], 'a pull does not see it');
      }
      rmSync(path);
      t.strictSame(codes(fsck(store)), [`objects/${name} ENOENT`], 'removed');
      t.equal(pull().status, 0);
      t.match(fsck(store), { status: 0, problems: [] }, 'pulled again');
      t.ok(existsSync(path) && readFileSync(path).equals(kept), 'the same data');
    }
  }),
);

t.test('an interrupted run', { skip: withoutSplitstreams }, t =>
  withScratchAsync(async home => {
    const { store, named } = fill(home);
    damage(join(store, objectOf(named.image)));
    const objects = Number(fsck(store).numbers.objects);
    const large = join(store, objectOf('f'.repeat(64))); // takes seconds
    mkdirSync(dirname(large), { recursive: true });
    writeFileSync(large, '');
    truncateSync(large, 2 ** 33);
    const child = spawn(process.execPath, [lowerdata, 'fsck', '--json', '--store', store], {
      env: { ...process.env, ...envOf(store) },
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    let stdout = '';
    child.stdout.on('data', piece => {
      if (stdout === '') child.kill('SIGINT');
      stdout += piece;
    });
    const status = await new Promise<number | null>(resolve => child.on('close', resolve));
    const stopped = saidIn(stdout, status);
    t.match(stopped, { status: 32, numbers: { cancelled: true, streams: 0 } });
    rmSync(large);
    const next = fsck(store);
    t.match(next, { status: 4, numbers: { cancelled: false, known: objects - 1 } }, 'the next run goes on');
    t.strictSame(codes(next), [`${objectOf(named.image)} EWRONGVERITY`], 'and finds again what is wrong');
    t.equal(fsck(store).numbers.known, 0, 'a run that came to its end leaves nothing to go on with');
  }),
);

t.test('other calls', async t =>
  withScratch(home => {
    const store = join(home, 'store');
    makeStore(store);
    t.match(run(store), { status: 0, stdout: '0 objects (0 B), 0 streams, 0 images, 0 names; no problems\n' });
    for (const args of [['-o', 'ro'], ['--enable-verity'], ['image']])
      t.match(run(store, ...args), { status: 16, stderr: `${args[0]}: not with --store, which checks a repository` });
    t.match(runCommand(['fsck']), { status: 16, stderr: 'fsck: the argument <stack> is missing; or --store' });
    t.match(run(join(home, 'none')), { status: 8, stderr: 'none: No such file or directory' });
    t.match(run(home), { status: 8, stderr: 'no repository of composefs: it has no meta.json' });
    writeFileSync(join(store, 'meta.json'), '{');
    t.match(run(store), { status: 4, stderr: 'meta.json' });
  }),
);
t.end();
