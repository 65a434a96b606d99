/** What the functions of src/fuse/reply.ts write, against bytes spelled out by hand. */
import t from 'tap';
import * as reply from '../../src/fuse/reply.ts';
import { Fopen } from '../../src/fuse/wire/abi.ts';
import { hexLines } from '../fixtures/mounts/wire.ts';

const attr = {
  ino: 2 ** 40 + 5,
  mode: 0o100644,
  nlink: 2,
  uid: 1000,
  gid: 100,
  rdev: 0x00812345,
  size: 2 ** 33 + 1,
  blocks: 8,
  blksize: 4096,
  atime: -1,
  atimensec: 999_999_999,
  mtime: 2 ** 32,
  mtimensec: 1,
  ctime: -(2 ** 33),
  ctimensec: 0,
};
const ATTR = `
  0500000000010000  ino
  0100000002000000  size
  0800000000000000  blocks
  ffffffffffffffff  atime
  0000000001000000  mtime
  00000000feffffff  ctime
  ffc99a3b01000000  atimensec, mtimensec
  00000000a4810000  ctimensec, mode
  02000000e8030000  nlink, uid
  6400000045238100  gid, rdev
  0010000000000000  blksize, flags`;
const FOREVER = 'ffffffffffffff7f';

for (const [rule, put, want] of [
  ['attributes, times before 1970 included', (v: DataView) => reply.putAttr(v, 0, attr), ATTR],
  [
    'an entry with timeouts of a day and of a quarter of a second',
    (v: DataView) => reply.putEntryOut(v, 0, 35, 1, 86400, 0.25, attr),
    `2300000000000000  nodeid
     0100000000000000  generation
     8051010000000000  entry_valid
     0000000000000000  attr_valid
     0000000080b2e60e  entry_valid_nsec, attr_valid_nsec
     ${ATTR}`,
  ],
  [
    'a missing name, for ever',
    (v: DataView) => reply.putNegativeEntryOut(v, 0, Number.POSITIVE_INFINITY),
    `0000000000000000  nodeid
     0000000000000000  generation
     ${FOREVER}  entry_valid
     ${'0000000000000000\n'.repeat(13)}`,
  ],
  [
    'attributes for ever',
    (v: DataView) => reply.putAttrOut(v, 0, Number.POSITIVE_INFINITY, attr),
    `${FOREVER}  attr_valid
     0000000000000000  attr_valid_nsec, dummy
     ${ATTR}`,
  ],
  [
    'statx: all of stat(2), no birth time',
    (v: DataView) => reply.putStatxOut(v, 0, 1.5, attr),
    `0100000000000000  attr_valid
     0065cd1d00000000  attr_valid_nsec, flags
     0000000000000000  spare
     0000000000000000
     ff07000000100000  mask, blksize
     0000000000000000  attributes
     02000000e8030000  nlink, uid
     64000000a4810000  gid, mode
     0500000000010000  ino
     0100000002000000  size
     0800000000000000  blocks
     0000000000000000  attributes_mask
     ffffffffffffffff  atime
     ffc99a3b00000000
     0000000000000000  btime
     0000000000000000
     00000000feffffff  ctime
     0000000000000000
     0000000001000000  mtime
     0100000000000000
     2301000045080000  rdev: major 0x123, minor 0x845
     ${'0000000000000000\n'.repeat(15)}`,
  ],
  [
    'statx: all of stat(2), and the birth time',
    (v: DataView) => reply.putStatxOut(v, 0, 1.5, { ...attr, btime: -2, btimensec: 3 }),
    `0100000000000000  attr_valid
     0065cd1d00000000  attr_valid_nsec, flags
     0000000000000000  spare
     0000000000000000
     ff0f000000100000  mask, blksize
     0000000000000000  attributes
     02000000e8030000  nlink, uid
     64000000a4810000  gid, mode
     0500000000010000  ino
     0100000002000000  size
     0800000000000000  blocks
     0000000000000000  attributes_mask
     ffffffffffffffff  atime
     ffc99a3b00000000
     feffffffffffffff  btime
     0300000000000000
     00000000feffffff  ctime
     0000000000000000
     0000000001000000  mtime
     0100000000000000
     2301000045080000  rdev: major 0x123, minor 0x845
     ${'0000000000000000\n'.repeat(15)}`,
  ],
  [
    'an open file with a backing id',
    (v: DataView) => reply.putOpenOut(v, 0, 2 ** 32 + 7, Fopen.PASSTHROUGH | Fopen.KEEP_CACHE, 9),
    `0700000001000000  fh
     8200000009000000  open_flags, backing_id`,
  ],
  [
    'an open file without one',
    (v: DataView) => reply.putOpenOut(v, 0, 7, 0),
    `0700000000000000  fh
     0000000000000000  open_flags, backing_id`,
  ],
  [
    'numbers of statfs',
    (v: DataView) =>
      reply.putStatfsOut(v, 0, {
        blocks: 10,
        bfree: 9,
        bavail: 8,
        files: 7,
        ffree: 6,
        bsize: 4096,
        namelen: 255,
        frsize: 512,
      }),
    `0a00000000000000  blocks
     0900000000000000  bfree
     0800000000000000  bavail
     0700000000000000  files
     0600000000000000  ffree
     00100000ff000000  bsize, namelen
     0002000000000000  frsize, padding
     ${'0000000000000000\n'.repeat(3)}`,
  ],
  ['an offset', (v: DataView) => reply.putLseekOut(v, 0, 4096), '0010000000000000  offset'],
] as const) {
  const bytes = Buffer.alloc(512, 0xee);
  const written = put(new DataView(bytes.buffer, bytes.byteOffset, bytes.length));
  t.equal(bytes.toString('hex', 0, written), hexLines(want), rule);
  t.ok(
    bytes.subarray(written).every(byte => byte === 0xee),
    `${rule}: nothing behind it`,
  );
}
