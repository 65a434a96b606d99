/** Proves src/fuse/dirents.ts against entries spelled out by hand. */
import t from 'tap';
import { EntryOut } from '../../src/fuse/abi.ts';
import { DirentPacker } from '../../src/fuse/dirents.ts';
import { putEntryOut } from '../../src/fuse/reply.ts';
import { hexLines } from '../fixtures/wire.ts';

const room = Buffer.alloc(4096, 0xee);
const out = { bytes: room, view: new DataView(room.buffer, room.byteOffset, room.length) };
const packer = new DirentPacker();
const packed = (): string => room.toString('hex', 0, packer.length);

const times = { atime: 1, atimensec: 2, mtime: 3, mtimensec: 4, ctime: 5, ctimensec: 6 };
const attr = { ino: 7, mode: 0o100755, nlink: 1, uid: 0, gid: 0, rdev: 0, size: 1, blocks: 8, blksize: 4096, ...times };

for (const [rule, name, hex] of [
  ['a name of one byte', 'a', '6100000000000000'],
  ['of seven', 'abcdefg', '6162636465666700'],
  ['of eight: no padding', 'abcdefgh', '6162636465666768'],
  ['of nine', 'abcdefghi', '6162636465666768 6900000000000000'],
  ['bytes above 127', '\x80\xff\x01', '80ff010000000000'],
] as const) {
  room.fill(0xee);
  packer.begin(out, 4096);
  t.ok(packer.add(name, 2 ** 32 + 5, 9, 4), `${rule}: added`);
  const dirent = hexLines(`
    0500000001000000  ino
    0900000000000000  off
    0${name.length}00000004000000  namelen, type
    ${hex}`);
  t.equal(packed(), dirent, rule);
  t.equal(room[packer.length], 0xee, `${rule}: nothing behind it`);

  room.fill(0xee);
  packer.begin(out, 4096);
  t.ok(packer.addPlus(name, 9, 4, 2 ** 32 + 5, 35, 1, 2, attr), `${rule}, plus: added`);
  const entry = Buffer.alloc(EntryOut.SIZE);
  putEntryOut(new DataView(entry.buffer, entry.byteOffset, entry.length), 0, 35, 0, 1, 2, attr);
  t.equal(packed(), entry.toString('hex') + dirent, `${rule}, plus: entry, then dirent`);

  room.fill(0xee);
  packer.begin(out, 4096);
  t.ok(packer.addPlus(name, 9, 4, 2 ** 32 + 5, 0, 0, 0, undefined), `${rule}, no attributes: added`);
  t.equal(packed(), '00'.repeat(EntryOut.SIZE) + dirent, `${rule}, no attributes: zeros, then dirent`);
}

for (const [rule, limit, count] of [
  ['no room at all', 0, 0],
  ['one byte too few', 31, 0],
  ['exactly one', 32, 1],
  ['one and a half', 63, 1],
  ['exactly two', 64, 2],
  ['the buffer bounds what the limit does not', 1e9, 128],
] as const) {
  packer.begin(out, limit);
  let added = 0;
  while (packer.add('abc', 1, added + 1, 8)) added++;
  t.equal(added, count, rule);
  t.equal(packer.length, 32 * count, `${rule}: length`);
}

for (const [rule, limit, count] of [
  ['plus, one byte too few', 159, 0],
  ['plus, exactly one', 160, 1],
  ['plus, the buffer bounds', 1e9, 25],
] as const) {
  packer.begin(out, limit);
  let added = 0;
  for (; packer.hasRoom('abc'); added++) packer.addPlus('abc', added + 1, 8, 1, 2, 1, 1, attr);
  t.equal(added, count, `${rule}: what hasRoom says`);
  t.notOk(packer.addPlus('abc', 1, 8, 1, 2, 1, 1, attr), `${rule}: full`);
  t.equal(packer.length, 160 * count, `${rule}: length`);
}
