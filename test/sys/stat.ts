/** Proves src/sys/stat.ts: C's stat.h as Node publishes it, dirent.h, and Python's os.makedev. */
import { constants } from 'node:fs';
import t from 'tap';
import * as stat from '../../src/sys/stat.ts';

const system: Record<string, unknown> = constants;
const bits = Object.entries(stat).filter(([name]) => name.startsWith('S_IF'));
t.equal(bits.length, 8, 'there are a mask and seven types');
for (const [name, value] of bits) t.equal(value, system[name], `${name} is the system's`);

for (const [rule, mode, dtype, is] of [
  ['a fifo', constants.S_IFIFO, 1, ''],
  ['a character device', constants.S_IFCHR, 2, ''],
  ['a directory', constants.S_IFDIR, 4, 'directory'],
  ['a block device', constants.S_IFBLK, 6, ''],
  ['a regular file', constants.S_IFREG, 8, 'regular'],
  ['a symlink', constants.S_IFLNK, 10, 'symlink'],
  ['a socket', constants.S_IFSOCK, 12, ''],
  ['no type', 0, 0, ''],
] as const)
  for (const permissions of [0, 0o7777]) {
    t.equal(stat.dtypeOf(mode | permissions), dtype, `d_type: ${rule}, permissions ${permissions.toString(8)}`);
    t.equal(stat.isDirectory(mode | permissions), is === 'directory', `isDirectory: ${rule}`);
    t.equal(stat.isRegular(mode | permissions), is === 'regular', `isRegular: ${rule}`);
    t.equal(stat.isSymlink(mode | permissions), is === 'symlink', `isSymlink: ${rule}`);
  }

t.same([stat.DT_UNKNOWN, stat.DT_CHR, stat.DT_DIR, stat.DT_REG], [0, 2, 4, 8], 'DT_* are those of dirent.h');

for (const [rule, major, minor, rdev] of [
  ['a whiteout', 0, 0, 0],
  ['/dev/null', 1, 3, 0x103],
  ['a console', 5, 1, 0x501],
  ['a disk', 8, 17, 0x811],
  ['a major above a byte', 259, 0, 0x10300],
  ['the last minor in a byte', 259, 255, 0x103ff],
  ['the first minor above a byte', 259, 256, 0x110300],
  ['a minor alone', 0, 256, 0x100000],
  ['minor bits on both sides', 1, 0x12345, 0x12300145],
  ['the last major', 4095, 0, 0xfff00],
  ['every bit: positive, not -1', 4095, 1048575, 0xffffffff],
] as const) {
  t.equal(stat.makeRdev(major, minor), rdev, `makeRdev: ${rule}`);
  t.same([stat.rdevMajor(rdev), stat.rdevMinor(rdev)], [major, minor], `rdevMajor and rdevMinor: ${rule}`);
}
