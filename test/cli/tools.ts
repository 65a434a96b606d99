import { linkSync, mkdirSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { goldenDumps } from '../fixtures/golden-dumps.ts';
import { goldenFolder } from '../fixtures/golden-images.ts';
import { run } from '../fixtures/kernel-mount.ts';
import { lowerdata } from '../fixtures/mounted.ts';
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
    ['upperdir=up', /upperdir: a writable layer is not supported yet/],
    ['idmap=/proc/self/ns/user', /idmap: owners can not be mapped yet/],
    ['metacopy=on', /option metacopy: unknown/],
    ['digest', /digest: a value is missing/],
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
});

t.test('mounts', { skip: withoutFuse }, async t =>
  withScratch(directory => {
    for (const name of ['mount.composefs', 'composefs-fuse']) symlinkSync(lowerdata, join(directory, name));
    const at = (name: string): string => join(directory, name);
    for (const name of ['source', 'mnt', 'none', 'a,b']) mkdirSync(at(name));
    writeFileSync(at('source/file'), 'x'.repeat(100));
    const store = ['--print-digest', '--digest-store', at('a,b'), at('source'), at('im:age')];
    const digest = runCommand(['mkfs', ...store]).stdout.trim();
    const wrong = '0'.repeat(64);
    for (const [rule, program, args, wanted] of [
      ['objects', 'mount.composefs', ['-o', 'basedir=a\\,b', 'im:age', 'mnt'], 0],
      ['two stores', 'mount.composefs', ['-t', 'composefs', '-o', 'ro,basedir=none:a\\,b,verity', 'im:age', 'mnt'], 0],
      ['a digest', 'mount.composefs', ['-o', `basedir=a\\,b,digest=${digest}`, 'im:age', 'mnt'], 0],
      ['a wrong digest', 'mount.composefs', ['-o', `basedir=a\\,b,digest=${wrong}`, 'im:age', 'mnt'], 1],
      ['FUSE', 'composefs-fuse', ['-o', 'source=im:age', '-o', 'basedir=a\\,b,noacl', '-s', 'mnt'], 0],
    ] as const) {
      const { status, stderr } = tool(directory, program, ...args);
      t.equal(status, wanted, `${program}: ${rule}${status === wanted ? '' : `: ${stderr}`}`);
      if (status !== 0) continue;
      t.equal(readFileSync(at('mnt/file'), 'latin1'), 'x'.repeat(100), `${rule}: a file is read`);
      run('umount', at('mnt'));
    }
  }),
);
