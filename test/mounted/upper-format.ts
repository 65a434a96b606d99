/**
 * What changes leave in an upper layer, beside the kernel's overlayfs: the same statements are run in both over the same lower
 * layers, and then each goes on with what the other one left.
 */
import { execFileSync } from 'node:child_process';
import { existsSync, mkdirSync, readdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import {
  type Change,
  type Dump,
  dumpTrees,
  runChanges,
  type Stack,
  withoutWritableOverlay,
  withWritable,
} from '../fixtures/mounts/writable.ts';
import { withScratchAsync } from '../fixtures/scratch.ts';

t.setTimeout(600_000);

/** Makes the layers `A` (above) and `B` that each case gets a copy of. */
const LAYERS = `
umask 022
mkdir -p A/d/sub/deep A/e A/g A/open A/acl A/opq B/d/sub B/d/under B/e B/opq B/onlydir
cd A
echo hello >f
head -c 100000 /dev/zero | tr '\\0' a >big
truncate -s 1M sparse
printf data | dd of=sparse bs=1 seek=500000 conv=notrunc status=none
echo hard >h1
ln h1 h2
ln -s f sl
ln -s nowhere dangling
mkfifo p
mknod c c 1 3
mknod b b 7 0
python3 -c 'import socket; socket.socket(socket.AF_UNIX).bind("s")'
echo 'x of A' >d/x
echo y >d/sub/y
echo z >d/sub/deep/z
echo top >opq/top
mknod gone c 0 0
head -c 100000 /dev/zero | tr '\\0' b >k1
ln k1 d/k2
ln k1 d/sub/k3
ln -s k1 ks1
ln -P ks1 d/ks2
mkfifo kp1
ln kp1 kp2
echo private >private
echo suid >suid
echo cap >cap
echo both >both
chgrp 100 g
chmod 2775 g
chmod 777 open acl suid
chown 1000:1000 private
chmod 600 private
chmod 6777 suid
chown 7:8 big
chmod 4755 big both
chmod 755 cap
python3 -c '
import os, struct
def acl(*entries): return struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *e) for e in entries)
os.setxattr("acl", "system.posix_acl_default", acl((1, 7, 2**32-1), (2, 6, 1001), (4, 5, 2**32-1), (16, 7, 2**32-1), (32, 4, 2**32-1)))
os.setxattr("big", "user.foo", b"bar")
os.setxattr("f", "trusted.foo", b"bar")
for name in "cap", "both": os.setxattr(name, "security.capability", struct.pack("<5I", 0x02000001, 1 << 10, 0, 0, 0))
for space in "trusted", "user": os.setxattr("opq", space + ".overlay.opaque", b"y")
'
cd ../B
echo 'f of B' >f
echo 'x of B' >d/x
echo w >d/w
echo v >d/sub/v
echo deep >d/under/u
echo gone >gone
echo hidden >opq/hidden
echo only >only
echo q >onlydir/q
cd ..
find . -exec touch -h -d '2001-02-03 04:05:06.123456789' {} +
`;

type Case = readonly [rule: string, ...statements: string[]];

const cases: readonly Case[] = [
  ['nothing is changed', "get('f')", "names('d')"],

  ['a mode', "chmod('f', 0o600)"],
  ['set-user-ID and set-group-ID', "chmod('f', 0o6755)", "show('f')"],
  ['the mode of a directory', "chmod('d', 0o1777)"],
  ['the mode of a directory in directories', "chmod('d/sub/deep', 0o700)"],
  [
    'the mode of a fifo, of devices and of a socket',
    "chmod('p', 0o600)",
    "chmod('c', 0o600)",
    "chmod('b', 0o600)",
    "chmod('s', 0o600)",
  ],
  ['the owner of a file of another, with set-user-ID', "chown('big', 5, 6)", "show('big')"],
  [
    'the owner of a file with a capability',
    "chown('cap', 5, 6)",
    "chown('both', 5, 6)",
    "show('both')",
    "listxattr('cap')",
  ],
  ['the group alone', "chown('f', -1, 6)"],
  ['an owner who has it already', "chown('big', 7, 8)"],
  ['the owner of a directory', "chown('d', 5, 6)"],
  ['the owner of a symlink', "lchown('sl', 7, 8)", "lchown('dangling', 7, 8)"],
  ['the owner of a fifo, a device and a socket', "chown('p', 7, 8)", "chown('c', 7, 8)", "chown('s', 7, 8)"],
  ['the owner of one of two links', "chown('h1', 3, 4)", "show('h1')", "show('h2')"],
  ['the times of a file', "utime('big', ns=(5, 1234567890123456789))"],
  ['times before 1970', "utime('f', ns=(-5, -1500000000))"],
  ['the times of a directory', "utime('d', ns=(5, 1234567890123456789))"],
  ['the times of a symlink', "utime('sl', ns=(5, 1234567890123456789), follow_symlinks=False)"],
  ['the times of a device', "utime('c', ns=(5, 1234567890123456789))"],
  ['the time now', "utime('f')"],
  [
    'several attributes of one file',
    "chmod('big', 0o755)",
    "chown('big', 1, 2)",
    "chmod('big', 0o4711)",
    "utime('big', ns=(5, 6))",
  ],

  ['a user xattr', "setxattr('f', 'user.a', b'b')", "listxattr('f')"],
  [
    'an xattr that is there, and flags',
    "setxattr('big', 'user.foo', b'b', 1)",
    "setxattr('big', 'user.foo', b'b', 2)",
    "setxattr('f', 'user.foo', b'b', 2)",
  ],
  ['an xattr is removed', "removexattr('big', 'user.foo')", "listxattr('big')"],
  ['one that is not there', "removexattr('big', 'user.none')"],
  ['a capability', "setxattr('f', 'security.capability', CAPABILITY)"],
  ['a capability is removed', "removexattr('cap', 'security.capability')"],
  ['a trusted xattr', "setxattr('d', 'trusted.bar', b'')", "listxattr('d')", "getxattr('f', 'trusted.foo').decode()"],
  [
    'a mark of overlayfs is data like any other',
    "setxattr('d', 'trusted.overlay.opaque', b'y')",
    "listxattr('d')",
    "names('d')",
  ],
  ['so is one of a user', "setxattr('d', 'user.overlay.opaque', b'y')", "listxattr('d')", "names('d')"],
  [
    'a mark of overlayfs is removed',
    "removexattr('d', 'trusted.overlay.opaque')",
    "removexattr('opq', 'trusted.overlay.opaque')",
    "removexattr('opq', 'user.overlay.opaque')",
    "names('opq')",
  ],
  [
    'an xattr of a symlink',
    "setxattr('sl', 'trusted.a', b'b', follow_symlinks=False)",
    "setxattr('sl', 'user.a', b'b', follow_symlinks=False)",
  ],
  ['an xattr of a fifo', "setxattr('p', 'trusted.a', b'b')", "setxattr('p', 'user.a', b'b')"],
  ['an ACL', "setxattr('f', 'system.posix_acl_access', acl_for(1001, 6))", "show('f')"],
  [
    'an ACL that is no more than a mode',
    "setxattr('f', 'system.posix_acl_access', acl(('u', 6, NOBODY), ('g', 6, NOBODY), ('o', 0, NOBODY)))",
    "show('f')",
    "listxattr('f')",
  ],
  [
    'a default ACL',
    "setxattr('d', 'system.posix_acl_default', acl_for(1001, 6))",
    "put('d/new', 'new')",
    "mkdir('d/dir')",
    "show('d/new')",
    "show('d/dir')",
  ],
  ['a default ACL is removed', "removexattr('acl', 'system.posix_acl_default')", "put('acl/new', 'new')"],

  ['bytes are appended', "append('f', 'more')", "get('f')"],
  ['a large file is appended to', "append('big', 'more')", "get('big')"],
  ['a file in directories', "append('d/sub/deep/z', 'more')"],
  ['a file of the layer below', "append('d/w', 'more')", "append('only', 'more')"],
  ['a file with holes', "append('sparse', 'more')", "get('sparse')"],
  ['an open for writing, without a write', "close(open('f', O_RDWR))"],
  ['an open for reading', "close(open('f', O_RDONLY))"],
  ['an open that drops all data', "close(open('big', O_WRONLY | O_TRUNC))", "show('big')"],
  ['an open for reading that drops all data', "close(open('big', O_RDONLY | O_TRUNC))", "show('big')"],
  ['an overwritten file', "put('f', 'new')", "put('d/sub/y', 'new')"],
  ['a shorter file', "truncate('big', 10)", "get('big')"],
  ['a longer file', "truncate('f', 10)", "get('f')"],
  ['an empty file', "truncate('f', 0)"],
  ['a file of the same size', "truncate('f', 6)"],
  ['attributes, then data', "chmod('big', 0o600)", "append('big', 'x')", "get('big')"],
  ['attributes, then an open that drops all data', "chmod('big', 0o600)", "put('big', 'x')"],
  ['attributes, then a shorter file', "chown('big', 1, 1)", "truncate('big', 10)", "get('big')"],
  [
    'attributes of a file with a capability, then an open for writing',
    "chmod('both', 0o700)",
    "close(open('both', O_RDWR))",
    "utime('both', ns=(5, 6))", // the kernel has set the time, though nothing was written
    "listxattr('both')",
  ],
  ['data, then attributes', "append('big', 'x')", "chown('big', 1, 1)"],
  ['a shared map', "poke('big', 50000, 'Z')", "get('big')"],
  [
    'room for data',
    "fallocate('f', 0, 0, 10000)",
    "show('f')",
    "fallocate('big', KEEP_SIZE, 0, 200000)",
    "show('big')",
  ],
  ['a hole is made', "fallocate('big', KEEP_SIZE | PUNCH_HOLE, 4096, 8192)", "get('big')"],
  ['zeros are made', "fallocate('big', ZERO_RANGE, 0, 8192)", "get('big')"],
  ['a range is copied to a new file', "copy_range('big', 'copy', 60000, 7, 9)", "get('copy')"],
  ['a range is copied to a lower file', "copy_range('big', 'f', 60000)", "get('f')"],
  ['a range is copied from an upper file', "put('n', 'new')", "copy_range('n', 'f', 3, 0, 6)", "get('f')"],
  ['data of one of two links', "append('h1', 'more')", "get('h2')", "show('h1')", "show('h2')"],
  ['a user writes to a file with set-user-ID', "by(1000, \"append('suid', 'x')\")", "show('suid')"],
  ['a user shortens a file with set-user-ID', 'by(1000, "truncate(\'suid\', 1)")', "show('suid')"],
  [
    'a user changes a file with set-group-ID that no group may run',
    "chmod('suid', 0o6666)",
    'by(1000, "fallocate(\'suid\', 0, 0, 5000)")',
    "show('suid')",
    "chmod('suid', 0o6666)",
    "by(1000, \"append('suid', 'x')\")",
    "show('suid')",
  ],
  [
    'offsets that no file has',
    "lseek(open('big', O_RDWR), 2 ** 62, os.SEEK_DATA)",
    "lseek(open('big', O_RDWR), -5, os.SEEK_HOLE)",
    "copy_range('big', 'f', 10, 0, 2 ** 62)",
    "copy_range('big', 'f', 10, 2 ** 62, 0)",
  ],
  ['a user empties a file with set-user-ID', "by(1000, \"put('suid', '')\")", "show('suid')"],
  ['a file with a capability is written to', "append('cap', 'x')", "listxattr('cap')", "show('cap')"],
  ['a file with a capability is shortened', "truncate('cap', 1)", "listxattr('cap')"],
  ['a file with a capability is emptied', "put('cap', '')", "listxattr('cap')"],
  ['a file with a capability and set-user-ID is written to', "append('both', 'x')", "show('both')"],
  ['a mode of a file with a capability', "chmod('cap', 0o700)", "listxattr('cap')"],
  [
    'a user writes to a file of his own',
    "by(1000, \"append('private', 'x')\", \"chmod('private', 0o640)\")",
    "show('private')",
  ],
  [
    'a user has no right',
    "by(1000, \"append('f', 'x')\", \"unlink('f')\", \"chmod('f', 0)\", \"mkdir('n')\", \"put('d/n', '')\")",
  ],

  ['a file is removed', "unlink('f')", 'names()'],
  ['a file of the layer below is removed', "unlink('only')", "unlink('d/w')", "names('d')"],
  ['one of two links is removed', "unlink('h1')", "show('h2')"],
  [
    'a symlink, a fifo, devices and a socket are removed',
    "unlink('sl')",
    "unlink('p')",
    "unlink('c')",
    "unlink('b')",
    "unlink('s')",
  ],
  ['a tree is removed', "shutil.rmtree('d')", 'names()'],
  ['a directory that is not empty is not removed', "rmdir('d')", "rmdir('d/sub')", "unlink('d')", "rmdir('f')"],
  ['an empty directory is removed', "rmdir('e')"],
  ['an opaque directory is removed', "unlink('opq/top')", "rmdir('opq')"],
  [
    'a directory is emptied',
    "unlink('d/x')",
    "unlink('d/w')",
    "shutil.rmtree('d/sub')",
    "shutil.rmtree('d/under')",
    "names('d')",
  ],
  ['a changed file is removed', "append('f', 'x')", "unlink('f')"],
  ['a changed tree is removed', "append('d/x', 'x')", "put('d/new', '')", "mkdir('d/sub/n')", "shutil.rmtree('d')"],
  ['a new file is removed', "put('n', '')", "unlink('n')"],
  ['a new tree is removed', "mkdir('n')", "mkdir('n/n')", "put('n/f', '')", "shutil.rmtree('n')"],

  ['a new file', "put('n', 'new')", "put('d/n', 'new')", "show('n')"],
  ['a new directory', "mkdir('n')", "mkdir('n/n2')", "put('n/f', '')", "mkdir('d/n')", "show('n')"],
  [
    'new objects of all types',
    "symlink('f', 'nl')",
    "mkfifo('np')",
    "mknod('nc', 0o20640, os.makedev(1, 3))",
    "mknod('nb', 0o60640, os.makedev(7, 1))",
    "mknod('nf', 0o100644)",
    "bind('ns')",
    'names()',
  ],
  ['a device with large numbers', "mknod('nc', 0o20640, os.makedev(4095, 1048575))", "os.lstat('nc').st_rdev"],
  ['what would be a whiteout is refused', "mknod('wh', 0o20644, 0)", "mknod('wb', 0o60644, 0)"],
  [
    'a name that is there',
    "put('f', '', O_CREAT | O_EXCL)",
    "mkdir('f')",
    "mkdir('d')",
    "symlink('x', 'sl')",
    "mkfifo('p')",
    "link('f', 'big')",
  ],
  ['set-user-ID of a new file', "put('n', '', O_CREAT, 0o6755)", "mkdir('m', 0o1777)", "show('n')", "show('m')"],
  ['the umask', 'os.umask(0o077)', "put('n', '')", "mkdir('m')", "mkfifo('q')", 'os.umask(0o022)', "show('n')"],
  ['the longest name', "put('n' * 255, '')", "put('n' * 256, '')", "chmod('n' * 255, 0o600)", "rename('f', 'f' * 255)"],
  ['a name that is no text', "put(b'\\xff\\xfe', '')", "rename('f', b'\\xe9')"],
  [
    'files of a user',
    "by(1000, \"put('open/n', 'new')\", \"mkdir('open/m')\", \"symlink('x', 'open/l')\", \"mkfifo('open/q')\")",
  ],
  [
    'set-group-ID of a directory',
    "put('g/n', '')",
    "mkdir('g/m')",
    "symlink('x', 'g/l')",
    "show('g/n')",
    "show('g/m')",
  ],
  [
    'set-group-ID of a directory and a user',
    "chmod('g', 0o2777)",
    "by(1000, \"put('g/n', '', O_CREAT, 0o2770)\", \"mkdir('g/m')\")",
    "show('g/n')",
    "show('g/m')",
  ],
  [
    'an inherited ACL',
    "put('acl/n', '', O_CREAT, 0o640)",
    "mkdir('acl/m')",
    "mkdir('acl/m/m')",
    "symlink('x', 'acl/l')",
    "mkfifo('acl/q')",
    "show('acl/n')",
    "show('acl/m')",
  ],
  ['an inherited ACL and a user', "by(1000, \"put('acl/n', '')\", \"mkdir('acl/m')\", umask=0o077)", "show('acl/n')"],
  ['a file without a name', "nameless('.', 'text')", "nameless('d', 'text')"],
  ['one that gets a name', "nameless('.', 'text', 'n')", "nameless('d', 'text', 'd/sub/n')", "get('n')", "show('n')"],
  [
    'one of a user',
    "by(1000, \"nameless('open', 'text', 'open/n')\")",
    "nameless('acl', 'text', 'acl/n')",
    "nameless('g', 'text', 'g/n')",
  ],

  ['a file again', "unlink('f')", "put('f', 'again')", "show('f')"],
  ['a file under a name that a lower whiteout has', "put('gone', 'again')"],
  ['a directory under a name that a lower whiteout has', "mkdir('gone')", "put('gone/n', '')"],
  ['a directory again', "shutil.rmtree('d')", "mkdir('d')", "put('d/z', '')", "names('d')"],
  ['a directory in the place of a file', "unlink('f')", "mkdir('f')", "names('f')"],
  ['a file in the place of a directory', "shutil.rmtree('d')", "put('d', 'file')"],
  [
    'a symlink, a fifo and a device again',
    "unlink('f')",
    "symlink('x', 'f')",
    "unlink('sl')",
    "mkfifo('sl')",
    "unlink('p')",
    "mknod('p', 0o20600, os.makedev(1, 3))",
  ],
  ['a link in the place of a file', "unlink('f')", "link('big', 'f')", "show('f')"],
  [
    'again and again',
    "unlink('f')",
    "put('f', '1')",
    "unlink('f')",
    "mkdir('f')",
    "rmdir('f')",
    "put('f', '2')",
    "get('f')",
  ],
  [
    'a file of a user again',
    "shutil.rmtree('open')",
    "mkdir('open', 0o777)",
    "chmod('open', 0o777)",
    "by(1000, \"put('open/n', '')\", \"unlink('open/n')\", \"mkdir('open/n')\")",
  ],

  ['a link to a lower file', "link('f', 'ff')", "show('f')", "get('ff')"],
  ['a link to a large lower file', "link('big', 'd/ff')", "show('big')", "get('d/ff')"],
  ['a third link', "link('h1', 'h3')", "show('h1')", "show('h2')", "show('h3')"],
  ['a link to a new file', "put('n', 'new')", "link('n', 'd/n')", "append('d/n', '2')", "get('n')", "show('n')"],
  ['a link to a symlink and to a fifo', "link('sl', 'sl2', follow_symlinks=False)", "link('p', 'p2')"],
  ['a link, and the first name is removed', "link('f', 'ff')", "unlink('f')", "append('ff', 'x')", "get('ff')"],
  ['a link, and data', "link('big', 'ff')", "append('ff', 'x')", "get('big')"],
  ['a link is renamed over its other name', "link('f', 'ff')", "rename('f', 'ff')", 'names()'],

  ['a file gets another name', "rename('f', 'g2')", 'names()', "get('g2')"],
  ['a large file gets another name', "rename('big', 'g2')", "show('g2')"],
  ['a file goes to another directory', "rename('f', 'd/sub/g2')", "rename('big', 'e/big')", "get('e/big')"],
  ['a file goes up', "rename('d/sub/y', 'y')", "rename('d/w', 'w')", "names('d')"],
  [
    'a file goes to a new directory',
    "mkdir('n')",
    "rename('big', 'n/big')",
    "rename('n/big', 'n/big2')",
    "rename('n/big2', 'big')",
    "get('big')",
  ],
  ['a name and back', "rename('f', 'f2')", "rename('f2', 'f')", "get('f')"],
  ['a file over a file', "rename('f', 'big')", "get('big')"],
  ['a new file over a lower one', "put('n', 'new')", "rename('n', 'f')", "get('f')"],
  ['a lower file over a new one', "put('n', 'new')", "rename('f', 'n')", "get('n')"],
  ['a file over a whiteout', "unlink('f')", "rename('big', 'f')", "get('f')"],
  ['a new file over a whiteout', "unlink('f')", "put('n', 'new')", "rename('n', 'f')", "get('f')"],
  ['a file over a lower whiteout', "rename('f', 'gone')", "get('gone')"],
  ['one of two links gets another name', "rename('h1', 'h3')", "show('h2')", "show('h3')"],
  [
    'a symlink, a fifo and devices get other names',
    "rename('sl', 'sl2')",
    "rename('p', 'p2')",
    "rename('c', 'd/c')",
    "rename('s', 's2')",
  ],
  ['a file over a directory, and a directory over a file', "rename('f', 'e')", "rename('e', 'f')"],
  ['a directory gets another name', "rename('d', 'dd')", 'names()', "names('dd')", "get('dd/x')"],
  ['a directory goes to another one', "rename('d', 'e/d')", "names('e/d')", "get('e/d/sub/y')"],
  ['a directory goes to a new one', "mkdir('n')", "rename('d/sub', 'n/s')", "names('n/s')"],
  ['a directory gets two other names', "rename('d', 'dd')", "rename('dd', 'ddd')", "get('ddd/w')"],
  [
    'a directory gets another name, and its old one a new directory',
    "rename('d', 'dd')",
    "mkdir('d')",
    "put('d/x', 'new')",
    "names('d')",
    "names('dd')",
  ],
  [
    'a directory in one that has another name',
    "rename('d', 'dd')",
    "rename('dd/sub', 'dd/s')",
    "rename('dd/s', 's')",
    "names('s')",
  ],
  ['a directory of the layer below', "rename('onlydir', 'od')", "names('od')"],
  ['an opaque directory', "rename('opq', 'opq2')", "names('opq2')"],
  ['a directory over an empty one', "rename('onlydir', 'e')", "names('e')"],
  ['a directory over a full one', "rename('onlydir', 'd')", "show('onlydir')"],
  ['a directory over one that was emptied', "unlink('opq/top')", "rename('onlydir', 'opq')", "names('opq')"],
  ['a directory over a whiteout', "unlink('f')", "rename('d', 'f')", "names('f')"],
  ['a directory over a removed directory', "shutil.rmtree('onlydir')", "rename('d', 'onlydir')", "names('onlydir')"],
  ['a directory into itself', "rename('d', 'd/sub/d')"],
  [
    'a new directory gets another name',
    "mkdir('n')",
    "put('n/f', '')",
    "rename('n', 'n2')",
    "rename('n2', 'd/n2')",
    "names('d')",
  ],
  ['a new directory over a lower one', "mkdir('n')", "put('n/f', '')", "rename('n', 'e')", "names('e')"],
  [
    'a new directory over a whiteout',
    "mkdir('n')",
    "put('n/f', '')",
    "shutil.rmtree('d')",
    "rename('n', 'd')",
    "names('d')",
  ],
  [
    'a changed directory gets another name',
    "chmod('d', 0o700)",
    "append('d/x', 'x')",
    "unlink('d/w')",
    "rename('d', 'dd')",
    "names('dd')",
  ],
  ['a directory with a name that was removed', "unlink('d/x')", "rename('d/sub', 'd/x')", "names('d/x')"],
  ['a changed file gets another name', "append('f', 'x')", "rename('f', 'f2')", "get('f2')"],
  ['a changed mode, then another name', "chmod('big', 0o600)", "rename('big', 'd/big2')", "get('d/big2')"],
  ['another name, then data', "rename('big', 'd/big2')", "append('d/big2', 'x')", "get('d/big2')"],

  [
    'not over what is there',
    "rename2('f', 'big', NOREPLACE)",
    "rename2('f', 'new', NOREPLACE)",
    "rename2('d', 'e', NOREPLACE)",
  ],
  ['not over a whiteout', "unlink('big')", "rename2('f', 'big', NOREPLACE)", "get('big')"],
  ['a file and a directory are exchanged', "rename2('f', 'd', EXCHANGE)", "get('d')", "names('f')"],
  ['two files are exchanged', "rename2('f', 'big', EXCHANGE)", "get('big')"],
  ['two directories are exchanged', "rename2('d', 'e', EXCHANGE)", "names('e')", "names('d')"],
  [
    'directories in different directories are exchanged',
    "rename2('d/sub', 'onlydir', EXCHANGE)",
    "names('onlydir')",
    "names('d/sub')",
  ],
  [
    'a new file and a lower one are exchanged',
    "put('n', 'new')",
    "rename2('n', 'f', EXCHANGE)",
    "get('n')",
    "get('f')",
  ],
  ['nothing to exchange with', "rename2('f', 'new', EXCHANGE)", "rename2('new', 'f', EXCHANGE)"],
  ['a whiteout is not left by a flag', "rename2('f', 'f2', WHITEOUT)", "rename2('f', 'f2', NOREPLACE | EXCHANGE)"],
];

/** Changes of lower files with several names. */
const linkCases: readonly Case[] = [
  ['data of a file with names in several directories', "append('k1', 'x')", "get('d/k2')", "show('d/sub/k3')"],
  ['data by another name', "append('d/sub/k3', 'x')", "get('k1')", "show('k1')", "show('d/k2')"],
  [
    'data by each name',
    "append('k1', 'x')",
    "append('d/k2', 'y')",
    "append('d/sub/k3', 'z')",
    "get('k1')",
    "show('k1')",
  ],
  ['a mode of a file with several names', "chmod('d/k2', 0o600)", "show('k1')", "show('d/sub/k3')"],
  ['its mode by one name, and its data by another', "chmod('d/k2', 0o600)", "append('k1', 'x')", "get('d/sub/k3')"],
  ['an xattr of a file with several names', "setxattr('k1', 'user.a', b'b')", "listxattr('d/k2')"],
  ['a file with several names is emptied', "put('k1', 'new')", "get('d/k2')", "show('d/k2')"],
  ['its size', "truncate('d/k2', 7)", "get('k1')", "show('d/sub/k3')"],
  ['the owner of a symlink with several names', "lchown('ks1', 7, 8)", "show('d/ks2')"],
  ['a fifo with several names', "chmod('kp1', 0o600)", "show('kp2')", "unlink('kp2')", "show('kp1')"],
  ['one of several names is removed', "unlink('k1')", "append('d/k2', 'x')", "show('d/k2')", "get('d/sub/k3')"],
  ['a name that others were used after', "show('k1')", "show('d/k2')", "show('d/sub/k3')", "append('k1', 'x')"],
  ['all names are removed', "unlink('k1')", "unlink('d/k2')", "unlink('d/sub/k3')", 'names()'],
  ['all names of a symlink and of a fifo', "unlink('ks1')", "unlink('d/ks2')", "unlink('kp1')", "unlink('kp2')"],
  [
    'all names of a changed file',
    "append('d/k2', 'x')",
    "unlink('d/k2')",
    "show('k1')",
    "unlink('k1')",
    "unlink('d/sub/k3')",
  ],
  [
    'all names while it is open',
    "fd = open('k1', O_RDWR)",
    "unlink('k1')",
    "unlink('d/k2')",
    'fstat(fd).st_nlink',
    "unlink('d/sub/k3')",
    'fstat(fd).st_nlink',
    "pwrite(fd, b'x', 3)",
    'at(fd)',
    'close(fd)',
  ],
  ['a name again', "unlink('k1')", "put('k1', 'again')", "show('k1')", "show('d/k2')", "get('d/k2')"],
  [
    'a new name, and the others are removed',
    "link('k1', 'k4')",
    "show('k4')",
    "unlink('k1')",
    "unlink('d/k2')",
    "unlink('d/sub/k3')",
    "get('k4')",
    "show('k4')",
  ],
  [
    'a new name, and all are removed',
    "link('d/k2', 'e/k4')",
    "unlink('k1')",
    "unlink('d/k2')",
    "unlink('d/sub/k3')",
    "unlink('e/k4')",
  ],
  ['a new name for a changed file', "append('k1', 'x')", "link('k1', 'e/k4')", "show('d/k2')", "get('e/k4')"],
  ['a name in the place of another file', "unlink('f')", "link('d/k2', 'f')", "show('k1')"],
  [
    'one of several names becomes another',
    "rename('k1', 'e/k4')",
    "append('e/k4', 'x')",
    "show('d/k2')",
    "get('e/k4')",
  ],
  ['and back', "rename('k1', 'k4')", "rename('k4', 'k1')", "show('d/k2')", "get('d/k2')"],
  [
    'each of several names becomes another',
    "rename('k1', 'e/k1')",
    "rename('d/k2', 'k2')",
    "rename('d/sub/k3', 'd/k3')",
    "show('k2')",
    "get('d/k3')",
  ],
  ['a file over one of several names', "rename('f', 'k1')", "show('d/k2')", "get('d/k2')", "get('k1')"],
  [
    'files over all names',
    "rename('f', 'k1')",
    "rename('big', 'd/k2')",
    "put('n', 'new')",
    "rename('n', 'd/sub/k3')",
    "get('d/sub/k3')",
  ],
  ['one of several names over another file', "rename('d/k2', 'f')", "show('f')", "show('k1')"],
  ['one name over another of the file', "rename('k1', 'd/k2')", "show('k1')", "names('d')"],
  ['one of several names over one of another file', "rename('h1', 'k1')", "show('h2')", "show('d/k2')", "get('k1')"],
  ['one of several names and a file are exchanged', "rename2('k1', 'f', EXCHANGE)", "show('f')", "show('d/k2')"],
  ['two names of different files are exchanged', "rename2('k1', 'h2', EXCHANGE)", "show('h1')", "get('d/k2')"],
  ['the directory of a name', "rename('d', 'dd')", "append('dd/k2', 'x')", "get('k1')", "show('dd/sub/k3')"],
  ['the tree of some names is removed', "shutil.rmtree('d')", "show('k1')", "append('k1', 'x')"],
  ['the tree of a name that was changed', "append('d/sub/k3', 'x')", "shutil.rmtree('d')", "show('k1')", "get('k1')"],
];
/** With an index, only these are run: what it has to do with, and a new directory, which is marked as opaque. */
const indexCases: readonly Case[] = [
  ['a new directory', "mkdir('n')", "mkdir('d/n')", "put('d/n/f', '')"],
  ['nothing is changed', "get('k1')", "names('d')", "show('h2')"],
  ...cases.filter(([rule]) => /links?\b/.test(rule)),
  ...linkCases,
];

/** What is done when the other one goes on. */
const LATER = [
  "append('k1', 'later')",
  "show('k1')",
  "chmod('kp2', 0o644)",
  "unlink('d/sub/k3')",
  "show('k1')",
  "append('f', 'later')",
  "append('big', 'later')",
  "chmod('h2', 0o600)",
  "rename('d', 'd9')",
  "rename('dd', 'd')",
  "unlink('sl')",
  "mkdir('sl')",
  "rmdir('e')",
  "unlink('d9/x')",
  "put('d9/new', 'later')",
  "rename('d9/sub', 's9')",
  "shutil.rmtree('onlydir')",
  "put('gone', 'later')",
  "put('n', 'later')",
  'names()',
];

const directoryOf = (i: number): string => String(i).padStart(3, '0');
const changesIn = (cases: readonly Case[], root: string, statements: (i: number) => readonly string[]): Change[] =>
  cases.map((_, i) => [join(root, directoryOf(i)), statements(i)]);
const now = (): bigint => BigInt(Date.now()) * 1_000_000n;

/** The lines of each case, by its number, or what of them `show` gives. */
function byCase(
  { length }: readonly Case[],
  dump: Dump,
  show: (line: string) => string = withoutNumber,
): Record<string, string>[] {
  const found: Record<string, string>[] = Array.from({ length }, () => ({}));
  for (const [path, line] of Object.entries(dump)) {
    const [first = '', ...rest] = path.split('/');
    const lines = found[Number(first)];
    if (lines && first !== '.') lines[rest.join('/') || '.'] = show(line);
  }
  return found;
}
const withoutNumber = (line: string): string => line.replace(/ ino=\S+/, '');
const numberIn = (line: string): string => /ino=(\S+)/.exec(line)?.[1] ?? '';

const UPPER = 'what is left in the upper layer';
const INDEX = 'what is left in the index';
const NUMBERS = 'inode numbers';
/** Where the answer need not be the kernel's. */
const others: readonly (readonly [rule: string, options: string, what: string, reason: string])[] = [
  [
    'a file goes to a new directory',
    '',
    UPPER,
    'the kernel removes the mark “impure” of a directory in which it lists no copy; nobody needs it',
  ],
  [
    'a symlink, a fifo and devices get other names',
    'userxattr',
    UPPER,
    'the kernel marks a directory as “impure” for copies that cannot say where they came from',
  ],
  ...([UPPER, INDEX] as const).map(
    what =>
      [
        'a name that others were used after',
        'index=on',
        what,
        'of one file, the name looked up last is linked',
      ] as const,
  ),
  [
    'a link to a symlink and to a fifo',
    'userxattr',
    NUMBERS,
    'to the kernel, only the old name has the number of the lower object, until the next mount',
  ],
  ...[
    'the owner of a symlink',
    'the times of a symlink',
    'an xattr of a symlink',
    'a symlink, a fifo and devices get other names',
    'the owner of a symlink with several names',
    'a fifo with several names',
  ].map(
    rule =>
      [
        rule,
        'userxattr',
        NUMBERS,
        'nothing stores the number of a copy without user xattrs: it is another when the kernel has dropped its caches',
      ] as const,
  ),
];

/** Mount options, and the cases that are run with them. */
interface Variant {
  readonly options: string;
  readonly cases: readonly Case[];
}

function sameForEach(
  t: Test,
  { options, cases }: Variant,
  what: string,
  ours: readonly unknown[],
  its: readonly unknown[],
): void {
  for (const [i, [rule]] of cases.entries()) {
    const other = others.find(([one, on, where]) => one === rule && options.includes(on) && what.startsWith(where));
    t.same(ours[i], its[i], `${rule}: ${what}`, other ? { skip: other[3] } : {});
  }
}

/** With userxattr, the kernel puts symlinks and fifos into an index without the xattrs that the next mount needs. */
const REGULAR_LINKS = 'rm A/d/ks2 A/kp2\n';

function makeLayers(home: string, { options, cases }: Variant): string[] {
  const isRegular = options.includes('index=on') && options.includes('userxattr');
  execFileSync('sh', ['-e', '-c', LAYERS + (isRegular ? REGULAR_LINKS : '')], { cwd: home });
  return ['A', 'B'].map(name => {
    const layer = join(home, `lower-${name}`);
    mkdirSync(layer);
    for (const i of cases.keys()) execFileSync('cp', ['-a', join(home, name), join(layer, directoryOf(i))]);
    return layer;
  });
}

const variants: readonly Variant[] = [
  ...['redirect_dir=on,metacopy=on', 'redirect_dir=off,metacopy=off', 'userxattr'].map(options => ({
    options,
    cases: [...cases, ...linkCases],
  })),
  ...['redirect_dir=on,metacopy=on', 'userxattr'].map(options => ({
    options: `index=on,${options}`,
    cases: indexCases,
  })),
];

for (const variant of variants) {
  const { options, cases } = variant;
  t.test(options, { skip: withoutWritableOverlay }, t =>
    withScratchAsync(async home => {
      const lowers = makeLayers(home, variant);
      const since = now();
      const untouched = dumpTrees(
        lowers.map(layer => [layer, 'merged']),
        since,
        [],
      );
      const stack = (name: string): Stack => ({ lowerdir: lowers.join(':'), home: join(home, name), options });
      const run = (root: string): [unknown[][], Dump] => [
        runChanges(changesIn(cases, root, i => (cases[i] as readonly string[]).slice(1))),
        dumpTrees([[root, 'merged']], since, lowers)[0] as Dump,
      ];
      const upperOf = (name: string): Record<string, string>[] =>
        byCase(cases, dumpTrees([[join(home, name, 'upper'), 'upper']], since, [])[0] as Dump);
      const indexOf = (name: string): Record<string, string>[] => {
        const path = join(home, name, 'work/index');
        return existsSync(path) ? byCase(cases, dumpTrees([[path, 'index']], since, lowers)[0] as Dump) : [];
      };
      const leftIn = (name: string): string[] => readdirSync(join(home, name, 'work/work'));

      const [itsAnswers, itsTree] = await withWritable('kernel', stack('kernel'), run);
      const [ourAnswers, ourTree] = await withWritable('lowerdata', stack('lowerdata'), run);
      sameForEach(t, variant, 'what is answered', ourAnswers, itsAnswers);
      sameForEach(t, variant, 'what is shown', byCase(cases, ourTree), byCase(cases, itsTree));
      sameForEach(t, variant, NUMBERS, byCase(cases, ourTree, numberIn), byCase(cases, itsTree, numberIn));
      sameForEach(t, variant, UPPER, upperOf('lowerdata'), upperOf('kernel'));
      sameForEach(t, variant, INDEX, indexOf('lowerdata'), indexOf('kernel'));
      t.same(leftIn('lowerdata'), [], 'nothing stays in the work directory');

      await withWritable('kernel', stack('again'), run);
      const goOn = (root: string): [Dump, unknown[][], Dump] => {
        const [before] = dumpTrees([[root, 'merged']], since, lowers) as [Dump];
        writeFileSync('/proc/sys/vm/drop_caches', '2'); // each name is looked up again just before it is used
        const answers = runChanges(changesIn(cases, root, () => LATER));
        return [before, answers, dumpTrees([[root, 'merged']], since, lowers)[0] as Dump];
      };
      const want = await withWritable('kernel', stack('again'), goOn);
      for (const [rule, maker, name] of [
        ['the kernel goes on with ours', 'kernel', 'lowerdata'],
        ['ours goes on with the kernel’s', 'lowerdata', 'kernel'],
      ] as const)
        await t.test(rule, async t => {
          const [before, answers, after] = await withWritable(maker, stack(name), goOn);
          sameForEach(t, variant, 'what is shown at first', byCase(cases, before), byCase(cases, want[0]));
          sameForEach(t, variant, 'what is answered', answers, want[1]);
          sameForEach(t, variant, 'what is shown then', byCase(cases, after), byCase(cases, want[2]));
          sameForEach(
            t,
            variant,
            `${NUMBERS} at first`,
            byCase(cases, before, numberIn),
            byCase(cases, want[0], numberIn),
          );
        });
      for (const [whose, name] of [
        ['ours', 'lowerdata'],
        ['the kernel’s', 'kernel'],
      ] as const)
        for (const [what, left] of [
          [UPPER, upperOf],
          [INDEX, indexOf],
        ] as const)
          sameForEach(t, variant, `${what} that was ${whose}`, left(name), left('again'));
      t.same(leftIn('kernel'), [], 'nothing stays in the work directory that was the kernel’s');
      t.same(
        dumpTrees(
          lowers.map(layer => [layer, 'merged']),
          since,
          [],
        ),
        untouched,
        'the lower layers are as they were',
      );
    }),
  );
}
