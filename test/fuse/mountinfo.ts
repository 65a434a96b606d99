import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { encodePath, isOnTop, MountTable, mountAt, parseMounts, readMounts } from '../../src/fuse/mountinfo.ts';
import { byteStringFromText } from '../../src/sys/bytes.ts';
import { native } from '../../src/sys/native.ts';
import { withScratch } from '../fixtures/scratch.ts';
import { withoutRoot } from '../fixtures/skips.ts';

/** The example of proc_pid_mountinfo(5) and its neighbours. */
const text = [
  '36 35 98:0 /mnt1 /mnt/parent rw,noatime master:1 - ext3 /dev/root rw,errors=continue',
  '37 36 0:40 / /mnt/with\\040space\\134 ro,relatime - fuse.lowerdata A:B\\054 ro,user_id=0,default_permissions',
  '38 37 0:41 / /mnt/with\\040space\\134 ro - tmpfs none rw',
  '39 36 0:40 / /elsewhere ro shared:3 master:2 - fuse.lowerdata A:B ro',
  '',
].join('\n');

t.test('lines', async t => {
  const mounts = parseMounts(text);
  t.equal(mounts.length, 4);
  t.same(mounts[0], {
    id: 36,
    parent: 35,
    device: '98:0',
    path: '/mnt/parent',
    flags: ['rw', 'noatime'],
    isReadOnly: false,
    hasDefaultPermissions: false,
    type: 'ext3',
    source: '/dev/root',
    spelledSource: '/dev/root',
    user: undefined,
  });
  t.same(mounts[1], {
    id: 37,
    parent: 36,
    device: '0:40',
    path: '/mnt/with space\\',
    flags: ['ro', 'relatime'],
    isReadOnly: true,
    hasDefaultPermissions: true,
    type: 'fuse.lowerdata',
    source: 'A:B,',
    spelledSource: 'A:B\\054',
    user: 0,
  });
  t.equal(mountAt(mounts, '/mnt/with space\\')?.id, 38, 'the one on top is seen');
  t.equal(mountAt(mounts, '/mnt'), undefined, 'a directory is no mount');
  t.same(
    mounts.map(mount => isOnTop(mounts, mount)),
    [true, false, true, true],
  );
});

t.test('paths as the kernel writes them', { skip: withoutRoot }, async t => {
  const table = new MountTable();
  withScratch(directory => {
    for (const name of ['plain', 'a space', 'tab\there', 'line\nfeed', 'back\\slash', 'h#sh', 'ümlaut']) {
      const path = join(directory, name);
      mkdirSync(path);
      t.equal(native.mount('none', byteStringFromText(path), 'tmpfs', 0, ''), 0);
      const found = mountAt(readMounts(), byteStringFromText(path));
      t.strictSame(table.read(), readMounts(), 'the table that stays open has it, too');
      native.umount(byteStringFromText(path), 0);
      t.equal(found?.type, 'tmpfs', JSON.stringify(name));
      t.equal(encodePath(`/${name}`).includes(' '), false);
    }
  });
});
