/** Which upper and work directories a mount refuses, and what it finds in the work directory, beside the kernel. */
import { execFileSync, spawnSync } from 'node:child_process';
import {
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { byCommand, byKernel } from '../fixtures/mounts/attempts.ts';
import { withFilesystem } from '../fixtures/mounts/ext4.ts';
import { run } from '../fixtures/mounts/kernel-mount.ts';
import { lowerdata } from '../fixtures/mounts/mounted.ts';
import { withoutWritableOverlay, withWritable } from '../fixtures/mounts/writable.ts';
import { withScratchAsync } from '../fixtures/scratch.ts';
import { withoutFuse, withoutUserMounts } from '../fixtures/skips.ts';

t.setTimeout(120_000);

const NOBODY = 65534;

/** Directories `lower`, `upper`, `work` and `merged` and what the rows below need; `other` is another filesystem. */
function makeDirectories(home: string): void {
  for (const name of ['lower/in', 'upper/in', 'work/in', 'merged', 'other/upper', 'other/work', 'away/upper', 'bound'])
    mkdirSync(join(home, name), { recursive: true });
  writeFileSync(join(home, 'lower/file'), 'text');
  writeFileSync(join(home, 'file'), 'text');
  symlinkSync('upper', join(home, 'link'));
}

/** Paths are below the scratch directory. The kernel mounts some of what changes under its hands. */
const rows: readonly (readonly [
  rule: string,
  upper: string,
  work: string,
  said: RegExp,
  kernel: 'refuses' | 'mounts',
])[] = [
  ['an upper directory that is not there', 'none', 'work', /\S+\/none: No such file or directory/, 'refuses'],
  ['a work directory that is not there', 'upper', 'none', /\S+\/none: No such file or directory/, 'refuses'],
  ['an upper directory that is a file', 'file', 'work', /upperdir \S+\/file: [Nn]ot a directory/, 'refuses'],
  ['a work directory that is a file', 'upper', 'file', /workdir \S+\/file: [Nn]ot a directory/, 'refuses'],
  ['two names of one directory', 'link', 'upper', /same/, 'refuses'],
  ['one directory', 'upper', 'upper', /same/, 'refuses'],
  ['a work directory in the upper one', 'upper', 'upper/in', /inside/, 'refuses'],
  ['an upper directory in the work one', 'work/in', 'work', /inside/, 'refuses'],
  ['directories on different filesystems', 'upper', 'other/work', /same mount/, 'refuses'],
  ['directories on different mounts of one filesystem', 'upper', 'bound', /same mount/, 'refuses'],
  ['an upper directory in a lower layer', 'lower/in', 'work', /^mounted$/, 'mounts'],
  ['a lower layer as the upper one', 'lower', 'work', /same/, 'refuses'],
  ['a work directory in a lower layer', 'upper', 'lower/in', /^mounted$/, 'mounts'],
];

t.test('directories that do not belong together', { skip: withoutFuse }, t =>
  withScratchAsync(async home => {
    makeDirectories(home);
    const at = (name: string): string => join(home, name);
    run('mount', '-t', 'tmpfs', 'none', at('other'));
    for (const name of ['other/upper', 'other/work']) mkdirSync(at(name));
    run('mount', '--bind', at('work'), at('bound'));
    try {
      for (const [rule, upper, work, said, kernel] of rows) {
        const options = `lowerdir=${at('lower')},upperdir=${at(upper)},workdir=${at(work)}`;
        t.match(byCommand(at('merged'), options), said, rule);
        if (!withoutWritableOverlay && kernel === 'refuses')
          t.not(byKernel(at('merged'), options), 'mounted', `${rule}: the kernel refuses it, too`);
        t.same(readdirSync(at('merged')), [], `${rule}: nothing is mounted`);
      }
      t.same(readdirSync(at('lower')), ['file', 'in'], 'nothing is made in the lower layer');
    } finally {
      run('umount', at('bound'));
      run('umount', at('other'));
    }
  }),
);

t.test('options that go together', { skip: withoutFuse }, t =>
  withScratchAsync(async home => {
    makeDirectories(home);
    const at = (name: string): string => join(home, name);
    const root = at('merged');
    for (const [rule, options, said] of [
      [
        'an upper directory needs a work one',
        `lowerdir=${at('lower')},upperdir=${at('upper')}`,
        /upperdir: needs workdir/,
      ],
      ['an upper directory has a path', `lowerdir=${at('lower')},upperdir=,workdir=${at('work')}`, /upperdir/],
      ['a work directory has a path', `lowerdir=${at('lower')},upperdir=${at('upper')},workdir=`, /workdir/],
      ['there is a lower layer', `upperdir=${at('upper')},workdir=${at('work')}`, /lower/],
    ] as const) {
      t.match(byCommand(root, options), said, rule);
      t.same(readdirSync(root), [], `${rule}: nothing is mounted`);
    }
    t.equal(
      byCommand(root, `lowerdir=${at('lower')},upperdir=${at('upper')},workdir=${at('work')}`),
      'mounted',
      'one lower layer is enough',
    );
  }),
);

t.test('a filesystem that is read-only', { skip: withoutFuse }, t =>
  withScratchAsync(async home => {
    makeDirectories(home);
    const at = (name: string): string => join(home, name);
    await withFilesystem(home, 'tmpfs', async top => {
      for (const name of ['upper', 'work']) mkdirSync(join(top, name));
      run('mount', '-o', 'remount,ro', top);
      const options = `lowerdir=${at('lower')},upperdir=${top}/upper,workdir=${top}/work`;
      t.match(byCommand(at('merged'), options), /read-only|[Rr]ead-only/, 'is refused');
      if (!withoutWritableOverlay) t.not(byKernel(at('merged'), options), 'mounted', 'by the kernel, too');
    });
  }),
);

t.test('directories in use', { skip: withoutFuse }, t =>
  withScratchAsync(async home => {
    makeDirectories(home);
    const at = (name: string): string => join(home, name);
    for (const name of ['upper2', 'work2', 'merged2']) mkdirSync(at(name));
    const other = (upper: string, work: string): string =>
      byCommand(at('merged2'), `lowerdir=${at('lower')},upperdir=${at(upper)},workdir=${at(work)}`);
    await withWritable('lowerdata', { lowerdir: at('lower'), home, options: '' }, root => {
      t.match(other('upper', 'work'), /(upperdir|workdir) \S+: in use by another mount/, 'both are refused');
      t.match(other('upper', 'work2'), /upperdir \S+\/upper: in use by another mount/, 'the upper one alone');
      t.match(other('upper2', 'work'), /workdir \S+\/work: in use by another mount/, 'the work one alone');
      writeFileSync(join(root, 'file'), 'changed');
      t.equal(readFileSync(join(root, 'file'), 'latin1'), 'changed', 'and their mount goes on');
    });
    t.equal(other('upper', 'work'), 'mounted', 'they are free when it has ended');
  }),
);

/** Mounts by the kernel with `volatile`, writes, and keeps what a crash would leave: a copy of both directories. */
function crashVolatile(home: string): void {
  const at = (name: string): string => join(home, name);
  const options = `lowerdir=${at('lower')},upperdir=${at('upper')},workdir=${at('work')},volatile`;
  run('mount', '-t', 'overlay', 'overlay', '-o', options, at('merged'));
  try {
    writeFileSync(join(at('merged'), 'file'), 'changed');
    for (const name of ['upper', 'work']) execFileSync('cp', ['-a', at(name), at(`${name}-crashed`)]);
  } finally {
    run('umount', at('merged'));
  }
}

t.test('after a volatile mount that did not end', { skip: withoutWritableOverlay }, t =>
  withScratchAsync(async home => {
    makeDirectories(home);
    const at = (name: string): string => join(home, name);
    crashVolatile(home);
    const mark = join(at('work-crashed'), 'work/incompat/volatile');
    t.ok(existsSync(mark), 'the kernel leaves a mark');
    const options = `lowerdir=${at('lower')},upperdir=${at('upper-crashed')},workdir=${at('work-crashed')}`;
    t.match(byCommand(at('merged'), options), /workdir .*volatile.*remove \S+\/work\/incompat/, 'it is refused');
    t.equal(byKernel(at('merged'), options), 'EINVAL', 'by the kernel, too');
    t.ok(existsSync(mark), 'and the mark stays');
    rmSync(join(at('work-crashed'), 'work/incompat'), { recursive: true });
    t.equal(byCommand(at('merged'), options), 'mounted', 'without it all is well');
  }),
);

t.test('what a mount left in the work directory', { skip: withoutFuse }, t =>
  withScratchAsync(async home => {
    makeDirectories(home);
    const at = (name: string): string => join(home, name);
    mkdirSync(at('work/work/#1f/in'), { recursive: true });
    mkdirSync(at('work/work/#20'));
    writeFileSync(at('work/work/#2'), 'half a copy');
    writeFileSync(at('work/work/#1f/file'), '');
    symlinkSync('/', at('work/work/#3'));
    run('mknod', at('work/work/#20/white'), 'c', '0', '0');
    run('mknod', at('work/work/#4'), 'c', '0', '0');
    await withWritable('lowerdata', { lowerdir: at('lower'), home, options: '' }, root => {
      t.same(readdirSync(at('work/work')), [], 'is removed when the next one begins');
      rmSync(join(root, 'file'));
      writeFileSync(join(root, 'file'), 'changed');
    });
    t.same(readdirSync(at('work/work')), [], 'a mount that ends leaves nothing');
    t.same(readdirSync(at('work')).sort(), ['in', 'work'], 'what is beside it is not touched');
    t.ok(existsSync('/etc'), 'nor is what a symlink leads to');
  }),
);

t.test('a work directory that is prepared by somebody else', { skip: withoutFuse }, t =>
  withScratchAsync(async home => {
    makeDirectories(home);
    const at = (name: string): string => join(home, name);
    const stack = { lowerdir: at('lower'), home, options: '' };
    symlinkSync('../other', at('work/work'));
    run('chmod', '755', at('other'));
    await t.rejects(
      withWritable('lowerdata', stack, () => undefined),
      /workdir .*\/work: Not a directory/,
      'a symlink in it is refused',
    );
    t.equal(statSync(at('other')).mode & 0o777, 0o755, 'and what it leads to is not touched');
    rmSync(at('work/work'));
    run('setfacl', '-d', '-m', `u:${NOBODY}:rwx`, at('work'));
    run('chmod', '640', at('lower/file'));
    await withWritable('lowerdata', stack, root => {
      run('chown', '0:5', join(root, 'file'));
      const acl = execFileSync('getfacl', ['-cpn', join(root, 'file')], { encoding: 'utf8' });
      t.equal(acl.trim(), 'user::rw-\ngroup::r--\nother::---', 'no copy has ACLs of the work directory');
    });
  }),
);

t.test('a daemon that is killed', { skip: withoutFuse }, t =>
  withScratchAsync(async home => {
    makeDirectories(home);
    const at = (name: string): string => join(home, name);
    const stack = { lowerdir: at('lower'), home, options: '' };
    await t.rejects(
      withWritable('lowerdata', stack, async (root, mount) => {
        writeFileSync(join(root, 'file'), 'changed');
        rmSync(join(root, 'in'), { recursive: true });
        mount?.daemon.kill('SIGKILL');
        await mount?.ended();
      }),
      'it does not end well',
    );
    await withWritable('lowerdata', stack, root => {
      t.equal(readFileSync(join(root, 'file'), 'latin1'), 'changed', 'the changes are there');
      t.notOk(existsSync(join(root, 'in')), 'those of names, too');
      t.same(readdirSync(at('work/work')), [], 'and nothing is left of it');
    });
  }),
);

t.test('an ordinary user', { skip: withoutUserMounts }, t =>
  withScratchAsync(async home => {
    makeDirectories(home);
    const at = (name: string): string => join(home, name);
    run('chmod', '755', home);
    run('chown', `${NOBODY}:${NOBODY}`, at('merged'));
    run('chown', '-R', `${NOBODY}:${NOBODY}`, at('away'), at('work'));
    const mounting = (upper: string, work: string): string => {
      const options = `userxattr,lowerdir=${at('lower')},upperdir=${at(upper)},workdir=${at(work)}`;
      const args = [lowerdata, 'mount', 'overlay', at('merged'), '-o', options];
      const child = spawnSync(process.execPath, args, { uid: NOBODY, gid: NOBODY, cwd: '/', encoding: 'utf8' });
      if (child.status !== 0) return child.stderr;
      run('umount', at('merged'));
      return 'mounted';
    };
    t.match(
      mounting('away/upper', 'bound'),
      /workdir \S+\/bound.*Permission denied/,
      'needs a work directory of his own',
    );
    t.equal(mounting('away/upper', 'work'), 'mounted', 'mounts what is his');
  }),
);
