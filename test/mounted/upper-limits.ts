/** What a writable mount keeps when a change of it fails, and how many descriptors and how long paths its files take. */
import { spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import {
  chmodSync,
  closeSync,
  existsSync,
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
import { text } from 'node:stream/consumers';
import t, { type Test } from 'tap';
import { withExt4, withFilesystem, withoutExt4, withoutFilesystem } from '../fixtures/mounts/ext4.ts';
import { run } from '../fixtures/mounts/kernel-mount.ts';
import { runChanges, withoutIndex, withoutWritableOverlay, withWritable } from '../fixtures/mounts/writable.ts';
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

/** EDQUOT, for which Node.js has no name. Source: asm-generic/errno.h. */
const BEYOND = { message: /-122\b/ };

t.test('a quota', { skip: withoutFuse || withoutFilesystem('btrfs') }, t =>
  withScratchAsync(async home => {
    const lowerdir = join(home, 'lower');
    mkdirSync(lowerdir);
    const data = 'lower'.repeat(4_000_000);
    writeFileSync(join(lowerdir, 'file'), data);
    await withFilesystem(home, 'btrfs', async top => {
      const place = join(top, 'limited');
      run('btrfs', 'quota', 'enable', top);
      run('btrfs', 'subvolume', 'create', place);
      run('btrfs', 'qgroup', 'limit', '8M', place);
      await withWritable('lowerdata', { lowerdir, home: place, options: '' }, root => {
        const file = join(root, 'file');
        t.throws(() => openSync(file, 'a'), BEYOND, 'a copy of data is beyond it');
        t.ok(readFileSync(file, 'latin1') === data, 'the file is as it was');
        t.throws(() => writeFileSync(join(root, 'new'), data), BEYOND, 'so is new data');
        rmSync(join(root, 'new'), { force: true });
        chmodSync(file, 0o600);
        t.equal(statSync(file).mode & 0o777, 0o600, 'what has room is done');
        t.ok(readFileSync(file, 'latin1') === data, 'without the data');
      });
    });
  }),
);

t.test('paths that no system call takes', { skip: withoutWritableOverlay }, t =>
  withScratchAsync(async home => {
    const lowerdir = join(home, 'lower');
    mkdirSync(join(lowerdir, 'deep'), { recursive: true });
    const [down, here] = ["for _ in range(40): os.chdir('n' * 200)", "os.chdir('n' * 200)"];
    runChanges([[join(lowerdir, 'deep'), [`for _ in range(40): mkdir('n' * 200); ${here}`, "put('leaf', 'lower')"]]]);
    const statements = [
      ...["os.chdir('deep')", down],
      ...[
        "chmod('leaf', 0o600)",
        "append('leaf', 'x')",
        "get('leaf')",
        "link('leaf', 'other')",
        "rename('leaf', 'moved')",
      ],
      ...["mkdir('d')", "put('d/new', 'y')", "rename('d', 'e')", "get('e/new')", "setxattr('moved', 'user.a', b'b')"],
      ...["unlink('other')", 'names()', "show('moved')"],
    ];
    const seen: unknown[] = [];
    for (const maker of ['kernel', 'lowerdata'] as const)
      await withWritable(maker, { lowerdir, home: join(home, maker), options: 'redirect_dir=on,metacopy=on' }, root => {
        seen.push(runChanges([[root, statements]])[0]);
      });
    t.same(seen[1], seen[0], 'as the kernel');
    t.match(seen[1], ['lowerx', 'y', 'e moved', /size=6/], 'and all of it is done');
    for (const name of ['kernel', 'lowerdata', 'lower']) run('rm', '-r', join(home, name)); // Node.js goes by whole paths
  }),
);

t.test('few descriptors', { skip: withoutFuse }, t =>
  withScratchAsync(async home => {
    const lowerdir = join(home, 'lower');
    mkdirSync(lowerdir);
    const names = Array.from({ length: 100 }, (_, i) => `f${i}`);
    for (const name of names) writeFileSync(join(lowerdir, name), name);
    await withWritable('lowerdata', { lowerdir, home, options: '' }, (root, mount) => {
      const inUse = readdirSync(`/proc/${mount?.daemon.pid}/fd`).length;
      run('prlimit', '--pid', String(mount?.daemon.pid), `--nofile=${inUse + 10}`);
      const opened: number[] = [];
      t.throws(
        () => {
          for (const name of names) opened.push(openSync(join(root, name), 'r+'));
        },
        { code: 'EMFILE' },
        'a file that cannot be opened says why',
      );
      t.ok(opened.length > 0, `after ${opened.length} that could`);
      for (const fd of opened) closeSync(fd);
      for (const name of names) writeFileSync(join(root, name), `${name} again`);
      const texts = names.map(name => readFileSync(join(root, name), 'latin1'));
      t.same(
        texts,
        names.map(name => `${name} again`),
        'and then all can be used',
      );
    });
  }),
);

type ShellChange = readonly [name: string, change: string];

/** Runs changes of a shell in a directory, all at the same time. */
async function succeedAtOnce(t: Test, root: string, changes: readonly ShellChange[]): Promise<void> {
  const script = changes.map(([name, change]) => `(${change}; echo "${name} $?") &`);
  const all = spawn('sh', ['-c', `${script.join('\n')}\nwait`], { cwd: root, stdio: ['ignore', 'pipe', 'ignore'] });
  const names = await text(all.stdout);
  t.same(names.trim().split('\n').sort(), changes.map(([name]) => `${name} 0`).sort(), 'all of them succeed at once');
}

/** What is in the work directory besides whiteouts, which are kept for the next removal. */
const leftIn = (work: string): string[] => readdirSync(work).filter(name => !isWhiteout(join(work, name)));

t.test('a large file whose copy takes time, where a metacopy is not possible', { skip: withoutFuse }, t =>
  withScratchAsync(async home => {
    const lowerdir = join(home, 'lower');
    mkdirSync(lowerdir);
    const data = Buffer.alloc(64 << 20, 'lower ');
    const changes: readonly ShellChange[] = [
      ['mode', 'chmod 640 mode'],
      ['append', 'echo more >>append'],
      ['rename', 'mv rename renamed'],
      ['link', 'ln link linked'],
      ['cut', 'truncate -s 1000 cut'],
    ];
    for (const [name] of changes) writeFileSync(join(lowerdir, name), data, { mode: 0o4755 });
    await withWritable('lowerdata', { lowerdir, home, options: 'userxattr' }, async root => {
      await succeedAtOnce(t, root, changes);
      const whole = createHash('sha256').update(data).digest('hex');
      const digest = (name: string): string =>
        createHash('sha256')
          .update(readFileSync(join(root, name)))
          .digest('hex');
      for (const name of ['mode', 'renamed', 'link', 'linked']) t.equal(digest(name), whole, `${name} has all bytes`);
      t.ok(readFileSync(join(root, 'append')).subarray(0, data.length).equals(data), 'so has the longer one');
      t.equal(statSync(join(root, 'cut')).size, 1000);
      t.equal(statSync(join(root, 'mode')).mode & 0o7777, 0o640);
      t.equal(statSync(join(root, 'renamed')).mode & 0o7777, 0o4755, 'with its mode');
      t.same(leftIn(join(home, 'work/work')), [], 'nothing is left over');
    });
  }),
);

t.test('large files of which the index counts the names', { skip: withoutFuse || withoutIndex }, t =>
  withScratchAsync(async home => {
    const lowerdir = join(home, 'lower');
    mkdirSync(lowerdir);
    const data = Buffer.alloc(64 << 20, 'lower ');
    const changes: readonly ShellChange[] = [
      ['removed', 'rm removed'],
      ['replaced', 'echo new >new; mv new replaced'],
      ['append', 'echo more >>append'],
      ['rename', 'mv rename renamed'],
    ];
    for (const [name] of changes) {
      writeFileSync(join(lowerdir, name), data);
      linkSync(join(lowerdir, name), join(lowerdir, `${name}-too`));
    }
    await withWritable('lowerdata', { lowerdir, home, options: 'index=on,metacopy=off' }, async root => {
      await succeedAtOnce(t, root, changes);
      for (const [name, nlink] of Object.entries({ removed: 1, replaced: 1, append: 2, rename: 2 })) {
        const other = join(root, `${name}-too`);
        t.equal(statSync(other).nlink, nlink, `${name}: the other name knows of it`);
        t.ok(readFileSync(other).subarray(0, data.length).equals(data), `${name}: and has all bytes`);
      }
      t.notOk(existsSync(join(root, 'removed')), 'a name is gone');
      t.equal(readFileSync(join(root, 'replaced'), 'latin1'), 'new\n', 'another leads to a new file');
    });
    t.same(leftIn(join(home, 'work/work')), [], 'nothing is left over');
  }),
);

const isWhiteout = (path: string): boolean => statSync(path).isCharacterDevice();
