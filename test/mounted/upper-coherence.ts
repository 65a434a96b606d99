/**
 * What the users of a writable mount see of each other's changes: by names, by descriptors and by maps, some older than the copy
 * of a lower file. The same statements are run in a plain directory, which is how it has to be.
 */
import { execFileSync } from 'node:child_process';
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { command } from '../fixtures/mounts/mounted.ts';
import {
  type Change,
  runChanges,
  type Stack,
  withoutIndex,
  withoutWritableOverlay,
  withWritable,
} from '../fixtures/mounts/writable.ts';
import { withScratchAsync } from '../fixtures/scratch.ts';
import { withoutFuse, withoutUserMounts } from '../fixtures/skips.ts';

t.setTimeout(600_000);

const NOBODY = 65534;

/** Makes the layers `A` (above) and `B`, of which each case gets a copy, and `plain`, the tree that they show. */
const LAYERS = `
umask 022
mkdir -p A/d/sub A/e B/d B/e plain
echo hello >A/f
echo other >A/g
head -c 100000 /dev/zero | tr '\\0' a >A/big
truncate -s 1M A/sparse
printf data | dd of=A/sparse bs=1 seek=500000 conv=notrunc status=none
ln -s f A/sl
echo 'x of A' >A/d/x
echo y >A/d/sub/y
echo below >B/below
echo w >B/d/w
for i in 1 2 3 4 5 6 7 8; do head -c $((i * i * i * 300)) /dev/urandom >B/r$i; done
find . -exec touch -h -d '2001-02-03 04:05:06' {} +
cp -a B/. A/. plain
`;

const cases: readonly (readonly [rule: string, ...statements: string[]])[] = [
  [
    'a descriptor that is older than the copy sees what is appended',
    "fd = open('f', O_RDONLY)",
    'at(fd)',
    "append('f', 'more')",
    'at(fd)',
    'fstat(fd).st_size',
  ],
  [
    'it sees what is overwritten',
    "fd = open('f', O_RDONLY)",
    'at(fd)',
    "put('f', 'new')",
    'at(fd)',
    'fstat(fd).st_size',
  ],
  ['one that has not read yet sees it, too', "fd = open('big', O_RDONLY)", "append('big', 'more')", 'at(fd)'],
  [
    'a copy without data in between',
    "fd = open('big', O_RDONLY)",
    'at(fd)',
    "chmod('big', 0o600)",
    'at(fd)',
    "append('big', 'more')",
    'at(fd)',
    'oct(fstat(fd).st_mode)',
  ],
  [
    'a descriptor sees what is written by another one',
    "a = open('f', O_RDWR)",
    "b = open('f', O_RDONLY)",
    "pwrite(a, b'XY', 1)",
    'at(b)',
    "pwrite(a, b'Z' * 9000, 100)",
    'at(b)',
    'fstat(b).st_size',
  ],
  [
    'a map that is older than the copy sees what is written',
    "m = mapped('big')",
    'shown(m[50000:50003])',
    "fd = open('big', O_RDWR)",
    "pwrite(fd, b'XYZ', 50000)",
    'shown(m[50000:50003])',
    'shown(m[:])',
  ],
  [
    'a map sees what is written by another map',
    "m = mapped('big')",
    'shown(m[:10])',
    "w = mapped('big', mmap.PROT_READ | mmap.PROT_WRITE)",
    "w[5:8] = b'XYZ'",
    'shown(m[:10])',
    "get('big')",
  ],
  [
    'a map is read by a descriptor that is older',
    "fd = open('big', O_RDONLY)",
    'at(fd, 0, 10)',
    "w = mapped('big', mmap.PROT_READ | mmap.PROT_WRITE)",
    "w[5:8] = b'XYZ'",
    'at(fd, 0, 10)',
    'w.close()',
    "get('big')",
  ],
  [
    'a map outlives its descriptor and its name',
    "m = mapped('f')",
    "unlink('f')",
    'shown(m[:])',
    "put('f', 'again and again')",
    'shown(m[:])',
  ],
  [
    'attributes by a descriptor that is older than the copy',
    "fd = open('f', O_RDONLY)",
    "chmod('f', 0o600)",
    'oct(fstat(fd).st_mode)',
    'fchmod(fd, 0o640)',
    "oct(os.stat('f').st_mode)",
    "os.setxattr(fd, 'user.a', b'b')",
    "getxattr('f', 'user.a')",
  ],

  [
    'what was replaced stays as it was to its descriptor',
    "fd = open('f', O_RDONLY)",
    "put('n', 'new')",
    "rename('n', 'f')",
    'at(fd)',
    "get('f')",
    "append('f', 'x')",
    'at(fd)',
  ],
  [
    'names are exchanged while open',
    "a = open('f', O_RDONLY)",
    "b = open('g', O_RDWR)",
    "rename2('f', 'g', EXCHANGE)",
    "append('f', 'x')",
    "append('g', 'y')",
    'at(a)',
    'at(b)',
  ],
  [
    'a directory gets another name while files in it are open',
    "a = open('d/x', O_RDONLY)",
    "b = open('d/w', O_RDWR)",
    "rename('e', 'e2')",
    "rename('d/sub', 'e2/s')",
    "append('d/x', 'x')",
    "pwrite(b, b'W', 0)",
    'at(a)',
    'at(b)',
    "get('d/w')",
    "get('e2/s/y')",
  ],
  [
    'seven commands after which another file was read: the names',
    "rename('f', 'x')",
    "put('f', 'N1')",
    "put('t', 'T')",
    "rename('t', 'f')",
    "rename('f', 'y')",
    "put('f', 'N2')",
    "append('x', '+X')",
    "get('x')",
    "get('y')",
    "get('f')",
  ],
  [
    'with a descriptor of the second file',
    "rename('f', 'x')",
    "put('f', 'N1')",
    "put('t', 'T')",
    "rename('t', 'f')",
    "fd = open('f', O_RDONLY)",
    "rename('f', 'y')",
    "put('f', 'N2')",
    "append('x', '+X')",
    'at(fd)',
    "append('y', '+Y')",
    'at(fd)',
    "get('x')",
    "get('f')",
  ],
  [
    'with a map of the first one',
    "m = mapped('f')",
    "rename('f', 'x')",
    "put('f', 'N1')",
    "put('t', 'T')",
    "rename('t', 'f')",
    "rename('f', 'y')",
    "put('f', 'N2')",
    "shutil.copyfile('x', 'z')",
    "get('x')",
    "get('z')",
    'shown(m[:])',
  ],
  [
    'a number of its own for each file that is there',
    "rename('f', 'x')",
    "put('f', 'N1')",
    "put('t', 'T')",
    "rename('t', 'f')",
    "rename('f', 'y')",
    "put('f', 'N2')",
    "len({os.stat(n).st_ino for n in ['f', 'x', 'y', 'g', 'big']})",
  ],
  [
    'a number stays through a copy-up and a rename',
    "before = os.stat('f').st_ino",
    "append('f', 'x')",
    "str(os.stat('f').st_ino == before)",
    "rename('f', 'd/f')",
    "str(os.stat('d/f').st_ino == before)",
  ],

  [
    'a lower file that was removed',
    "fd = open('f', O_RDONLY)",
    "unlink('f')",
    'at(fd)',
    'fstat(fd).st_size',
    "open('f', O_RDONLY)",
  ],
  ['one that was not read before', "fd = open('big', O_RDONLY)", "unlink('big')", "put('big', 'again')", 'at(fd)'],
  [
    'a copied file that was removed',
    "fd = open('f', O_RDWR)",
    "pwrite(fd, b'X', 0)",
    "unlink('f')",
    "pwrite(fd, b'YZ', 1)",
    'at(fd)',
    'ftruncate(fd, 2)',
    'at(fd)',
    'fchmod(fd, 0o600)',
    'oct(fstat(fd).st_mode)',
    'str(fstat(fd).st_nlink)',
    'ftruncate(fd, 5000)',
    'fstat(fd).st_size',
  ],
  [
    'a new file that was removed',
    "fd = open('n', O_RDWR | O_CREAT)",
    "unlink('n')",
    "pwrite(fd, b'text', 0)",
    'at(fd)',
    "w = open(f'/proc/self/fd/{fd}', O_RDWR)",
    "pwrite(w, b'T', 0)",
    'at(fd)',
    'fstat(fd).st_size',
    "os.setxattr(fd, 'user.a', b'b')",
    "os.getxattr(fd, 'user.a')",
    'str(fstat(fd).st_nlink)',
  ],
  [
    'a file without a name',
    "fd = open('.', O_TMPFILE | O_RDWR, 0o600)",
    "pwrite(fd, b'text', 0)",
    'fchmod(fd, 0o640)',
    'at(fd)',
    'str(fstat(fd).st_nlink)',
    "link(f'/proc/self/fd/{fd}', 'n', follow_symlinks=True)",
    "pwrite(fd, b'T', 0)",
    "get('n')",
    "unlink('n')",
    'at(fd)',
  ],
  [
    'a file that was removed by a rename',
    "fd = open('g', O_RDWR)",
    "pwrite(fd, b'G', 0)",
    "rename('f', 'g')",
    "pwrite(fd, b'H', 1)",
    'at(fd)',
    "get('g')",
    'ftruncate(fd, 1)',
    'at(fd)',
    "get('g')",
  ],
  [
    'a directory that was removed',
    "fd = open('e', O_RDONLY)",
    "rmdir('e')",
    'str(os.listdir(fd))',
    "put(f'/proc/self/fd/{fd}/n', '')",
    "mkdir('e')",
    "put('e/n', '')",
    'str(os.listdir(fd))',
  ],
  [
    'a new directory that was removed',
    "mkdir('n')",
    "fd = open('n', O_RDONLY)",
    "rmdir('n')",
    'str(os.listdir(fd))',
    'oct(fstat(fd).st_mode)',
    'os.utime(fd, ns=(5, 6))',
    'fstat(fd).st_mtime_ns',
  ],
  [
    'names in a directory that gets another name while it is open',
    "fd = os.open('d', O_RDONLY)",
    "mkdir('n')",
    "put('n/x', 'other')",
    "rename('n/x', 'd/n')",
    "os.unlink('x', dir_fd=fd)",
    "os.mkdir('m', dir_fd=fd)",
    "names('d')",
    "get('d/n')",
  ],

  [
    'a link by its second name after the first one is removed',
    "put('n', '1')",
    "link('n', 'd/n2')",
    "fd = open('n', O_RDWR)",
    "unlink('n')",
    "append('d/n2', '2')",
    'at(fd)',
    "pwrite(fd, b'3', 2)",
    "get('d/n2')",
    "chmod('d/n2', 0o600)",
    'oct(fstat(fd).st_mode)',
    'fstat(fd).st_nlink',
    "unlink('d/n2')",
    'at(fd)',
    'fchmod(fd, 0o640)',
    'str(fstat(fd).st_nlink)',
  ],
  [
    'a link by its first name after the second one is removed',
    "link('f', 'd/f2')",
    "a = open('f', O_RDONLY)",
    "b = open('d/f2', O_RDWR)",
    "unlink('d/f2')",
    "append('f', '2')",
    'at(a)',
    'at(b)',
    "pwrite(b, b'3', 0)",
    "get('f')",
    "chmod('f', 0o600)",
    'oct(fstat(b).st_mode)',
  ],
  [
    'a link by its second name after the first one got another object',
    "link('f', 'f2')",
    "put('n', 'new')",
    "rename('n', 'f')",
    "append('f2', 'x')",
    "get('f')",
    "get('f2')",
    "os.stat('f2').st_nlink",
    "rename('f2', 'f')",
    "get('f')",
  ],
  [
    'links without an open file, in directories that are renamed',
    "mkdir('n')",
    "put('n/a', '1')",
    "link('n/a', 'e/b')",
    "unlink('n/a')",
    "rename('n', 'n2')",
    "append('e/b', '2')",
    "link('e/b', 'n2/c')",
    "unlink('e/b')",
    "append('n2/c', '3')",
    "get('n2/c')",
    "os.stat('n2/c').st_nlink",
  ],

  [
    'two handles, one of which appends',
    "a = open('f', O_WRONLY | O_APPEND)",
    "b = open('f', O_RDWR)",
    "os.write(a, b'1')",
    "pwrite(b, b'Z', 0)",
    "os.write(a, b'2')",
    "pwrite(b, b'far', 5000)",
    "os.write(a, b'3')",
    "get('f')",
    'fstat(a).st_size',
  ],
  [
    'two handles that append',
    "a = open('big', O_WRONLY | O_APPEND)",
    "b = open('big', O_RDWR | O_APPEND)",
    "[os.write(a, b'a' * 777) + os.write(b, b'b' * 333) for _ in range(50)]",
    "get('big')",
    'at(b, 99999, 2000)',
  ],
  [
    'processes that append at once',
    "children = [os.fork() or ([append('f', f'{i}\\n') for i in range(200)], os._exit(0)) for _ in range(3)]",
    '[os.waitpid(child, 0)[1] for child in children]',
    "fd = open('f', O_RDONLY)",
    "shown(b''.join(sorted(pread(fd, 1 << 20, 0).splitlines())))",
    "put('f', '')", // their order is left to chance
  ],
  [
    'a file is cut by its name while it is open',
    "fd = open('big', O_RDWR)",
    "truncate('big', 10)",
    'fstat(fd).st_size',
    'at(fd)',
    "pwrite(fd, b'x', 20)",
    "get('big')",
    "truncate('big', 15)",
    "truncate('big', 30)",
    'at(fd)',
  ],
  [
    'a file is cut by another open',
    "fd = open('big', O_RDWR)",
    "pwrite(fd, b'x' * 5000, 0)",
    "put('big', 'new')",
    'fstat(fd).st_size',
    'at(fd)',
    "pwrite(fd, b'y', 4)",
    "get('big')",
  ],
  [
    'a file is cut by an open, and by a descriptor that is older than the copy',
    "fd = open('f', O_RDONLY)",
    "close(open('f', O_WRONLY | O_TRUNC))",
    'at(fd)',
    'str(fstat(fd).st_size)',
    "append('f', 'new')",
    'at(fd)',
  ],
  [
    'a file is cut and grows before its data is written to the disk',
    "fd = open('n', O_RDWR | O_CREAT)",
    "pwrite(fd, b'a' * 10000, 0)",
    'ftruncate(fd, 5000)',
    'ftruncate(fd, 9000)',
    "os.stat('n').st_size",
    'at(fd)',
    'os.fsync(fd)',
    "get('n')",
  ],
  [
    'the size, by all that can be asked',
    "fd = open('f', O_RDWR)",
    "pwrite(fd, b'x' * 12345, 6)",
    "os.stat('f').st_size",
    'fstat(fd).st_size',
    "[e.stat().st_size for e in os.scandir('.') if e.name == 'f']",
    'lseek(fd, 0, os.SEEK_END)',
  ],
  [
    'a time that is set after a write stays',
    "fd = open('f', O_RDWR)",
    "pwrite(fd, b'x', 0)",
    "utime('f', ns=(5, 1234567890123456789))",
    'close(fd)',
    "os.stat('f').st_mtime_ns",
    "get('f')",
    "os.stat('f').st_mtime_ns",
  ],
  [
    'a write changes the time',
    "fd = open('f', O_RDWR)",
    "utime('f', ns=(5, 6))",
    "pwrite(fd, b'x', 0)",
    "str(os.stat('f').st_mtime_ns > 10**18)",
    'close(fd)',
    "str(os.stat('f').st_mtime_ns > 10**18)",
  ],
  [
    'names change the time of a directory',
    "utime('d', ns=(5, 6))",
    "os.stat('d').st_mtime_ns",
    "put('d/n', '')",
    "str(os.stat('d').st_mtime_ns > 10**18)",
    "utime('d', ns=(5, 6))",
    "append('d/w', 'x')",
    "chmod('d/x', 0o600)",
    "os.stat('d').st_mtime_ns",
    "unlink('d/x')",
    "str(os.stat('d').st_mtime_ns > 10**18)",
  ],
  [
    'data and holes',
    "fd = open('sparse', O_RDWR)",
    'lseek(fd, 0, os.SEEK_DATA)',
    'lseek(fd, 499712, os.SEEK_HOLE)',
    "pwrite(fd, b'x', 0)",
    'os.fsync(fd)',
    'lseek(fd, 4096, os.SEEK_DATA)',
    "truncate('sparse', 2000000)",
    'lseek(fd, 600000, os.SEEK_HOLE)',
    'lseek(fd, 600000, os.SEEK_DATA)',
    "get('sparse')",
  ],
  [
    'bytes that are in no file yet are copied from one to another',
    "a = open('n', O_RDWR | O_CREAT)",
    "pwrite(a, b'a' * 9000, 0)",
    "copy_range('n', 'f', 8000, 500, 3)",
    "get('f')",
    "pwrite(a, b'b' * 10, 100)",
    "copy_range('n', 'n2', 9000)",
    "get('n2')",
  ],
  [
    'a range is copied within a file',
    "fd = open('big', O_RDWR)",
    "pwrite(fd, b'start', 0)",
    'os.copy_file_range(fd, fd, 5, 0, 50000)',
    'at(fd, 49999, 8)',
    'os.copy_file_range(fd, fd, 100, 0, 50)',
  ],
  [
    'locks are shared by all who open the file',
    "a = open('f', O_RDONLY)",
    'fcntl.flock(a, fcntl.LOCK_EX | fcntl.LOCK_NB)',
    "b = open('f', O_RDWR)",
    'fcntl.flock(b, fcntl.LOCK_EX | fcntl.LOCK_NB)',
    'close(a)',
    'fcntl.flock(b, fcntl.LOCK_EX | fcntl.LOCK_NB)',
  ],
  [
    'names are removed while they are listed',
    "mkdir('n')",
    "[put(f'n/{i}', '') for i in range(1500)][:0]",
    "[unlink(e) for e in os.scandir('n')][:0]",
    "names('n')",
    "rmdir('n')",
  ],
  [
    'a program is written and run',
    "put('p', '#!/bin/sh\\necho ran\\n', mode=0o755)",
    "__import__('subprocess').check_output(['./p']).decode()",
    "append('p', 'echo again\\n')",
    "__import__('subprocess').check_output(['./p']).decode()",
  ],
];

/** Lower files with several names. With an index they are as in a plain directory, otherwise each name may become a file of its own. */
const names: readonly (readonly [rule: string, ...statements: string[]])[] = [
  [
    'one of two lower names is changed',
    "a = open('h1', O_RDONLY)",
    "append('h2', 'x')",
    'at(a)',
    "get('h1')",
    "get('h2')",
    "os.stat('h1').st_nlink",
    "os.stat('h2').st_nlink",
    "str(os.stat('h1').st_ino == os.stat('h2').st_ino)",
  ],
  [
    'both are changed',
    "append('h1', '1')",
    "append('h2', '2')",
    "get('h1')",
    "get('h2')",
    "chmod('h1', 0o600)",
    "oct(os.stat('h2').st_mode)",
  ],
  [
    'the mode of one is changed, then the data of the other',
    "chmod('h1', 0o600)",
    "append('h2', '2')",
    "append('h1', '1')",
    "get('h1')",
    "get('h2')",
  ],
  [
    'one is removed, and the other changed',
    "a = open('h1', O_RDONLY)",
    "unlink('h1')",
    "append('h2', 'x')",
    'at(a)',
    "get('h2')",
  ],
  ['one is renamed over the other', "append('h1', '1')", "rename('h1', 'h2')", "get('h2')", "names('.')"],
  [
    'a third name, and a change of it',
    "link('h1', 'h3')",
    "append('h3', '3')",
    "get('h1')",
    "get('h2')",
    "os.stat('h1').st_nlink",
  ],
];

/**
 * Where an overlay is no plain directory, but as the kernel's: without an index, a change of one name is none of the others, and lower
 * objects without a name cannot be copied any more.
 */
const apart: readonly (readonly [rule: string, ...statements: string[]])[] = [
  ...names,
  [
    'a lower file that was removed does not change',
    "fd = open('f', O_RDONLY)",
    "unlink('f')",
    'refused(fchmod, fd, 0o600)',
    'refused(os.utime, fd, ns=(5, 6))',
    "refused(os.setxattr, fd, 'user.a', b'b')",
    "refused(open, f'/proc/self/fd/{fd}', O_RDWR)",
    'oct(fstat(fd).st_mode)',
    'at(fd)',
  ],
  [
    'nor does a lower directory',
    "fd = open('e', O_RDONLY)",
    "rmdir('e')",
    'refused(fchmod, fd, 0o700)',
    'oct(fstat(fd).st_mode)',
  ],
];

/** More of what is as in a plain directory if there is an index. */
const linked: readonly (readonly [rule: string, ...statements: string[]])[] = [
  [
    'a descriptor of one name sees what is written by another',
    "a = open('h1', O_RDONLY)",
    "b = open('d/h3', O_RDWR)",
    'at(a)',
    "pwrite(b, b'XY', 1)",
    'at(a)',
    "append('h2', 'more')",
    'at(a)',
    'fstat(a).st_size',
    "chmod('h2', 0o600)",
    'oct(fstat(a).st_mode)',
    'str(fstat(a).st_ino == fstat(b).st_ino)',
  ],
  [
    'a map of one name sees what is written by another',
    "m = mapped('big1')",
    'shown(m[50000:50003])',
    "w = mapped('d/big2', mmap.PROT_READ | mmap.PROT_WRITE)",
    "w[50000:50003] = b'XYZ'",
    'shown(m[50000:50003])',
    "get('big1')",
  ],
  [
    'names are removed one after the other while the file is open',
    "fd = open('h2', O_RDWR)",
    "unlink('h1')",
    'fstat(fd).st_nlink',
    "unlink('h2')",
    'fstat(fd).st_nlink',
    "pwrite(fd, b'X', 0)",
    "get('d/h3')",
    "unlink('d/h3')",
    'str(fstat(fd).st_nlink)',
    "pwrite(fd, b'Y', 1)",
    'fchmod(fd, 0o640)',
    'at(fd)',
    'oct(fstat(fd).st_mode)',
  ],
  [
    'names are replaced while the file is open',
    "fd = open('h1', O_RDONLY)",
    "rename('f', 'h1')",
    "rename('big1', 'h2')",
    'fstat(fd).st_nlink',
    "append('d/h3', 'x')",
    'at(fd)',
    "put('n', 'new')",
    "rename('n', 'd/h3')",
    'str(fstat(fd).st_nlink)',
    'at(fd)',
    "os.stat('h2').st_nlink",
    "get('d/big2')",
  ],
  [
    'a file that lost a name gets another one from a descriptor',
    "fd = open('big1', O_RDONLY)",
    "chmod('big1', 0o600)",
    "unlink('big1')",
    "link(f'/proc/self/fd/{fd}', 'n', follow_symlinks=True)",
    "append('n', 'x')",
    "get('d/big2')",
    'fstat(fd).st_nlink',
  ],
  [
    'one number for all names, and it stays',
    "before = os.stat('h1').st_ino",
    "append('h2', 'x')",
    "rename('d/h3', 'h4')",
    "unlink('h1')",
    "link('h2', 'h5')",
    "str({os.stat(n).st_ino for n in ['h2', 'h4', 'h5']} == {before})",
  ],
  [
    'directories of names get other names',
    "rename('d', 'e/d')",
    "append('e/d/h3', 'x')",
    "get('h1')",
    "rename('e', 'e2')",
    "append('h2', 'y')",
    "get('e2/d/h3')",
    "unlink('e2/d/h3')",
    "os.stat('h1').st_nlink",
  ],
  [
    'names are exchanged',
    "rename2('h1', 'big1', EXCHANGE)",
    "append('h1', 'x')",
    "get('d/big2')",
    "append('big1', 'y')",
    "get('h2')",
    "rename2('h2', 'd/big2', EXCHANGE)",
    "get('d/big2')",
    "os.stat('h2').st_nlink",
  ],
];

const STEPS = Number(process.env.LOWERDATA_FUZZ ?? 400);
const SEEDS = ['one', 'two', 'three'];

const directoryOf = (i: number): string => String(i).padStart(3, '0');

interface Table {
  readonly rows: readonly (readonly string[])[];
  /** What makes the layers, and plain beside them. */
  readonly layers: string;
}
const plain: Table = {
  rows: [...cases, ...SEEDS.map(seed => [`a random walk, seed ${seed}`, `walk('${seed}', ${STEPS})`])],
  layers: LAYERS,
};
const asKernel: Table = {
  rows: apart,
  layers: 'mkdir -p A/e B plain\necho hard >A/h1\nln A/h1 A/h2\necho hello >A/f\n',
};

/** In the directory of a random walk: a file with one name, and some with two to four. */
const LINKED_LAYERS = `
mkdir -p A/d A/e B plain
echo hello >A/f
echo hard >A/h1
head -c 100000 /dev/zero | tr '\\0' a >A/big1
for i in 1 2 3 4; do head -c $((i * i * i * 300)) /dev/urandom >A/r$i; ln A/r$i A/s$i; done
ln A/r3 A/t3
ln A/r4 A/t4
ln A/r4 A/d/u4
ln A/h1 A/h2
ln A/h1 A/d/h3
ln A/big1 A/d/big2
cp -a A/. plain
`;
const withIndex: Table = {
  rows: [...names, ...linked, ...SEEDS.map(seed => [`a random walk, seed ${seed}`, `walk('${seed}', ${STEPS})`])],
  layers: LINKED_LAYERS,
};

const changesIn = (root: string, { rows }: Table): Change[] =>
  rows.map((row, i) => [join(root, directoryOf(i)), row.slice(1)]);

/** Makes a copy of the layers for each row, for a user. @returns the option, and the tree that no overlay shows */
function makeLayers(home: string, { rows, layers }: Table, id: number): { lowerdir: string; plain: string } {
  execFileSync('sh', ['-e', '-c', layers], { cwd: home });
  const [a = '', b = '', tree = ''] = ['A', 'B', 'plain'].map(name => {
    const copies = join(home, `all-${name}`);
    mkdirSync(copies);
    for (const i of rows.keys()) execFileSync('cp', ['-a', join(home, name), join(copies, directoryOf(i))]);
    return copies;
  });
  if (id !== 0) execFileSync('chown', ['-R', `${id}:${id}`, home]);
  return { lowerdir: `${a}:${b}`, plain: tree };
}

function sameForEach(t: Test, { rows }: Table, ours: readonly unknown[][], wanted: readonly unknown[][], id = 0): void {
  for (const [i, [rule = '']] of rows.entries())
    t.same(ours[i], wanted[i], rule, id !== 0 && rule === RENAMED ? { skip: 'user xattrs hold no redirects' } : {});
}
const RENAMED = 'a directory gets another name while files in it are open';

/** What all regular files hold at the end. */
const CONTENTS =
  '[[n, get(n), os.stat(n).st_size] for n in sorted(os.listdir(".")) if stat.S_ISREG(os.lstat(n).st_mode)]';
const contents = (root: string, { rows }: Table, id: number): unknown[][] =>
  runChanges(
    rows.map((_, i) => [join(root, directoryOf(i)), [CONTENTS]]),
    id,
  );

for (const [rule, options, id, skip, table] of [
  ['files are passed through', 'passthrough=auto', 0, withoutFuse, plain],
  ['writes are cached', 'passthrough=off', 0, withoutFuse, plain],
  ['copies of attributes have all data', 'passthrough=off,metacopy=off', 0, withoutFuse, plain],
  ['an ordinary user', 'userxattr', NOBODY, withoutUserMounts, plain],
  ['files with several names are passed through', 'index=on,passthrough=auto', 0, withoutIndex, withIndex],
  ['writes to files with several names are cached', 'index=on,passthrough=off', 0, withoutIndex, withIndex],
  ['so are those to copies with all data', 'index=on,passthrough=off,metacopy=off', 0, withoutIndex, withIndex],
] as const)
  t.test(rule, { skip }, t =>
    withScratchAsync(async home => {
      const made = makeLayers(home, table, id);
      const stack: Stack = { lowerdir: made.lowerdir, home: join(home, 'stack'), options, id };
      const wanted = runChanges(changesIn(made.plain, table), id);
      await withWritable('lowerdata', stack, async (root, mount) => {
        sameForEach(t, table, runChanges(changesIn(root, table), id), wanted, id);
        t.notMatch(mount?.log, /EIO/, 'no request failed for reasons of its own');
      });
      await t.test('after another mount', t =>
        withWritable('lowerdata', stack, root => {
          sameForEach(t, table, contents(root, table, id), contents(made.plain, table, id), id);
        }),
      );
    }),
  );

for (const options of ['passthrough=auto', 'passthrough=off'])
  t.test(`as the kernel, ${options}`, { skip: withoutWritableOverlay }, t =>
    withScratchAsync(async home => {
      const { lowerdir } = makeLayers(home, asKernel, 0);
      const stack = (name: string): Stack => ({
        lowerdir,
        home: join(home, name),
        options: 'metacopy=on,redirect_dir=on',
      });
      const wanted = await withWritable('kernel', stack('kernel'), root => runChanges(changesIn(root, asKernel)));
      const ours = { ...stack('lowerdata'), options: `metacopy=on,redirect_dir=on,${options}` };
      const answers = await withWritable('lowerdata', ours, root => runChanges(changesIn(root, asKernel)));
      sameForEach(t, asKernel, answers, wanted);
    }),
  );

/** What stat says of a file that is written to through a map, while it is open and later. */
const THROUGH_A_MAP = `
import mmap, os, sys, time
for name in sys.argv[1:]:
    fd = os.open(name, os.O_RDWR)
    os.fstat(fd)
    pages = mmap.mmap(fd, 0)
    before = os.fstat(fd)
    time.sleep(0.05)
    pages[0] = 65
    pages.flush()
    after = os.fstat(fd)
    print(after.st_mtime_ns > before.st_mtime_ns, after.st_ctime_ns > before.st_ctime_ns)
    time.sleep(0.05)
    pages[1] = 66
    pages.flush()
    pages.close()
    os.close(fd)
    print(os.stat(name).st_mtime_ns > after.st_mtime_ns)
`;

t.test('times of a file that is written to through a map', { skip: withoutFuse }, t =>
  withScratchAsync(async home => {
    for (const name of ['lower', 'upper', 'work', 'mnt']) mkdirSync(join(home, name));
    writeFileSync(join(home, 'lower', 'file'), 'text'.repeat(5000));
    writeFileSync(join(home, 'plain'), 'text'.repeat(5000));
    const times = (name: string): string => execFileSync('python3', ['-c', THROUGH_A_MAP, name], { encoding: 'utf8' });
    const wanted = times(join(home, 'plain'));
    const options = `upperdir=${join(home, 'upper')},workdir=${join(home, 'work')}`;
    command('mount', join(home, 'lower'), join(home, 'mnt'), '-o', options);
    try {
      t.equal(times(join(home, 'mnt', 'file')), wanted, 'are those of any file');
      t.equal(times(join(home, 'mnt', 'file')), wanted, 'once it is in the upper directory, too');
    } finally {
      execFileSync('umount', [join(home, 'mnt')]);
    }
  }),
);
