/** The manual of commands that make mounts and ask about them. */
import { FS_VERITY, GREETING, type Items, type Manual, OVERLAYFS } from './words.ts';

const RUNTIME: Items = [
  ['/run/lowerdata', "A record of each of root's mounts, and a socket of its daemon."],
  ['$XDG_RUNTIME_DIR/lowerdata', 'The same for the mounts of other users.'],
];
const RUNTIME_VARIABLE: Items = [
  ['XDG_RUNTIME_DIR', 'Where records of mounts lie. Without it, `lowerdata status` knows little of mounts of users.'],
];
const FUSE: Items = [
  ['/dev/fuse', 'The device through which the kernel asks.'],
  ['/etc/fuse.conf', 'Its line user_allow_other permits `allow_other` to users other than root.'],
];

/** What mount(8) has for these exit statuses. */
const STATUS_OF_MOUNT =
  'As of mount(8): 0 success, 1 a wrong call, 2 an error of the system, 32 the mount failed. In the foreground: 0 if it was ' +
  'unmounted, 1 if it ended in any other way.';

const mount: Manual = {
  examples: [
    {
      what: 'Mount an image with its objects, read a file, and unmount:',
      session: ['$ lowerdata mount image.cfs::objects mnt', '$ cat mnt/hello', GREETING, '$ lowerdata umount mnt'],
      needs: 'mounts',
    },
    {
      what: 'The same, if the image is the expected one; all that is read is checked:',
      session: [
        '$ digest=$(lowerdata info measure-file image.cfs)',
        '$ lowerdata mount -o digest=$digest,basedir=objects,verify=read image.cfs mnt',
        '$ lowerdata umount mnt',
      ],
      needs: 'mounts',
    },
    {
      what: 'Mount a stack of two directories, for all users:',
      session: ['$ lowerdata mount -o allow_other A:B mnt', '$ ls mnt', 'a', 'b', '$ lowerdata umount mnt'],
      needs: 'mounts',
    },
    {
      what: 'Change a mount that is there:',
      session: [
        '$ lowerdata mount A:B mnt',
        '$ lowerdata mount -o remount,noexec A:B mnt',
        '$ findmnt -no VFS-OPTIONS mnt',
        'ro,...noexec,relatime',
        '$ lowerdata umount mnt',
      ],
      needs: 'mounts',
    },
  ],
  status: STATUS_OF_MOUNT,
  environment: [
    ...RUNTIME_VARIABLE,
    ['NOTIFY_SOCKET', 'The socket on which systemd hears that the mount answers; see sd_notify(3).'],
    ['PATH', 'Where fusermount3(1) is looked for.'],
  ],
  files: [
    ...FUSE,
    ['/etc/fstab', 'Has lines with the type lowerdata, after lowerdata-install-helper(8).'],
    ...RUNTIME,
    ['/dev/cpu_dma_latency', 'Written to with `latency=low`.'],
  ],
  see: [
    ...['lowerdata-options(5)', 'lowerdata-umount(8)', 'lowerdata-status(1)', 'lowerdata-install-helper(8)'],
    ...['mount(8)', 'fusermount3(1)', 'fuse(4)', 'mount.composefs(1)', OVERLAYFS, FS_VERITY],
  ],
};

const umount: Manual = {
  examples: [
    {
      what: 'Unmount:',
      session: ['$ lowerdata mount A:B mnt', '$ lowerdata umount mnt', '$ ls mnt'],
      needs: 'mounts',
    },
    {
      what: 'Unmount although a program has its current directory there; the daemon ends with that program:',
      session: ['$ lowerdata mount A:B mnt', '$ (cd mnt && exec sleep 2) &', '$ lowerdata umount --lazy mnt', '$ wait'],
      needs: 'mounts',
    },
  ],
  status: 'As of umount(8): 0 success, 1 nothing of lowerdata is mounted there, 32 the mount is busy.',
  environment: [...RUNTIME_VARIABLE, ['PATH', 'Where fusermount3(1) is looked for.']],
  files: RUNTIME,
  see: ['lowerdata-mount(8)', 'umount(8)', 'fusermount3(1)'],
};

const status: Manual = {
  examples: [
    {
      what: 'Show a mount:',
      session: [
        '$ lowerdata mount image.cfs::objects mnt',
        '$ lowerdata status mnt',
        '.../mnt',
        '  source      image.cfs::objects',
        '...',
        '$ lowerdata umount mnt',
      ],
      needs: 'mounts',
    },
    {
      what: 'Write the numbers of all mounts for Prometheus:',
      session: ['$ lowerdata mount A:B mnt', '$ lowerdata status --metrics >lowerdata.prom', '$ lowerdata umount mnt'],
      needs: 'mounts',
    },
  ],
  status: '0, or 1 if nothing of lowerdata is mounted there.',
  environment: RUNTIME_VARIABLE,
  files: RUNTIME,
  see: ['lowerdata-mount(8)', 'findmnt(8)'],
};

const installHelper: Manual = {
  examples: [
    {
      what: 'Have mount(8) know the type:',
      session: ['$ lowerdata install-helper', '$ mount -t lowerdata A:B mnt', '$ umount mnt'],
      needs: 'sbin',
    },
    {
      what: 'Write the programs into the directory of a package that is being built:',
      session: [
        '$ mkdir root',
        '$ lowerdata install-helper --force --to root',
        '$ ls root',
        'mount.fuse.lowerdata',
        'mount.lowerdata',
      ],
    },
    {
      what: 'The same for the units of systemd:',
      session: [
        '$ mkdir units',
        '$ lowerdata install-helper --systemd --force --to units',
        '$ ls units',
        'lowerdata.service',
        'lowerdata.socket',
        'lowerdata@.service',
      ],
    },
  ],
  files: [
    ['/sbin/mount.lowerdata', 'Called by mount(8) for the type lowerdata.'],
    ['/sbin/mount.fuse.lowerdata', 'Called for the type fuse.lowerdata.'],
    ['/etc/systemd/system/lowerdata@.service', 'A unit that restarts a mount whose process dies.'],
    ['/etc/lowerdata/NAME.conf', 'What lowerdata@NAME mounts: SOURCE, MOUNTPOINT and OPTIONS.'],
    ['/etc/fstab', 'Mounts at boot.'],
  ],
  see: ['lowerdata-mount(8)', 'mount(8)', 'fstab(5)', 'systemd.mount(5)', 'systemd.service(5)'],
};

export const manualsOfMounts: ReadonlyMap<string, Manual> = new Map([
  ['mount', mount],
  ['umount', umount],
  ['status', status],
  ['install-helper', installHelper],
]);

/** lowerdata-options(5). */
export const manualOfOptions: Manual = {
  examples: [
    {
      what: 'Give the layers by an option, with the defaults of the kernel:',
      session: ['$ lowerdata mount -o ro,lowerdir=A:B NAME mnt', '$ ls mnt', 'a', 'b', '$ lowerdata umount mnt'],
      needs: 'mounts',
    },
    {
      what: 'Give options to a command that mounts nothing:',
      session: ['$ lowerdata cat -o basedir=objects,verity=require image.cfs /hello', GREETING],
    },
    {
      what: 'An option that would mislead is refused:',
      session: ['$ lowerdata mount --fake -o noxattrs A mnt'],
      status: 1,
    },
  ],
  status: 'A mount with an option that is unknown, refused or has a wrong value ends with the status 1.',
  files: [...FUSE, ['/etc/fstab', 'Options of mounts at boot.']],
  see: [
    ...[
      'lowerdata(1)',
      'lowerdata-mount(8)',
      'mount(8)',
      'fuse(4)',
      'fusermount3(1)',
      'fstab(5)',
      'mount.composefs(1)',
    ],
    ...[OVERLAYFS, FS_VERITY],
  ],
};
