/** Programs of 32 bits: stat(2) of their kind is EOVERFLOW for an inode number that has more. */
import { spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t from 'tap';
import { withFilesystem } from '../fixtures/mounts/ext4.ts';
import { run } from '../fixtures/mounts/kernel-mount.ts';
import { command, withMount } from '../fixtures/mounts/mounted.ts';
import { withScratchAsync } from '../fixtures/scratch.ts';
import { withoutFuse } from '../fixtures/skips.ts';

t.setTimeout(120_000);

/** Calls lstat and fstat's old 32-bit form by the 32-bit gate: a result and st_ino a line. Source: asm/stat.h. */
const PROGRAM = `
#define _GNU_SOURCE
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
int main(int argc, char **argv)
{
	char *low = mmap(0, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_32BIT, -1, 0);
	for (int i = 1; i < argc; i++) {
		long result;
		strcpy(low, argv[i]);
		__asm__ volatile("int $0x80" : "=a"(result) : "a"(107L), "b"(low), "c"(low + 4096)
				 : "memory", "r8", "r9", "r10", "r11");
		printf("%d %u\\n", (int)result, *(unsigned *)(low + 4096 + 4));
	}
	return 0;
}`;

const folder = mkdtempSync(join(tmpdir(), 'lowerdata-lstat32-'));
t.teardown(() => rmSync(folder, { recursive: true }));
const lstat32 = join(folder, 'lstat32');

const without32 = ((): string | false => {
  if (withoutFuse) return withoutFuse;
  if (process.arch !== 'x64') return 'needs a processor with 32-bit system calls that are known here';
  const { status } = spawnSync('cc', ['-x', 'c', '-o', lstat32, '-'], { input: PROGRAM });
  if (status !== 0) return 'cc is not installed';
  return spawnSync(lstat32, ['/'], { encoding: 'latin1' }).stdout.startsWith('0 ')
    ? false
    : 'no 32-bit system calls here';
})();

/** st_ino of each path, or the negative errno of lstat(2). */
const numbers32 = (paths: readonly string[]): number[] =>
  run(lstat32, ...paths)
    .trim()
    .split('\n')
    .map(line => line.split(' ').map(Number))
    .map(([result = 0, ino = 0]) => (result < 0 ? result : ino));

/** st_ino of each path by the 64-bit call. */
const numbers64 = (paths: readonly string[]): number[] =>
  run('stat', '-c', '%i', ...paths)
    .trim()
    .split('\n')
    .map(Number);

t.test('stacks of several filesystems', { skip: without32 }, async t =>
  withScratchAsync(async directory => {
    const at = (name: string): string => join(directory, name);
    for (const name of ['one', 'two', 'dir']) {
      mkdirSync(at(`${name}/d-${name}`), { recursive: true });
      writeFileSync(at(`${name}/${name}`), name);
      writeFileSync(at(`${name}/d-${name}/inner`), name);
    }
    for (const name of ['one', 'two']) command('mkfs', at(name), at(`${name}.cfs`));
    run('ln', at('dir/dir'), at('dir/hard'));
    await withFilesystem(directory, 'tmpfs', async other => {
      writeFileSync(join(other, 'other'), '');
      const stack = `${at('one.cfs')}:${at('two.cfs')}:${at('dir')}:${other}`;
      await withMount([stack], root => {
        const paths = run('find', root).trim().split('\n');
        t.equal(paths.length, 12, 'all names are there');
        const shown = numbers32(paths);
        t.same(shown, numbers64(paths), 'a program of 32 bits gets what others get');
        t.equal(new Set(shown).size, 11, 'each object has its own number, and a hard link none');
        t.same(numbers32([join(root, 'hard')]), numbers32([join(root, 'dir')]));
      });
    });
  }),
);

t.test('numbers of more than 32 bits', { skip: without32 }, async t =>
  withScratchAsync(async directory =>
    withFilesystem(directory, 'tmpfs', async inner => {
      // a mount of ours as a layer: what is mounted in it has another device, so that its numbers are moved far up
      const at = (name: string): string => join(directory, name);
      for (const name of ['lower', 'upper', 'work', 'merged', 'top']) mkdirSync(at(name));
      mkdirSync(join(inner, 'd'));
      writeFileSync(join(inner, 'd/file'), '');
      writeFileSync(at('lower/file2'), '');
      run('mount', '-t', 'overlay', 'none', '-o', `xino=on,lowerdir=${inner}:${at('lower')}`, at('merged'));
      try {
        for (const [rule, options, want] of [
          ['EOVERFLOW, as on the kernel', [], -75],
          ['with ino32_t they fit', ['-o', 'ino32_t'], undefined],
        ] as const) {
          await withMount([`${at('merged')}:${at('top')}`, ...options], root => {
            const paths = ['d/file', 'file2', 'd'].map(name => join(root, name));
            const shown = numbers32(paths);
            if (want) t.ok(shown.includes(want), rule);
            else {
              t.same(shown, numbers64(paths), rule);
              t.equal(new Set(shown).size, 3, 'and differ');
            }
          });
        }
      } finally {
        run('umount', at('merged'));
      }
    }),
  ),
);
