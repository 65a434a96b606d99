/** Proves src/layers/held-image.ts: while an image is used, no other process gets an exclusive lock on its file. */
import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, copyFileSync, openSync, unlinkSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { openErofsLayer } from '../../src/layers/erofs.ts';
import { goldenFolder } from '../fixtures/images/golden-images.ts';
import { withMount } from '../fixtures/mounts/mounted.ts';
import { withScratchAsync } from '../fixtures/scratch.ts';
import { withoutFuse } from '../fixtures/skips.ts';

t.setTimeout(100_000);

/** Whether another program gets a lock of a kind, such as LOCK_EX, at once. */
const isFree = (path: string, kind = 'LOCK_EX'): boolean =>
  spawnSync('python3', ['-c', `import fcntl, sys\nfcntl.flock(open(sys.argv[1]), fcntl.${kind} | fcntl.LOCK_NB)`, path])
    .status === 0;

/** A program that has an exclusive lock, and then runs some lines of python. */
async function holder(path: string, lines: string): Promise<ChildProcess> {
  const program = `import fcntl, os, sys, time
path = sys.argv[1]
file = open(path)
fcntl.flock(file, fcntl.LOCK_EX)
print('locked', flush=True)
time.sleep(0.3)
${lines}`;
  const child = spawn('python3', ['-c', program, path], { stdio: ['ignore', 'pipe', 'inherit'] });
  await once(child.stdout, 'data');
  return child;
}

const small = join(goldenFolder, 'images', 'small-1.cfs');

t.test('a layer', t =>
  withScratchAsync(async home => {
    const path = join(home, 'image');
    copyFileSync(small, path);
    const layers = [openErofsLayer(path), openErofsLayer(path)];
    for (const layer of layers) {
      t.notOk(isFree(path), 'nobody else locks its file alone');
      t.ok(isFree(path, 'LOCK_SH'), 'others may share the lock');
      layer.close();
      layer.close();
    }
    t.ok(isFree(path), 'until all layers are closed');
    t.throws(
      () =>
        openErofsLayer(path, () => {
          throw new Error('refused');
        }),
      /refused/,
    );
    t.ok(isFree(path), 'a layer that was refused holds nothing');

    const fd = openSync(path, 'r');
    unlinkSync(path);
    openErofsLayer(`/proc/self/fd/${fd}`).close();
    closeSync(fd);
  }),
);

t.test('images that others have locked', t =>
  withScratchAsync(async home => {
    for (const [rule, lines, want] of [
      ['the lock is given back', 'file.close()', 'opened'],
      ['the image is removed', 'os.unlink(path)', 'ENOENT PATH: was removed while it was opened'],
      ['the image is replaced', 'os.rename(path + ".new", path)', 'opened'],
      ['the lock stays', 'time.sleep(10)', /^EBUSY PATH: process \d+ \(python3\) holds an exclusive lock on it$/],
    ] as const) {
      const path = join(home, 'image');
      for (const name of [path, `${path}.new`]) copyFileSync(small, name);
      const child = await holder(path, lines);
      let got = 'opened';
      try {
        openErofsLayer(path).close();
      } catch (error) {
        got = `${(error as Error).name} ${(error as Error).message.replaceAll(path, 'PATH')}`;
      }
      t.match(got, want, rule);
      child.kill();
      await once(child, 'exit');
    }
  }),
);

t.test('a mount', { skip: withoutFuse }, t =>
  withScratchAsync(async home => {
    const path = join(home, 'image');
    copyFileSync(small, path);
    await withMount([path], () => t.notOk(isFree(path), 'holds its image'));
    t.ok(isFree(path), 'until it is unmounted');
  }),
);
t.end();
