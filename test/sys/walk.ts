import { mkdirSync, mkdtempSync, readdirSync, renameSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { openDirectory } from '../../src/sys/beneath.ts';
import { ESTALE } from '../../src/sys/errno.ts';
import { native } from '../../src/sys/native.ts';
import { isDirectory } from '../../src/sys/stat.ts';
import { statxMode } from '../../src/sys/statx.ts';
import { type WalkEntry, walkTree } from '../../src/sys/walk.ts';
import { run } from '../fixtures/mounts/kernel-mount.ts';
import { withScratch } from '../fixtures/scratch.ts';
import { without } from '../fixtures/skips.ts';

/** Walks a directory through all of its directories; the paths in order. */
function paths(directory: string, visit: (found: WalkEntry) => void = () => {}): string[] {
  const root = openDirectory(directory, true);
  const seen: string[] = [];
  try {
    walkTree(root, directory, true, found => {
      const isDown = isDirectory(statxMode());
      seen.push(found.path);
      visit(found);
      return isDown || undefined;
    });
    return seen;
  } finally {
    native.close(root);
  }
}
const openCount = (): number => readdirSync('/proc/self/fd').length;

withScratch(directory => {
  for (const name of ['b', 'a', 'a/y', 'a/x', 'a-']) mkdirSync(join(directory, name));
  symlinkSync('a', join(directory, 'link'));
  writeFileSync(Buffer.from(`${directory}/\xff`, 'latin1'), '');
  paths(directory); // the process keeps /proc/self/fd open from then on
  const before = openCount();
  t.same(paths(directory), ['a', 'a/x', 'a/y', 'a-', 'b', 'link', '\xff'], 'a directory, then what is in it, by bytes');
  t.equal(openCount(), before, 'nothing stays open');
  t.throws(
    () =>
      paths(directory, ({ path }) => {
        if (path === 'a/x') throw new Error('enough');
      }),
    { message: 'enough' },
    'a visitor may end it',
  );
  t.equal(openCount(), before, 'nothing stays open then');
});

/** Makes directories of one name, one in the other, which node:fs has too long a path for. */
function makeDeep(directory: string, name: string, depth: number): void {
  const program = 'import os, sys\nfor _ in range(int(sys.argv[2])): os.mkdir(sys.argv[1]); os.chdir(sys.argv[1])';
  run('sh', '-c', 'cd "$1" && exec python3 -c "$2" "$3" "$4"', 'sh', directory, program, name, String(depth));
}

t.test('depth', { skip: without('python3') }, async t => {
  const directory = mkdtempSync('/tmp/lowerdata-');
  try {
    const name = 'd'.repeat(100);
    makeDeep(directory, name, 300);
    const before = openCount();
    let most = 0;
    const seen = paths(directory, () => {
      most = Math.max(most, openCount() - before);
    });
    t.equal(seen.length, 300, 'has no limit');
    t.equal(seen.at(-1)?.length, 300 * 101 - 1, 'nor have paths');
    t.ok(most < 80, `${most} descriptors are open at most`);
    t.throws(
      () =>
        paths(directory, ({ path }) => {
          if (path.length > 299 * 101) renameSync(join(directory, name, name), join(directory, 'elsewhere'));
        }),
      { errno: ESTALE, message: /: moved while its directory was read$/ },
      'a directory that was moved does not lead into another one',
    );
  } finally {
    run('rm', '-rf', directory); // node:fs has too long a path, again
  }
});

t.test('names that change', async t =>
  withScratch(directory => {
    for (const name of ['tree', 'tree/a', 'tree/b', 'tree/c', 'outside']) mkdirSync(join(directory, name));
    for (const name of ['tree/b/f', 'tree/c/f', 'outside/f']) writeFileSync(join(directory, name), '');
    const seen = paths(join(directory, 'tree'), ({ path }) => {
      if (path !== 'a') return;
      rmSync(join(directory, 'tree', 'b'), { recursive: true });
      symlinkSync('../outside', join(directory, 'tree', 'b'));
    });
    t.same(seen, ['a', 'b', 'c', 'c/f'], 'a symlink in the place of a directory leads nowhere');
    const inside = paths(join(directory, 'tree'), ({ path }) => {
      if (path !== 'c') return;
      renameSync(join(directory, 'tree', 'c'), join(directory, 'c'));
      symlinkSync('../outside', join(directory, 'tree', 'c'));
    });
    t.same(inside, ['a', 'b', 'c', 'c/f'], 'a directory that was seen is the one that is walked through');
    t.throws(
      () => paths(join(directory, 'tree'), ({ path }) => path === 'a' && rmSync(join(directory, 'tree', 'c'))),
      { message: `${join(directory, 'tree', 'c')}: No such file or directory` },
      'a name that is gone is told',
    );
  }),
);
