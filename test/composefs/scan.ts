import { execFileSync } from 'node:child_process';
import { chmodSync, linkSync, mkdirSync, symlinkSync, utimesSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { printDump } from '../../src/composefs/print-dump.ts';
import { type ScanOptions, scanTree } from '../../src/composefs/scan.ts';
import type { TreeInode } from '../../src/composefs/tree.ts';
import { writeImage } from '../../src/composefs/write.ts';
import { digestFiles } from '../../src/store/file-pool.ts';
import { objectPath } from '../../src/store/objects.ts';
import { byteStringFromText } from '../../src/sys/bytes.ts';
import { measureBytes } from '../../src/verity/digest.ts';
import { run } from '../fixtures/mounts/kernel-mount.ts';
import { withScratchAsync } from '../fixtures/scratch.ts';
import { withoutRoot } from '../fixtures/skips.ts';
import { setXattrs } from '../fixtures/xattrs.ts';

/** Source: fsverity digest --compact, of 65 times x. */
const digest = '097e39836f303d0546bb49f570157f2c38ed302d174dfdfa1a45887bcd6ad4d6';
const payload = `${digest.slice(0, 2)}/${digest.slice(2)}`;

/** A directory with one of everything. */
function fill(root: string): void {
  mkdirSync(join(root, 'dir'));
  writeFileSync(join(root, 'dir', 'empty'), '');
  writeFileSync(join(root, 'dir', 'inline'), 'y'.repeat(64));
  writeFileSync(join(root, 'large'), 'x'.repeat(65));
  linkSync(join(root, 'large'), join(root, 'dir', 'again'));
  symlinkSync('../to', join(root, 'link'));
  writeFileSync(Buffer.from(`${root}/n\xff`, 'latin1'), '');
  chmodSync(join(root, 'large'), 0o4755);
  run('mkfifo', '-m', '600', join(root, 'pipe'));
  run('mknod', '-m', '644', join(root, 'whiteout'), 'c', '0', '0');
  run('mknod', '-m', '644', join(root, 'disk'), 'b', '259', '300');
  run('chown', '1000:70000', join(root, 'large'));
  run('chmod', '4755', join(root, 'large')); // chown took the bit away
  setXattrs([join(root, 'dir'), 'user.a', '1'], [join(root, 'dir'), 'trusted.b', Uint8Array.of(0, 0xff)]);
  for (const name of ['dir/empty', 'dir/inline', 'large', 'pipe', 'whiteout', 'disk', 'dir']) {
    utimesSync(join(root, name), 7, 7);
  }
  run('touch', '-h', '-d', '@-1.5', join(root, 'link'));
  utimesSync(Buffer.from(`${root}/n\xff`, 'latin1'), 0, 0);
  chmodSync(root, 0o755);
  utimesSync(root, 5, 5);
}

/** The tree of a directory with the digests of its files. */
async function digested(root: string, options: ScanOptions): Promise<TreeInode> {
  const { root: tree, files } = scanTree(byteStringFromText(root), options);
  await digestFiles(files, { threads: 2 });
  for (const { inode } of files) inode.payload = objectPath(inode.digest as string);
  return tree;
}

/** The dump of a scan, without the sizes of directories, which the filesystem chooses. */
async function dump(root: string, options: ScanOptions): Promise<string[]> {
  const lines = [...printDump(await digested(root, options))];
  return lines.map(line => line.replace(/^(\S+) \d+ 4/, '$1 - 4').replace(/ security\.selinux=\S*/, ''));
}

const large = `65 104755 1 1000 70000 0 7.0 ${payload} - ${digest}`;
const everything = [
  '/ - 40755 1 0 0 0 5.0 - - -',
  '/dir - 40755 1 0 0 0 7.0 - - - trusted.b=\\x00\\xff user.a=1',
  `/dir/again ${large}`,
  '/dir/empty 0 100644 1 0 0 0 7.0 - - -',
  `/dir/inline 64 100644 1 0 0 0 7.0 - ${'y'.repeat(64)} -`,
  '/disk 0 60644 1 0 0 1114924 7.0 - - -',
  `/large ${large}`,
  '/link 5 120777 1 0 0 0 -2.500000000 ../to - -',
  '/n\\xff 0 100644 1 0 0 0 0.0 - - -',
  '/pipe 0 10600 1 0 0 0 7.0 - - -',
  '/whiteout 0 20644 1 0 0 0 7.0 - - -',
];
const without = (...names: string[]): string[] =>
  everything.filter(line => !names.some(name => line.startsWith(`/${name} `)));

t.test('a directory becomes a tree', { skip: withoutRoot }, async t =>
  withScratchAsync(async scratch => {
    process.umask(0o022);
    const root = join(scratch, 'root');
    mkdirSync(root);
    fill(root);
    for (const [rule, options, want] of [
      ['all that mkcomposefs takes', {}, everything],
      ['no times', { useEpoch: true }, everything.map(line => line.replace(/ -?\d+\.\d+ /, ' 0.0 '))],
      ['no devices', { skipDevices: true }, without('disk', 'whiteout')],
      ['no xattrs', { skipXattrs: true }, everything.map(line => line.replace(/ trusted.b.*/, ''))],
      ['xattrs of users alone', { userXattrs: true }, everything.map(line => line.replace(/ trusted.b=\S*/, ''))],
      [
        'hard links as such',
        { hardLinks: true },
        everything.map(line =>
          line
            .replace(`/dir/again ${large}`, `/dir/again ${large.replace(' 1 ', ' 2 ')}`)
            .replace(
              `/large ${large}`,
              `/large ${large.replace(' 1 ', ' 2 ').replace('104755', '@104755').replace(payload, '/dir/again')}`,
            ),
        ),
      ],
    ] as const)
      t.same(sortXattrs(await dump(root, options)), want, rule);
    t.throws(() => scanTree(root, { entriesMax: 3 }), { name: 'EFBIG', message: /more than 3 objects$/ });
  }),
);

t.test('whiteouts that overlayfs has linked to each other', { skip: withoutRoot }, async t =>
  withScratchAsync(async scratch => {
    run('mknod', '-m', '644', join(scratch, 'a'), 'c', '0', '0');
    linkSync(join(scratch, 'a'), join(scratch, 'b'));
    run('mknod', '-m', '644', join(scratch, 'c'), 'c', '1', '3');
    linkSync(join(scratch, 'c'), join(scratch, 'd'));
    const lines = (await dump(scratch, { hardLinks: true, useEpoch: true })).slice(1);
    const device = '20644 2 0 0 259 0.0';
    t.same(
      lines,
      [
        '/a 0 20644 1 0 0 0 0.0 - - -',
        '/b 0 20644 1 0 0 0 0.0 - - -',
        `/c 0 ${device} - - -`,
        `/d 0 @${device} /c - -`,
      ],
      'are no hard links, as other devices are',
    );
  }),
);

/** The order of xattrs is that of the filesystem. */
function sortXattrs(lines: string[]): string[] {
  return lines.map(line => {
    const fields = line.split(' ');
    return [...fields.slice(0, 11), ...fields.slice(11).sort()].join(' ');
  });
}

t.test('a directory that changes after it was scanned', async t =>
  withScratchAsync(async scratch => {
    for (const [rule, change, message] of [
      ['a file that grows', 'echo more >>d/f', /d\/f: changed while it was read/],
      ['a file that shrinks', 'truncate -s 100 d/f', /d\/f: changed while it was read/],
      ['a file with other bytes', 'printf y | dd of=d/f conv=notrunc status=none', /d\/f: changed while it was read/],
      ['another file of the same size', 'cp -p d/f g; mv g d/f', /d\/f: changed while it was read/],
      ['a fifo', 'rm d/f; mkfifo d/f', /d\/f: changed while it was read/],
      ['a symlink to the same file', 'mv d/f g; ln -s ../g d/f', /d\/f: changed while it was read/],
      ['nothing', 'rm d/f', /d\/f: No such file or directory/],
      ['a symlink for its directory', 'mv d e; ln -s e d', /d\/f: Too many levels of symbolic links/],
      ['another directory for its directory', 'mv d e; mkdir d; cp -p e/f d', /d\/f: changed while it was read/],
      [
        'another root',
        'mv ../root ../old; cp -a ../old ../root',
        /root: replaced by another directory since it was scanned/,
      ],
      ['a symlink for the root', 'mv ../root ../old; ln -s old ../root', /root: not a directory/],
    ] as const) {
      const root = join(scratch, 'root');
      run('rm', '-rf', root, join(scratch, 'old'));
      mkdirSync(join(root, 'd'), { recursive: true });
      writeFileSync(join(root, 'd', 'f'), 'x'.repeat(1000));
      const { files } = scanTree(byteStringFromText(root), { skipXattrs: true });
      run('sh', '-c', `cd '${root}' && ${change}`);
      await t.rejects(digestFiles(files, { threads: 1 }), { message }, `refused: ${rule}`);
    }
  }),
);

/**
 * Published packages, scanned with the options of `mkcomposefs --use-epoch`. The .tgz files are not part of the project:
 * `npm pack typescript@5.9.2 lodash@4.17.21 express@4.21.2` in a directory that LOWERDATA_PACKAGES names.
 */
const packages = process.env.LOWERDATA_PACKAGES;
const noPackages = packages ? withoutRoot : 'LOWERDATA_PACKAGES names no directory of npm packages';
t.test('the digests of published packages are those of mkcomposefs', { skip: noPackages }, async t => {
  for (const [name, version0, version1] of [
    [
      'typescript-5.9.2',
      '3c6292a89efb469f87b992bacdc9632eea268010f83be7c64dae693a4def4e25',
      'aa74d37be4072441c1ee1d257c28dea962c7dd6f4b38dc40d5d7eb5cdc120934',
    ],
    [
      'lodash-4.17.21',
      '53cea444d6f798cbafff887c354f9784e3d35a9162d5d21dc928a824e04d899c',
      '4047912849ec66f23c570f2cadb9aae23efcf40b84743519846515a31685bd79',
    ],
    [
      'express-4.21.2',
      'cfcd2b9fb82a3cad2292249daf85bdd6665312feb88db799bdf1476d96479772',
      'da00af4d25ee05a826975cb2bab85d7e4500ede4b01861c06d87dd7ae06d06a3',
    ],
  ] as const)
    await withScratchAsync(async scratch => {
      process.umask(0o022);
      const root = join(scratch, 'root');
      mkdirSync(root, 0o755);
      execFileSync('tar', ['--no-same-owner', '-xzf', join(packages as string, `${name}.tgz`), '-C', root]);
      const tree = await digested(root, { useEpoch: true });
      for (const [minVersion, want] of [
        [0, version0],
        [1, version1],
      ] as const) {
        const image = writeImage(tree, { minVersion });
        t.equal(Buffer.from(measureBytes(image)).toString('hex'), want, `${name}, version ${minVersion}`);
      }
    });
});
