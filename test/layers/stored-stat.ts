/** Owners and modes in xattrs: as containers/storage and fuse-overlayfs write them. */
import t from 'tap';
import { formatStoredStat, isOverridden, parseStoredStat } from '../../src/layers/stored-stat.ts';
import { makeRdev } from '../../src/sys/stat.ts';

const FILE = 0o100700;
const DIRECTORY = 0o40700;

for (const [rule, value, own, uid, gid, mode, rdev] of [
  ['containers/storage 1.43', '0:0:0755', DIRECTORY, 0, 0, 0o40755, 0],
  ['containers/storage 1.57', '1000:5:4711:file', FILE, 1000, 5, 0o104711, 0],
  ['a directory of it', '0:0:1777:dir', DIRECTORY, 0, 0, 0o41777, 0],
  ['a character device of it', '0:6:0666:char-1-3', FILE, 0, 6, 0o20666, makeRdev(1, 3)],
  ['a block device of it', '0:6:0660:block-259-1048575', FILE, 0, 6, 0o60660, makeRdev(259, 1_048_575)],
  ['a fifo of it', '3:4:0600:pipe', FILE, 3, 4, 0o10600, 0],
  ['a socket of it', '3:4:0777:socket', FILE, 3, 4, 0o140777, 0],
  ['fuse-overlayfs 1.10 writes the type, too', '7:8:104711', FILE, 7, 8, 0o104711, 0],
  ['a directory of it', '4294967294:8:41777', DIRECTORY, 4_294_967_294, 8, 0o41777, 0],
] as const) {
  t.strictSame(parseStoredStat(value, own), { uid, gid, mode, rdev }, rule);
}

for (const [rule, value, own] of [
  ['nothing', '', FILE],
  ['two numbers', '0:0', FILE],
  ['no octal number', '0:0:0855', FILE],
  ['a negative number', '-1:0:0755', FILE],
  ['words', 'root:root:0755', FILE],
  ['more after it', '0:0:0755:file:x', FILE],
  ['a line after it', '0:0:0755\n', FILE],
  ['an unknown type', '0:0:0755:door', FILE],
  ['a file cannot be a symlink', '0:0:0777:symlink', FILE],
  ['a device without numbers', '0:0:0666:char', FILE],
  ['a device with one number', '0:0:0666:char-1', FILE],
  ['a file with numbers', '0:0:0666:file-1-3', FILE],
  ['a file cannot be a directory', '0:0:0755:dir', FILE],
  ['a directory cannot be a file', '0:0:0755:file', DIRECTORY],
  ['nor a device', '0:0:0755:char-1-3', DIRECTORY],
] as const) {
  t.equal(parseStoredStat(value, own), undefined, rule);
}

for (const [text, uid, gid, mode, rdev] of [
  ['0:0:0755:dir', 0, 0, 0o40755, 0],
  ['1000:5:4711:file', 1000, 5, 0o104711, 0],
  ['0:6:0666:char-1-3', 0, 6, 0o20666, makeRdev(1, 3)],
  ['0:6:0660:block-259-1048575', 0, 6, 0o60660, makeRdev(259, 1_048_575)],
  ['3:4:0000:pipe', 3, 4, 0o10000, 0],
  ['3:4:0777:socket', 3, 4, 0o140777, 0],
] as const) {
  t.equal(formatStoredStat({ uid, gid, mode, rdev }), text);
}

for (const [name, is] of [
  ['user.containers.override_stat', true],
  ['user.fuseoverlayfs.override_stat', true],
  ['security.fuseoverlayfs.override_stat', true],
  ['system.posix_acl_access', true],
  ['user.fuseoverlayfs.opaque', false],
  ['user.containers.other', false],
  ['security.capability', false],
] as const) {
  t.equal(isOverridden(name), is, name);
}
