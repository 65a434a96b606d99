/** A real image whose objects are found by origin: wherever the store's directories go, and back to the same bytes. */
import { spawnSync } from 'node:child_process';
import {
  appendFileSync,
  chmodSync,
  chownSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { join, relative } from 'node:path';
import t from 'tap';
import { fieldsOf } from '../fixtures/images/fields.ts';
import { goldenFolder } from '../fixtures/images/golden-images.ts';
import { makeObjects, originalTree, realImage, regularFiles } from '../fixtures/images/real-tree.ts';
import { type Ext4Options, withExt4, withoutExt4 } from '../fixtures/mounts/ext4.ts';
import { sameAsKernel } from '../fixtures/mounts/kernel-mount.ts';
import { command, lowerdata, withMount } from '../fixtures/mounts/mounted.ts';
import { runCommand } from '../fixtures/run-command.ts';
import { withScratchAsync } from '../fixtures/scratch.ts';
import { withoutFuse, withoutUserMounts } from '../fixtures/skips.ts';
import { differences } from '../fixtures/tree.ts';

const skip = withoutFuse || withoutExt4;
/** Files whose data is elsewhere. */
const FILES = 130;
const dumpOf = (image: string): string => runCommand(['info', 'dump', image]).stdout;

/** Calls `use` with a filesystem that has the objects of the real image in `objects`, and a place outside of it. */
function withStore<T>(use: (root: string, scratch: string) => Promise<T>, options?: Ext4Options): Promise<T> {
  return withScratchAsync(scratch =>
    withExt4(
      scratch,
      root => {
        mkdirSync(join(root, 'objects'));
        makeObjects(join(root, 'objects'));
        return use(root, scratch);
      },
      options,
    ),
  );
}

/** What differs between a mount of the image and the package as npm unpacked it. */
const mountDiffers = (image: string, layer: string): Promise<string[]> =>
  withMount([image, '-o', `basedir=${layer}`], root => {
    const inMount = join(root, 'package');
    const names = regularFiles(originalTree).map(file => relative(originalTree, file));
    const wrong = names.filter(
      name => !readFileSync(join(inMount, name)).equals(readFileSync(join(originalTree, name))),
    );
    return [
      ...wrong,
      ...regularFiles(inMount)
        .map(file => relative(inMount, file))
        .filter(name => !names.includes(name)),
    ];
  });

/** Moves every object to the place that `place` names, with all directories on the way. */
function reshard(store: string, place: (digest: string) => string): void {
  for (const object of regularFiles(store)) {
    const to = join(store, place(relative(store, object).replaceAll('/', '')));
    mkdirSync(join(to, '..'), { recursive: true });
    renameSync(object, to);
  }
  for (const name of readdirSync(store))
    if (/^[0-9a-f]{2}$/.test(name) && statSync(join(store, name)).isDirectory()) removeEmpty(join(store, name));
}

function removeEmpty(directory: string): void {
  if (regularFiles(directory).length === 0) rmSync(directory, { recursive: true });
}

t.test('a store that changes', { skip, timeout: 300_000 }, t =>
  withStore(async (root, scratch) => {
    const store = join(root, 'objects');
    const [image, back] = [join(scratch, 'by-origin'), join(scratch, 'back')];
    command('relink', realImage, '-o', image, '--to', 'origin', '--basedir', store);
    const bytes = readFileSync(image);
    const lines = dumpOf(image).split('\n');
    const before = dumpOf(realImage).split('\n');
    const leads = / \S+ (- [0-9a-f]{64})$/;
    t.equal(
      lines.filter(line => / {2}- [0-9a-f]{64} trusted\.overlay\.origin=\\x00\\xfb/.test(line)).length,
      FILES,
      'an origin a file',
    );
    t.same(
      lines.map(line => line.replace(/ {2}(- [0-9a-f]{64}) trusted\.overlay\.origin=\S+$/, ' $1')),
      before.map(line => line.replace(leads, ' $1')),
      'nothing else has changed',
    );
    t.same(
      differences(fieldsOf(bytes, 'without leads'), fieldsOf(readFileSync(realImage), 'without leads')),
      [],
      'field by field',
    );
    sameAsKernel(t, 'the image', bytes);

    t.same(await mountDiffers(image, store), [], 'as it was made');
    renameSync(store, join(root, 'renamed'));
    t.same(await mountDiffers(image, join(root, 'renamed')), [], 'renamed');
    mkdirSync(join(root, 'a/b'), { recursive: true });
    renameSync(join(root, 'renamed'), join(root, 'a/b/objects'));
    t.same(await mountDiffers(image, join(root, 'lost+found')), [], 'moved out of every layer');
    const moved = join(root, 'a/b/objects');
    reshard(moved, digest => `${digest.slice(0, 2)}/${digest.slice(2, 4)}/${digest.slice(4)}`);
    t.same(await mountDiffers(image, moved), [], 'with two levels');
    reshard(moved, digest => digest);
    t.equal(
      readdirSync(moved).every(name => name.length === 64),
      true,
      'all are in one directory',
    );
    t.same(await mountDiffers(image, moved), [], 'flattened');

    for (const target of ['absolute', 'data-only']) {
      command('relink', image, '-o', back, '--to', target);
      command('relink', back, '-o', back, '--to', 'absolute');
      t.ok(readFileSync(back).equals(readFileSync(realImage)), `back from origin to ${target}: the same bytes`);
    }
  }),
);

t.test('one image, however it is made', { skip, timeout: 300_000 }, t =>
  withStore(async (root, scratch) => {
    const store = join(root, 'objects');
    const image = join(scratch, 'image');
    const relink = (...args: string[]) => runCommand(['relink', realImage, '-o', image, '--to=origin', ...args]);
    t.equal(relink('--threads=1', '--basedir', store).status, 0, 'one thread');
    const alone = readFileSync(image);
    t.equal(relink('--basedir', `${root}:${store}`).status, 0, 'all threads, the second directory');
    t.ok(readFileSync(image).equals(alone), 'the same image');
    const { stdout } = runCommand(['relink', image, '-o', '-', '--to=origin', '--basedir', store]);
    t.equal(stdout, alone.toString('latin1'), 'again: nothing to change');
    command('relink', realImage, '-o', join(scratch, 'data-only'), '--to=data-only');
    const dataOnly = runCommand(['relink', join(scratch, 'data-only'), '-o', '-', '--to=origin', '--basedir', store]);
    t.equal(dataOnly.stdout, alone.toString('latin1'), 'from data-only redirects');
    const dry = runCommand(['relink', realImage, '--dry-run', '--to=origin', '--basedir', store]);
    t.same(
      [dry.status, dry.stdout],
      [
        0,
        `${realImage}: ${FILES} files with data elsewhere: ${FILES} to change, 0 to stay, 0 that cannot be converted\n`,
      ],
      'a dry run',
    );

    const { stdout: text } = runCommand(['info', 'dump', realImage]);
    const byName = text.replace(/ \w\w\/\w{62} - (\w{64})$/gm, ' some/path - $1');
    runCommand(['mkfs', '--from-file', '-', join(scratch, 'named')], { input: byName });
    const named = runCommand(['relink', join(scratch, 'named'), '-o', '-', '--to=origin', '--basedir', store]);
    t.equal(named.stdout, alone.toString('latin1'), 'by digest, where the path leads nowhere');

    const object = regularFiles(store).find(file => statSync(file).size > 1000) as string;
    const content = readFileSync(object);
    writeFileSync(object, Buffer.alloc(content.length, 'x'));
    await withMount([image, '-o', `basedir=${store}`], mount => {
      const wrong = regularFiles(mount).filter(file => statSync(file).size === content.length);
      t.ok(wrong.length > 0, 'an object is overwritten');
      t.ok(
        wrong.some(file => code(() => readFileSync(file)) === 'EIO'),
        'its file is EIO',
      );
    });
  }),
);

function code(action: () => unknown): string | undefined {
  try {
    action();
    return undefined;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code;
  }
}

t.test('an ordinary user', { skip: skip || withoutUserMounts, timeout: 300_000 }, t =>
  withStore(async (root, scratch) => {
    const store = join(root, 'objects');
    const [image, mount] = [join(scratch, 'by-origin'), join(scratch, 'mnt')];
    command('relink', realImage, '-o', image, '--to', 'origin', '--basedir', store);
    mkdirSync(mount);
    for (const path of [scratch, image, mount, root]) chmodSync(path, 0o755);
    chownSync(mount, NOBODY, NOBODY);
    const ask = (...words: string[]) =>
      spawnSync('setpriv', [`--reuid=${NOBODY}`, `--regid=${NOBODY}`, '--clear-groups', ...words], {
        encoding: 'utf8',
      });
    const mounted = (...words: string[]) => {
      const { status, stderr } = ask(process.execPath, lowerdata, 'mount', `${image}::${store}`, mount);
      if (status !== 0) throw new Error(stderr);
      const answer = ask(...words);
      ask(process.execPath, lowerdata, 'umount', mount);
      return answer;
    };
    const file = 'package/lib/tsc.js';
    const content = readFileSync(join(originalTree, 'lib/tsc.js'), 'utf8');
    const refused = ask(process.execPath, lowerdata, 'cat', `${image}::${store}`, file, file);
    const [first, second] = refused.stderr.split('\n');
    t.match(first, /needs CAP_DAC_READ_SEARCH, or an index of its layer: `lowerdata index DIR`/, 'the reason');
    t.equal(second, `lowerdata: ${file}: No such file or directory`, 'once');
    t.match(mounted('cat', join(mount, file)), { status: 1, stdout: '' }, 'nor through a mount');

    command('index', store);
    t.match(mounted('cat', join(mount, file)), { status: 0, stdout: content }, 'with an index');
    renameSync(store, join(root, 'elsewhere'));
    mkdirSync(store);
    renameSync(join(root, 'elsewhere'), join(store, 'below'));
    t.equal(mounted('cat', join(mount, file)).status, 1, 'objects that were moved are not found');
    command('index', store);
    t.match(mounted('cat', join(mount, file)), { status: 0, stdout: content }, 'until the index is made again');
  }),
);
const NOBODY = 65534;

t.test('refusals', { skip, timeout: 300_000 }, t =>
  withStore(async (root, scratch) => {
    const store = join(root, 'objects');
    const image = join(scratch, 'image');
    const relink = (source: string, ...args: string[]) =>
      runCommand(['relink', source, '-o', image, '--to=origin', ...args]);
    const objects = new Map(
      ['package.json', 'LICENSE.txt', 'lib/tsc.js'].map(name => {
        const [, path] = new RegExp(`^/package/${name} .* (\\S+) - \\S+$`, 'm').exec(dumpOf(realImage)) ?? [];
        return [name, path as string];
      }),
    );
    const [missing, long, other] = [...objects.values()] as [string, string, string];
    rmSync(join(store, missing));
    const sizeBytes = statSync(join(store, long)).size;
    appendFileSync(join(store, long), '\n');
    writeFileSync(join(store, other), Buffer.alloc(statSync(join(store, other)).size, 'x'));
    const problems = [
      `/package/LICENSE.txt: ${store}/${long}: EWRONGSIZE: ${sizeBytes + 1} bytes, but the image says ${sizeBytes}`,
      new RegExp(
        `^/package/lib/tsc.js: ${store}/${other}: EWRONGVERITY: its digest is \\w{64}, but the image says ${other.replace('/', '')}$`,
      ),
      `/package/package.json: ${missing}: ENOENT: no base directory has such a file`,
    ];
    const refused = relink(realImage, '--basedir', store);
    t.same([refused.status, refused.stdout], [1, ''], 'refused');
    t.match(
      refused.stderr.split('\n'),
      [
        ...problems,
        `lowerdata: ${realImage}: ${FILES} files with data elsewhere, 3 of them cannot be converted: nothing is written`,
      ],
      'all of them, in order',
    );
    const dry = runCommand(['relink', realImage, '--dry-run', '--to=origin', '--basedir', store]);
    t.equal(dry.status, 1, 'a dry run, too');
    t.match(
      dry.stdout.split('\n'),
      [
        ...problems,
        `${realImage}: ${FILES} files with data elsewhere: ${FILES - 3} to change, 0 to stay, 3 that cannot be converted`,
      ],
      'which tells them on stdout',
    );

    const lines = (source: string, basedir: string): string[] =>
      relink(source, '--basedir', basedir).stderr.split('\n');
    const small = lines(join(goldenFolder, 'images', 'small-1.cfs'), store);
    t.match(
      small,
      [
        /ENOENT/,
        /ENOENT/,
        /ENOENT/,
        /ENOENT/,
        '/n7581/n7c99: 5a/a8e08a511d5198b0ece75b7aef4fe2feaa0e3b624ea389498e1db0eaf17057: ENOVERITY: the file has no digest to identify its object',
      ],
      'a file without a digest',
    );
    for (const [rule, uuids, reason] of [
      ['no uuid', ['clear'], 'Operation not supported: its filesystem has no uuid, so that no origin leads there'],
      [
        'the uuid of another base directory',
        [UUID, UUID],
        'Name not unique on network: its filesystem has the uuid of another one, so that no origin leads there',
      ],
    ] as const)
      await withStores(scratch, uuids, bases => {
        const found = lines(realImage, bases.join(':'));
        t.same(found, [`lowerdata: ${bases.at(-1)}: ${reason}`], rule);
      });
    t.notOk(readdirSync(scratch).includes('image'), 'nothing is written');
  }),
);
const UUID = '3d1c5f0e-8a7b-4c6d-9e0f-112233445566';

/** As many filesystems as uuids, each with the objects of the real image. */
async function withStores(scratch: string, uuids: readonly string[], use: (bases: string[]) => void): Promise<void> {
  const [uuid, ...rest] = uuids;
  if (uuid === undefined) return use([]);
  const place = join(scratch, `${uuids.length}`);
  mkdirSync(place, { recursive: true });
  await withExt4(
    place,
    async root => {
      makeObjects(root);
      await withStores(place, rest, bases => use([root, ...bases]));
    },
    { uuid },
  );
}
