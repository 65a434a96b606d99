/** Proves src/fuse/mount-point.ts, and what mount.ts does with it, while directories are renamed. */
import { mkdirSync, renameSync, rmdirSync, symlinkSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { type FuseMountOptions, mountFuse, unmountFuse } from '../../src/fuse/mount.ts';
import { MountPoint } from '../../src/fuse/mount-point.ts';
import { type Mount, mountAt, readMounts } from '../../src/fuse/mountinfo.ts';
import { byteStringFromText } from '../../src/sys/bytes.ts';
import { native } from '../../src/sys/native.ts';
import { withScratchAsync } from '../fixtures/scratch.ts';
import { withoutFuse } from '../fixtures/skips.ts';

const MNT_DETACH = 2;
const options: FuseMountOptions = { fsname: 'A:B', subtype: 'lowerdata', allowOther: false, flags: [] };

/** Directories `parent/mnt` and `victim/mnt`, and where mounts are; nothing stays mounted. */
function placed(use: (at: (path: string) => string, typeAt: (path: string) => string | undefined) => Promise<void>) {
  return withScratchAsync(async directory => {
    const at = (path: string): string => join(directory, path);
    const mounts = (): Mount[] =>
      readMounts().filter(({ path }) => path.startsWith(byteStringFromText(`${directory}/`)));
    for (const path of ['parent/mnt', 'victim/mnt']) mkdirSync(at(path), { recursive: true });
    try {
      await use(at, path => mounts().findLast(mount => mount.path === byteStringFromText(at(path)))?.type);
    } finally {
      for (const { path } of mounts().reverse()) native.umount(path, MNT_DETACH);
    }
  });
}

t.test('a mount point whose directory becomes a symlink', { skip: withoutFuse }, t =>
  placed(async (at, typeAt) => {
    const point = MountPoint.find(byteStringFromText(at('parent/mnt')));
    renameSync(at('parent'), at('kept'));
    symlinkSync('victim', at('parent'));
    const { fd } = await mountFuse(point, options);
    native.close(fd);
    t.equal(typeAt('kept/mnt'), 'fuse.lowerdata', 'what was found is mounted on');
    t.equal(typeAt('victim/mnt'), undefined, 'and nothing else');
  }),
);

t.test('a mount point that becomes a symlink', { skip: withoutFuse }, t =>
  placed(async (at, typeAt) => {
    const point = MountPoint.find(byteStringFromText(at('parent/mnt')));
    renameSync(at('parent/mnt'), at('parent/old'));
    symlinkSync('../victim/mnt', at('parent/mnt'));
    await t.rejects(mountFuse(point, options), { name: 'ESTALE' });
    for (const path of ['parent/mnt', 'parent/old', 'victim/mnt']) t.equal(typeAt(path), undefined, path);
  }),
);

t.test('a mount whose path leads to another one', { skip: withoutFuse }, t =>
  placed(async (at, typeAt) => {
    for (const path of ['parent/mnt', 'victim/mnt']) native.mount('none', byteStringFromText(at(path)), 'tmpfs', 0, '');
    const mount = mountAt(readMounts(), byteStringFromText(at('parent/mnt'))) as Mount;
    renameSync(at('parent'), at('kept'));
    symlinkSync('victim', at('parent'));
    await t.rejects(unmountFuse(mount, 'mount', { lazy: true }), { name: 'ELOOP' }, 'a symlink');
    native.umount(byteStringFromText(at('victim/mnt')), MNT_DETACH);
    rmdirSync(at('victim/mnt'));
    renameSync(at('parent'), at('link'));
    mkdirSync(at('parent/mnt'), { recursive: true });
    native.mount('none', byteStringFromText(at('parent/mnt')), 'tmpfs', 0, '');
    await t.rejects(unmountFuse(mount, 'mount', { lazy: true }), { name: 'ESTALE' }, 'a directory');
    t.equal(typeAt('parent/mnt'), 'tmpfs');
    t.equal(typeAt('kept/mnt'), 'tmpfs');
    t.equal(await unmountFuse({ ...mount, path: byteStringFromText(at('kept/mnt')) }, 'mount', {}), true);
  }),
);
t.end();
