/** Proves the rows of src/fuse/changes.ts: each request as the kernel sends it, the call it makes, and its reply. */
import t from 'tap';
import { Dispatcher } from '../../src/fuse/dispatch.ts';
import type { Changes, FileRange, Filesystem } from '../../src/fuse/filesystem.ts';
import { Opcode } from '../../src/fuse/wire/opcode.ts';
import { EINVAL, ENAMETOOLONG, ENOSPC, ErrnoError, EUCLEAN } from '../../src/sys/errno.ts';
import { noting, TinyFilesystem } from '../fixtures/mounts/tiny-fs.ts';
import { hexOf, replyOf, request, UNIQUE_SHOWN } from '../fixtures/mounts/wire.ts';

/** Nodes of which every change fails: by a result, and by an exception. */
const FULL = 9;
const CORRUPT = 10;

/** Changes nothing, and says that all went well. */
class Recording implements Changes {
  hasLongSetxattr = true;

  setattr = (nodeid: number): number => result(nodeid);
  make = (parent: number): number => result(parent);
  create = (parent: number): number => result(parent);
  createUnnamed = (parent: number): number => result(parent);
  link = (nodeid: number): number => result(nodeid);
  remove = (parent: number): number => result(parent);
  rename = (parent: number): number => result(parent);
  write = (nodeid: number, _fh: number, _position: number, bytes: Uint8Array): number => result(nodeid, bytes.length);
  fallocate = (nodeid: number): number => result(nodeid);
  copyFileRange = ({ nodeid }: FileRange, _to: FileRange, length: number): number => result(nodeid, length);
  fsync = (nodeid: number): number => result(nodeid);
  fsyncdir = (nodeid: number): number => result(nodeid);
  setxattr = (nodeid: number): number => result(nodeid);
  removexattr = (nodeid: number): number => result(nodeid);
  setFileAttributes = (nodeid: number): number => result(nodeid);
}

function result(nodeid: number, success = 0): number {
  if (nodeid === CORRUPT) throw new ErrnoError(EUCLEAN, 'nid 36: no data');
  return nodeid === FULL ? -ENOSPC : success;
}

const calls: string[] = [];
const changes = new Recording();
const filesystem: Filesystem = noting(Object.assign(new TinyFilesystem(), { changes: noting(changes, calls) }), calls);
const wanted = { passthroughDepth: 0, posixAcl: false, writes: true } as const;
const dispatcher = new Dispatcher(filesystem, { wanted, log: () => {} });

/** The reply to a request, in hex. `calls` then holds what was called. */
function answer(bytes: Uint8Array): string {
  calls.length = 0;
  const length = dispatcher.handle(bytes, bytes.length);
  return Buffer.from(dispatcher.reply.subarray(0, length)).toString('hex');
}

const NAME = `${hexOf('hello')}00  name`;
const CALLER = '{"uid":1000,"gid":100,"pid":4711}';
const FH = '0100000000010000  fh 2^40+1';
const FH_SHOWN = 2 ** 40 + 1;

/** A fuse_setattr_in of which all but `valid` is the same. */
const setattrIn = (valid: string): string => `
  ${valid}00000000  valid, padding
  ${FH}
  0000000001000000  size 2^32
  1111111111111111  lock_owner
  ffffffffffffffff  atime -1
  0000000000000080  mtime -2^63
  2222222222222222  ctime
  ffc99a3b05000000  atimensec 999999999, mtimensec 5
  33333333ed8d0000  ctimensec, mode 0106755
  00000000e8030000  unused4, uid 1000
  6400000000000000  gid 100, unused5`;

const { SETATTR, SYMLINK, MKNOD, MKDIR, UNLINK, RMDIR, RENAME, RENAME2, LINK, WRITE, SETXATTR } = Opcode;

/** Every row is asked twice: whole, and without its last byte, which is EINVAL and calls nothing. */
for (const [rule, opcode, body, call, reply] of [
  [
    'a mode',
    SETATTR,
    setattrIn('01000000'),
    `setattr(3, {"mode":36333,"killsPrivileges":false}, ${CALLER}, ${UNIQUE_SHOWN})`,
    '',
  ],
  [
    'an owner',
    SETATTR,
    setattrIn('06000000'),
    `setattr(3, {"uid":1000,"gid":100,"killsPrivileges":false}, ${CALLER}, ${UNIQUE_SHOWN})`,
    '',
  ],
  [
    'a size, by an open file',
    SETATTR,
    setattrIn('48000000'),
    `setattr(3, {"fh":${FH_SHOWN},"size":4294967296,"killsPrivileges":false}, ${CALLER}, ${UNIQUE_SHOWN})`,
    '',
  ],
  [
    'times before 1970, one of which no number holds',
    SETATTR,
    setattrIn('30000000'),
    `setattr(3, {"atime":{"seconds":-1,"nanoseconds":999999999},"mtime":{"seconds":"-9223372036854775808n","nanoseconds":5},"killsPrivileges":false}, ${CALLER}, ${UNIQUE_SHOWN})`,
    '',
  ],
  [
    'the time now, whatever the fields say',
    SETATTR,
    setattrIn('b0010000'),
    `setattr(3, {"atime":"now","mtime":"now","killsPrivileges":false}, ${CALLER}, ${UNIQUE_SHOWN})`,
    '',
  ],
  [
    'an open file, and no change of attributes: set-user-ID goes because the data has changed',
    SETATTR,
    setattrIn('40080000'),
    `setattr(3, {"fh":${FH_SHOWN},"killsPrivileges":true}, ${CALLER}, ${UNIQUE_SHOWN})`,
    '',
  ],
  [
    'a change time and the owner of a lock are of no use',
    SETATTR,
    setattrIn('01060000'),
    `setattr(3, {"mode":36333,"killsPrivileges":false}, ${CALLER}, ${UNIQUE_SHOWN})`,
    '',
  ],
  [
    'nothing at all: the kernel has written to the file itself, and set-user-ID goes',
    SETATTR,
    setattrIn('00000000'),
    `setattr(3, {"killsPrivileges":"unless root"}, ${CALLER}, ${UNIQUE_SHOWN})`,
    '',
  ],
  [
    'a symlink: the name, then the target',
    SYMLINK,
    `${NAME}
     ${hexOf('../usr/é')}00  target`,
    `make(3, "hello", {"mode":41471,"umask":0,"rdev":0,"target":"../usr/é"}, ${CALLER})`,
    '',
  ],
  [
    'a device, with the umask that is not applied yet',
    MKNOD,
    `b621000003010000  mode 020666, rdev 1:3
     1200000000000000  umask, padding
     ${NAME}`,
    `make(3, "hello", {"mode":8630,"umask":18,"rdev":259,"target":""}, ${CALLER})`,
    '',
  ],
  [
    'a fifo',
    MKNOD,
    `8011000000000000  mode 010600, rdev
     0000000000000000  umask, padding
     ${NAME}`,
    `make(3, "hello", {"mode":4480,"umask":0,"rdev":0,"target":""}, ${CALLER})`,
    '',
  ],
  [
    'a directory: its mode comes without a type',
    MKDIR,
    `ff03000012000000  mode 01777, umask 022
     ${NAME}`,
    `make(3, "hello", {"mode":17407,"umask":18,"rdev":0,"target":""}, ${CALLER})`,
    '',
  ],
  ['a file is removed', UNLINK, NAME, `remove(3, "hello", false, ${UNIQUE_SHOWN})`, ''],
  ['a directory is removed', RMDIR, NAME, `remove(3, "hello", true, ${UNIQUE_SHOWN})`, ''],
  [
    'a rename: the old name, then the new one',
    RENAME,
    `0500000000000000  newdir
     ${NAME}
     ${hexOf('moved')}00  new name`,
    `rename(3, "hello", 5, "moved", 0, ${UNIQUE_SHOWN})`,
    '',
  ],
  [
    'a rename with flags',
    RENAME2,
    `0500000000000000  newdir
     0200000000000000  flags, padding
     ${NAME}
     ${hexOf('moved')}00  new name`,
    `rename(3, "hello", 5, "moved", 2, ${UNIQUE_SHOWN})`,
    '',
  ],
  [
    'the longest names',
    RENAME,
    `0500000000000000  newdir
     ${hexOf('a'.repeat(255))}00  name
     ${hexOf('b'.repeat(255))}00  new name`,
    `rename(3, "${'a'.repeat(255)}", 5, "${'b'.repeat(255)}", 0, ${UNIQUE_SHOWN})`,
    '',
  ],
  [
    'a link: the object, and the directory of its new name',
    LINK,
    `0500000000000000  oldnodeid
     ${NAME}`,
    `link(5, 3, "hello", ${UNIQUE_SHOWN})`,
    '',
  ],
  [
    'bytes are written',
    WRITE,
    `${FH}
     0000000001000000  offset 2^32
     0300000000000000  size, write_flags
     0000000000000000  lock_owner
     0180000000000000  flags, padding
     00ff61  bytes`,
    `write(3, ${FH_SHOWN}, 4294967296, "00ff61", false)`,
    '0300000000000000  size, padding',
  ],
  [
    'a write after which set-user-ID goes',
    WRITE,
    `${FH}
     0000000000000000  offset
     0100000004000000  size, write_flags
     0000000000000000  lock_owner
     0180000000000000  flags, padding
     61  bytes`,
    `write(3, ${FH_SHOWN}, 0, "61", true)`,
    '0100000000000000  size, padding',
  ],
  [
    'a write of pages of the cache',
    WRITE,
    `${FH}
     0000000000000000  offset
     0100000003000000  size, write_flags
     1111111111111111  lock_owner
     0180000000000000  flags, padding
     61  bytes`,
    `write(3, ${FH_SHOWN}, 0, "61", false)`,
    '0100000000000000  size, padding',
  ],
  [
    'an xattr',
    SETXATTR,
    `0300000001000000  size, flags
     0000000000000000  setxattr_flags, padding
     ${hexOf('user.a/b')}00  name
     00ff61  value`,
    'setxattr(3, "user.a/b", "00ff61", 1, false)',
    '',
  ],
  [
    'an ACL that takes set-group-ID away',
    SETXATTR,
    `0100000002000000  size, flags
     0100000000000000  setxattr_flags, padding
     ${hexOf('system.posix_acl_access')}00  name
     61  value`,
    'setxattr(3, "system.posix_acl_access", "61", 2, true)',
    '',
  ],
  [
    'an xattr without bytes',
    SETXATTR,
    `0000000000000000  size, flags
     0000000000000000  setxattr_flags, padding
     ${hexOf('user.a')}00  name`,
    'setxattr(3, "user.a", "", 0, false)',
    '',
  ],
  ['an xattr is removed', Opcode.REMOVEXATTR, `${hexOf('user.a/b')}00`, 'removexattr(3, "user.a/b")', ''],
  [
    'a file is made and opened',
    Opcode.CREATE,
    `c1800000a4810000  flags, mode 0100644
     1200000000000000  umask, open_flags
     ${NAME}`,
    `create(3, "hello", {"mode":33188,"umask":18,"rdev":0,"target":""}, ${CALLER}, 32961)`,
    '',
  ],
  [
    'a file without a name',
    Opcode.TMPFILE,
    `0280410080810000  flags, mode 0100600
     1200000000000000  umask, open_flags`,
    `createUnnamed(3, {"mode":33152,"umask":18,"rdev":0,"target":""}, ${CALLER}, 4292610)`,
    '',
  ],
  [
    'space for a file',
    Opcode.FALLOCATE,
    `${FH}
     0010000000000000  offset
     0000000001000000  length 2^32
     0300000000000000  mode, padding`,
    `fallocate(3, ${FH_SHOWN}, 3, 4096, 4294967296)`,
    '',
  ],
  [
    'bytes are copied from the node of the request to another',
    Opcode.COPY_FILE_RANGE,
    `0700000000000000  fh_in
     0010000000000000  off_in
     0500000000000000  nodeid_out
     0800000000000000  fh_out
     0020000000000000  off_out
     0030000000000000  len
     0000000000000000  flags`,
    'copyFileRange({"nodeid":3,"fh":7,"offset":4096}, {"nodeid":5,"fh":8,"offset":8192}, 12288)',
    '0030000000000000  size, padding',
  ],
  [
    'more of them than 32 bits count',
    Opcode.COPY_FILE_RANGE_64,
    `0700000000000000  fh_in
     0000000000000000  off_in
     0500000000000000  nodeid_out
     0800000000000000  fh_out
     0000000000000000  off_out
     0010000001000000  len
     0000000000000000  flags`,
    'copyFileRange({"nodeid":3,"fh":7,"offset":0}, {"nodeid":5,"fh":8,"offset":0}, 4294971392)',
    '0010000001000000  bytes_copied',
  ],
  [
    'a file reaches the disk',
    Opcode.FSYNC,
    `${FH}
     0000000000000000  fsync_flags, padding`,
    `fsync(3, ${FH_SHOWN}, false)`,
    '',
  ],
  [
    'its data alone',
    Opcode.FSYNC,
    `${FH}
     0100000000000000  fsync_flags, padding`,
    `fsync(3, ${FH_SHOWN}, true)`,
    '',
  ],
  [
    'a directory reaches the disk',
    Opcode.FSYNCDIR,
    `${FH}
     0100000000000000  fsync_flags, padding`,
    'fsyncdir(3, true)',
    '',
  ],
  [
    'an open that drops all data, after which set-user-ID goes',
    Opcode.OPEN,
    '0182000001000000  flags, open_flags',
    `open(3, 33281, ${UNIQUE_SHOWN}, true)`,
    `eb03000000000000  fh
     0200000000000000  open_flags, backing_id`,
  ],
  [
    'flags of chattr',
    Opcode.IOCTL,
    `0000000000000000  fh
     0000000002660840  flags, cmd
     0000000000000000  arg
     0400000000000000  in_size, out_size
     40000000  FS_NODUMP_FL`,
    'setFileAttributes(3, "flags", "40000000")',
    `0000000000000000  result, flags
     0000000000000000  in_iovs, out_iovs`,
  ],
  [
    'struct fsxattr',
    Opcode.IOCTL,
    `0000000000000000  fh
     0000000020581c40  flags, cmd
     0000000000000000  arg
     1c00000000000000  in_size, out_size
     ${'07'.repeat(28)}`,
    `setFileAttributes(3, "fsxattr", "${'07'.repeat(28)}")`,
    `0000000000000000  result, flags
     0000000000000000  in_iovs, out_iovs`,
  ],
] as const) {
  const whole = request(opcode, 3, body);
  t.equal(answer(whole), replyOf(reply), `${rule}: the reply`);
  t.equal(calls.join(' '), call, `${rule}: the call`);
  const cut = whole.slice(0, -1);
  new DataView(cut.buffer).setUint32(0, cut.length, true);
  t.equal(answer(cut), replyOf(EINVAL), `${rule}: a byte is missing`);
  t.strictSame(calls, [], `${rule}: then nothing is called`);
}

/** Requests that end in one name, and those that hold two: what comes before the name, and what comes after it. */
const bearers: readonly (readonly [rule: string, opcode: number, before: string, after: string])[] = [
  ['MKNOD', MKNOD, '00'.repeat(16), ''],
  ['MKDIR', MKDIR, '00'.repeat(8), ''],
  ['UNLINK', UNLINK, '', ''],
  ['RMDIR', RMDIR, '', ''],
  ['LINK', LINK, '00'.repeat(8), ''],
  ['CREATE', Opcode.CREATE, '00'.repeat(16), ''],
  ['SYMLINK', SYMLINK, '', '6100'],
  ['RENAME, the old name', RENAME, '00'.repeat(8), '6100'],
  ['RENAME, the new name', RENAME, `${'00'.repeat(8)}6100`, ''],
  ['RENAME2, the old name', RENAME2, '00'.repeat(16), '6100'],
  ['RENAME2, the new name', RENAME2, `${'00'.repeat(16)}6100`, ''],
];
for (const [where, opcode, before, after] of bearers)
  for (const [rule, name, errno] of [
    ['a name is not empty', '00', EINVAL],
    ['a name holds no slash', `${hexOf('a/b')}00`, EINVAL],
    ['a name holds no NUL', '61006200', EINVAL],
    ['a name is not "."', '2e00', EINVAL],
    ['a name is not ".."', '2e2e00', EINVAL],
    ['a name of 256 bytes is too long', `${'61'.repeat(256)}00`, ENAMETOOLONG],
  ] as const) {
    // Where a target follows, which may be anything, a NUL only ends the name.
    if (rule === 'a name holds no NUL' && after !== '' && opcode === SYMLINK) continue;
    t.equal(answer(request(opcode, 3, before + name + after)), replyOf(errno), `${where}: ${rule}`);
    t.strictSame(calls, [], `${where}: ${rule}: nothing is called`);
  }

for (const [rule, opcode, body, errno] of [
  ['a symlink has a target', SYMLINK, `${NAME}\n00  target`, EINVAL],
  ['the target of a symlink ends with the request', SYMLINK, `${NAME}\n${hexOf('a')}00${hexOf('b')}00  target`, EINVAL],
  ['a rename has two names', RENAME, `${'00'.repeat(8)}\n${NAME}`, EINVAL],
  ['and no more', RENAME, `${'00'.repeat(8)}\n${NAME}\n610062006300`, EINVAL],
  [
    'a write does not go beyond its request',
    WRITE,
    `${FH}
     0000000000000000  offset
     0400000000000000  size, write_flags
     0000000000000000  lock_owner
     0180000000000000  flags, padding
     616263  bytes`,
    EINVAL,
  ],
  [
    'nor has it more bytes than a request can have',
    WRITE,
    `${FH}
     0000000000000000  offset
     ffffffff00000000  size, write_flags
     0000000000000000  lock_owner
     0180000000000000  flags, padding
     616263  bytes`,
    EINVAL,
  ],
  ['the name of an xattr is not empty', SETXATTR, `${'00'.repeat(16)}00`, EINVAL],
  ['nor is that of one to remove', Opcode.REMOVEXATTR, '0000', EINVAL],
  ['the name of an xattr holds no NUL', Opcode.REMOVEXATTR, '61006200', EINVAL],
  ['the name of an xattr of 256 bytes is too long', SETXATTR, `${'00'.repeat(16)}${'61'.repeat(256)}00`, ENAMETOOLONG],
  ['so is that of one to remove', Opcode.REMOVEXATTR, `${'61'.repeat(256)}00`, ENAMETOOLONG],
  ['the name of an xattr ends in a NUL', SETXATTR, `${'00'.repeat(16)}616161`, EINVAL],
  [
    'the value of an xattr does not go beyond the request',
    SETXATTR,
    `ffffffff00000000  size, flags
     0000000000000000  setxattr_flags, padding
     ${hexOf('user.a')}00  name`,
    EINVAL,
  ],
  [
    'flags of chattr have four bytes',
    Opcode.IOCTL,
    `0000000000000000  fh
     0000000002660840  flags, cmd
     0000000000000000  arg
     0800000000000000  in_size, out_size
     4000000000000000`,
    EINVAL,
  ],
] as const) {
  t.equal(answer(request(opcode, 3, body)), replyOf(errno), rule);
  t.strictSame(calls, [], `${rule}: nothing is called`);
}

const unnamed = request(Opcode.TMPFILE, 3, `${'00'.repeat(16)}${hexOf('/')}00`);
t.equal(answer(unnamed), replyOf(''), 'the name that comes with a file without a name says nothing');
t.match(calls.join(' '), /^createUnnamed\(3, /, 'it is made');

for (const [rule, nodeid, errno] of [
  ['an error is the answer', FULL, ENOSPC],
  ['so is one that is thrown', CORRUPT, EUCLEAN],
] as const)
  for (const [opcode, body] of [
    [SETATTR, setattrIn('01000000')],
    [UNLINK, NAME],
    [RMDIR, NAME],
    [RENAME, `${'00'.repeat(8)}61006200`],
    [WRITE, '00'.repeat(40)],
    [Opcode.COPY_FILE_RANGE, '00'.repeat(56)],
    [Opcode.COPY_FILE_RANGE_64, '00'.repeat(56)],
    [Opcode.FSYNC, '00'.repeat(16)],
    [Opcode.FSYNCDIR, '00'.repeat(16)],
    [Opcode.IOCTL, '000000000000000000000000026608400000000000000000040000000000000000000000'],
  ] as const)
    t.equal(answer(request(opcode, nodeid, body)), replyOf(errno), `opcode ${opcode}: ${rule}`);

changes.hasLongSetxattr = false;
for (const [rule, body, call] of [
  [
    'without SETXATTR_EXT the header is shorter',
    `0300000001000000  size, flags
     ${hexOf('user.a')}00  name
     00ff61  value`,
    'setxattr(3, "user.a", "00ff61", 1, false)',
  ],
  [
    'and its first byte of the name is no flag',
    `0000000000000000  size, flags
     ${hexOf('abc')}00  name`,
    'setxattr(3, "abc", "", 0, false)',
  ],
] as const) {
  const whole = request(SETXATTR, 3, body);
  t.equal(answer(whole), replyOf(''), `${rule}: the reply`);
  t.equal(calls.join(' '), call, `${rule}: the call`);
  const cut = whole.slice(0, -1);
  new DataView(cut.buffer).setUint32(0, cut.length, true);
  t.equal(answer(cut), replyOf(EINVAL), `${rule}: a byte is missing`);
}
t.end();
