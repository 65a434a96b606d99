/** `lowerdata gc`: what stays is what names, streams and mounts lead to, and nothing else is touched. */
import { execFileSync, type SpawnSyncReturns, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import {
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  unlinkSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { noErofs } from '../../fixtures/mounts/kernel-mount.ts';
import { lowerdata, withMount } from '../../fixtures/mounts/mounted.ts';
import { withoutSplitstreams } from '../../fixtures/oci/splitstreams.ts';
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
import { withScratchAsync } from '../../fixtures/scratch.ts';
import { withoutFuse } from '../../fixtures/skips.ts';

t.setTimeout(300_000);

const gc = (store: string, ...args: string[]): Result => runCommand(['gc', '--store', store, ...args]);

/** All objects, by their digests. */
const objectsIn = (store: string): string[] =>
  readdirSync(join(store, 'objects'), { recursive: true, encoding: 'utf8' })
    .filter(name => /^..\/[0-9a-f]{62}$/.test(name))
    .map(name => name.replace('/', ''))
    .sort();

/** What has a name in a directory, without directories. */
const namesIn = (store: string, directory: string): string[] =>
  existsSync(join(store, directory))
    ? readdirSync(join(store, directory), { withFileTypes: true }).flatMap(entry =>
        entry.isDirectory() ? [] : [entry.name],
      )
    : [];

const text = (letter: string): string => letter.repeat(5000);

/** A repository with images by a tag, by a name, and without a name, which share files. */
function fill(home: string) {
  const store = join(home, 'store');
  makeStore(store);
  const tagged = putImage(store, { a: text('a'), b: text('b') });
  const named = putImage(store, { b: text('b'), c: text('c') });
  const lost = putImage(store, { c: text('c'), d: text('d') });
  const before = objectsIn(store);
  recordImage(store, {
    tag: 'team/app:v1',
    image: tagged.image,
    layers: [[...tagged.objects, putObject(store, text('e'))]],
  });
  const recorded = objectsIn(store).filter(digest => !before.includes(digest));
  putLink(store, 'images/refs/dir/named', `../../${named.image}`);
  const garbage = [putObject(store, 'no image'), putObject(store, '')];
  const kept = [tagged.image, named.image, ...tagged.objects, ...named.objects, ...recorded];
  return { store, tagged, named, lost, garbage, recorded, kept: [...new Set(kept)].sort() };
}

t.test('what stays, and what goes', { skip: withoutSplitstreams }, t =>
  withScratchAsync(async home => {
    const { store, lost, tagged, kept } = fill(home);
    recordImage(store, { tag: 'gone', image: lost.image, layers: [lost.objects] });
    unlinkSync(join(store, 'streams/refs/oci/gone'));
    const orphan = putStream(store, 'oci-layer-none', { contentType: 'ocilayer', objects: [putObject(store, 'x')] });
    const temporary = `.tmp-${'0a'.repeat(8)}`;
    for (const path of [`images/${temporary}`, `streams/refs/oci/${temporary}`]) putLink(store, path, '../nothing');
    mkdirSync(join(store, 'objects', temporary));
    writeFileSync(join(store, 'objects', temporary, 'half'), 'half an object');
    writeFileSync(join(store, temporary), '{');
    mkdirSync(join(store, 'images/refs/empty/er'), { recursive: true });
    const others = ['notes', 'objects/notes', 'objects/aa/notes', 'images/notes', 'streams/notes', 'images/refs/notes'];
    mkdirSync(join(store, 'objects/aa'), { recursive: true });
    for (const path of others) writeFileSync(join(store, path), 'of somebody else');
    symlinkSync('/etc/hostname', join(store, 'streams/elsewhere'));

    const before = objectsIn(store);
    const dry = gc(store, '--dry-run');
    t.match(dry, { status: 0, stderr: '' });
    t.strictSame(objectsIn(store), before, 'a dry run removes nothing');
    const json = JSON.parse(gc(store, '--dry-run', '--json').stdout);
    const gone = before.filter(digest => !kept.includes(digest));
    t.match(json, { version: 1, dryRun: true, images: [lost.image], mounted: [], objects: gone.length });
    t.ok(gone.includes(orphan));
    t.match(gc(store), { status: 0, stderr: '', stdout: dry.stdout.replaceAll('would remove', 'removed') });
    t.strictSame(objectsIn(store), kept, 'what names lead to, and nothing else');
    t.strictSame(
      namesIn(store, 'images').sort(),
      [...new Set(kept.filter(digest => existsSync(join(store, 'images', digest)))), 'notes'].sort(),
    );
    t.strictSame(
      namesIn(store, 'streams')
        .map(name => name.replace(/sha256:.*/, ''))
        .sort(),
      ['elsewhere', 'notes', 'oci-config-', 'oci-layer-', 'oci-manifest-'],
    );
    t.notOk(existsSync(join(store, 'images/refs/empty')), 'directories without names');
    for (const path of others) t.equal(readFileSync(join(store, path), 'utf8'), 'of somebody else', path);
    t.notOk(readdirSync(store, { recursive: true, encoding: 'utf8' }).some(name => name.includes('.tmp-')));
    t.match(gc(store), { status: 0, stdout: 'removed 0 images, 0 streams, 0 objects: 0 B\n' }, 'again');
    const read = runCommand(['cat', 'team/app:v1', '/a', '/b', '-o', `store=${store}`]);
    t.equal(read.stdout, text('a') + text('b'));
    t.ok(existsSync(join(store, 'images', tagged.image)));
  }),
);

t.test('artifacts stay with their image', { skip: withoutSplitstreams }, t =>
  withScratchAsync(async home => {
    const { store, kept } = fill(home);
    const { manifest } = recordImage(store, { tag: 'subject', config: { author: 'subject' } });
    const artifacts = ['one', 'two'].map(tag => recordImage(store, { tag, config: { author: tag } }).manifest);
    const [first, second] = artifacts as [string, string];
    putLink(store, `streams/refs/oci-referrers/${manifest}/${first}`, `../../../oci-manifest-${first}`);
    putLink(store, `streams/refs/oci-referrers/${first}/${second}`, `../../../oci-manifest-${second}`);
    for (const tag of ['one', 'two']) unlinkSync(join(store, 'streams/refs/oci', tag));
    const before = objectsIn(store).length;
    t.match(gc(store), { status: 0, stderr: '' });
    t.ok(objectsIn(store).length < before, 'garbage is gone');
    for (const digest of [manifest, ...artifacts])
      t.ok(existsSync(join(store, `streams/oci-manifest-${digest}`)), digest);
    unlinkSync(join(store, 'streams/refs/oci/subject'));
    t.match(gc(store), { status: 0, stderr: '' });
    t.strictSame(objectsIn(store), kept);
    t.strictSame(readdirSync(join(store, 'streams/refs')), ['oci']);
  }),
);

/** Unmounts whatever happens. */
async function mounted(t: Test, source: string, root: string, ...args: string[]): Promise<void> {
  mkdirSync(root, { recursive: true });
  t.teardown(() => spawnSync('umount', ['-l', root]));
  execFileSync('mount', [...args, source, root]);
}
const dropCaches = (): void => writeFileSync('/proc/sys/vm/drop_caches', '3');

const withoutKernel = withoutSplitstreams || withoutFuse || noErofs() || false;

t.test('mounted images', { skip: withoutKernel }, t =>
  withScratchAsync(async home => {
    const { store, kept } = fill(home);
    const make = (letter: string) => putImage(store, { file: text(letter) });
    const [ours, loop, overlay, gone] = ['k', 'l', 'm', 'n'].map(make) as ReturnType<typeof make>[];
    if (!ours || !loop || !overlay || !gone) throw new Error('no image');
    const pathOf = ({ image }: { image: string }): string => join(store, 'images', image);
    const objects = join(store, 'objects');
    await withMount([`${pathOf(ours)}::${objects}`, '-o', 'passthrough=off'], async root => {
      await mounted(t, pathOf(loop), join(home, 'loop'), '-t', 'erofs', '-o', 'ro,loop');
      await mounted(t, pathOf(overlay), join(home, 'lower'), '-t', 'erofs', '-o', 'ro,loop');
      const options = `ro,metacopy=on,redirect_dir=follow,lowerdir=${join(home, 'lower')}::${objects}`;
      await mounted(t, 'overlay', join(home, 'overlay'), '-t', 'overlay', '-o', options);
      const result = gc(store);
      t.match(result, { status: 0, stderr: '' });
      for (const { image } of [ours, loop, overlay])
        t.match(result.stdout, `kept image ${image}: it is mounted, and has no name\n`);
      const all = [ours, loop, overlay].flatMap(({ image, objects }) => [image, ...objects]);
      t.strictSame(objectsIn(store), [...kept, ...all].sort());
      dropCaches();
      t.equal(readFileSync(join(root, 'file'), 'utf8'), text('k'), 'this driver');
      t.equal(readFileSync(join(home, 'overlay/file'), 'utf8'), text('m'), 'overlayfs');
      t.ok(readdirSync(join(home, 'loop')).includes('file'), 'EROFS');
      execFileSync('umount', [join(home, 'overlay')]);
      execFileSync('umount', [join(home, 'lower')]);
      execFileSync('umount', [join(home, 'loop')]);
      t.match(gc(store), { status: 0 });
      t.strictSame(objectsIn(store), [...kept, ours.image, ...ours.objects].sort());
    });
    t.match(gc(store), { status: 0 });
    t.strictSame(objectsIn(store), kept, 'until they are unmounted');
    t.match(runCommand(['mount', pathOf(ours), home]), { status: 32, stderr: /No such file or directory/ });
  }),
);

t.test('a mount of the kernel whose image is not known', { skip: withoutKernel }, t =>
  withScratchAsync(async home => {
    const { store } = fill(home);
    const before = objectsIn(store);
    mkdirSync(join(home, 'top'));
    const options = `ro,metacopy=on,redirect_dir=follow,lowerdir=${join(home, 'top')}::${join(store, 'objects')}`;
    await mounted(t, 'overlay', join(home, 'overlay'), '-t', 'overlay', '-o', options);
    const result = gc(store);
    t.match(result, {
      status: 1,
      stderr: /\/overlay: a mount of the kernel has objects of .*, and its image is not known/,
    });
    t.strictSame(objectsIn(store), before);
    execFileSync('umount', [join(home, 'overlay')]);
  }),
);

t.test('what is damaged stops it', { skip: withoutSplitstreams }, async t => {
  for (const [rule, damage, message] of [
    [
      'an image',
      ({ store, named }) =>
        writeFileSync(
          join(store, objectOf(named.image)),
          readFileSync(join(store, objectOf(named.image))).fill(0, 2000),
        ),
      /objects\/\w\w\/\w+: damaged: its digest is /,
    ],
    [
      'an image that is gone',
      ({ store, named }) => unlinkSync(join(store, objectOf(named.image))),
      /images\/\w+: leads to objects.*does not exist/,
    ],
    [
      'an image without a symlink',
      ({ store, named }) => unlinkSync(join(store, 'images', named.image)),
      /refs\/dir\/named: leads to images\/\w+, which does not exist/,
    ],
    [
      'a name that leads out',
      ({ store }) => putLink(store, 'images/refs/out', '/etc/hostname'),
      /images\/refs\/out: leads to \/etc\/hostname, out of/,
    ],
    [
      'a tag that leads to nothing',
      ({ store }) => putLink(store, 'streams/refs/x', '../oci-manifest-none'),
      /streams\/refs\/x: leads to nothing/,
    ],
    [
      'a tag of an object',
      ({ store, tagged }) => putLink(store, 'streams/refs/x', `../../${objectOf(tagged.image)}`),
      /streams\/refs\/x: leads to objects.*no stream/,
    ],
    [
      'a stream',
      ({ store, recorded }) => {
        const stream = recorded.find(digest => readFileSync(join(store, objectOf(digest))).includes('ocilayer'));
        writeFileSync(join(store, objectOf(stream as string)), 'x', { flag: 'a' });
      },
      /objects\/\w\w\/\w+: damaged: its digest is /,
    ],
    [
      'a stream that is gone',
      ({ store, recorded }) => {
        const stream = recorded.find(digest => readFileSync(join(store, objectOf(digest))).includes('ocilayer'));
        unlinkSync(join(store, objectOf(stream as string)));
      },
      /objects\/\w\w\/\w+: leads to objects\/.*, which does not exist/,
    ],
  ] as readonly (readonly [string, (filled: ReturnType<typeof fill>) => void, RegExp])[])
    await withScratchAsync(async home => {
      const filled = fill(home);
      damage(filled);
      const before = readdirSync(filled.store, { recursive: true }).sort();
      t.match(gc(filled.store), { status: 1, stdout: '', stderr: message }, rule);
      t.strictSame(readdirSync(filled.store, { recursive: true }).sort(), before, `${rule}: nothing is removed`);
    });
});

/** A program that holds a lock on a directory until its input ends. */
async function holder(path: string, kind: string) {
  const program = `import fcntl, os, sys\nfd = os.open(sys.argv[1], os.O_RDONLY)\nfcntl.flock(fd, fcntl.${kind})\nprint(1, flush=True)\nsys.stdin.read()`;
  const child = spawn('python3', ['-c', program, path], { stdio: ['pipe', 'pipe', 'inherit'] });
  await once(child.stdout, 'data');
  return child;
}

t.test('others that use the repository', { skip: withoutSplitstreams }, t =>
  withScratchAsync(async home => {
    const { store, kept } = fill(home);
    const other = await holder(store, 'LOCK_SH');
    const before = objectsIn(store);
    const run = spawn(process.execPath, [lowerdata, 'gc', '--store', store]);
    const [line] = await once(run.stderr, 'data');
    t.match(
      String(line),
      new RegExp(`^lowerdata: waiting for process ${other.pid} \\(python3\\), which uses the repository\n`),
    );
    t.match(gc(store, '--dry-run'), { status: 0 }, 'a dry run does not wait for them');
    t.strictSame(objectsIn(store), before, 'nothing is removed meanwhile');
    other.stdin.end();
    const [status] = await once(run, 'exit');
    t.equal(status, 0);
    t.strictSame(objectsIn(store), kept);

    const staging = join(store, 'objects', `.tmp-${'0b'.repeat(8)}`);
    mkdirSync(staging);
    const adding = await holder(staging, 'LOCK_EX');
    putObject(store, 'more');
    t.match(gc(store), { status: 1, stderr: new RegExp(`0b: process ${adding.pid} \\(python3\\) adds objects`) });
    t.equal(objectsIn(store).length, kept.length + 1);
    adding.stdin.end();
    await once(adding, 'exit');
    t.match(gc(store), { status: 0 });
    t.strictSame(objectsIn(store), kept);
  }),
);

t.test('killed at any moment', { skip: withoutSplitstreams }, t =>
  withScratchAsync(async home => {
    for (const calls of [1, 2, 3, 5, 8, 13]) {
      const { store, kept } = fill(join(home, String(calls)));
      const killed: SpawnSyncReturns<string> = spawnSync(
        'strace',
        [
          '-f',
          '-o',
          '/dev/null',
          '-e',
          'trace=unlinkat',
          '-e',
          `inject=unlinkat:signal=SIGKILL:when=${calls}`,
          process.execPath,
          lowerdata,
          'gc',
          '--store',
          store,
        ],
        { encoding: 'utf8' },
      );
      if (killed.error) return t.comment('strace is not installed');
      const left = objectsIn(store);
      t.ok(
        kept.every(digest => left.includes(digest)),
        `after ${calls} removals all that is needed is there`,
      );
      t.match(gc(store), { status: 0, stderr: '' });
      t.strictSame(objectsIn(store), kept, 'and the next run does the rest');
      rmSync(store, { recursive: true });
    }
  }),
);

t.test('other places', t =>
  withScratchAsync(async home => {
    t.match(gc(home), { status: 1, stderr: /no repository of composefs: it has no meta.json$/ });
    t.match(gc(join(home, 'none')), { status: 1, stderr: /none: No such file or directory$/ });
    t.match(runCommand(['gc']), { status: 1, stderr: 'lowerdata: --store is missing: the repository' });
    makeStore(home);
    const meta = { version: 1, algorithm: 'fsverity-sha256-12', features: { 'read-only-compatible': ['new'] } };
    writeFileSync(join(home, 'meta.json'), JSON.stringify(meta));
    t.match(gc(home), { status: 1, stderr: /features that are not supported: new$/ });
  }),
);
t.end();
