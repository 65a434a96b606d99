/** Proves the rows of src/fuse/ops.ts: each request as the kernel sends it, the call it makes, and its reply. */
import t from 'tap';
import { Dispatcher } from '../../src/fuse/dispatch.ts';
import { operations } from '../../src/fuse/ops.ts';
import { Opcode } from '../../src/fuse/wire/opcode.ts';
import {
  EACCES,
  EINVAL,
  EISDIR,
  ENAMETOOLONG,
  ENODATA,
  ENOSYS,
  ENOTDIR,
  ENOTTY,
  ENXIO,
  ERANGE,
  EROFS,
  EUCLEAN,
} from '../../src/sys/errno.ts';
import { noting, TinyFilesystem } from '../fixtures/mounts/tiny-fs.ts';
import { hexOf, replyOf, request, UNIQUE_SHOWN } from '../fixtures/mounts/wire.ts';

const calls: string[] = [];
const dispatcher = new Dispatcher(noting(new TinyFilesystem(), calls), {
  wanted: { passthroughDepth: 0, posixAcl: false },
  log: () => {},
});
const replyHex = (bytes: number): string => Buffer.from(dispatcher.reply.subarray(0, bytes)).toString('hex');

const HELLO_ATTR = `
  0310000000000000  ino
  0600000000000000  size
  0800000000000000  blocks
  0100000000000000  atime
  0300000000000000  mtime
  0500000000000000  ctime
  0200000004000000  atimensec, mtimensec
  06000000a4810000  ctimensec, mode
  010000000a000000  nlink, uid
  0b00000000000000  gid, rdev
  0010000000000000  blksize, flags`;
const HELLO_ENTRY = `
  0300000000000000  nodeid
  0000000000000000  generation
  0a00000000000000  entry_valid
  ffffffffffffff7f  attr_valid
  0000000000000000  entry_valid_nsec, attr_valid_nsec
  ${HELLO_ATTR}`;
const FH_3 = 'eb03000000000000  fh 1003';

const SILENT = 'no reply';
/** A fuse_ioctl_in, by the bytes of its cmd. */
function ioctl(command: string, room: number): string {
  const outSize = Buffer.alloc(4);
  outSize.writeUInt32LE(room);
  return `0000000000000000  fh
    00000000${command}  flags, cmd
    0000000000000000  arg
    00000000${outSize.toString('hex')}  in_size, out_size`;
}
const IOCTL_OUT = `0000000000000000  result, flags
    0000000000000000  in_iovs, out_iovs`;

const { LOOKUP, GETATTR, GETXATTR, LISTXATTR, READ, LSEEK } = Opcode;

for (const [rule, opcode, nodeid, body, call, want] of [
  ['a name is looked up', LOOKUP, 1, '68656c6c6f00', 'lookup(1, "hello")', HELLO_ENTRY],
  [
    'a name that does not exist is an entry without nodeid',
    LOOKUP,
    1,
    'e93f00',
    'lookup(1, "é?")',
    `0000000000000000  nodeid
     0000000000000000  generation
     0200000000000000  entry_valid
     0000000000000000  attr_valid
     0065cd1d00000000  entry_valid_nsec, attr_valid_nsec
     ${'0000000000000000\n'.repeat(11)}`,
  ],
  ['a name of 255 bytes is looked up', LOOKUP, 3, `${'61'.repeat(255)}00`, `lookup(3, "${'a'.repeat(255)}")`, ENOTDIR],
  ['a name of 256 bytes is too long', LOOKUP, 1, `${'61'.repeat(256)}00`, '', ENAMETOOLONG],
  ['a name ends in a NUL', LOOKUP, 1, '686565', '', EINVAL],
  ['a name is not empty', LOOKUP, 1, '00', '', EINVAL],
  ['a name holds no NUL', LOOKUP, 1, '68006500', '', EINVAL],
  ['a name holds no slash', LOOKUP, 1, '682f6500', '', EINVAL],
  ['a name is not "."', LOOKUP, 1, '2e00', '', EINVAL],
  ['a name is not ".."', LOOKUP, 1, '2e2e00', '', EINVAL],
  ['a name may be "..."', LOOKUP, 3, '2e2e2e00', 'lookup(3, "...")', ENOTDIR],
  ['forget gives lookups back', Opcode.FORGET, 3, '0700000001000000  nlookup', 'forget(3, 4294967303)', SILENT],
  [
    'forget in a batch',
    Opcode.BATCH_FORGET,
    0,
    `0200000000000000  count
     0300000000000000  nodeid
     0100000000000000  nlookup
     0400000000000000  nodeid
     0200000000000000  nlookup`,
    'forget(3, 1) forget(4, 2)',
    SILENT,
  ],
  [
    'a batch ends with the request, whatever it claims',
    Opcode.BATCH_FORGET,
    0,
    `ffffffff00000000  count
     0300000000000000  nodeid
     0100000000000000  nlookup
     0400000000000000  nodeid`,
    'forget(3, 1)',
    SILENT,
  ],
  ['nothing is there to interrupt', Opcode.INTERRUPT, 0, '08070605040302f1  unique', '', SILENT],
  ['an answer to a question not asked', Opcode.NOTIFY_REPLY, 1, '00'.repeat(40), '', SILENT],
  ['the end of a block device', Opcode.DESTROY, 0, '', '', ''],
  [
    'attributes',
    GETATTR,
    3,
    `0000000000000000  getattr_flags
     0000000000000000  fh`,
    'getattr(3)',
    `0a00000000000000  attr_valid
     0000000000000000  attr_valid_nsec
     ${HELLO_ATTR}`,
  ],
  [
    'attributes for statx',
    Opcode.STATX,
    3,
    `0000000000000000  getattr_flags
     0000000000000000  fh
     00000000ff0f0000  sx_flags, sx_mask`,
    'statx(3)',
    `0a00000000000000  attr_valid
     0000000000000000  attr_valid_nsec, flags
     ${'0000000000000000\n'.repeat(2)}
     ff07000000100000  mask, blksize
     0000000000000000  attributes
     010000000a000000  nlink, uid
     0b000000a4810000  gid, mode
     0310000000000000  ino
     0600000000000000  size
     0800000000000000  blocks
     0000000000000000  attributes_mask
     0100000000000000  atime
     0200000000000000
     ${'0000000000000000\n'.repeat(2)}
     0500000000000000  ctime
     0600000000000000
     0300000000000000  mtime
     0400000000000000
     ${'0000000000000000\n'.repeat(16)}`,
  ],
  ['a target is bytes', Opcode.READLINK, 4, '', 'readlink(4)', '7573722fe9'],
  [
    'numbers of the filesystem',
    Opcode.STATFS,
    1,
    '',
    'statfs(1)',
    `4d00000000000000  blocks
     ${'0000000000000000\n'.repeat(2)}
     0800000000000000  files
     0000000000000000  ffree
     00100000ff000000  bsize, namelen
     0010000000000000  frsize
     ${'0000000000000000\n'.repeat(3)}`,
  ],
  ['access is allowed', Opcode.ACCESS, 3, '0400000000000000  mask', 'access(3, 4)', ''],
  ['access is refused', Opcode.ACCESS, 3, '0600000000000000  mask', 'access(3, 6)', EACCES],
  [
    'an xattr',
    GETXATTR,
    3,
    `0500000000000000  size
     ${hexOf('user.a')}00`,
    'getxattr(3, "user.a", {"uid":1000,"gid":100,"pid":4711})',
    hexOf('value'),
  ],
  [
    'the size of an xattr',
    GETXATTR,
    3,
    `0000000000000000  size
     ${hexOf('user.a')}00`,
    'getxattr(3, "user.a", {"uid":1000,"gid":100,"pid":4711})',
    '0500000000000000  size',
  ],
  [
    'an xattr that does not fit',
    GETXATTR,
    3,
    `0400000000000000  size
     ${hexOf('user.a')}00`,
    'getxattr(3, "user.a", {"uid":1000,"gid":100,"pid":4711})',
    ERANGE,
  ],
  [
    'no such xattr; its name may hold a slash',
    GETXATTR,
    3,
    `0000000000000000  size
     ${hexOf('user.b/c')}00`,
    'getxattr(3, "user.b/c", {"uid":1000,"gid":100,"pid":4711})',
    ENODATA,
  ],
  ['the name of an xattr ends in a NUL', GETXATTR, 3, `0000000000000000  size\n${hexOf('user.a')}`, '', EINVAL],
  ['the name of an xattr is not empty', GETXATTR, 3, '0000000000000000  size\n00', '', EINVAL],
  [
    'the names of xattrs',
    LISTXATTR,
    3,
    '0001000000000000  size',
    'listxattr(3, {"uid":1000,"gid":100,"pid":4711})',
    hexOf('user.a\0user.b\0'),
  ],
  [
    'the size of the names',
    LISTXATTR,
    3,
    '0000000000000000  size',
    'listxattr(3, {"uid":1000,"gid":100,"pid":4711})',
    '0e00000000000000  size',
  ],
  [
    'names that do not fit',
    LISTXATTR,
    3,
    '0d00000000000000  size',
    'listxattr(3, {"uid":1000,"gid":100,"pid":4711})',
    ERANGE,
  ],
  [
    'a file is opened',
    Opcode.OPEN,
    3,
    '0080000000000000  flags, open_flags',
    `open(3, 32768, ${UNIQUE_SHOWN}, false)`,
    `${FH_3}
     0200000000000000  open_flags, backing_id`,
  ],
  [
    'a directory is not',
    Opcode.OPEN,
    1,
    '0080000000000000  flags, open_flags',
    `open(1, 32768, ${UNIQUE_SHOWN}, false)`,
    EISDIR,
  ],
  [
    'what throws is answered with its errno',
    Opcode.OPEN,
    7,
    '0080000000000000',
    `open(7, 32768, ${UNIQUE_SHOWN}, false)`,
    EUCLEAN,
  ],
  [
    'a file is read',
    READ,
    3,
    `${FH_3}
     0200000000000000  offset
     0300000000000000  size, read_flags
     0000000000000000  lock_owner
     0080000000000000  flags`,
    `read(3, 1003, 2, 3, ${UNIQUE_SHOWN})`,
    '6c6c6f',
  ],
  [
    'a read of more than there is room for is refused: the kernel would take less for the end',
    READ,
    3,
    `${FH_3}
     0000000001000000  offset
     0100100000000000  size, read_flags
     0000000000000000  lock_owner
     0080000000000000  flags`,
    '',
    EINVAL,
  ],
  [
    'a read of all that there is room for, past the end',
    READ,
    3,
    `${FH_3}
     0000000001000000  offset
     0000100000000000  size, read_flags
     0000000000000000  lock_owner
     0080000000000000  flags`,
    `read(3, 1003, 4294967296, 1048576, ${UNIQUE_SHOWN})`,
    '',
  ],
  [
    'the next hole',
    LSEEK,
    3,
    `${FH_3}
     0100000000000000  offset
     0400000000000000  whence`,
    'lseek(3, 1003, 1, 4)',
    '0600000000000000  offset',
  ],
  [
    'an offset below zero',
    LSEEK,
    3,
    `${FH_3}
     ffffffffffffffff  offset
     0300000000000000  whence`,
    'lseek(3, 1003, -1, 3)',
    ENXIO,
  ],
  [
    'a file is closed',
    Opcode.RELEASE,
    3,
    `${FH_3}
     0080000000000000  flags, release_flags
     0000000000000000  lock_owner`,
    'release(3, 1003)',
    '',
  ],
  ['a directory needs no open', Opcode.OPENDIR, 1, '0080010000000000  flags', 'opendir(1)', ENOSYS],
  [
    'names of a directory, as many as fit',
    Opcode.READDIR,
    1,
    `0000000000000000  fh
     0000000000000000  offset
     4700000000000000  size, read_flags
     0000000000000000  lock_owner
     0080010000000000  flags`,
    'readdir(1, 0, 0, 71, false)',
    `0210000000000000  ino
     0100000000000000  off
     0300000004000000  namelen, type
     7573720000000000  name
     0310000000000000  ino
     0200000000000000  off
     0500000008000000  namelen, type
     68656c6c6f000000  name`,
  ],
  [
    'names and attributes',
    Opcode.READDIRPLUS,
    1,
    `0000000000000000  fh
     0100000000000000  offset
     a000000000000000  size, read_flags
     0000000000000000  lock_owner
     0080010000000000  flags`,
    'readdir(1, 0, 1, 160, true)',
    `${HELLO_ENTRY.replace('ffffffffffffff7f', '0a00000000000000')}
     0310000000000000  ino
     0200000000000000  off
     0500000008000000  namelen, type
     68656c6c6f000000  name`,
  ],
  [
    'a directory is closed',
    Opcode.RELEASEDIR,
    1,
    `0100000000000000  fh
     0080010000000000  flags, release_flags
     0000000000000000  lock_owner`,
    'releasedir(1, 1)',
    '',
  ],
  ['an ioctl that nobody knows', Opcode.IOCTL, 3, '00'.repeat(32), '', ENOTTY],
  [
    'flags of a file',
    Opcode.IOCTL,
    3,
    ioctl('01660880', 4),
    'fileAttributes(3, "flags")',
    `${IOCTL_OUT}
     07070707`,
  ],
  [
    'as many bytes as the kernel has room for: its number says long',
    Opcode.IOCTL,
    3,
    ioctl('01660880', 8),
    'fileAttributes(3, "flags")',
    `${IOCTL_OUT}
     0707070700000000`,
  ],
  [
    'flags by the number of 32 bits',
    Opcode.IOCTL,
    3,
    ioctl('01660480', 4),
    'fileAttributes(3, "flags")',
    `${IOCTL_OUT}\n07070707`,
  ],
  [
    'struct fsxattr',
    Opcode.IOCTL,
    3,
    ioctl('1f581c80', 28),
    'fileAttributes(3, "fsxattr")',
    `${IOCTL_OUT}\n${'07'.repeat(28)}`,
  ],
  ['too little room', Opcode.IOCTL, 3, ioctl('1f581c80', 27), 'fileAttributes(3, "fsxattr")', EINVAL],
  ['more room than there is', Opcode.IOCTL, 3, ioctl('1f581c80', 0x7fffffff), 'fileAttributes(3, "fsxattr")', EINVAL],
  ['a node without flags', Opcode.IOCTL, 4, ioctl('01660880', 4), 'fileAttributes(4, "flags")', ENOTTY],
  ['flags are not set', Opcode.IOCTL, 3, ioctl('02660840', 0), '', EROFS],
  ['nor is struct fsxattr', Opcode.IOCTL, 3, ioctl('20581c40', 0), '', EROFS],
] as const) {
  calls.length = 0;
  const bytes = request(opcode, nodeid, body);
  const replied = dispatcher.handle(bytes, bytes.length);
  t.equal(calls.join(' '), call, `${rule}: the call`);
  if (want === SILENT) t.equal(replied, 0, `${rule}: no reply`);
  else t.equal(replyHex(replied), replyOf(want), `${rule}: the reply`);
}

/** sizeof the fuse_*_in of operations that are refused unseen. Source: linux/fuse.h. */
const refused: [name: keyof typeof Opcode, bodyBytes: number, errno: number][] = [
  ['SETATTR', 88, EROFS],
  ['SYMLINK', 4, EROFS],
  ['MKNOD', 18, EROFS],
  ['MKDIR', 10, EROFS],
  ['UNLINK', 2, EROFS],
  ['RMDIR', 2, EROFS],
  ['RENAME', 12, EROFS],
  ['RENAME2', 20, EROFS],
  ['LINK', 10, EROFS],
  ['WRITE', 40, EROFS],
  ['SETXATTR', 10, EROFS],
  ['REMOVEXATTR', 2, EROFS],
  ['CREATE', 18, EROFS],
  ['TMPFILE', 16, EROFS],
  ['FALLOCATE', 32, EROFS],
  ['COPY_FILE_RANGE', 56, EROFS],
  ['COPY_FILE_RANGE_64', 56, EROFS],
  ['FLUSH', 24, ENOSYS],
  ['FSYNC', 16, ENOSYS],
  ['FSYNCDIR', 16, ENOSYS],
  ['SYNCFS', 8, ENOSYS],
  ['BMAP', 16, ENOSYS],
  ['POLL', 24, ENOSYS],
  ['GETLK', 48, ENOSYS],
  ['SETLK', 48, ENOSYS],
  ['SETLKW', 48, ENOSYS],
  ['SETUPMAPPING', 40, ENOSYS],
  ['REMOVEMAPPING', 4, ENOSYS],
];
for (const [name, bodyBytes, errno] of refused) {
  calls.length = 0;
  const whole = request(Opcode[name], 1, '61'.repeat(bodyBytes));
  t.equal(replyHex(dispatcher.handle(whole, whole.length)), replyOf(errno), `${name} is refused`);
  const short = request(Opcode[name], 1, '61'.repeat(bodyBytes - 1));
  t.equal(replyHex(dispatcher.handle(short, short.length)), replyOf(EINVAL), `${name} that is cut is malformed`);
  t.strictSame(calls, [], `${name} does not reach the filesystem`);
}

for (const [name, opcode] of Object.entries(Opcode))
  t.equal(operations.has(opcode), name !== 'INIT', `${name} has a row, or is INIT`);
for (const opcode of [0, 7, 19, 54, 4096, 0xffffffff]) {
  const bytes = request(opcode, 1, '');
  t.equal(replyHex(dispatcher.handle(bytes, bytes.length)), replyOf(ENOSYS), `opcode ${opcode} is unknown`);
}
