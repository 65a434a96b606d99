import { execFileSync, spawn } from 'node:child_process';
import {
  closeSync,
  existsSync,
  lstatSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import {
  abandonStore,
  beginStore,
  endStore,
  measureFile,
  measureWhole,
  ObjectStore,
  objectPath,
  type Store,
} from '../../src/store/objects.ts';
import type { OpenFile } from '../../src/store/source.ts';
import { EIO, ELOOP, ENOENT, ENOTDIR } from '../../src/sys/errno.ts';
import { withExt4, withoutExt4 } from '../fixtures/mounts/ext4.ts';
import { withScratch, withScratchAsync } from '../fixtures/scratch.ts';
import { without, withoutRoot } from '../fixtures/skips.ts';

const text = 'x'.repeat(5000);
/** Source: fsverity digest --compact. */
const digest = '838b2c37e0ad28bb545e3edbe665a04a8ef1b3d559fe568db29b546e4458e1d4';
/** Source: the same with --hash-alg=sha512. */
const DIGEST_512 =
  'dba6d725286553d582532e1b0a00b5b76d4ee52b98b1def73eb5b520a5cca50c521786fa6edff026e967a57b4b671ee855f6ad6160eef6b8f5c92e6e74be7682';

function withOpen<T>(path: string, use: (file: OpenFile) => T, sizeBytes = 5000): T {
  const fd = openSync(path, 'r');
  try {
    return use({ fd, shown: path, sizeBytes });
  } finally {
    closeSync(fd);
  }
}

function withStore<T>(path: string, use: (store: Store) => T): T {
  const store = beginStore(path);
  try {
    return use(store);
  } finally {
    endStore(store);
  }
}
const copiesOf = ({ path, staging }: Store): string => join(path, staging);

withScratch(directory => {
  const source = join(directory, 'source');
  const path = join(directory, 'a', 'store');
  const object = join(path, objectPath(digest));
  writeFileSync(source, text, { mode: 0o4600 });
  t.equal(objectPath(digest), `${digest.slice(0, 2)}/${digest.slice(2)}`, 'the first byte is the directory');
  t.equal(measureFile(source, 5000), digest, 'a file is measured');
  t.equal(measureWhole(source), digest, 'all of it, too');

  withStore(path, store => {
    const objects = new ObjectStore(store);
    const add = (): string => withOpen(source, file => objects.add(file, digest));
    t.equal(lstatSync(copiesOf(store)).mode, 0o40700, 'copies in the making are for nobody else');
    t.equal(add(), 'new', 'a first object is new');
    t.equal(readFileSync(object, 'utf8'), text, 'it has the data');
    t.equal(lstatSync(object).mode, 0o100644, 'all may read it');
    const { ino } = lstatSync(object);
    t.equal(add(), 'known', 'a second one is not');
    t.equal(lstatSync(object).ino, ino, 'it is the one that was there');
    for (const [rule, damage] of [
      ['is shorter', () => writeFileSync(object, text.slice(1))],
      ['has other bytes', () => writeFileSync(object, `y${text.slice(1)}`)],
      ['is a symlink', () => execFileSync('ln', ['-sf', source, object])],
    ] as const) {
      damage();
      t.equal(add(), 'replaced', `an object that ${rule} is replaced`);
      t.ok(lstatSync(object).isFile(), `one that ${rule}: by a file`);
      t.equal(readFileSync(object, 'utf8'), text, `one that ${rule}: with the data`);
    }

    const wide = new ObjectStore(store, 'sha512');
    t.equal(
      withOpen(source, file => wide.add(file, DIGEST_512)),
      'new',
      'SHA-512',
    );
    t.equal(readFileSync(join(path, objectPath(DIGEST_512)), 'utf8'), text, 'by 128 digits');

    const other = '00'.repeat(32);
    for (const [rule, sizeBytes, wanted] of [
      ['a file that changed', 5000, other],
      ['a file that grew', 4999, measureFile(source, 4999)],
    ] as const) {
      const refused = { errno: EIO, message: `${source}: changed while it was stored` };
      t.throws(() => withOpen(source, file => objects.add(file, wanted), sizeBytes), refused, `refused: ${rule}`);
      t.notOk(existsSync(join(path, objectPath(wanted))), `${rule} leaves no object`);
      t.same(readdirSync(copiesOf(store)), [], 'and no copy');
    }

    symlinkSync(directory, join(path, '01'));
    t.throws(
      () => withOpen(source, file => objects.add(file, `01${digest.slice(2)}`)),
      { errno: ELOOP, message: /Too many levels of symbolic links/ },
      'a directory of objects is no symlink to elsewhere',
    );
    execFileSync('rm', [join(path, '01')]);
  });

  withStore(path, living => {
    const dead = join(path, '.tmp-0123456789abcdef');
    mkdirSync(dead);
    writeFileSync(join(dead, 'copy'), 'x');
    const others = ['.tmp-x', '.tmp-fedcba9876543210', '.tmp-link'];
    for (const name of others.slice(0, 2)) writeFileSync(join(path, name), 'not ours');
    symlinkSync(directory, join(path, '.tmp-0000000000000000'));
    withStore(path, second => {
      t.notOk(existsSync(dead), 'what a dead run has left is removed at once');
      t.ok(existsSync(copiesOf(living)), 'a living run keeps its copies');
      writeFileSync(join(copiesOf(second), 'copy'), 'x');
      abandonStore(second);
      t.notOk(existsSync(copiesOf(second)), 'a run that is abandoned leaves nothing');
      t.throws(
        () => withOpen(source, file => new ObjectStore(second).add(file, digest.replace(/^../, '02'))),
        { errno: ENOENT, message: /No such file or directory/ },
        'nor goes on',
      );
    });
    for (const name of others.slice(0, 2)) t.equal(readFileSync(join(path, name), 'utf8'), 'not ours', `${name} stays`);
    t.ok(existsSync(source), 'a symlink leads to nothing that is removed');
    for (const name of [...others.slice(0, 2), '.tmp-0000000000000000']) execFileSync('rm', [join(path, name)]);
  });
  t.notOk(
    readdirSync(path).some(name => name.startsWith('.')),
    'nothing but objects is left in the end',
  );

  for (const [rule, place, want] of [
    ['where nothing can be made', '/proc/x', { errno: ENOENT, message: 'store /proc/x: No such file or directory' }],
    ['below a file', join(source, 'store'), { errno: ENOTDIR, message: /Not a directory/ }],
    ['a file', source, { errno: ENOTDIR, message: /Not a directory/ }],
  ] as const)
    t.throws(() => beginStore(place), want, `no store: ${rule}`);
});

/** Holds the lock of a directory until it is killed, as a run does. */
const HOLDER = `
import fcntl, os, sys, time
os.mkdir(sys.argv[1], 0o700)
fcntl.flock(os.open(sys.argv[1], os.O_RDONLY), fcntl.LOCK_EX)
print('locked', flush=True)
time.sleep(60)
`;
t.test('another process', { skip: without('python3') }, async t =>
  withScratchAsync(async directory => {
    const staging = join(directory, '.tmp-00112233445566aa');
    const holder = spawn('python3', ['-c', HOLDER, staging], { stdio: ['ignore', 'pipe', 'inherit'] });
    await new Promise(resolve => holder.stdout.once('data', resolve));
    withStore(directory, () => t.ok(existsSync(staging), 'that lives keeps its copies'));
    const ended = new Promise(resolve => holder.on('exit', resolve));
    holder.kill('SIGKILL');
    await ended;
    withStore(directory, () => t.notOk(existsSync(staging), 'that was killed has lost them'));
  }),
);

t.test('a store that nothing can be written to', { skip: withoutRoot }, async t =>
  withScratch(directory => {
    const place = join(directory, 'tmpfs');
    mkdirSync(place);
    try {
      execFileSync('mount', ['-t', 'tmpfs', '-o', 'ro', 'tmpfs', place], { stdio: 'ignore' });
    } catch {
      return void t.pass('read-only', { skip: 'tmpfs cannot be mounted' });
    }
    try {
      for (const store of [place, join(place, 'a', 'b')])
        t.throws(() => beginStore(store), { message: `store ${store}: Read-only file system` }, 'the reason is told');
    } finally {
      execFileSync('umount', [place]);
    }
  }),
);

t.test('fs-verity of the kernel', { skip: withoutExt4 || without('fsverity') }, async t =>
  withScratchAsync(async directory =>
    withExt4(directory, root => {
      execFileSync('umount', [root]);
      execFileSync('tune2fs', ['-O', 'verity', `${root}.image`], { stdio: 'ignore' });
      execFileSync('mount', ['-o', 'loop', `${root}.image`, root]);
      const [source, path] = [join(root, 'source'), join(root, 'store')];
      writeFileSync(source, text);
      withStore(path, store => {
        const objects = new ObjectStore(store);
        const add = (): string => withOpen(source, file => objects.add(file, digest));
        t.equal(add(), 'new');
        const object = join(path, objectPath(digest));
        try {
          execFileSync('fsverity', ['measure', object], { stdio: 'pipe' });
        } catch {
          return void t.pass('verity', { skip: 'this filesystem has no fs-verity' });
        }
        t.equal(add(), 'known', 'what the kernel has measured is believed');
        const other = join(path, objectPath(`${digest.slice(0, 62)}ff`));
        execFileSync('mv', [object, other]);
        writeFileSync(source, text.replace('x', 'y'));
        const changed = measureFile(source, 5000);
        mkdirSync(join(path, changed.slice(0, 2)), { recursive: true });
        execFileSync('mv', [other, join(path, objectPath(changed))]);
        t.equal(
          withOpen(source, file => objects.add(file, changed)),
          'replaced',
          'under its own name alone',
        );
      });
    }),
  ),
);
