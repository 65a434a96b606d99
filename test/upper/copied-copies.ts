/**
 * Files and directories of the upper layer that somebody has copied with their xattrs, so that two say they are copies of one lower
 * object. The kernel refuses to look up the second one; here it has a number of its own. diff(1) reads nothing of two files that
 * have one number.
 */
import { spawnSync } from 'node:child_process';
import { appendFileSync, mkdirSync, readdirSync, readFileSync, renameSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { withoutWritableOverlay, withWritable } from '../fixtures/mounts/writable.ts';
import { withScratchAsync } from '../fixtures/scratch.ts';

const options = 'redirect_dir=on';

t.test('copies of copies', { skip: withoutWritableOverlay }, t =>
  withScratchAsync(async home => {
    const stack = { lowerdir: join(home, 'lower'), home, options };
    const upper = join(home, 'upper');
    mkdirSync(join(home, 'lower/dir'), { recursive: true });
    for (const name of ['file', 'dir/in']) writeFileSync(join(home, 'lower', name), 'lower\n');
    await withWritable('kernel', stack, root => {
      appendFileSync(join(root, 'dir/in'), 'more\n');
      renameSync(join(root, 'file'), join(root, 'file1'));
      renameSync(join(root, 'dir'), join(root, 'dir1'));
    });
    for (const name of ['file', 'dir'])
      spawnSync('cp', ['-a', join(upper, `${name}1`), join(upper, `${name}2`)], { stdio: 'inherit' });
    for (const number of ['1', '2']) {
      appendFileSync(join(upper, `file${number}`), number);
      appendFileSync(join(upper, `dir${number}/in`), number);
      writeFileSync(join(upper, `dir${number}/new`), number);
    }
    await withWritable('lowerdata', stack, root => {
      for (const [one, other] of [
        ['file1', 'file2'],
        ['dir1', 'dir2'],
        ['dir1/in', 'dir2/in'],
      ] as const) {
        const paths = [join(root, one), join(root, other)] as const;
        t.not(statSync(paths[0]).ino, statSync(paths[1]).ino, `${one} and ${other} have different numbers`);
        t.equal(spawnSync('diff', ['-rq', ...paths]).status, 1, `diff finds that ${one} and ${other} differ`);
      }
      t.equal(readFileSync(join(root, 'dir2/in'), 'latin1'), 'lower\nmore\n2');
      t.same(readdirSync(join(root, 'dir2')), ['in', 'new']);
    });
  }),
);
