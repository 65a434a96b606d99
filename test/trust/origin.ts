/** Handles that the kernel wrote itself: overlayfs copies metadata up on ext4, and the upper directory becomes our layer. */

import { execFileSync } from 'node:child_process';
import {
  appendFileSync,
  closeSync,
  mkdirSync,
  openSync,
  readFileSync,
  readSync,
  renameSync,
  rmSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { metacopyOf } from '../fixtures/images/verity.ts';
import { noProgram, run } from '../fixtures/mounts/kernel-mount.ts';
import { withMount } from '../fixtures/mounts/mounted.ts';
import { withScratchAsync } from '../fixtures/scratch.ts';
import { withoutFuse } from '../fixtures/skips.ts';
import { setXattrs, xattrHex } from '../fixtures/xattrs.ts';

const programs = ['mkfs.ext4', 'losetup'];
const skip = withoutFuse || (programs.map(noProgram).find(reason => reason !== undefined) ?? false);

/** Nothing of a file is seen that it did not hold when its digest was checked, by whoever has it open since. */
function heldOpen(t: Test, path: string, data: string, way: string): void {
  const fd = openSync(path, 'r');
  const read = (): string => {
    const bytes = Buffer.alloc(4096);
    return bytes.toString('latin1', 0, readSync(fd, bytes, 0, bytes.length, 0));
  };
  t.equal(read(), 'the data\n', `${way}: what the digest covers`);
  appendFileSync(data, 'added later\n');
  const seen = (): string => {
    try {
      return read();
    } catch (error) {
      return (error as NodeJS.ErrnoException).code ?? '';
    }
  };
  t.match(seen(), /^(the data\n|EIO)$/, `${way}: the same, or an error, while it is open`);
  closeSync(fd);
}

t.test('origins written by copy-up', { skip, timeout: 120_000 }, t =>
  withScratchAsync(async scratch => {
    const disk = join(scratch, 'disk');
    mkdirSync(disk);
    execFileSync('truncate', ['-s', '64M', join(scratch, 'ext4')]);
    run('mkfs.ext4', '-q', join(scratch, 'ext4'));
    run('mount', '-o', 'loop', join(scratch, 'ext4'), disk);
    try {
      const at = (name: string): string => join(disk, name);
      for (const name of ['lower', 'upper', 'work', 'merged', 'empty']) mkdirSync(at(name));
      writeFileSync(at('lower/file'), 'the data\n');
      const options = `lowerdir=${at('lower')},upperdir=${at('upper')},workdir=${at('work')}`;
      run('mount', '-t', 'overlay', '-o', `${options},metacopy=on,redirect_dir=on`, 'overlay', at('merged'));
      run('chmod', '0600', at('merged/file'));
      renameSync(at('merged/file'), at('merged/renamed'));
      run('umount', at('merged'));
      t.match(xattrHex(at('upper/renamed'), 'trusted.overlay.origin'), /^00fb/);

      const renamed = at('upper/renamed');
      setXattrs(
        [renamed, 'trusted.overlay.metacopy', metacopyOf(at('lower/file'))],
        [renamed, 'trusted.overlay.redirect', ''], // no path
      );
      renameSync(at('lower/file'), at('moved')); // out of every layer
      const stack = [`${at('upper')}:${at('empty')}`];
      await withMount([...stack, '-o', 'follow_origin=off'], root =>
        t.throws(() => readFileSync(join(root, 'renamed')), { code: 'EINVAL' }, 'follow_origin=off'),
      );

      for (const way of ['verity=on', 'verity=off', 'verity=off,passthrough=off']) {
        await withMount([...stack, '-o', way], root => {
          t.equal(readFileSync(join(root, 'renamed'), 'utf8'), 'the data\n', way);
          writeFileSync(at('moved'), 'not data\n');
          const read = (): unknown => readFileSync(join(root, 'renamed'));
          t.throws(read, { code: 'EIO' }, `P-O5: ${way}: changed between two opens`);
        });
        await withMount([...stack, '-o', way], root =>
          t.throws(() => readFileSync(join(root, 'renamed')), { code: 'EIO' }, `P-O5: ${way}: changed before`),
        );
        writeFileSync(at('moved'), 'the data\n');
      }
      await withMount([...stack, '-o', 'allow_other'], root =>
        heldOpen(t, join(root, 'renamed'), at('moved'), 'default'),
      );
      for (const way of ['verify=open', 'passthrough=off', 'opens=none', 'verity=off']) {
        writeFileSync(at('moved'), 'the data\n');
        await withMount([...stack, '-o', way], root => heldOpen(t, join(root, 'renamed'), at('moved'), way));
      }
      writeFileSync(at('moved'), 'the data\n');
      truncateSync(renamed, 5);
      await withMount(stack, root =>
        t.throws(() => readFileSync(join(root, 'renamed')), { code: 'EIO' }, 'a size that is not the one of the data'),
      );
      rmSync(at('moved'));
      await withMount(stack, root =>
        t.throws(() => readFileSync(join(root, 'renamed')), { code: 'ENOENT' }, 'the file is gone'),
      );
    } finally {
      run('umount', '-R', disk);
    }
  }),
);
