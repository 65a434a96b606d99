/** Proves src/fuse/dirents.ts against entries spelled out by hand. */
import fc from 'fast-check';
import t from 'tap';
import { DirentPacker } from '../../src/fuse/dirents.ts';
import { putEntryOut } from '../../src/fuse/reply.ts';
import { EntryOut } from '../../src/fuse/wire/abi.ts';
import { hexLines } from '../fixtures/mounts/wire.ts';

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

/** What the kernel takes out of a reply: fs/fuse/readdir.c, parse_dirfile and parse_dirplusfile. */
function unpacked(length: number, plus: boolean): [name: string, ino: bigint, off: bigint, type: number][] {
  const entries: [string, bigint, bigint, number][] = [];
  const head = plus ? 128 : 0;
  for (let at = 0; at + head + 24 <= length; ) {
    const dirent = at + head;
    const bufferOf = room.readUInt32LE(dirent + 16);
    const name = room.toString('latin1', dirent + 24, dirent + 24 + bufferOf);
    entries.push([
      name,
      room.readBigUInt64LE(dirent),
      room.readBigUInt64LE(dirent + 8),
      room.readUInt32LE(dirent + 20),
    ]);
    at = dirent + Math.ceil((24 + bufferOf) / 8) * 8;
  }
  return entries;
}

const entry = fc.tuple(
  fc.uint8Array({ minLength: 1, maxLength: 255 }).map(bytes => Buffer.from(bytes).toString('latin1')),
  fc.maxSafeInteger().map(Math.abs),
  fc.integer({ min: 1 }),
  fc.nat(15),
);
fc.assert(
  fc.property(fc.array(entry, { maxLength: 20 }), fc.nat(4096), fc.boolean(), (entries, limit, plus) => {
    room.fill(0xee);
    packer.begin(out, limit);
    const full = entries.findIndex(([name, ino, off, type]) =>
      plus ? !packer.addPlus(name, off, type, ino, 0, 0, 0, undefined) : !packer.add(name, ino, off, type),
    );
    const fitting = full < 0 ? entries : entries.slice(0, full);
    const wanted = fitting.map(([name, ino, off, type]) => `${name} ${ino} ${off} ${type}`);
    const found = unpacked(packer.length, plus).map(fields => fields.join(' '));
    const rest = room.subarray(packer.length).every(byte => byte === 0xee);
    return packer.length <= limit && rest && wanted.join('\n') === found.join('\n');
  }),
  { numRuns: 1000 },
);
t.pass('any entries: what fits is read as it was, and nothing is written past it');
