import { chmodSync, linkSync, mkdirSync, rmSync, symlinkSync, utimesSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { must } from '../../src/sys/errno.ts';
import { native } from '../../src/sys/native.ts';
import { goldenFolder } from '../fixtures/images/golden-images.ts';
import { noErofs, run } from '../fixtures/mounts/kernel-mount.ts';
import { runCommand } from '../fixtures/run-command.ts';
import { withScratch } from '../fixtures/scratch.ts';
import { withoutRoot } from '../fixtures/skips.ts';
import { setXattrs } from '../fixtures/xattrs.ts';

t.setTimeout(300_000);

const MS_RDONLY = 1;

/** A tree with small and large files, a hard link and a symlink, all of the second 7. */
function makeTree(root: string): void {
  mkdirSync(join(root, 'dir'), { recursive: true });
  writeFileSync(join(root, 'dir', 'small'), 'small');
  writeFileSync(join(root, 'large'), 'x'.repeat(5000));
  linkSync(join(root, 'large'), join(root, 'dir', 'again'));
  symlinkSync('large', join(root, 'link'));
  run('touch', '-h', '-d', '@7', join(root, 'link'));
  for (const name of ['dir/small', 'large', 'dir', '.']) utimesSync(join(root, name), 7, 7);
}

t.test('trees', { skip: withoutRoot }, async t =>
  withScratch(directory => {
    const at = (name: string): string => join(directory, name);
    const compare = (...args: string[]) => runCommand(['compare', ...args], { directory });
    makeTree(at('tree'));
    runCommand(['mkfs', '--hardlinks', '--digest-store', at('objects'), at('tree'), at('image')]);
    writeFileSync(at('dump'), runCommand(['info', 'dump', at('image')]).stdout, 'latin1');

    const places = ['tree', 'image', 'dump', 'image::objects'];
    for (const [i, a] of places.entries())
      for (const b of places.slice(i)) t.same(compare(a, b), { status: 0, stdout: '', stderr: '' }, `${a} is as ${b}`);
    const missing = noErofs();
    if (missing) t.pass('a mount of the kernel', { skip: missing });
    else {
      for (const name of ['erofs', 'mnt']) mkdirSync(at(name));
      must(native.mount(at('image'), at('erofs'), 'erofs', MS_RDONLY, ''), 'mount erofs');
      const options = `lowerdir=${at('erofs')}::${at('objects')},metacopy=on,redirect_dir=follow`;
      must(native.mount('overlay', at('mnt'), 'overlay', MS_RDONLY, options), 'mount overlay');
      t.same(compare('mnt', 'image::objects').stdout, '', 'what the kernel shows is what lowerdata shows');
      t.same(compare('mnt', 'tree').stdout, '', 'and what there was');
      for (const name of ['mnt', 'erofs']) must(native.umount(at(name), 0), 'umount');
    }

    /** Digests: fsverity digest --compact of 5,000 times x, and of 4,999 times x and a y. */
    const x = '838b2c37e0ad28bb545e3edbe665a04a8ef1b3d559fe568db29b546e4458e1d4';
    for (const [rule, change, ...want] of [
      [
        'a mode',
        (root: string) => chmodSync(join(root, 'large'), 0o600),
        '/dir/again\tmode\t0644\t0600',
        '/large\tmode\t0644\t0600',
      ],
      [
        'a time',
        (root: string) => utimesSync(join(root, 'dir/small'), 7, 8.5),
        '/dir/small\tmtime\t7.000000000\t8.500000000',
      ],
      ['an xattr', (root: string) => setXattrs([join(root, 'dir'), 'user.a b', '1']), '/dir\txattr user.a b\t-\t1'],
      ['a missing name', (root: string) => rmSync(join(root, 'link')), '/\tmtime\t', '/link\ttype\tsymlink\t-'],
      [
        'a directory too many',
        (root: string) => mkdirSync(join(root, 'z/z'), { recursive: true }),
        '/\tmtime\t',
        '/z\ttype\t-\tdirectory',
        '/z/z\ttype\t-\tdirectory',
      ],
      ['data', (root: string) => rewrite(root, 'large', 'y'), `/dir/again\tdata\t${x}\t`, `/large\tdata\t${x}\t`],
      [
        'an owner',
        (root: string) => run('chown', '-h', '3:4', join(root, 'link')),
        '/link\tuid\t0\t3',
        '/link\tgid\t0\t4',
      ],
    ] as const) {
      rmSync(at('changed'), { recursive: true, force: true });
      run('cp', '-a', at('tree'), at('changed'));
      change(at('changed'));
      for (const a of places) {
        const { status, stdout } = compare(a, 'changed');
        const lines = stdout.trimEnd().split('\n');
        t.equal(status, 1, `${rule}: ${a} differs`);
        t.ok(
          lines.length === want.length && want.every((start, i) => lines[i]?.startsWith(start)),
          `${rule}: ${stdout}`,
        );
      }
    }

    rmSync(at('changed/dir/again'), { force: true });
    const links = compare('tree', 'changed', '--ignore=uid', '--ignore', 'gid', '--ignore=mtime').stdout;
    t.equal(
      links,
      '/dir/again\ttype\tregular file\t-\n/large\tnlink\t2\t1\n/large\tlink\t/dir/again\t-\n',
      'a link less',
    );
    t.same(
      JSON.parse(compare('--json', 'tree', 'changed', '--ignore=mtime', '--ignore=nlink', '--ignore=link').stdout),
      {
        version: 1,
        differences: [
          { path: '/dir/again', field: 'type', a: 'regular file', b: null },
          { path: '/link', field: 'uid', a: '0', b: '3' },
          { path: '/link', field: 'gid', a: '0', b: '4' },
        ],
      },
      'as JSON',
    );
    rewrite(at('changed'), 'large', 'z');
    t.notMatch(compare('--metadata', 'tree', 'changed').stdout, /\tdata\t/, 'data is left alone when told so');

    rmSync(at('objects'), { recursive: true });
    mkdirSync(at('objects'));
    t.match(
      compare('tree', 'image::objects').stdout,
      new RegExp(`^/dir/again\tdata\t${x}\tENOENT\n`),
      'a missing object',
    );

    for (const [rule, args, message] of [
      ['a missing tree', ['tree', 'none'], /^lowerdata: none: No such file or directory$/m],
      ['one tree', ['tree'], /the argument <b> is missing/],
      ['a bad dump', ['tree', '/etc/passwd'], /\/etc\/passwd: line 1/],
    ] as const) {
      const { status, stderr } = compare(...args);
      t.equal(status, 2, `trouble: ${rule}`);
      t.match(stderr, message, `${rule}: the reason`);
    }
  }),
);

/** Changes the last byte of a file of 5,000 bytes, and not its time. */
function rewrite(root: string, name: string, last: string): void {
  writeFileSync(join(root, name), 'x'.repeat(4999) + last);
  utimesSync(join(root, name), 7, 7);
}

t.test('two images that record different things', async t => {
  const golden = (name: string): string => join(goldenFolder, 'images', name);
  t.equal(runCommand(['compare', golden('small-0.cfs'), join(goldenFolder, 'small-0.dump')]).stdout, '', 'a dump');
  const root = '/ 0 40755 2 0 0 0 0.0 - - -\n';
  withScratch(directory => {
    const write = (name: string, rest: string): string => {
      writeFileSync(join(directory, name), `${root}/f 3 100644 1 0 0 0 0.0 ${rest}\n`);
      return join(directory, name);
    };
    const a = write('a', 'ab/cd - -');
    for (const [rule, rest, want] of [
      ['another object', 'ab/ce - -', '/f\tobject\tab/cd\tab/ce\n'],
      ['a content', '- a\\tc -', '/f\tobject\tab/cd\t-\n/f\tcontent\t-\ta\\tc\n'],
      ['a digest', `ab/cd - ${'ab'.repeat(32)}`, `/f\tdigest\t-\t${'ab'.repeat(32)}\n`],
    ] as const)
      t.equal(runCommand(['compare', a, write('b', rest)]).stdout, want, rule);
  });
});
