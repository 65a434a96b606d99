/** Objects on a filesystem that counts whole seconds: a change within the second of the one before shows in no timestamp. */
import { closeSync, cpSync, mkdirSync, openSync, readFileSync, statSync, writeFileSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import t from 'tap';
import { withExt4, withoutExt4 } from '../fixtures/mounts/ext4.ts';
import { command, withMount } from '../fixtures/mounts/mounted.ts';
import { withScratchAsync } from '../fixtures/scratch.ts';
import { withoutFuse } from '../fixtures/skips.ts';

t.test('an object that changes twice in a second', { skip: withoutFuse || withoutExt4, timeout: 120_000 }, t =>
  withScratchAsync(scratch =>
    withExt4(
      scratch,
      async disk => {
        const tree = join(scratch, 'tree');
        mkdirSync(tree);
        const right = 'A'.repeat(100_000);
        writeFileSync(join(tree, 'f'), right);
        const [image, objects] = [join(scratch, 'image'), join(disk, 'objects')];
        command('mkfs', '--external', '--digests', tree, image);
        cpSync(tree, objects, { recursive: true });
        const object = join(objects, 'f');
        for (const way of ['verify=open', 'passthrough=off', 'verify=read', 'opens=none'])
          await withMount([`${image}::${objects}`, '-o', way], async root => {
            const write = (text: string): void => {
              const fd = openSync(object, 'r+');
              writeSync(fd, text, 0);
              closeSync(fd);
            };
            await sleep(1050 - (Date.now() % 1000));
            write('A');
            const before = statSync(object, { bigint: true });
            t.equal(readFileSync(join(root, 'f'), 'latin1'), right, `${way}: what its digest says`);
            write('EVIL');
            const isSame = statSync(object, { bigint: true }).ctimeNs === before.ctimeNs;
            if (!isSame) t.comment(`${way}: the machine was too slow for this test`);
            const read = (): string => readFileSync(join(root, 'f'), 'latin1').slice(0, 4);
            // The kernel opens files itself, and has its pages: it may go on to show what the digest covers.
            if (way === 'opens=none') t.equal(read(), 'AAAA', `${way}: no byte of what came later`);
            else t.throws(read, { code: 'EIO' }, `${way}: what came later is no part of it`);
            write('AAAA');
          });
      },
      { inodeBytes: 128 },
    ),
  ),
);
t.end();
