/** Every golden image, mounted by us and by the kernel (EROFS below overlayfs): the same tree in every field. */
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { must } from '../../src/sys/errno.ts';
import { native } from '../../src/sys/native.ts';
import { goldenImages } from '../fixtures/images/golden-images.ts';
import { noErofs, withKernelMount } from '../fixtures/mounts/kernel-mount.ts';
import { withMount } from '../fixtures/mounts/mounted.ts';
import { withScratchAsync } from '../fixtures/scratch.ts';
import { withoutFuse } from '../fixtures/skips.ts';
import { mountedTree, type Tree } from '../fixtures/tree.ts';

const MS_RDONLY = 1;

/**
 * What stat shows, but for the numbers that overlayfs makes itself: it has one st_ino for each filesystem below and
 * another for directories, so that names of one inode are compared instead.
 */
function comparable(tree: Tree): [string, string][] {
  const first = new Map<string, string>();
  return [...tree].map(([path, line]) => {
    const [, ino = ''] = /^ino=(\d+) /.exec(line) ?? [];
    if (!first.has(ino)) first.set(ino, path);
    const sizeOfDirectory = line.includes(' mode=04') ? / size=\d+ blocks=\d+/ : / blocks=\d+/;
    return [path, line.replace(/^ino=\d+/, `same-as=${first.get(ino)}`).replace(sizeOfDirectory, '')];
  });
}

t.test('golden images', { skip: withoutFuse || (noErofs() ?? false), timeout: 300_000 }, async t => {
  await withScratchAsync(async scratch => {
    const objects = join(scratch, 'objects');
    const overlay = join(scratch, 'kernel');
    for (const directory of [objects, overlay]) mkdirSync(directory);
    for (const [name, image] of goldenImages()) {
      const kernel = withKernelMount(image, erofs => {
        const options = `metacopy=on,redirect_dir=on,lowerdir=${erofs}::${objects}`;
        must(native.mount('overlay', overlay, 'overlay', MS_RDONLY, options), 'mount overlay');
        try {
          return comparable(mountedTree(overlay));
        } finally {
          must(native.umount(overlay, 0), 'umount overlay');
        }
      });
      const options = ['-o', `basedir=${objects},redirects=kernel`];
      const ours = await withMount([image, ...options], root => comparable(mountedTree(root)));
      t.strictSame(Object.fromEntries(ours), Object.fromEntries(kernel ?? []), name);
    }
  });
});
