/** Objects in base directories on filesystems of their own: which one is taken, what is refused. */
import { execFileSync } from 'node:child_process';
import { mkdirSync, symlinkSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import t from 'tap';
import { type NoOrigin, ObjectOrigins, type WantedObject } from '../../src/inspect/object-origins.ts';
import { parseOrigin } from '../../src/overlay/origin.ts';
import { bufferOf } from '../../src/sys/bytes.ts';
import { ENOENT } from '../../src/sys/errno.ts';
import { MeasurePool } from '../../src/verity/measure-pool.ts';
import { contents, open } from '../fixtures/dir-layer.ts';
import { fsverityDigest, fsverityDigests } from '../fixtures/images/verity.ts';
import { withExt4, withoutExt4 } from '../fixtures/mounts/ext4.ts';
import { run } from '../fixtures/mounts/kernel-mount.ts';
import { withScratchAsync } from '../fixtures/scratch.ts';

const skip = withoutExt4;
const ignore = (): void => {};

/** Asks for one object. */
async function findOne(directories: readonly string[], wanted: WantedObject): Promise<string | NoOrigin | undefined> {
  const pool = new MeasurePool(1);
  const origins = new ObjectOrigins(directories, pool); // which has started no thread if it throws
  const [found] = await origins.find([wanted], ignore);
  origins.close();
  await pool.close();
  return found;
}

t.test('objects of one filesystem', { skip, timeout: 60_000 }, t =>
  withScratchAsync(scratch =>
    withExt4(scratch, async root => {
      const at = (path: string): string => join(root, path);
      const write = (path: string, text: string): void => {
        mkdirSync(dirname(at(path)), { recursive: true });
        writeFileSync(at(path), text);
      };
      write('base/right', 'right');
      write('base/other', 'other');
      write('base/long', 'right and more');
      write('outside', 'right');
      write('second/there', 'right');
      write('second/right', 'other');
      mkdirSync(at('base/directory'));
      symlinkSync('right', at('base/link'));
      symlinkSync('..', at('base/up'));
      run('mkfifo', at('base/fifo'));
      const digest = fsverityDigest(at('base/right'));
      const wanted = (...paths: string[]): WantedObject => ({ paths, sizeBytes: 5, digest });
      const bases = [at('base'), at('second')];
      const layer = open(t, root);

      for (const [rule, object, where] of [
        ['by its path', wanted('right'), 'base/right'],
        ['by a path from the root', wanted('/right'), 'base/right'],
        ['the first base directory wins', wanted('right', 'there'), 'base/right'],
        ['the second one is asked', wanted('there'), 'second/there'],
        ['the second path, where the first is nowhere', wanted('none', 'right'), 'base/right'],
        ['the second path, where the first is no regular file', wanted('directory', 'right'), 'base/right'],
      ] as const) {
        const value = bufferOf((await findOne(bases, object)) as string);
        const inode = execFileSync('stat', ['-c', '%i', at(where)], { encoding: 'utf8' }).trim();
        const origin = parseOrigin(value);
        t.equal(new DataView(value.buffer, value.byteOffset).getUint32(21, true), Number(inode), `${rule}: its inode`);
        t.equal(contents(origin ? layer.openHandle(origin.handle) : -ENOENT), 'right', `${rule}: opened by it`);
      }
      const sha512 = { ...wanted('right'), digest: fsverityDigest(at('base/right'), 'sha512') };
      t.equal(await findOne(bases, sha512), await findOne(bases, wanted('right')), 'by a digest of SHA-512');
      for (const [rule, object, code, place] of [
        ['of another digest of SHA-512', { ...sha512, paths: ['other'] }, 'EWRONGVERITY', at('base/other')],
        ['missing', wanted('none/at', 'all'), 'ENOENT', 'none/at'],
        ['a directory', wanted('directory'), 'ENOENT', 'directory'],
        ['a fifo', wanted('fifo'), 'ENOENT', 'fifo'],
        ['a symlink', wanted('link'), 'ENOENT', 'link'],
        ['a symlink out of the directory', wanted('up/outside'), 'ELOOP', 'up/outside'],
        ['a path out of the directory', wanted('../outside'), 'EXDEV', '../outside'],
        ['below a file', wanted('right/x'), 'ENOTDIR', 'right/x'],
        ['of another size', wanted('long', 'right'), 'EWRONGSIZE', at('base/long')],
        ['of another digest', wanted('other', 'right'), 'EWRONGVERITY', at('base/other')],
      ] as const)
        t.match(await findOne(bases, object), { code, object: place }, `refused: ${rule}`);
    }),
  ),
);

t.test('filesystems', { skip, timeout: 60_000 }, t =>
  withScratchAsync(async scratch => {
    const place = (name: string): string => {
      mkdirSync(join(scratch, name));
      return join(scratch, name);
    };
    const uuid = '3d1c5f0e-8a7b-4c6d-9e0f-112233445566';
    await withExt4(
      place('a'),
      a => withExt4(place('b'), b => withExt4(place('c'), c => filesystems(t, a, b, c), { uuid: 'clear' }), { uuid }),
      { uuid },
    );
  }),
);

/** @param a @param b of the same uuid @param c of none */
async function filesystems(t: { match: typeof import('tap').match }, a: string, b: string, c: string): Promise<void> {
  for (const root of [a, b, c]) writeFileSync(join(root, 'right'), 'right');
  const overlay = mountOverlay(a);
  const wanted = { paths: ['right'], sizeBytes: 5, digest: fsverityDigest(join(a, 'right')) };
  for (const [rule, directories, expected] of [
    ['one with a uuid', [a], 'an origin'],
    ['twice the same one', [a, join(a, 'lost+found')], 'an origin'],
    ['one without handles', [overlay], { code: 'EOPNOTSUPP', message: 'its filesystem gives no file handle' }],
  ] as const) {
    const found = await findOne(directories, wanted);
    t.match(typeof found === 'string' ? 'an origin' : found, expected, rule);
  }
  for (const [rule, directories, name] of [
    ['two with the same uuid', [a, b], 'ENOTUNIQ'],
    ['one without', [a, c], 'EOPNOTSUPP'],
  ] as const) {
    const last = directories.at(-1) as string;
    t.match(
      await findOne(directories, wanted).catch(error => error),
      { name, message: new RegExp(`^${last}: `) },
      rule,
    );
  }
}

/** An overlay with a uuid: without nfs_export it has no handles. */
function mountOverlay(root: string): string {
  for (const name of ['lower', 'upper', 'work', 'merged']) mkdirSync(join(root, name));
  writeFileSync(join(root, 'lower', 'right'), 'right');
  const options = `lowerdir=${root}/lower,upperdir=${root}/upper,workdir=${root}/work,uuid=on`;
  run('mount', '-t', 'overlay', '-o', options, 'overlay', join(root, 'merged'));
  return join(root, 'merged');
}

t.test('many objects', { skip, timeout: 120_000 }, t =>
  withScratchAsync(scratch =>
    withExt4(
      scratch,
      async root => {
        const names = Array.from({ length: 700 }, (_, i) => `f${i}`);
        for (const [i, name] of names.entries())
          writeFileSync(join(root, name), Buffer.alloc(i % 90 === 0 ? 2_000_000 : i * 7, name));
        const digests = fsverityDigests(names.map(name => join(root, name)));
        const wanted = names.map((name, i) => ({
          ...{ paths: [name], sizeBytes: i % 90 === 0 ? 2_000_000 : i * 7 },
          digest: (i === 77 ? digests[78] : digests[i]) as string,
        }));
        const inodes = run('stat', '-c', '%i', ...names.map(name => join(root, name)))
          .trim()
          .split('\n')
          .map(Number);
        const pool = new MeasurePool();
        const origins = new ObjectOrigins([root], pool);
        const done: number[][] = [];
        const found = await origins.find(wanted, (...numbers) => done.push(numbers));
        origins.close();
        await pool.close();
        const found77 = found.splice(77, 1, '');
        t.match(found77, [{ code: 'EWRONGVERITY' }], 'the one that is wrong');
        const inodeOf = (value: unknown): number => Buffer.from(value as string, 'latin1').readUInt32LE(21);
        t.same(
          found.map(value => (value === '' ? inodes[77] : inodeOf(value))),
          inodes,
          'each in its place',
        );
        t.same(done.at(-1), [700, wanted.reduce((sum, { sizeBytes }) => sum + sizeBytes, 0)], 'all are counted');
      },
      { megabytes: 128 },
    ),
  ),
);
