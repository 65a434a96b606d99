/** `lowerdata relink` where no object is looked at: every golden image there and back, what is refused, what is left behind. */
import { createHash } from 'node:crypto';
import { copyFileSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { LAYOUT_FLAT_PLAIN } from '../../src/erofs/format.ts';
import { S_IFDIR, S_IFREG } from '../../src/sys/stat.ts';
import { craft } from '../fixtures/images/craft.ts';
import { goldenFolder, goldenImages } from '../fixtures/images/golden-images.ts';
import { sameAsKernel } from '../fixtures/mounts/kernel-mount.ts';
import { runCommand } from '../fixtures/run-command.ts';
import { withScratch } from '../fixtures/scratch.ts';

t.setTimeout(300_000); // many processes are started

const sha256 = (path: string): string => createHash('sha256').update(readFileSync(path)).digest('hex');
const small = join(goldenFolder, 'images', 'small-1.cfs');
const dumpOf = (image: string): string => runCommand(['info', 'dump', image]).stdout;

/** The dump of an image whose files with payload lead to data-only layers: the payload gets the second slash. */
function withSlashes(dump: string): string {
  const isFile = (mode = ''): boolean => /^@?100/.test(mode);
  const lines = dump.split('\n').map(line => {
    const fields = line.split(' ');
    const [, sizeBytes, mode, , , , , , payload, content] = fields;
    const isLink = mode?.startsWith('@');
    if (isFile(mode) && !isLink && payload !== '-' && content === '-' && sizeBytes !== '0') fields[8] = `/${payload}`;
    return fields.join(' ');
  });
  return lines.join('\n');
}

t.test('every golden image', async t =>
  withScratch(directory => {
    const at = (name: string): string => join(directory, name);
    for (const [name, path] of goldenImages()) {
      const quiet = { status: 0, stdout: '', stderr: '' };
      t.same(runCommand(['relink', path, '-o', at('absolute'), '--to=absolute']), quiet, `${name}: absolute as it is`);
      t.equal(sha256(at('absolute')), sha256(path), `${name}: the very same bytes`);
      t.same(runCommand(['relink', path, '-o', at('data-only'), '--to', 'data-only']), quiet, `${name}: to data-only`);
      t.equal(dumpOf(at('data-only')), withSlashes(dumpOf(path)), `${name}: redirects alone have changed`);
      sameAsKernel(t, name, readFileSync(at('data-only')));
      const { stdout } = runCommand(['relink', at('data-only'), '-o', '-', '--to', 'absolute']);
      t.equal(stdout, readFileSync(path, 'latin1'), `${name}: back`);
    }
  }),
);

t.test('where images come from and go to', async t =>
  withScratch(directory => {
    const image = join(directory, 'image');
    copyFileSync(small, image);
    runCommand(['relink', image, '-o', image, '--to=data-only']);
    t.equal(dumpOf(image), withSlashes(dumpOf(small)), 'in place');
    const first = sha256(image);
    runCommand(['relink', small, '-o', image, '--to=data-only']);
    t.equal(sha256(image), first, 'the same input gives the same image');
    t.match(
      runCommand(['compare', small, image]).stdout,
      /^(\S+\tobject\t\S+\t\/\S+\n)+$/,
      'compare shows what was done',
    );
    const summary = `lowerdata: ${small}: 5 files with data elsewhere: 5 to change, 0 to stay, 0 that cannot be converted\n`;
    const dry = runCommand(['relink', small, '--dry-run', '--to=data-only', '-o', join(directory, 'none')]);
    t.same(
      dry,
      { status: 0, stdout: summary.replace('lowerdata: ', ''), stderr: '' },
      'a dry run says what would be done',
    );
    t.match(
      runCommand(['relink', image, '--dry-run', '--to=data-only']).stdout,
      ' 0 to change, 5 to stay, ',
      'or that nothing is to be done',
    );
    t.same(readdirSync(directory), ['image'], 'and writes nothing');
  }),
);

/** An image with two files whose data is elsewhere, as another tool lays it out: with blocks of 512 bytes. */
function foreignImage(redirect: string): Buffer {
  const file = (xattr: string) => ({
    ...{ mode: S_IFREG | 0o644, layout: LAYOUT_FLAT_PLAIN, data: new Uint8Array(0), sizeBytes: 0 },
    xattrs: [[4, 'overlay.metacopy', ''] as const, [4, 'overlay.redirect', xattr] as const],
  });
  const entries = [['.', 0, 2] as const, ['..', 0, 2] as const, ['a', 1, 1] as const, ['b', 2, 1] as const];
  const root = { mode: S_IFDIR | 0o755, layout: LAYOUT_FLAT_PLAIN, entries };
  const bytes = Buffer.from(craft({ blockBits: 9, inodes: [root, file(redirect), file(redirect)] }));
  bytes.writeUInt32LE(0xd078629a, 0); // the magic of composefs
  bytes.writeUInt32LE(1, 4);
  return bytes;
}

t.test('an image of another tool', async t =>
  withScratch(directory => {
    const [image, out] = [join(directory, 'image'), join(directory, 'out')];
    writeFileSync(image, foreignImage('//a/b'));
    t.equal(runCommand(['relink', image, '-o', out, '--to=data-only']).status, 0, 'nothing is to change');
    t.equal(sha256(out), sha256(image), 'the very same bytes');
    t.equal(runCommand(['relink', image, '-o', out, '--to=absolute']).status, 0, 'something is');
    t.equal(
      runCommand(['compare', '--metadata', image, out]).stdout,
      '/a\tobject\t/a/b\ta/b\n/b\tobject\t/a/b\ta/b\n',
      'that alone',
    );
  }),
);

t.test('what is refused leaves no image', async t =>
  withScratch(directory => {
    const at = (name: string): string => join(directory, name);
    const out = at('out');
    writeFileSync(at('junk'), Buffer.alloc(8192));
    writeFileSync(at('short'), readFileSync(small).subarray(0, 1200));
    writeFileSync(at('damaged'), Buffer.from(readFileSync(small)).fill(0xff, 1200, 3000));
    writeFileSync(at('erofs'), Buffer.from(readFileSync(small)).fill(0, 0, 32));
    const before = readdirSync(directory);
    const to = ['--to=absolute'];
    for (const [rule, args, message] of [
      ['no image', [...to, '-o', out], 'relink: the argument <image> is missing; see lowerdata relink --help'],
      ['no target', [small, '-o', out], '--to is missing: one of origin, data-only, absolute'],
      ['another target', [small, '-o', out, '--to=path'], '--to=path: not one of origin, data-only, absolute'],
      ['no place to write to', [small, ...to], 'no image to write is named: -o NEW'],
      ['a directory to write to', [small, ...to, '-o', directory], `${directory} is a directory`],
      ['a missing place', [small, ...to, '-o', at('none/out')], /none.*No such file or directory/],
      [
        'origin without a store',
        [small, '-o', out, '--to=origin'],
        '--to=origin needs --basedir: where the objects are',
      ],
      [
        'a store that is not looked at',
        [small, '-o', out, ...to, '--basedir=/'],
        '--basedir goes with --to=origin, --to=absolute reads no object',
      ],
      ['an empty path', [small, '-o', out, '--to=origin', '--basedir=/a:'], '--basedir=/a:: an empty path'],
      [
        'a missing store',
        [small, '-o', out, '--to=origin', '--basedir', at('none')],
        `layer ${at('none')}: No such file or directory`,
      ],
      [
        'a store that is a file',
        [small, '-o', out, '--to=origin', '--basedir', small],
        `layer ${small}: Not a directory`,
      ],
      ['no threads', [small, '-o', out, '--to=origin', '--basedir=/', '--threads=0'], '--threads=0: 1 to 999'],
      ['a missing image', [at('none'), '-o', out, ...to], /none: No such file or directory/],
      [
        'what is no image',
        [at('junk'), '-o', out, ...to],
        `${at('junk')}: not an EROFS image: no superblock at byte 1024`,
      ],
      [
        'no image of composefs',
        [at('erofs'), '-o', out, ...to],
        `${at('erofs')}: an EROFS image, but not a composefs image`,
      ],
      ['an image that is cut off', [at('short'), '-o', out, ...to], /short: the image is cut off: 1200 bytes of \d+$/],
      ['a damaged image', [at('damaged'), '-o', out, ...to], /damaged: nid \d+: /],
    ] as const) {
      const { status, stdout, stderr } = runCommand(['relink', ...args]);
      t.same([status, stdout], [1, ''], `refused: ${rule}`);
      t.match(stderr.replace(/^lowerdata: |^error: /, ''), message, `${rule}: the reason`);
    }
    t.same(readdirSync(directory), before, 'no image, no part of one');
  }),
);
