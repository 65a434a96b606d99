/** What a writable mount keeps when a change of it fails, and how many descriptors its files take. */
import {
  chmodSync,
  closeSync,
  linkSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  truncateSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { withExt4, withoutExt4 } from '../fixtures/mounts/ext4.ts';
import { withoutWritableOverlay, withWritable } from '../fixtures/mounts/writable.ts';
import { withScratchAsync } from '../fixtures/scratch.ts';
import { withoutFuse } from '../fixtures/skips.ts';

t.setTimeout(120_000);

const MAKERS = ['lowerdata', ...(withoutWritableOverlay ? [] : (['kernel'] as const))] as const;

for (const maker of MAKERS)
  t.test(`a rename that replaces an empty directory, and fails, by ${maker}`, { skip: withoutFuse }, t =>
    withScratchAsync(async home => {
      const lowerdir = join(home, 'lower');
      const long = `${'p'.repeat(200)}/${'q'.repeat(200)}`; // its path is too long for a redirect
      mkdirSync(join(lowerdir, long, 'moved'), { recursive: true });
      mkdirSync(join(lowerdir, 'target'));
      writeFileSync(join(lowerdir, 'target/file'), '');
      await withWritable(maker, { lowerdir, home, options: 'redirect_dir=on,metacopy=on' }, root => {
        rmSync(join(root, 'target/file'));
        chmodSync(join(root, 'target'), 0o750);
        t.throws(() => renameSync(join(root, long, 'moved'), join(root, 'target')), { code: 'EXDEV' });
        mkdirSync(join(root, 'target/new'));
        t.same(readdirSync(join(root, 'target')), ['new'], 'the directory can be used as before');
        t.equal(statSync(join(root, 'target')).mode & 0o777, 0o750, 'and has its mode');
        t.ok(statSync(join(root, long, 'moved')).isDirectory(), 'the other one is where it was');
      });
    }),
  );

t.test('a file whose data does not fit', { skip: withoutFuse || withoutExt4 }, t =>
  withScratchAsync(async home => {
    const lowerdir = join(home, 'lower');
    mkdirSync(lowerdir);
    const data = 'lower'.repeat(2_000_000);
    writeFileSync(join(lowerdir, 'file'), data);
    utimesSync(join(lowerdir, 'file'), 1e9, 1e9);
    await withExt4(home, async top => {
      await withWritable('lowerdata', { lowerdir, home: top, options: '' }, root => {
        const file = join(root, 'file');
        chmodSync(file, 0o600);
        fill(join(top, 'filler'));
        t.throws(() => openSync(file, 'r+'), { code: 'ENOSPC' }, 'cannot be opened for writing');
        t.throws(() => truncateSync(file, 9_000_000), { code: 'ENOSPC' }, 'nor be truncated');
        t.equal(statSync(file).mtimeMs, 1e12, 'it is not changed');
        t.ok(readFileSync(file, 'latin1') === data, 'and shows the data of the layer below');
        writeFileSync(file, '');
        t.equal(statSync(file).size, 0, 'nothing has to be copied when all of it is dropped');
        t.not(statSync(file).mtimeMs, 1e12, 'which is a change');
      });
    });
  }),
);

/** Takes the space of a filesystem but for less than the file above. */
function fill(path: string): void {
  const piece = Buffer.alloc(1 << 20, 1);
  const fd = openSync(path, 'w');
  try {
    for (;;) writeFileSync(fd, piece);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOSPC') throw error;
  } finally {
    closeSync(fd);
  }
}

t.test('files that are linked, and lose one of their names', { skip: withoutFuse }, t =>
  withScratchAsync(async home => {
    const lowerdir = join(home, 'lower');
    mkdirSync(lowerdir);
    await withWritable('lowerdata', { lowerdir, home, options: '' }, (root, mount) => {
      const at = (name: string): string => join(root, name);
      const descriptors = (): number => readdirSync(`/proc/${mount?.daemon.pid}/fd`).length;
      const before = descriptors();
      for (let i = 0; i < 100; i++) {
        writeFileSync(at('temporary'), `${i}`);
        linkSync(at('temporary'), at(`file${i}`));
        rmSync(at('temporary'));
        linkSync(at(`file${i}`), at('lock'));
        rmSync(at('lock'));
      }
      t.ok(descriptors() < before + 50, 'keep no descriptor while they have another');
      for (let i = 0; i < 100; i++) chmodSync(at(`file${i}`), 0o600);
      const texts = Array.from({ length: 100 }, (_, i) => readFileSync(at(`file${i}`), 'latin1'));
      t.same(
        texts,
        texts.map((_, i) => `${i}`),
        'and can be used by it',
      );
      linkSync(at('file0'), at('first'));
      renameSync(at('file0'), at('second'));
      linkSync(at('file1'), at('file0'));
      rmSync(at('first'));
      chmodSync(at('second'), 0o640);
      const seen = [at('second'), at('file0')].map(path => [statSync(path).mode & 0o777, readFileSync(path, 'latin1')]);
      t.same(
        seen,
        [
          [0o640, '0'],
          [0o600, '1'],
        ],
        'a name that leads to another file by now is not taken for its own',
      );
    });
  }),
);
