import t from 'tap';
import { dataString, type FuseMountOptions, helperOptions, mountFlags } from '../../src/fuse/mount.ts';

const plain: FuseMountOptions = { fsname: 'A:B', subtype: 'lowerdata', allowOther: false, flags: [] };

t.test('the data of mount(2)', async t => {
  const ids = `user_id=${process.geteuid?.()},group_id=${process.getegid?.()}`;
  for (const [rule, options, want] of [
    ['permissions are always checked', plain, 'default_permissions'],
    ['others', { ...plain, allowOther: true }, 'default_permissions,allow_other'],
    ['reads', { ...plain, maxReadBytes: 65536 }, 'default_permissions,max_read=65536'],
    ['no reads below a page', { ...plain, maxReadBytes: 1 }, 'default_permissions,max_read=4096'],
    ['the source is no data', { ...plain, fsname: 'a,allow_other' }, 'default_permissions'],
  ] as const) {
    t.equal(dataString(7, options), `fd=7,rootmode=40000,${ids},${want}`, rule);
  }
});

t.test('the options of fusermount3', async t => {
  const fixed = 'ro,nosuid,nodev';
  for (const [rule, options, want] of [
    ['always read-only', plain, `${fixed},default_permissions,fsname=A:B,subtype=lowerdata`],
    [
      'a comma in a name',
      { ...plain, fsname: 'a,allow_other' },
      `${fixed},default_permissions,fsname=a\\,allow_other,subtype=lowerdata`,
    ],
    [
      'a backslash in a name',
      { ...plain, fsname: 'a\\' },
      `${fixed},default_permissions,fsname=a\\\\,subtype=lowerdata`,
    ],
    [
      'flags that it knows',
      { ...plain, flags: ['nosuid', 'noexec', 'noatime', 'lazytime'] },
      `${fixed},noexec,noatime,default_permissions,fsname=A:B,subtype=lowerdata`,
    ],
  ] as const) {
    t.equal(helperOptions(options), want, rule);
  }
});

t.test('flags', async t => {
  // sys/mount.h of glibc
  t.same(mountFlags, {
    ro: 1,
    nosuid: 2,
    nodev: 4,
    noexec: 8,
    sync: 16,
    dirsync: 128,
    noatime: 1024,
    nodiratime: 2048,
    relatime: 0x200000,
    strictatime: 0x1000000,
    lazytime: 0x2000000,
  });
});
