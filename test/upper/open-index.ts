/** The index of an upper layer: where it belongs, what stays in it, and stacks that can have none, beside the kernel. */
import { execFileSync } from 'node:child_process';
import {
  appendFileSync,
  chmodSync,
  existsSync,
  linkSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { errnoName } from '../../src/sys/errno.ts';
import { byCommand, byKernel } from '../fixtures/mounts/attempts.ts';
import { withExt4, withoutExt4 } from '../fixtures/mounts/ext4.ts';
import { run } from '../fixtures/mounts/kernel-mount.ts';
import { lowerdata } from '../fixtures/mounts/mounted.ts';
import {
  type Maker,
  type Stack,
  withoutIndex,
  withoutWritableOverlay,
  withWritable,
} from '../fixtures/mounts/writable.ts';
import { runCommand } from '../fixtures/run-command.ts';
import { withScratchAsync } from '../fixtures/scratch.ts';
import { withoutUserNamespaces } from '../fixtures/skips.ts';

t.setTimeout(300_000);

const skip = withoutWritableOverlay || withoutIndex;
const MAKERS = ['kernel', 'lowerdata'] as const;

/** Makes a lower layer: a file with three names and two files with one. */
function makeLower(at: string): void {
  mkdirSync(join(at, 'd'), { recursive: true });
  writeFileSync(join(at, 'h1'), 'hard');
  linkSync(join(at, 'h1'), join(at, 'h2'));
  linkSync(join(at, 'h1'), join(at, 'd/h3'));
  for (const name of ['f', 'g']) writeFileSync(join(at, name), name);
}

const stackIn = (home: string, options = 'index=on'): Stack => ({ lowerdir: join(home, 'lower'), home, options });

/** The errno of a call that fails, otherwise what it gives. */
function attempt<T>(call: () => T): T | string {
  try {
    return call();
  } catch (error) {
    return errnoName(-((error as NodeJS.ErrnoException).errno ?? 0));
  }
}

/** Directories that were used with an index go on with others: the layers, upper and work, and what both say. */
const rows: readonly (readonly [rule: string, lower: string, upper: string, work: string, said: RegExp])[] = [
  ['the same', 'lower', 'upper', 'work', /^mounted$/],
  ['another lower layer', 'other', 'upper', 'work', /upperdir \S+\/upper: .* another lower layer than \S+\/other,/],
  ['another layer on top', 'other:lower', 'upper', 'work', /upperdir \S+\/upper: .* than \S+\/other,/],
  ['another layer below', 'lower:other', 'upper', 'work', /^mounted$/],
  ['a copy of the upper directory', 'lower', 'copied', 'work', /workdir \S+\/work: its index .* than \S+\/copied;/],
  ['another upper directory', 'lower', 'fresh', 'work', /workdir \S+\/work: its index .* than \S+\/fresh;/],
  ['another work directory', 'lower', 'upper', 'clean', /^mounted$/],
];

for (const maker of MAKERS)
  t.test(`directories that ${maker === 'kernel' ? 'the kernel' : 'a mount of ours'} has used`, { skip }, t =>
    withScratchAsync(async home => {
      const at = (name: string): string => join(home, name);
      for (const name of ['lower', 'other']) makeLower(at(name));
      for (const name of ['fresh', 'clean']) mkdirSync(at(name));
      await withWritable(maker, stackIn(home), root => appendFileSync(join(root, 'h1'), '+'));
      execFileSync('cp', ['-a', at('upper'), at('copied')]);
      for (const [rule, lower, upper, work, said] of rows) {
        const lowerdir = lower.split(':').map(at).join(':');
        const options = `lowerdir=${lowerdir},upperdir=${at(upper)},workdir=${at(work)}`;
        t.match(byCommand(at('merged'), `${options},index=on`), said, rule);
        const wanted = said.test('mounted') ? 'mounted' : 'ESTALE';
        t.equal(byKernel(at('merged'), `${options},index=on`), wanted, `${rule}: so says the kernel`);
        t.equal(byCommand(at('merged'), `${options},index=off`), 'mounted', `${rule}: nobody asks without an index`);
      }
    }),
  );

/**
 * Changes an index with one entry, `$I`, the copy of h1, which has that name in the upper directory, too; `$NAME` and `$OTHER` are
 * names in an index. What is left of it.
 */
const entries: readonly (readonly [rule: string, shell: string, left: readonly string[] | 'refused'])[] = [
  ['a copy with names', '', ['entry']],
  ['a copy whose names are all below', 'rm upper/h1; setfattr -n trusted.overlay.nlink -v U+1 $I', ['entry']],
  ['a copy without names', 'rm upper/h1; setfattr -n trusted.overlay.nlink -v U-1 $I', []],
  ['a copy that no name has been made for', 'rm upper/h1; setfattr -x trusted.overlay.nlink $I', []],
  ['a count that is no number', 'rm upper/h1; setfattr -n trusted.overlay.nlink -v many $I', []],
  ['a link that was not made', 'rm upper/h1; setfattr -n trusted.overlay.nlink -v L-1 $I', ['entry']],
  ['the last link was not made', 'rm upper/h1; setfattr -n trusted.overlay.nlink -v L-3 $I', []],
  ['a copy of another file', 'setfattr -n trusted.overlay.origin -v 0x$OTHER $I', []],
  ['a file that is gone', 'rm upper/h1 lower/h1 lower/h2 lower/d/h3', []],
  ['a file with one name left', 'rm upper/h1 lower/h2 lower/d/h3', []],
  ['a directory of the kernel’s', 'rm $I; mkdir $I', ['entry']],
  ['a whiteout of the kernel’s', 'rm $I; mknod $I c 0 0', ['entry']],
  ['objects in the making', 'mkdir work/index/#1f; touch work/index/#1f/in work/index/#2', ['entry']],
  ['a name that is no handle', 'touch work/index/name', 'refused'],
  ['a name of hexadecimal digits', 'touch work/index/$(printf %050d 0)', 'refused'],
  ['a handle of another version', 'mv $I work/index/01$(echo $NAME | cut -c3-)', 'refused'],
  ['a file without an origin', 'setfattr -x trusted.overlay.origin $I', 'refused'],
];

/** Makes the changes of a row in directories that the kernel has used. @returns what the mount says, and what it leaves in the index */
async function cleaned(
  home: string,
  shell: string,
  mount: (root: string, options: string) => string,
): Promise<unknown[]> {
  mkdirSync(home);
  makeLower(join(home, 'lower'));
  await withWritable('kernel', stackIn(home), root => chmodSync(join(root, 'h1'), 0o600));
  const [name = ''] = readdirSync(join(home, 'work/index')).filter(one => !one.startsWith('#'));
  const OTHER = name.replace(/.$/, digit => ((Number.parseInt(digit, 16) + 1) % 16).toString(16));
  const env = { ...process.env, I: `work/index/${name}`, NAME: name, OTHER };
  execFileSync('sh', ['-e', '-c', shell], { cwd: home, env, stdio: 'ignore' });
  const options = `lowerdir=${home}/lower,upperdir=${home}/upper,workdir=${home}/work,index=on`;
  const said = mount(join(home, 'merged'), options);
  return [said, readdirSync(join(home, 'work/index')).map(one => (one === name ? 'entry' : one))];
}

t.test('what a mount leaves in the index', { skip }, t =>
  withScratchAsync(async home => {
    for (const [i, [rule, shell, left]] of entries.entries()) {
      const [said, ours] = await cleaned(join(home, `ours-${i}`), shell, byCommand);
      const [answer, its] = await cleaned(join(home, `kernel-${i}`), shell, byKernel);
      if (left === 'refused') {
        t.match(said, /index of \S+: .*; mount with index=off, or remove \S+\/work\/index/, `${rule}: is refused`);
        t.not(answer, 'mounted', `${rule}: by the kernel, too`);
      } else {
        t.same([said, ours], ['mounted', left], rule);
        t.same([answer, its], ['mounted', left], `${rule}: as the kernel`);
      }
    }
  }),
);

t.test('an index that is none', { skip }, t =>
  withScratchAsync(async home => {
    makeLower(join(home, 'lower'));
    mkdirSync(join(home, 'work'));
    mkdirSync(join(home, 'elsewhere'), { mode: 0o755 });
    symlinkSync('../elsewhere', join(home, 'work/index'));
    const use = withWritable('lowerdata', stackIn(home), () => undefined);
    await t.rejects(use, /workdir \S+\/work\/index: Not a directory/, 'a symlink is refused');
    t.equal(lstatSync(join(home, 'elsewhere')).mode & 0o777, 0o755, 'and what it leads to is not touched');
    t.same(readdirSync(join(home, 'elsewhere')), [], 'nor written to');
  }),
);

/** What a tree shows of the file with three names. */
const shownIn = (root: string): unknown =>
  ['h1', 'h2', 'd/h3'].map(name =>
    attempt(() => {
      const path = join(root, name);
      return [
        readFileSync(path, 'latin1'),
        lstatSync(path).nlink,
        lstatSync(path).ino === lstatSync(join(root, 'h2')).ino,
      ];
    }),
  );

t.test('counts that a crash has left', { skip }, t =>
  withScratchAsync(async home => {
    for (const [rule, shell] of [
      ['before the link', 'setfattr -n trusted.overlay.nlink -v L+0 $I'],
      ['after the link', 'ln $I upper/h2; setfattr -n trusted.overlay.nlink -v L+0 $I'],
      [
        'after the link, of a file that has lost a name',
        'ln $I upper/h2; rm upper/h1; mknod upper/h1 c 0 0; setfattr -n trusted.overlay.nlink -v L-1 $I',
      ],
      ['no count', 'setfattr -x trusted.overlay.nlink $I'],
      ['too small a count', 'setfattr -n trusted.overlay.nlink -v U-3 $I'],
    ] as const) {
      const seen: unknown[] = [];
      for (const maker of MAKERS) {
        const place = join(home, `${maker} ${rule}`.replaceAll(/\W/g, '-'));
        await cleaned(place, shell, () => '');
        seen.push(await withWritable(maker, stackIn(place), shownIn));
        const next = maker === 'kernel' ? 'lowerdata' : 'kernel';
        await withWritable(maker, stackIn(place), root => appendFileSync(join(root, 'd/h3'), '+'));
        seen.push(await withWritable(next, stackIn(place), shownIn));
        await withWritable(maker, stackIn(place), root => {
          for (const name of ['h1', 'h2', 'd/h3']) rmSync(join(root, name), { force: true });
        });
        seen.push(readdirSync(join(place, 'work/index')).filter(one => !one.startsWith('#')).length);
      }
      t.same(seen.slice(3), seen.slice(0, 3), rule);
    }
  }),
);

t.test('a metacopy file whose lower file was exchanged', { skip }, t =>
  withScratchAsync(async home => {
    const answers = async (maker: Maker, options: string): Promise<unknown> => {
      const place = join(home, maker + options.length);
      mkdirSync(place);
      makeLower(join(place, 'lower'));
      await withWritable(maker, stackIn(place, `${options},metacopy=on`), root => chmodSync(join(root, 'f'), 0o600));
      renameSync(join(place, 'lower/f'), join(place, 'lower/old'));
      writeFileSync(join(place, 'lower/f'), 'F');
      return withWritable(maker, stackIn(place, `${options},metacopy=on`), root =>
        attempt(() => readFileSync(join(root, 'f'), 'latin1')),
      );
    };
    for (const [options, want] of [
      ['index=on', 'ESTALE'],
      ['index=off', 'F'],
    ] as const)
      for (const maker of MAKERS) t.equal(await answers(maker, options), want, `${options}: ${maker}`);
  }),
);

/** Whether the kernel makes an index for these options, and what the command says of it. */
function hasIndex(t: Test, rule: string, root: string, options: string, why?: RegExp): void {
  const work = /workdir=([^,]+)/.exec(options)?.[1] as string;
  t.equal(byKernel(root, options), 'mounted', `${rule}: the kernel mounts it`);
  t.equal(existsSync(join(work, 'index')), why === undefined, `${rule}: ${why ? 'without' : 'with'} an index`);
  rmSync(join(work, 'index'), { recursive: true, force: true });
  const { status, stderr } = runCommand(['mount', 'overlay', root, '-o', options]);
  t.equal(status, 0, `${rule}: so does the command`);
  run('umount', root);
  t.match(stderr, why ?? /^$/, `${rule}: what it says`);
  t.equal(
    existsSync(join(work, 'index')),
    why === undefined,
    `${rule}: ${why ? 'no index is made' : 'the index is made'}`,
  );
}

t.test('stacks that can have no index', { skip: skip || withoutExt4 }, t =>
  withScratchAsync(async home => {
    const at = (name: string): string => join(home, name);
    const options = (name: string, lowerdir: string): string => {
      for (const one of ['upper', 'work']) mkdirSync(at(`${name}/${one}`), { recursive: true });
      return `lowerdir=${lowerdir},upperdir=${at(name)}/upper,workdir=${at(name)}/work,index=on`;
    };
    for (const name of ['lower', 'below', 'overlay', 'merged']) mkdirSync(at(name));
    hasIndex(t, 'one directory', at('merged'), options('one', at('lower')));
    run('mount', '-t', 'overlay', 'overlay', '-o', `lowerdir=${at('lower')}:${at('below')}`, at('overlay'));
    try {
      const why = /index=on has no effect: layer \S+\/overlay: its filesystem has no file handles/;
      hasIndex(t, 'a layer without file handles', at('merged'), options('nested', at('overlay')), why);
    } finally {
      run('umount', at('overlay'));
    }
    await withExt4(home, first =>
      withExt4(
        home,
        second => {
          const lowerdir = [first, second].map(root => join(root, 'lower')).join(':');
          for (const root of [first, second]) mkdirSync(join(root, 'lower'));
          hasIndex(t, 'two filesystems', at('merged'), options('two', lowerdir));
        },
        { uuid: '12345678-1234-1234-1234-123456789abc' },
      ),
    );
    await withExt4(
      home,
      first =>
        withExt4(
          home,
          second => {
            const lowers = [first, second].map(root => join(root, 'lower'));
            for (const lower of lowers) mkdirSync(lower);
            const why = /index=on has no effect: layer \S+\/lower: its filesystem has the same uuid/;
            hasIndex(t, 'two filesystems without a uuid', at('merged'), options('none', lowers.join(':')), why);
            hasIndex(t, 'one without a uuid', at('merged'), options('single', lowers[0] as string));
          },
          { uuid: 'clear', inodeBytes: 128 },
        ),
      { uuid: 'clear' },
    );
  }),
);

t.test('root of a user namespace', { skip: skip || withoutUserNamespaces }, t =>
  withScratchAsync(async home => {
    for (const name of ['lower', 'upper', 'work', 'merged']) mkdirSync(join(home, name));
    const options = `lowerdir=${home}/lower,upperdir=${home}/upper,workdir=${home}/work,index=on,userxattr`;
    const inside = (line: string): string =>
      execFileSync('unshare', ['-Urm', 'sh', '-c', `${line} 2>&1 && umount ${home}/merged`], {
        encoding: 'utf8',
        cwd: '/',
      });
    inside(`mount -t overlay overlay -o ${options} ${home}/merged`);
    t.notOk(existsSync(join(home, 'work/index')), 'the kernel makes no index');
    const said = inside(`${process.execPath} ${lowerdata} mount overlay ${home}/merged -o ${options}`);
    t.match(said, /index=on has no effect: .*CAP_DAC_READ_SEARCH/, 'the command says why it makes none');
    t.notOk(existsSync(join(home, 'work/index')), 'and makes none');
  }),
);
