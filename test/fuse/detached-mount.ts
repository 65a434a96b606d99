/** Mounts that are served before they are seen, against the running kernel. */
import { mkdirSync, readdirSync, renameSync } from 'node:fs';
import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import t from 'tap';
import { DetachedMount } from '../../src/fuse/detached-mount.ts';
import type { FuseMountOptions } from '../../src/fuse/mount.ts';
import { MountPoint } from '../../src/fuse/mount-point.ts';
import { type Mount, mountAt, readMounts } from '../../src/fuse/mountinfo.ts';
import { byteStringFromText } from '../../src/sys/bytes.ts';
import { native } from '../../src/sys/native.ts';
import { serveTiny } from '../fixtures/mounts/tiny-mount.ts';
import { withScratchAsync } from '../fixtures/scratch.ts';
import { withoutFuse } from '../fixtures/skips.ts';

const MNT_DETACH = 2;
const options: FuseMountOptions = {
  fsname: 'A:B',
  subtype: 'lowerdata',
  allowOther: true,
  flags: ['nosuid', 'noatime'],
};

const probe = withoutFuse ? undefined : DetachedMount.make(options);
probe?.close();
if (probe) native.close(probe.fd);
const skip = withoutFuse || (probe ? false : 'this kernel has no fsopen(2), or it is refused');

/** Calls `use` with a mount that is served and a place for it; nothing stays mounted. */
function served(use: (detached: DetachedMount, mnt: string, seen: () => Mount | undefined) => Promise<void>) {
  return withScratchAsync(async directory => {
    const mnt = join(directory, 'mnt');
    mkdirSync(mnt);
    const detached = DetachedMount.make(options) as DetachedMount;
    const ended = serveTiny(detached.fd);
    const mounts = (): Mount[] =>
      readMounts().filter(({ path }) => path.startsWith(byteStringFromText(`${directory}/`)));
    try {
      await use(detached, mnt, () => mountAt(readMounts(), byteStringFromText(mnt)));
    } finally {
      detached.close();
      for (const { path } of mounts()) native.umount(path, MNT_DETACH);
      t.match(await ended, { end: 'unmounted' }, 'the connection ends with the last mount of it');
      native.close(detached.fd);
    }
  });
}

for (const [rule, name, isTaken, want] of [
  ['a directory of it', 'usr', true, []],
  ['one that is not there', 'none', false, ['corrupt', 'crowd', 'hello', 'large', 'link', 'long', 'usr']],
  ['what is no directory', 'hello', false, ['corrupt', 'crowd', 'hello', 'large', 'link', 'long', 'usr']],
] as const) {
  t.test(`taking ${rule}`, { skip }, t =>
    served(async (detached, mnt, seen) => {
      const point = MountPoint.find(byteStringFromText(mnt));
      const taken = await detached.take(name);
      if (isTaken && !taken) return t.comment('Linux before 6.15 refuses that');
      t.equal(taken, isTaken, 'is done or refused');
      t.equal(seen(), undefined, 'nothing is seen yet');
      await detached.place(point);
      detached.close();
      point.release();
      point.close();
      const { type, source, flags } = seen() as Mount;
      t.same([type, source, flags], ['fuse.lowerdata', 'A:B', ['ro', 'nosuid', 'noatime']], 'as mount(2) makes it');
      const names = await readdir(mnt);
      if (isTaken) t.notOk(names.includes('hello'), 'what was taken is mounted');
      else t.same(names.sort(), want, 'all is mounted');
    }),
  );
}

t.test('a mount point that was moved meanwhile', { skip }, t =>
  served(async (detached, mnt, seen) => {
    const point = MountPoint.find(byteStringFromText(mnt));
    renameSync(mnt, `${mnt}-old`);
    mkdirSync(mnt);
    await t.rejects(detached.place(point), { name: 'ESTALE' });
    t.equal(seen(), undefined, 'has no mount at its old name');
    t.same(readdirSync(`${mnt}-old`), [], 'nor at the new one');
  }),
);

for (const [rule, changed] of [
  ['a source of more than 255 bytes', { fsname: 's'.repeat(256) }],
  ['no source', { fsname: '' }],
  ['access times in two ways', { flags: ['noatime', 'strictatime'] }],
] as const) {
  t.test(`${rule} cannot be had`, { skip }, async t =>
    t.equal(DetachedMount.make({ ...options, ...changed }), undefined, 'but mount(2) can do that'),
  );
}
