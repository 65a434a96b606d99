/** What df(1) shows of a mount. */
import { mkdirSync, statfsSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { withFilesystem } from '../fixtures/mounts/ext4.ts';
import { noErofs, run, withKernelMount } from '../fixtures/mounts/kernel-mount.ts';
import { command, withMount } from '../fixtures/mounts/mounted.ts';
import { runCommand } from '../fixtures/run-command.ts';
import { withScratchAsync } from '../fixtures/scratch.ts';
import { withoutFuse } from '../fixtures/skips.ts';

type Numbers = [blocks: number, free: number, available: number, files: number, bsize: number];
function numbersOf(path: string): Numbers {
  const { blocks, bfree, bavail, files, bsize } = statfsSync(path);
  return [blocks, bfree, bavail, files, bsize];
}

t.test('whose numbers', { skip: withoutFuse }, async t =>
  withScratchAsync(directory =>
    withFilesystem(directory, 'tmpfs', async store => {
      run('mount', '-o', 'remount,size=8M,nr_inodes=1000', store);
      const at = (name: string): string => join(directory, name);
      for (const path of [at('tree'), join(store, 'objects')]) mkdirSync(path);
      writeFileSync(at('tree/file'), 'x'.repeat(100_000));
      command('mkfs', '--digest-store', join(store, 'objects'), at('tree'), at('image'));
      const stack = `${at('image')}::${join(store, 'objects')}`;
      const shown = (...options: string[]): Promise<Numbers> => withMount([stack, ...options], numbersOf);

      const byDefault = await shown();
      t.same(await shown('-o', 'statfs=top'), byDefault, 'those of the top layer by default');
      t.equal(byDefault[2], 0, 'an image has no room');
      const kernel = noErofs() ? undefined : withKernelMount(at('image'), numbersOf);
      if (kernel) t.same(byDefault, kernel, "the kernel's");
      else t.pass("the kernel's", { skip: noErofs() ?? 'the kernel refuses the image' });
      t.same(await shown('-o', 'statfs=data'), numbersOf(store), 'those of the first data-only layer');

      const { status, stderr } = runCommand(['mount', at('image'), at('tree'), '-o', 'statfs=data']);
      t.equal(status, 32, 'without one');
      t.match(stderr, /statfs=data: the stack has no data-only layer/, 'it says why');
    }),
  ),
);
