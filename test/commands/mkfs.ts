/** `lowerdata mkfs`: goldens through the command line, bad dumps, killed builds, trees that stay where they are. */
import { createHash } from 'node:crypto';
import {
  copyFileSync,
  linkSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t from 'tap';
import { must } from '../../src/sys/errno.ts';
import { native } from '../../src/sys/native.ts';
import { goldenDumps } from '../fixtures/images/golden-dumps.ts';
import { goldenFolder } from '../fixtures/images/golden-images.ts';
import { realImage } from '../fixtures/images/real-tree.ts';
import { noErofs, run } from '../fixtures/mounts/kernel-mount.ts';
import { withMount } from '../fixtures/mounts/mounted.ts';
import { runCommand } from '../fixtures/run-command.ts';
import { withScratch, withScratchAsync } from '../fixtures/scratch.ts';
import { without, withoutFuse, withoutRoot } from '../fixtures/skips.ts';

t.setTimeout(300_000); // many processes are started

const sha256 = (bytes: string | Uint8Array): string =>
  createHash('sha256')
    .update(typeof bytes === 'string' ? Buffer.from(bytes, 'latin1') : bytes)
    .digest('hex');

t.test('a dump becomes the image of mkcomposefs', async t =>
  withScratch(directory => {
    const image = join(directory, 'image');
    for (const { name, images } of goldenDumps())
      for (const { minVersion, maxVersion, sha256: wanted, digest } of images) {
        const versions = [`--min-version=${minVersion}`, `--max-version=${maxVersion}`];
        const dump = join(goldenFolder, name);
        const { status, stdout, stderr } = runCommand([
          'mkfs',
          '--from-file',
          '--print-digest',
          ...versions,
          dump,
          image,
        ]);
        const rule = `${name}, versions ${minVersion} to ${maxVersion}`;
        t.same([status, stdout, stderr], [0, `${digest}\n`, ''], `${rule}: digest`);
        t.equal(sha256(readFileSync(image)), wanted, `${rule}: image`);
      }
  }),
);

/** Digests that mkcomposefs prints with the same arguments. */
const SPECIAL = {
  0: '4a99f8a94a8c5a95bb6b7ac12ad9f43d5a73f20a670c97f66aaabc16af85a1e5',
  1: 'd4a0ea292ffa927a30e051129bd155432f2c2ffe8a2c631e04bf1158038c4459',
};
for (const [rule, args, version] of [
  ['whiteouts raise the version', [], 1],
  ['a maximum alone', ['--max-version=0'], 0],
  ['a minimum alone leaves a maximum of 0', ['--min-version=0'], 0],
  ['a maximum below the minimum means nothing', ['--min-version=1'], 1],
] as const) {
  const { stdout } = runCommand([
    'mkfs',
    '--from-file',
    '--print-digest-only',
    ...args,
    join(goldenFolder, 'special-0.dump'),
  ]);
  t.equal(stdout, `${SPECIAL[version]}\n`, `versions: ${rule}`);
}

t.test('where images come from and go to', async t =>
  withScratch(directory => {
    const { text, images } = goldenDumps()[0] as ReturnType<typeof goldenDumps>[0];
    const [{ sha256: wanted, digest }] = images as [(typeof images)[0]];
    const input = Buffer.from(text).toString('latin1');
    const piped = runCommand(['mkfs', '--from-file', '--print-digest', '-', '-'], { input });
    t.equal(piped.stdout.slice(-65), `${digest}\n`, 'the digest comes after the image');
    t.equal(sha256(piped.stdout.slice(0, -65)), wanted, 'from stdin to stdout');

    const at = (name: string): string => join(directory, name);
    writeFileSync(at('old'), 'old', { mode: 0o640 });
    symlinkSync('old', at('link'));
    t.equal(runCommand(['mkfs', '--from-file', '-', at('link')], { input }).status, 0, 'a symlink leads to the file');
    t.ok(lstatSync(at('link')).isSymbolicLink(), 'it stays');
    t.equal(sha256(readFileSync(at('old'))), wanted, 'the file has the image');
    t.equal(statSync(at('old')).mode & 0o777, 0o640, 'and the mode that it had');
    t.equal(runCommand(['mkfs', '--from-file', '-', '/dev/null'], { input }).status, 0, 'a device gets the bytes');
    t.ok(statSync('/dev/null').isCharacterDevice(), 'and stays');
  }),
);

const root = '/ 4096 40755 2 0 0 0 0.0 - - -\n';
const file = (name: string, rest = '0 100644 1 0 0 0 0.0 - - -'): string => `${name} ${rest}\n`;
t.test('what cannot be built leaves no image', async t =>
  withScratch(directory => {
    const image = join(directory, 'image');
    const old = join(directory, 'old');
    for (const [rule, input, message] of [
      ['no dump', '', 'the dump is empty'],
      ['an escape cut short', root + file('/f\\x4'), 'line 2: path: escape "\\\\x4" is cut short'],
      ['a bad number', root + file('/f', '1x 100644 1 0 0 0 0.0 - - -'), 'line 2: size: "1x" is not a number'],
      ['a path twice', root + file('/f') + file('/f'), 'line 3: path: /f has a line already'],
      ['a missing parent', root + file('/d/f'), 'line 2: path: no earlier line has the directory of /d/f'],
      ['a name of 256 bytes', root + file(`/${'n'.repeat(256)}`), 'line 2: path: a name of 256 bytes; 255 are allowed'],
      ['a name ..', root + file('/..'), 'line 2: path: the name ..'],
      ['no file type', root + file('/f', '0 644 1 0 0 0 0.0 - - -'), 'line 2: mode: 644 has no file type'],
      [
        'a target of 4096 bytes',
        root + file('/l', `0 120777 1 0 0 0 0.0 ${'t'.repeat(4096)} - -`),
        'line 2: payload: 4096 bytes; 4095 are allowed',
      ],
      [
        'a content of 5001 bytes',
        root + file('/f', `5001 100644 1 0 0 0 0.0 - ${'x'.repeat(5001)} -`),
        'line 2: content: 5001 bytes; 5000 are allowed',
      ],
      ['an xattr without a name', `${root.trim()} =v\n`, 'line 1: xattr: a name of 0 bytes; 1 to 255 are allowed'],
      [
        'a hard link to itself',
        root + file('/a', '0 @100644 1 0 0 0 0.0 /a - -'),
        'line 2: payload: /a is a hard link to itself',
      ],
      [
        'a hard link to a directory',
        root + file('/a', '0 @100644 1 0 0 0 0.0 / - -'),
        'line 2: payload: a hard link to a directory',
      ],
    ] as const) {
      writeFileSync(old, 'old');
      for (const output of [image, old]) {
        const { status, stderr } = runCommand(['mkfs', '--from-file', '-', output], { input });
        t.same([status, stderr], [1, `lowerdata: ${message}`], `refused: ${rule}`);
      }
      t.same(readdirSync(directory), ['old'], `${rule}: no image`);
      t.equal(readFileSync(old, 'utf8'), 'old', `${rule}: an older one stays`);
    }
  }),
);

t.test('strict dumps', async t => {
  const env = { CFS_PARSE_STRICT: '1' };
  for (const [rule, input, message] of [
    [
      'a device number of a file',
      root + file('/f', '0 100644 1 0 0 5 0.0 - - -'),
      'line 2: rdev: 5, but the file is not a device',
    ],
    [
      'the size of a symlink',
      root + file('/l', '9 120777 1 0 0 0 0.0 to - -'),
      'line 2: size: 9, but the target has 2 bytes',
    ],
    [
      'a content of a symlink',
      root + file('/l', '2 120777 1 0 0 0 0.0 to xx -'),
      'line 2: content: a symlink has no content',
    ],
    ['no newline at the end', root.trim(), 'the last line has no newline'],
  ] as const) {
    const args = ['mkfs', '--from-file', '--print-digest-only', '-'];
    t.equal(runCommand(args, { input }).status, 0, `${rule}: not looked at`);
    const { status, stderr } = runCommand(args, { input, env });
    t.same([status, stderr], [1, `lowerdata: ${message}`], `${rule}: refused`);
  }
});

for (const [rule, args, message] of [
  ['no image', ['/etc'], 'no image to write is named'],
  ['an image and none', ['--print-digest-only', '/etc', 'image'], /writes no image, but one is named/],
  ['a missing source', ['/nonexistent', 'image'], /\/nonexistent: No such file or directory/],
  ['a symlink as source', ['/proc/self/root', 'image'], '/proc/self/root: not a directory'],
  ['a file as source', ['/etc/passwd', 'image'], '/etc/passwd: not a directory'],
  ['a missing place for the image', ['/etc', '/nonexistent/image'], /\/nonexistent\/image: No such file or directory/],
  ['a version that is none', ['--min-version=2', '/etc', 'image'], 'version 2: not 0 or 1'],
  ['no threads', ['--threads=0', '/etc', 'image'], '--threads=0: 1 to 9999'],
  ['a dump in place', ['--external', '--from-file', '-', 'image'], '--external needs a directory'],
  ['digests of what is digested', ['--digests', '/etc', 'image'], '--digests goes with --external'],
  ['other redirects', ['--redirects=relative', '/etc', 'image'], '--redirects=relative: absolute or data-only'],
] as const) {
  const { status, stderr } = runCommand(['mkfs', ...args]);
  t.equal(status, 1, `refused: ${rule}`);
  t.match(stderr.replace(/^lowerdata: /, ''), message, `${rule}: the reason`);
}

t.test('redirects', async t => {
  const dump = `${root}${file('/f', '100 100644 1 0 0 0 0.0 a/b - -')}${file('/g', '100 100644 1 0 0 0 0.0 /c - -')}`;
  await withScratchAsync(async directory => {
    const image = join(directory, 'image');
    for (const [rule, args, want] of [
      ['as the dump says', [], ['/a/b', '//c']],
      ['absolute', ['--redirects=absolute'], ['/a/b', '/c']],
      ['data-only', ['--redirects=data-only'], ['//a/b', '//c']],
    ] as const) {
      runCommand(['mkfs', '--from-file', ...args, '-', image], { input: dump });
      const { stdout } = runCommand(['info', 'print', image]);
      const stored = [...stdout.matchAll(/4:overlay\.redirect=(\S+)/g)].map(([, value]) => value);
      t.same(stored, want, rule);
    }
  });
});

t.test('a tree that is deeper than paths are long', { skip: without('python3') }, async t => {
  const directory = mkdtempSync(join(tmpdir(), 'lowerdata-'));
  const program = `import os
for name in ('deep', *['d' * 200] * 60): os.mkdir(name); os.chdir(name)
open('small', 'w').write('small'); open('large', 'w').write('large' * 99)`;
  try {
    run('sh', '-c', 'cd "$0" && python3 -c "$1"', directory, program);
    const made = runCommand(['mkfs', '--digest-store=store', 'deep', 'image'], { directory });
    t.same([made.status, made.stderr], [0, ''], 'becomes an image');
    const { stdout } = runCommand(['info', 'dump', 'image'], { directory });
    t.match(stdout, /^\/(d{200}\/){60}large 495 /m, 'of all its names');
    t.match(stdout, /^\/(d{200}\/){60}small 5 .* small /m, 'and the data of small files');
    const again = runCommand(['mkfs', '--from-file', '-', '-'], { input: stdout });
    t.equal(sha256(again.stdout), sha256(readFileSync(join(directory, 'image'))), 'that comes back from its dump');
    const external = runCommand(['mkfs', '--external', 'deep', 'image'], { directory });
    t.match(external.stderr, /deep\/(d{200}\/){60}large: 12065 bytes; 4095 are allowed$/, 'no redirect can be so long');
  } finally {
    run('rm', '-rf', directory); // node:fs has too long a path
  }
});

t.test('the tree of a published package', async t => {
  const { status, stdout } = runCommand(['info', 'dump', realImage]);
  t.equal(status, 0, 'its golden image is read');
  const again = runCommand(['mkfs', '--from-file', '-', '-'], { input: stdout });
  t.equal(sha256(again.stdout), sha256(readFileSync(realImage)), 'and comes back from its dump');
});

/** What find and sha256sum say of a tree; sizes and link counts of directories are the filesystem's. */
function listing(tree: string): string {
  const find = "find . -type d -printf '%P %M %U %G %T@\\n' -o -printf '%P %M %U %G %T@ %s %n %l\\n' | sort";
  const sums = 'find . -type f -print0 | sort -z | xargs -0 sha256sum';
  return run('sh', '-c', `cd '${tree}' && ${find} && ${sums}`);
}

function makeExternal(directory: string): void {
  mkdirSync(join(directory, 'sub', 'deep'), { recursive: true });
  writeFileSync(join(directory, 'large'), Buffer.alloc(300_000, 'l'));
  writeFileSync(join(directory, 'sub', 'small'), 'small');
  writeFileSync(join(directory, 'sub', 'empty'), '');
  writeFileSync(join(directory, 'sub', 'deep', 'a b:c,d'), 'odd name');
  symlinkSync('../large', join(directory, 'sub', 'link'));
  linkSync(join(directory, 'large'), join(directory, 'sub', 'again'));
}

t.test('an image over an existing tree', { skip: withoutRoot }, async t =>
  withScratchAsync(async directory => {
    const at = (name: string): string => join(directory, name);
    makeExternal(at('tree'));
    const image = at('image');
    t.equal(runCommand(['mkfs', '--external', '--hardlinks', at('tree'), image]).status, 0, 'it is built');
    const dump = runCommand(['info', 'dump', image]).stdout;
    t.match(dump, /^\/large 300000 100644 2 .* large - -$/m, 'files lead to their paths, without digests');
    t.match(dump, / sub\/small - -\n/, 'small ones too');
    await kernelShows(t, directory, image);
    await lowerdataShows(t, directory, image);

    runCommand(['mkfs', '--external', '--digests', '--redirects=data-only', at('tree'), image]);
    t.match(
      runCommand(['info', 'dump', image]).stdout,
      / \/sub\/small - [0-9a-f]{64}\n/,
      'digests and // when asked for',
    );
    if (withoutFuse) return void t.pass('through lowerdata', { skip: withoutFuse });
    writeFileSync(at('tree/sub/small'), 'other');
    await withMount([`${image}::${at('tree')}`, '-o', 'verity=require'], mount => {
      t.equal(readFileSync(join(mount, 'large')).length, 300_000, 'a file that did not change is read');
      t.throws(() => readFileSync(join(mount, 'sub', 'small')), { code: 'EIO' }, 'one that did is not');
    });
  }),
);

async function kernelShows(t: Tap, directory: string, image: string): Promise<void> {
  const missing = noErofs();
  if (missing) return void t.pass('through the kernel', { skip: missing });
  const [erofs, mnt, tree] = ['erofs', 'mnt', 'tree'].map(name => join(directory, name)) as [string, string, string];
  for (const place of [erofs, mnt]) mkdirSync(place);
  must(native.mount(image, erofs, 'erofs', MS_RDONLY, ''), 'mount erofs');
  try {
    const options = `lowerdir=${erofs}::${tree},metacopy=on,redirect_dir=follow`;
    must(native.mount('overlay', mnt, 'overlay', MS_RDONLY, options), 'mount overlay');
    t.equal(listing(mnt), listing(tree), 'the kernel shows the tree');
    must(native.umount(mnt, 0), 'umount');
  } finally {
    must(native.umount(erofs, 0), 'umount');
  }
}
const MS_RDONLY = 1;
type Tap = Pick<typeof t, 'pass' | 'equal'>;

async function lowerdataShows(t: Tap, directory: string, image: string): Promise<void> {
  if (withoutFuse) return void t.pass('through lowerdata', { skip: withoutFuse });
  const tree = join(directory, 'tree');
  await withMount([`${image}::${tree}`], mount => {
    t.equal(listing(mount), listing(tree), 'lowerdata shows the tree');
  });
}

t.test('a copy of the tree has the same image', { skip: withoutRoot }, async t =>
  withScratch(directory => {
    const at = (name: string): string => join(directory, name);
    mkdirSync(at('a'));
    copyFileSync(realImage, join(at('a'), 'file'));
    run('cp', '-a', at('a'), at('b'));
    const digestOf = (tree: string): string => runCommand(['mkfs', '--print-digest-only', at(tree)]).stdout;
    t.match(digestOf('a'), /^[0-9a-f]{64}\n$/, 'a digest');
    t.equal(digestOf('a'), digestOf('b'), 'of names, attributes and data alone');
  }),
);
