/** Layers that fail, hang, vanish and fill up while they are mounted: an errno for what is lost, all else as before. */
import { copyFileSync, mkdirSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import t, { type Test } from 'tap';
import { EIO, ESTALE, must } from '../../src/sys/errno.ts';
import { native } from '../../src/sys/native.ts';
import { fsverityDigest } from '../fixtures/images/verity.ts';
import { Agent } from '../fixtures/mounts/agent.ts';
import { FaultyLayer, type Operation } from '../fixtures/mounts/faulty-layer.ts';
import { type Ask, mounted } from '../fixtures/mounts/hostile-mount.ts';
import { command } from '../fixtures/mounts/mounted.ts';
import { withScratchAsync } from '../fixtures/scratch.ts';
import { withoutFuse } from '../fixtures/skips.ts';

/** Measured at once, and on another thread. */
const sizes = { small: 10_000, large: 300_000 } as const;
const contentOf = (name: keyof typeof sizes): string => name.repeat(sizes[name] / name.length);

/** What goes wrong with a layer, what is asked then, and what must come. */
const faults: readonly (readonly [rule: string, operations: Operation[], call: string, path: string, want: string])[] =
  [
    ['a name cannot be looked up', ['lookup'], 'slurp', 'new', 'EIO'],
    ['attributes cannot be had', ['getattr', 'statx'], 'size', 'small', 'EIO'],
    ['a directory cannot be listed', ['readdir'], 'list', 'd', 'EIO'],
    ['a file cannot be opened', ['open'], 'slurp', 'to-open', 'EIO'],
    ['data cannot be read', ['read'], 'slurp', 'to-read', 'EIO'],
    ['xattrs cannot be read', ['listxattr', 'getxattr'], 'slurp', 'other', 'EIO'],
  ];

/** A directory with the files of `sizes` and a few more, shown by a filesystem that fails on command. */
async function withFaulty(home: string, use: (faulty: FaultyLayer) => Promise<void>): Promise<void> {
  const source = join(home, 'source');
  mkdirSync(join(source, 'd'), { recursive: true });
  for (const name of ['small', 'large'] as const) writeFileSync(join(source, name), contentOf(name));
  for (const name of ['new', 'other', 'to-open', 'to-read', 'd/inner']) writeFileSync(join(source, name), name);
  const faulty = new FaultyLayer(source, join(home, 'F'));
  try {
    await use(faulty);
  } finally {
    await faulty.close();
  }
}

for (const options of ['attr_timeout=0,passthrough=off', 'attr_timeout=0']) {
  t.test(`a lower layer that fails: ${options}`, { skip: withoutFuse, timeout: 120_000 }, t =>
    withScratchAsync(home =>
      withFaulty(home, async faulty => {
        mkdirSync(join(home, 'A'));
        writeFileSync(join(home, 'A', 'fine'), 'fine');
        await mounted(t, `${home}/A:${home}/F`, home, options, async (ask, root, mount) => {
          t.equal(await ask('slurp', `${root}/small`), contentOf('small'));
          for (const [rule, operations, call, path, want] of faults) {
            faulty.fail(EIO, ...operations);
            t.equal(await ask(call, `${root}/${path}`), want, `${rule}: ${call} ${path}`);
            t.equal(await ask('slurp', `${root}/fine`), 'fine', 'another layer is there');
            faulty.heal();
            t.not(await ask(call, `${root}/${path}`), want, 'a failure is not remembered');
          }
          faulty.fail(ESTALE, 'getattr', 'statx');
          t.equal(await ask('size', `${root}/small`), 'ESTALE', 'the errno is that of the layer');
          faulty.heal();
          await hangs(t, faulty, ask, root);
          await faulty.vanish();
          t.equal(await ask('slurp', `${root}/d/inner`), 'ENOTCONN', 'a layer that has gone');
          t.equal(await ask('slurp', `${root}/fine`), 'fine', 'another layer is there');
          t.match(mount.log, /EIO: layer \S+\/F: .*Input\/output error/, 'the log names the layer');
        });
      }),
    ),
  );
}

/** One thread asks the layers: while one does not answer, whoever asks for what is not known waits. */
async function hangs(t: Test, faulty: FaultyLayer, ask: Ask, root: string): Promise<void> {
  faulty.hang('getattr', 'statx');
  const answer = ask('size', `${root}/small`);
  t.equal(await Promise.race([answer, sleep(500, 'waits')]), 'waits', 'a layer that does not answer');
  faulty.heal();
  t.equal(await answer, sizes.small, 'is waited for');
}

t.test('a layer that never answers again', { skip: withoutFuse, timeout: 60_000 }, t =>
  withScratchAsync(home =>
    withFaulty(home, async faulty => {
      await mounted(
        t,
        `${home}/F`,
        home,
        'attr_timeout=0',
        async (ask, root, mount) => {
          t.equal(await ask('size', `${root}/small`), sizes.small);
          faulty.hang('getattr', 'statx');
          const bystander = new Agent();
          void bystander.ask('size', join(faulty.path, 'small'));
          await faulty.hanging('getattr', 'statx'); // who waits for an answer that was begun cannot even be killed
          const answer = ask('size', `${root}/small`);
          mount.signal('SIGTERM');
          await sleep(500);
          t.notOk(mount.hasExited, 'signals wait, too');
          mount.signal('SIGKILL');
          t.match(await answer, /^(ENOTCONN|ECONNABORTED)$/, 'but this one ends who waits');
          faulty.heal();
          await bystander.end();
        },
        null,
      );
    }),
  ),
);

t.test('a layer of objects that fails', { skip: withoutFuse, timeout: 60_000 }, t =>
  withScratchAsync(home =>
    withFaulty(home, async faulty => {
      writeImage(home, join(home, 'source'));
      await mounted(t, `${home}/image::${home}/F`, home, '', async (ask, root) => {
        for (const [rule, operation] of [
          ['an object that cannot be looked up', 'lookup'],
          ['an object that cannot be opened', 'open'],
          ['an object that cannot be read', 'read'],
        ] as const) {
          for (const name of ['small', 'large'] as const) {
            faulty.fail(EIO, operation);
            t.equal(await ask('slurp', `${root}/${name}`), 'EIO', `${rule}: ${name}`);
            t.equal(await ask('slurp', `${root}/inline`), 'in the image', 'what is in the image is there');
            faulty.heal();
          }
        }
        for (const name of ['small', 'large'] as const)
          t.equal(await ask('slurp', `${root}/${name}`), contentOf(name), `healed: ${name}`);
      });
    }),
  ),
);

t.test('a layer of objects that is full, and gone', { skip: withoutFuse, timeout: 60_000 }, t =>
  withScratchAsync(home =>
    withFaulty(home, async () => {
      const [objects, source] = [join(home, 'objects'), join(home, 'source')];
      mkdirSync(objects);
      must(native.mount('none', objects, 'tmpfs', 0, 'size=300k'), 'mount -t tmpfs');
      try {
        writeImage(home, source);
        writeFileSync(join(objects, 'ballast'), Buffer.alloc(100_000));
        copyFileSync(join(source, 'small'), join(objects, 'small'));
        t.throws(() => copyFileSync(join(source, 'large'), join(objects, 'large')), { code: 'ENOSPC' });
        writeFileSync(join(objects, 'large'), contentOf('large').slice(0, 150_000));
        await mounted(t, `${home}/image::${objects}`, home, '', async (ask, root) => {
          t.equal(await ask('slurp', `${root}/large`), 'EIO', 'half an object is none');
          t.equal(await ask('slurp', `${root}/small`), contentOf('small'));
          rmSync(join(objects, 'ballast'));
          must(native.mount('none', objects, '', MS_REMOUNT, 'size=3m'), 'remount');
          writeFileSync(join(objects, 'large'), contentOf('large'));
          t.equal(await ask('slurp', `${root}/large`), contentOf('large'), 'whole, it is opened');
          must(native.umount(objects, MNT_DETACH), 'umount');
          t.equal(
            await ask('slurp', `${root}/small`),
            contentOf('small'),
            'what is unmounted stays for who has it open',
          );
          t.equal(await ask('slurp', `${root}/large`), contentOf('large'));
        });
      } finally {
        native.umount(objects, MNT_DETACH); // fails where it has gone
      }
    }),
  ),
);
const MS_REMOUNT = 32;
const MNT_DETACH = 2;

/** An image with an object for each of `sizes`, and a file of its own. */
function writeImage(home: string, objects: string): void {
  const lines = ['/ 4096 40755 2 0 0 0 0.0 - - -', '/inline 12 100644 1 0 0 0 0.0 - in\\x20the\\x20image -'];
  for (const name of ['small', 'large'] as const)
    lines.push(`/${name} ${sizes[name]} 100644 1 0 0 0 0.0 ${name} - ${fsverityDigest(join(objects, name))}`);
  writeFileSync(join(home, 'dump'), `${lines.join('\n')}\n`);
  command('mkfs', '--from-file', join(home, 'dump'), join(home, 'image'));
}

t.end();
