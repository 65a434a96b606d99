import {
  copyFileSync,
  linkSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { goldenDumps } from '../fixtures/images/golden-dumps.ts';
import { goldenFolder } from '../fixtures/images/golden-images.ts';
import { run } from '../fixtures/mounts/kernel-mount.ts';
import { lowerdata } from '../fixtures/mounts/mounted.ts';
import { type Result, runCommand } from '../fixtures/run-command.ts';
import { withScratch } from '../fixtures/scratch.ts';
import { withoutFuse } from '../fixtures/skips.ts';

t.setTimeout(300_000);

/** Runs a program of composefs by its name, which is a symlink in the directory. */
function tool(directory: string, name: string, ...args: string[]): Result {
  return runCommand(args, { as: join(directory, name), directory });
}

const pick = ({ status, stdout }: Result): Pick<Result, 'status' | 'stdout'> => ({ status, stdout });

/** Statuses and outputs are those of the programs of composefs 1.0.8. */
withScratch(directory => {
  for (const name of ['mkcomposefs', 'composefs-info', 'mount.composefs', 'composefs-fuse'])
    symlinkSync(lowerdata, join(directory, name));
  const { name, images } = goldenDumps()[0] as ReturnType<typeof goldenDumps>[0];
  const digest = `${images[0]?.digest}\n`;
  const dump = join(goldenFolder, name);
  const golden = join(goldenFolder, 'images', name.replace('.dump', '.cfs'));
  const listing = runCommand(['info', 'ls', golden]).stdout;
  mkdirSync(join(directory, 'source'));
  writeFileSync(join(directory, 'source', 'file'), 'x'.repeat(100));
  linkSync(join(directory, 'source', 'file'), join(directory, 'source', 'link'));
  for (const [rule, program, args, status, stdout] of [
    ['an image', 'mkcomposefs', ['--from-file', '--print-digest', dump, 'image'], 0, digest],
    ['options after arguments', 'mkcomposefs', [dump, '--print-digest-only', '--from-file'], 0, digest],
    ['the start of an option', 'mkcomposefs', ['--from', '--print-digest-o', dump], 0, digest],
    ['a start of two options', 'mkcomposefs', ['--skip', dump, 'image'], 1, ''],
    ['a value apart', 'mkcomposefs', ['--digest-store', 'objects', 'source', 'stored'], 0, ''],
    ['hard links, as composefs-rs has them', 'mkcomposefs', ['--hardlinks', 'source', 'linked'], 0, ''],
    ['what it does not have', 'mkcomposefs', ['--external', 'source', 'image'], 1, ''],
    ['no argument', 'mkcomposefs', [], 1, ''],
    ['three arguments', 'mkcomposefs', ['source', 'image', 'other'], 1, ''],
    ['a list', 'composefs-info', ['ls', golden], 0, listing],
    ['nothing is missing', 'composefs-info', ['--base=objects', 'missing-objects', 'stored'], 0, ''],
    ['what it does not print', 'composefs-info', ['print', golden], 1, ''],
    ['no question', 'composefs-info', [], 1, ''],
    ['no image', 'composefs-info', ['ls'], 1, ''],
    ['no mount point', 'mount.composefs', ['-o', 'basedir=objects', 'stored'], 1, ''],
    ['no objects', 'mount.composefs', ['stored', 'source'], 1, ''],
    ['another type', 'mount.composefs', ['-t', 'erofs', '-o', 'basedir=objects', 'stored', 'source'], 1, ''],
    ['a missing image', 'mount.composefs', ['-o', 'basedir=objects', 'none', 'source'], 1, ''],
    ['no source', 'composefs-fuse', ['-o', 'basedir=objects', 'source'], 1, ''],
  ] as const)
    t.same(pick(tool(directory, program, ...args)), { status, stdout }, `${program}: ${rule}`);
  t.match(
    tool(directory, 'composefs-info', 'dump', 'linked').stdout,
    /^\/file 100 100644 2 .*\n\/link 100 @100644 2 \S+ \S+ 0 \S+ \/file /m,
    'mkcomposefs --hardlinks keeps them',
  );
  t.equal(
    Buffer.compare(readFileSync(join(directory, 'image')), readFileSync(golden)),
    0,
    'the image is the golden one',
  );

  for (const [option, message] of [
    ['upperdir=up', /upperdir: needs workdir/],
    ['idmap', /idmap: a value is missing/],
    ['idmap=/nowhere', /idmap=\/nowhere: No such file or directory/],
    ['metacopy=on', /option metacopy: unknown/],
    ['digest', /digest: a value is missing/],
    ['digest=', /digest.*: needs a value/],
    ['digest=zz', /digest=zz: not the 64 hexadecimal digits/],
    ['basedir', /basedir: a value is missing/],
    ['basedir=', /basedir=: an empty path/],
    ['basedir=:b', /basedir=:b: an empty path/],
    ['basedir=a::b', /basedir=a::b: an empty path/],
  ] as const) {
    const { status, stderr } = tool(
      directory,
      'mount.composefs',
      '-o',
      `basedir=objects,${option}`,
      'stored',
      'source',
    );
    t.equal(status, 1, `refused: ${option}`);
    t.match(stderr, message, `${option}: the reason`);
  }

  writeFileSync(join(directory, 'short'), 'x'.repeat(100));
  writeFileSync(join(directory, 'plain'), plainErofs());
  for (const [rule, program, image, message] of [
    ['no image', 'mount.composefs', 'none', /Failed to open none: No such file or directory/],
    ['a directory', 'mount.composefs', 'source', /Failed to mount composefs source: Is a directory/],
    ['a short file', 'mount.composefs', 'short', /Failed to mount composefs short: Invalid argument/],
    ['another EROFS image', 'mount.composefs', 'plain', /Failed to mount composefs plain: Invalid argument/],
    ['no image', 'composefs-fuse', 'none', /Failed to open none/],
    ['a directory', 'composefs-fuse', 'source', /source: Is a directory/],
    ['another EROFS image', 'composefs-fuse', 'plain', /wrong cfs magic/],
  ] as const) {
    const options = program === 'composefs-fuse' ? `source=${image},basedir=objects` : 'basedir=objects';
    const args = program === 'composefs-fuse' ? ['source'] : [image, 'source'];
    const { status, stderr } = tool(directory, program, '-o', options, ...args);
    t.equal(status, 1, `${program}: ${rule} is refused`);
    t.match(stderr, message, `${program}: ${rule}, in the words of the program`);
  }
});

/** A golden image without the header of composefs, which lies before the superblock. */
function plainErofs(): Buffer {
  const { name } = goldenDumps()[0] as ReturnType<typeof goldenDumps>[0];
  return readFileSync(join(goldenFolder, 'images', name.replace('.dump', '.cfs'))).fill(0, 0, 32);
}

/** What fstab(5) and mount(8) have for every filesystem. */
const OF_FSTAB =
  'nofail,nosuid,nodev,_netdev,noatime,user,auto,noauto,defaults,x-systemd.automount,X-mount.mkdir,comment=y';

/** Options, statuses and what is read are those of mount.composefs 1.0.8 on Linux 6.18, but for the options of mount(8). */
t.test('mounts', { skip: withoutFuse }, async t =>
  withScratch(directory => {
    for (const name of ['mount.composefs', 'composefs-fuse']) symlinkSync(lowerdata, join(directory, name));
    const at = (name: string): string => join(directory, name);
    for (const name of ['source', 'mnt', 'none', 'a,b', 'sp ace']) mkdirSync(at(name));
    writeFileSync(at('source/file'), 'x'.repeat(100));
    const store = ['--print-digest', '--digest-store', at('a,b'), at('source'), at('im:age')];
    const digest = runCommand(['mkfs', ...store]).stdout.trim();
    for (const name of ['-image', 'b\\x,"y"', 'sp ace/image']) copyFileSync(at('im:age'), at(name));
    const wrong = '0'.repeat(64);
    for (const [rule, program, args, wanted] of [
      ['objects', 'mount.composefs', ['-o', 'basedir=a\\,b', 'im:age', 'mnt'], 0],
      ['two stores', 'mount.composefs', ['-t', 'composefs', '-o', 'ro,basedir=none:a\\,b,verity', 'im:age', 'mnt'], 0],
      ['a digest', 'mount.composefs', ['-o', `basedir=a\\,b,digest=${digest}`, 'im:age', 'mnt'], 0],
      ['a wrong digest', 'mount.composefs', ['-o', `basedir=a\\,b,digest=${wrong}`, 'im:age', 'mnt'], 1],
      ['a relative path', 'mount.composefs', ['-o', 'basedir=./a\\,b', './im:age', './mnt'], 0],
      ['an absolute path', 'mount.composefs', ['-o', `basedir=${at('a\\,b')}`, at('im:age'), at('mnt')], 0],
      ['spaces', 'mount.composefs', ['-o', 'basedir=a\\,b', 'sp ace/image', 'mnt'], 0],
      ['a backslash, a comma and quotes', 'mount.composefs', ['-o', 'basedir=a\\,b', 'b\\x,"y"', 'mnt'], 0],
      ['a dash', 'mount.composefs', ['-o', 'basedir=a\\,b', '--', '-image', 'mnt'], 0],
      ['options after arguments', 'mount.composefs', ['im:age', 'mnt', '-obasedir=a\\,b'], 0],
      ['flags with values', 'mount.composefs', ['-o', 'verity=x,ro=1,basedir=a\\,b', 'im:age', 'mnt'], 0],
      ['ro and rw', 'mount.composefs', ['-o', 'ro,rw,tryverity,basedir=a\\,b', 'im:age', 'mnt'], 0],
      ['a missing store', 'mount.composefs', ['-o', 'basedir=missing', 'im:age', 'mnt'], 1],
      ['one store twice', 'mount.composefs', ['-o', 'basedir=a\\,b:a\\,b', 'im:age', 'mnt'], 1],
      ['a missing mount point', 'mount.composefs', ['-o', 'basedir=a\\,b', 'im:age', 'missing'], 1],
      ['a file as mount point', 'mount.composefs', ['-o', 'basedir=a\\,b', 'im:age', 'im:age'], 1],
      ['words of fstab(5)', 'mount.composefs', ['-o', `${OF_FSTAB},basedir=a\\,b`, 'im:age', 'mnt'], 0],
      ['flags of mount(8)', 'mount.composefs', ['im:age', 'mnt', '-sn', '-v', '-o', 'frob,basedir=a\\,b'], 0],
      ['another namespace', 'mount.composefs', ['im:age', 'mnt', '-N', '/proc/1/ns/mnt', '-obasedir=a\\,b'], 0],
      ['FUSE', 'composefs-fuse', ['-o', 'source=im:age', '-o', 'basedir=a\\,b,noacl', '-s', 'mnt'], 0],
    ] as const) {
      const { status, stderr } = tool(directory, program, ...args);
      t.equal(status, wanted, `${program}: ${rule}${status === wanted ? '' : `: ${stderr}`}`);
      if (status !== 0) continue;
      t.equal(readFileSync(at('mnt/file'), 'latin1'), 'x'.repeat(100), `${rule}: a file is read`);
      run('umount', at('mnt'));
    }
    const fake = tool(directory, 'mount.composefs', '-f', '-o', 'basedir=a\\,b', 'im:age', 'mnt');
    t.same([fake.status, readdirSync(at('mnt'))], [0, []], 'mount -f checks, and mounts nothing');
  }),
);
t.test('a digest that is wrong', { skip: withoutFuse }, async t =>
  withScratch(directory => {
    symlinkSync(lowerdata, join(directory, 'mount.composefs'));
    for (const name of ['source', 'objects', 'mnt']) mkdirSync(join(directory, name));
    runCommand([
      'mkfs',
      '--digest-store',
      join(directory, 'objects'),
      join(directory, 'source'),
      join(directory, 'image'),
    ]);
    const options = `basedir=objects,digest=${'a'.repeat(64)}`;
    const { status, stderr } = tool(directory, 'mount.composefs', '-o', options, 'image', 'mnt');
    t.equal(status, 1);
    t.match(stderr, /Failed to mount composefs image: Image has wrong fs-verity/, 'what upstream looks for');
    t.match(stderr, /Image has no fs-verity/, 'and what it looks for in an image that the kernel has no digest of');
  }),
);

/** Source: mountcomposefs.c, where `verity` and `digest` set LCFS_MOUNT_FLAGS_REQUIRE_VERITY, `tryverity` the same if it can. */
t.test('what checks data', { skip: withoutFuse }, async t =>
  withScratch(directory => {
    for (const name of ['mount.composefs', 'composefs-fuse']) symlinkSync(lowerdata, join(directory, name));
    const at = (name: string): string => join(directory, name);
    for (const name of ['source', 'objects', 'mnt']) mkdirSync(at(name));
    writeFileSync(at('source/file'), 'x'.repeat(100));
    const store = ['--print-digest', '--digest-store', at('objects'), at('source'), at('image')];
    const digest = runCommand(['mkfs', ...store]).stdout.trim();
    const [object = ''] = runCommand(['info', 'objects', at('image')]).stdout.split('\n');
    rmSync(at(`objects/${object}`));
    writeFileSync(at(`objects/${object}`), 'y'.repeat(100));
    for (const [rule, program, options, checks] of [
      ['nothing by default', 'mount.composefs', '', false],
      ['verity', 'mount.composefs', ',verity', true],
      ['tryverity', 'mount.composefs', ',tryverity', true],
      ['digest=', 'mount.composefs', `,digest=${digest}`, true],
      ['digest= with tryverity', 'mount.composefs', `,digest=${digest},tryverity`, true],
      ['nothing with FUSE', 'composefs-fuse', ',source=image', false],
      ['digest= with FUSE', 'composefs-fuse', `,source=image,digest=${digest}`, true],
    ] as const) {
      const args = program === 'composefs-fuse' ? ['mnt'] : ['image', 'mnt'];
      const { status, stderr } = tool(directory, program, '-o', `basedir=objects${options}`, ...args);
      t.equal(status, 0, `${rule}: ${stderr}`);
      const read = attemptRead(at('mnt/file'));
      run('umount', at('mnt'));
      t.equal(read, checks ? 'EIO' : 'y'.repeat(100), rule);
    }
  }),
);

function attemptRead(path: string): string | undefined {
  try {
    return readFileSync(path, 'latin1');
  } catch (error) {
    return (error as NodeJS.ErrnoException).code;
  }
}
