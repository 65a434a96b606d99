/**
 * `lowerdata commit --diff`: an image of the upper layer, above the same lower layers, shows what the mounted stack showed: by the
 * kernel and by the command, for upper layers that each of them wrote.
 */
import { execFileSync } from 'node:child_process';
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { dump } from '../fixtures/dump.ts';
import { withExt4, withoutExt4 } from '../fixtures/mounts/ext4.ts';
import { noErofs, run } from '../fixtures/mounts/kernel-mount.ts';
import { command, withMount } from '../fixtures/mounts/mounted.ts';
import { type Maker, withoutIndex, withoutWritableOverlay, withWritable } from '../fixtures/mounts/writable.ts';
import { runCommand } from '../fixtures/run-command.ts';
import { withScratch, withScratchAsync } from '../fixtures/scratch.ts';
import { without } from '../fixtures/skips.ts';

t.setTimeout(300_000);

/** The tree of the lower image; files above 64 bytes have their data in an object. */
const LOWER = `
mkdir -p tree/sub old/deep opaque moved/sub empty b sub/in
for name in kept gone emptied renamed linked meta tree/one tree/two tree/sub/three old/deep/x opaque/hidden moved/sub/y h1 p1; do
  seq 1 100 | sed "s|^|$name |" >$name
done
ln h1 h2 && ln h1 sub/in/h3 && ln p1 tree/sub/p2 && ln p1 moved/p3 && chmod 750 sub && echo inline >small && echo inline >little && : >nothing
ln -s kept target && mkfifo fifo && chmod 4755 kept
python3 -c 'import os; os.setxattr("tree", "trusted.overlay.note", b"escaped"); os.setxattr("meta", "user.note", b"x")'
`;

/** What a directory above the image has, in the second stack. */
const ABOVE = `
mkdir -p tree above
for name in tree/over above/file above/other; do seq 1 50 | sed "s|^|$name |" >$name; done
mknod renamed-away c 0 0
`;

const CHANGES = `
echo more >>kept && truncate -s 0 emptied && rm gone && rm -r old && : >made && echo small >made-small && seq 1 500 >made-large
chmod 600 meta && chown 3:4 meta && touch -d @5 tree/one && chmod 640 small && chmod 600 nothing
mv renamed tree/renamed && mv tree/two tree/second && mv small tree/sub/small && mv tree/renamed tree/again
mv little b && chown 5:6 b/little
ln linked linked-too && ln made-large b/large && ln made-large b/larger && echo more >>h1 && chmod 600 h2
chmod 640 p1
mv moved over && mv over/sub over/below && mv tree b/tree && mv b/tree/sub/three b/tree/third
rm -r opaque && mkdir opaque && echo new >opaque/new && rmdir empty && echo file >empty
ln -s none link && rm target && ln -s elsewhere target && mknod null c 1 3 && mknod disk b 7 1 && mkfifo pipe && mkdir -m 1777 tmp
printf '\\377' >"$(printf 'b\\351')"
python3 - <<END
import os, socket
socket.socket(socket.AF_UNIX).bind("socket")
for path, name, value in [("meta", "user.note", b"y"), ("tmp", "trusted.overlay.opaque", b"y"), ("tmp", "trusted.overlay.overlay.twice", b"z"),
                          ("made", "user.overlay.redirect", b"/x"), ("made-large", "trusted.other", b"\\x00\\xff" * 100)]:
    os.setxattr(path, name, value)
END
`;

const shell = (script: string, directory: string): void => {
  execFileSync('sh', ['-ec', script], { cwd: directory });
};

/** Calls `use` with the place where the kernel has mounted an image, which is made if need be. */
async function withErofs<T>(image: string, place: string, use: () => T | Promise<T>): Promise<T> {
  mkdirSync(place, { recursive: true });
  run('mount', '-t', 'erofs', '-o', 'loop,ro', image, place);
  try {
    return await use();
  } finally {
    run('umount', place);
  }
}

/** What the kernel shows of read-only layers. */
function kernelDump(lowerdir: string, place: string): string[] {
  mkdirSync(place, { recursive: true });
  run('mount', '-t', 'overlay', 'overlay', '-o', `ro,metacopy=on,redirect_dir=follow,lowerdir=${lowerdir}`, place);
  try {
    return dump(place);
  } finally {
    run('umount', place);
  }
}

const missing = withoutWritableOverlay || without('losetup') || noErofs() || false;
for (const maker of ['lowerdata', 'kernel'] as const)
  for (const [above, hasDirectory, written] of [
    ['an image', false, ''],
    ['an image and a directory', true, ''],
    ['an image, with an index', false, ',index=on'],
  ] as const)
    t.test(`an upper layer of ${maker} above ${above}`, { skip: missing || (written && withoutIndex) }, t =>
      withScratchAsync(home => holds(t, home, maker, hasDirectory, written)),
    );

/** @param written further options of the mount that is written to */
async function holds(t: Test, home: string, maker: Maker, hasDirectory: boolean, written: string): Promise<void> {
  const at = (name: string): string => join(home, name);
  for (const name of ['source', 'above', 'home']) mkdirSync(at(name));
  shell(LOWER, at('source'));
  if (hasDirectory) shell(ABOVE, at('above'));
  const links = written ? ['--hardlinks'] : [];
  command('mkfs', ...links, `--digest-store=${at('objects')}`, at('source'), at('first.cfs'));
  const above = hasDirectory ? `${at('above')}:` : '';
  const stack = `${above}${at('first.cfs')}::${at('objects')}`;
  const kernelStack = `${above}${at('first')}::${at('objects')}`;
  const options = `upperdir=${at('home/upper')},workdir=${at('home/work')}${written}`;
  await withErofs(at('first.cfs'), at('first'), async () => {
    const lowerdir = maker === 'kernel' ? kernelStack : stack;
    const shown = await withWritable(
      maker,
      { lowerdir, home: at('home'), options: `metacopy=on,redirect_dir=on${written}` },
      root => {
        shell(CHANGES, root);
        if (hasDirectory) shell('chmod 600 above/file && mv above/other b/other && chmod 755 b/tree/over', root);
        return dump(root);
      },
    );
    t.ok(shown.length > 35, 'the changes were made');
    command('commit', '--diff', '-o', options, `--digest-store=${at('objects')}`, stack, at('new.cfs'));
    await withErofs(at('new.cfs'), at('new'), () => {
      t.strictSame(kernelDump(`${at('new')}:${kernelStack}`, at('merged')), shown, 'the kernel shows the same');
    });
    await withMount([`${at('new.cfs')}:${stack}`], root => t.strictSame(dump(root), shown, 'and so does the command'));
  });
  await withMount([stack, '-o', options], root => {
    const compared = runCommand(['compare', root, `${at('new.cfs')}:${stack}`]);
    t.equal(compared.stdout + compared.stderr, '', 'compare finds no difference');
  });
}

/** The last field of each line of a dump, the digest, by path. */
function digestsIn(image: string): Map<string, string> {
  const lines = command('info', 'dump', image).trim().split('\n');
  return new Map(lines.map(line => [line.split(' ')[0] ?? '', line.split(' ')[10] ?? '']));
}

t.test('files whose data stays below', { skip: missing || withoutExt4 }, t =>
  withScratchAsync(scratch =>
    withExt4(scratch, async home => {
      const at = (name: string): string => join(home, name);
      for (const name of ['source', 'upper', 'work']) mkdirSync(at(name));
      shell(LOWER, at('source'));
      command('mkfs', `--digest-store=${at('objects')}`, at('source'), at('first.cfs'));
      command('relink', '--to=origin', `--basedir=${at('objects')}`, at('first.cfs'), '-o', at('origin.cfs'));
      const options = `upperdir=${at('upper')},workdir=${at('work')}`;
      const stack = `${at('origin.cfs')}::${at('objects')}`;
      const shown = await withMount([stack, '-o', options], root => {
        shell('chmod 600 meta && mv renamed tree && ln linked tree && mv tree old', root);
        return dump(root);
      });
      command('commit', '--diff', '-o', options, `--digest-store=${at('objects')}`, stack, at('new.cfs'));
      await withMount([`${at('new.cfs')}:${stack}`], root => {
        t.strictSame(dump(root), shown, 'data that only an origin leads to is found');
      });
      const [before, after] = [digestsIn(at('first.cfs')), digestsIn(at('new.cfs'))];
      t.match(before.get('/meta'), /^[0-9a-f]{64}$/);
      t.equal(after.get('/meta'), before.get('/meta'), 'and it is checked by the digest that it had');
      t.equal(after.get('/old/tree/renamed'), before.get('/renamed'), 'under another name, too');
    }),
  ),
);

t.test('what is refused', t =>
  withScratch(home => {
    const refused = runCommand(['commit', '--diff', `--digest-store=${home}/objects`, home, `${home}/new.cfs`]);
    t.equal(refused.status, 1);
    t.match(refused.stderr, /--diff: the stack has no upper directory/, 'a stack that nothing was written to');
    t.end();
  }),
);
