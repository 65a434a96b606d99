/** Proves native-shims/{files,xattr,verity}.c: what Node and Python see of the same files, and the kernel's refusals. */
import * as fs from 'node:fs';
import { join } from 'node:path';
import { sha256, sha512 } from '@noble/hashes/sha2.js';
import t from 'tap';
import {
  EACCES,
  EAGAIN,
  EBADF,
  ECHILD,
  EEXIST,
  EINVAL,
  EISDIR,
  ELOOP,
  ENODATA,
  ENOENT,
  ENOSYS,
  ENOTDIR,
  ENOTTY,
  EOPNOTSUPP,
  EOVERFLOW,
  EPERM,
  ERANGE,
  ESTALE,
  EXDEV,
  errnoName,
} from '../../src/sys/errno.ts';
import { BenchOperation, native } from '../../src/sys/native.ts';
import { closesOnExec, descriptors, openOrThrow, python } from '../fixtures/native.ts';

const AT_FDCWD = -100;
const O_PATH = 0o10000000;
const O_NOFOLLOW = fs.constants.O_NOFOLLOW;
const [NO_XDEV, NO_SYMLINKS, BENEATH, IN_ROOT] = [0x01, 0x04, 0x08, 0x10];

const home = t.testdir({
  outside: 'not ours',
  tree: {
    file: 'hello, world\n',
    sub: { inner: 'x' },
    link: t.fixture('symlink', 'file'),
    leave: t.fixture('symlink', '../outside'),
    absolute: t.fixture('symlink', '/etc/passwd'),
    loop: t.fixture('symlink', 'loop'),
  },
});
const tree = join(home, 'tree');
const file = join(tree, 'file');
const bytes = new Uint8Array(4096);
const none = new Uint8Array(0);
const text = (from: Uint8Array): string => Buffer.from(from).toString('latin1');

t.test('openat2', async t => {
  const dir = openOrThrow(tree, O_PATH);
  for (const [rule, path, flags, resolve, want] of [
    ['a file', 'file', 0, 0, 'hello, world\n'],
    ['a file beneath', 'sub/inner', 0, BENEATH, 'x'],
    ['.. that stays', 'sub/../file', 0, BENEATH, 'hello, world\n'],
    ['a link that stays', 'link', 0, BENEATH, 'hello, world\n'],
    ['a link that leaves, unconfined', 'leave', 0, 0, 'not ours'],
    ['.. that leaves', '../outside', 0, BENEATH, -EXDEV],
    ['a link that leaves', 'leave', 0, BENEATH, -EXDEV],
    ['an absolute path', '/etc/passwd', 0, BENEATH, -EXDEV],
    ['an absolute link', 'absolute', 0, BENEATH, -EXDEV],
    ['an absolute path in a root', '/file', 0, IN_ROOT, 'hello, world\n'],
    ['.. stops at the root', '../../file', 0, IN_ROOT, 'hello, world\n'],
    ['an absolute link in a root', 'absolute', 0, IN_ROOT, -ENOENT],
    ['a link where none is allowed', 'link', 0, NO_SYMLINKS, -ELOOP],
    ['a link that is not followed', 'link', O_NOFOLLOW, 0, -ELOOP],
    ['a link to itself', 'loop', 0, 0, -ELOOP],
    ['another mount', '/proc/version', 0, NO_XDEV, -EXDEV],
    ['nothing there', 'missing', 0, 0, -ENOENT],
    ['through a file', 'file/x', 0, 0, -ENOTDIR],
    ['no path', '', 0, 0, -ENOENT],
    ['an unknown way to resolve', 'file', 0, 2 ** 40, -EINVAL],
    ['an unknown flag', 'file', 2 ** 40, 0, -EINVAL],
  ] as const) {
    const fd = native.openat2(dir, path, flags, resolve);
    if (fd < 0) t.equal(fd, want, rule);
    else {
      t.equal(fs.readFileSync(fd, 'latin1'), want, rule);
      t.ok(closesOnExec(fd), `${rule}: close-on-exec`);
      t.equal(native.close(fd), 0, `${rule}: closes`);
      t.equal(native.close(fd), -EBADF, `${rule}: is closed`);
    }
  }
  const odd = Buffer.from(join(tree, '\xff\xfe caf\xe9'), 'latin1'); // no UTF-8
  fs.writeFileSync(odd, 'odd');
  const fd = native.openat2(dir, '\xff\xfe caf\xe9', 0, BENEATH);
  t.equal(fs.readFileSync(fd, 'latin1'), 'odd', 'a name is bytes, one a character');
  native.close(fd);
  native.close(dir);
  fs.unlinkSync(odd);
});

t.test('pread and lseek', async t => {
  const path = join(home, 'sparse');
  fs.writeFileSync(path, 'head');
  const writer = fs.openSync(path, 'r+');
  fs.writeSync(writer, 'tail', 2 ** 32 + 4096);
  fs.closeSync(writer);
  const fd = openOrThrow(path);

  for (const [rule, at, length, position, want, content] of [
    ['the start', 0, 4, 0, 4, 'head....'],
    ['in the middle of the buffer', 2, 4, 0, 4, '..head..'],
    ['nothing', 8, 0, 0, 0, '........'],
    ['past 2^32', 0, 4, 2 ** 32 + 4096, 4, 'tail....'],
    ['over the end of the file', 3, 5, 2 ** 32 + 4098, 2, '...il...'],
    ['at the end', 0, 8, 2 ** 32 + 4100, 0, '........'],
    ['far behind the end', 0, 8, 2 ** 43, 0, '........'],
    ['a hole', 0, 2, 2 ** 32, 2, '\0\0......'],
  ] as const) {
    const buffer = new ArrayBuffer(10);
    const out = new Uint8Array(buffer, 1, 8).fill(0x2e);
    t.equal(native.pread(fd, out, at, length, position), want, `pread: ${rule}: the count`);
    t.equal(
      Buffer.from(buffer).toString('latin1'),
      `\0${content}\0`,
      `pread: ${rule}: the bytes, and none around them`,
    );
  }
  const shared = new Uint8Array(new SharedArrayBuffer(4));
  t.equal(native.pread(fd, shared, 0, 4, 0), 4, 'pread: into shared memory');
  t.equal(String.fromCharCode(...shared), 'head', 'pread: into shared memory: the bytes');

  for (const [rule, offset, whence, want] of [
    ['from the start', 2 ** 33, 0, 2 ** 33],
    ['from there', -1, 1, 2 ** 33 - 1],
    ['from the end', -4, 2, 2 ** 32 + 4096],
    ['the next data', 2 ** 31, 3, 2 ** 32 + 4096],
    ['the next hole', 0, 4, 4096],
    ['before the start', -1, 0, -EINVAL],
    ['an unknown whence', 0, 99, -EINVAL],
  ] as const)
    t.equal(native.lseek(fd, offset, whence), want, `lseek: ${rule}`);
  native.close(fd);
});

t.test('poll and duplicate', async t => {
  const POLLIN = 1;
  const pair = new Int32Array(2);
  native.socketPair(pair, 1);
  const [here = -1, there = -1] = pair;
  t.equal(native.poll(pair, POLLIN, 0), 0, 'there is nothing, nor a wait');
  fs.writeSync(there, 'a');
  t.equal(native.poll(pair, POLLIN, 0), 1, 'something can be read');
  fs.writeSync(here, 'b');
  t.equal(native.poll(pair, POLLIN, -1), 2, 'all that are ready are counted');

  const copy = native.duplicate(here, 0);
  t.ok(copy !== here && closesOnExec(copy), 'another descriptor');
  native.close(here);
  const byte = Buffer.alloc(1);
  fs.readSync(copy, byte);
  t.equal(byte.toString(), 'a', 'of the same open file, which stays open');
  for (const one of [copy, there]) native.close(one);
});

t.test('replace', async t => {
  const [first, second] = [openOrThrow(file), openOrThrow('/dev/null')];
  t.equal(native.replace(first, second), second);
  t.equal(fs.readlinkSync(`/proc/self/fd/${second}`), file, 'the same open file');
  t.notOk(closesOnExec(second), 'and programs are given it');
  t.ok(closesOnExec(first));
  t.equal(native.replace(first, first), -EINVAL, 'not by itself');
  for (const fd of [first, second]) native.close(fd);
});

t.test('statx gives what Node gives', async t => {
  for (const [rule, path, flags] of [
    ['a file', file, 0],
    ['a directory', tree, 0],
    ['a link itself', join(tree, 'link'), 0x100],
    ['a device', '/dev/null', 0],
    ['a virtual file', '/proc/self/stat', 0],
  ] as const) {
    const out = new Uint8Array(new ArrayBuffer(264), 3, 256); // an odd address
    t.equal(native.statx(AT_FDCWD, path, flags, 0x7ff, out), 0, rule);
    const v = new DataView(out.buffer, 3);
    const device = (at: number) => {
      const [major, minor] = [v.getUint32(at, true), v.getUint32(at + 4, true)];
      return BigInt(((minor & 0xff) | (major << 8) | ((minor & ~0xff) << 12)) >>> 0);
    };
    const time = (at: number) => v.getBigInt64(at, true) * 1_000_000_000n + BigInt(v.getUint32(at + 8, true));
    const s = fs.lstatSync(path, { bigint: true });
    t.same(
      [v.getBigUint64(32, true), v.getUint16(28, true), v.getUint32(16, true), v.getUint32(20, true)],
      [s.ino, Number(s.mode), Number(s.nlink), Number(s.uid)],
      `${rule}: ino, mode, nlink, uid`,
    );
    t.same(
      [v.getUint32(24, true), v.getBigUint64(40, true), v.getBigUint64(48, true), v.getUint32(4, true)],
      [Number(s.gid), s.size, s.blocks, Number(s.blksize)],
      `${rule}: gid, size, blocks, blksize`,
    );
    t.same([device(128), device(136)], [s.rdev, s.dev], `${rule}: rdev, dev`);
    t.same([time(112), time(96)], [s.mtimeNs, s.ctimeNs], `${rule}: mtime, ctime`);
  }
});

t.test('getdents', async t => {
  const path = join(home, 'many');
  fs.mkdirSync(path);
  for (let i = 0; i < 300; i++) fs.writeFileSync(join(path, `name-${i}`), '');
  const fd = openOrThrow(path, fs.constants.O_DIRECTORY);
  const out = new Uint8Array(1024);
  const found: string[] = [];
  let n = 0;
  for (;;) {
    n = native.getdents(fd, out);
    if (n <= 0) break;
    for (let at = 0, v = new DataView(out.buffer); at < n; at += v.getUint16(at + 16, true)) {
      const end = out.indexOf(0, at + 19);
      found.push(text(out.subarray(at + 19, end)));
    }
  }
  t.equal(n, 0, 'zero at the end');
  t.same(found.sort(), ['.', '..', ...fs.readdirSync(path)].sort(), 'every name once');
  t.equal(native.lseek(fd, 0, 0), 0, 'goes back to the start');
  t.equal(native.getdents(fd, none), -EINVAL, 'no room for an entry');
  native.close(fd);

  const plain = openOrThrow(file);
  t.equal(native.getdents(plain, out), -ENOTDIR, 'a file has no entries');
  native.close(plain);
});

t.test('readlinkat', async t => {
  const path = join(tree, 'leave');
  const link = openOrThrow(path, O_PATH | O_NOFOLLOW);
  for (const [rule, dirfd, of, room, want] of [
    ['the target', AT_FDCWD, path, 64, '../outside'],
    ['of an open link', link, '', 64, '../outside'],
    ['that just fits', link, '', 10, '../outside'],
    ['cut where out ends', link, '', 4, '../o'],
    ['no room at all', link, '', 0, -EINVAL],
    ['no link', AT_FDCWD, file, 64, -EINVAL],
  ] as const) {
    const out = new Uint8Array(room);
    const n = native.readlinkat(dirfd, of, out);
    t.equal(n < 0 ? n : text(out.subarray(0, n)), want, rule);
  }
  native.close(link);
});

t.test('extended attributes', async t => {
  const program = `import os, sys
path = sys.argv[1]
os.setxattr(path, 'user.plain', b'value')
os.setxattr(path, b'user.\\xff\\xe9', b'\\x00\\xff')
os.setxattr(path, 'user.empty', b'')
print(len(b''.join(os.fsencode(n) + b'\\0' for n in os.listxattr(path))))`;
  const listBytes = Number(python(program, [file]));
  const link = join(tree, 'link');
  const fd = openOrThrow(file);
  const pathOnly = openOrThrow(file, O_PATH);
  const three = bytes.subarray(0, 3);

  t.equal(text(bytes.subarray(0, native.lgetxattr(file, 'user.plain', bytes))), 'value', 'lgetxattr: a value');
  t.equal(text(bytes.subarray(0, native.fgetxattr(fd, 'user.plain', bytes))), 'value', 'fgetxattr: a value');
  t.equal(
    text(bytes.subarray(0, native.lgetxattr(file, 'user.\xff\xe9', bytes))),
    '\0\xff',
    'names and values are bytes',
  );
  for (const [rule, result, want] of [
    ['lgetxattr: the size', native.lgetxattr(file, 'user.plain', none), 5],
    ['fgetxattr: the size', native.fgetxattr(fd, 'user.plain', none), 5],
    ['an empty value', native.lgetxattr(file, 'user.empty', bytes), 0],
    ['lgetxattr: no such name', native.lgetxattr(file, 'user.none', bytes), -ENODATA],
    ['fgetxattr: no such name', native.fgetxattr(fd, 'user.none', none), -ENODATA],
    ['lgetxattr: too small', native.lgetxattr(file, 'user.plain', three), -ERANGE],
    ['fgetxattr: too small', native.fgetxattr(fd, 'user.plain', three), -ERANGE],
    ['a namespace that does not exist', native.lgetxattr(file, 'nothing.x', none), -EOPNOTSUPP],
    ['a link is not followed', native.lgetxattr(link, 'user.plain', none), -ENODATA],
    ['a descriptor for its path alone', native.fgetxattr(pathOnly, 'user.plain', none), -EBADF],
    ['getxattr: a link is followed', native.getxattr(link, 'user.plain', none), 5],
    [
      'getxattr: by a descriptor for the path alone',
      native.getxattr(`/proc/self/fd/${pathOnly}`, 'user.plain', none),
      5,
    ],
    ['listxattr: a link is followed', native.listxattr(link, none), listBytes],
    ['flistxattr: the size', native.flistxattr(fd, none), listBytes],
    ['flistxattr: too small', native.flistxattr(fd, three), -ERANGE],
  ] as const)
    t.equal(result, want, rule);
  for (const [rule, n] of [
    ['listxattr', native.listxattr(file, bytes)],
    ['flistxattr', native.flistxattr(fd, bytes)],
  ] as const) {
    const names = text(bytes.subarray(0, n)).split('\0');
    t.ok(
      ['user.plain', 'user.empty', 'user.\xff\xe9'].every(name => names.includes(name)),
      `${rule}: every name`,
    );
    t.equal(names.at(-1), '', `${rule}: each ended by a NUL`);
  }
  native.close(fd);
  native.close(pathOnly);
});

t.test('flock', async t => {
  const [EXCLUSIVE, SHARED, UNLOCK, NONBLOCK] = [2, 1, 8, 4];
  const [a, b] = [openOrThrow(tree), openOrThrow(tree)];
  for (const [rule, fd, operation, want] of [
    ['a directory', a, EXCLUSIVE, 0],
    ['by another open file', b, EXCLUSIVE | NONBLOCK, -EAGAIN],
    ['let go', a, UNLOCK, 0],
    ['then by the other', b, SHARED | NONBLOCK, 0],
  ] as const)
    t.equal(native.flock(fd, operation), want, rule);
  native.close(b);
  t.equal(native.flock(a, EXCLUSIVE | NONBLOCK), 0, 'it ends with its descriptor');
  native.close(a);
});

const kernel = native.listxattrat(AT_FDCWD, '/', 0, none) === -ENOSYS ? 'needs Linux 6.13' : false;
t.test('getxattrat and listxattrat', { skip: kernel }, async t => {
  const NOFOLLOW = 0x100;
  const program = `import os, sys
os.setxattr(sys.argv[1], 'user.plain', b'value')
print(len(b''.join(os.fsencode(n) + b'\\0' for n in os.listxattr(sys.argv[1]))))`;
  const listBytes = Number(python(program, [file]));
  const folder = openOrThrow(tree, O_PATH);
  const three = bytes.subarray(0, 3);
  for (const [rule, result, want] of [
    ['the size', native.getxattrat(folder, 'file', NOFOLLOW, 'user.plain', none), 5],
    ['a value', native.getxattrat(folder, 'file', NOFOLLOW, 'user.plain', bytes), 5],
    ['no such name', native.getxattrat(folder, 'file', NOFOLLOW, 'user.none', none), -ENODATA],
    ['too small', native.getxattrat(folder, 'file', NOFOLLOW, 'user.plain', three), -ERANGE],
    ['a link is not followed', native.getxattrat(folder, 'link', NOFOLLOW, 'user.plain', none), -ENODATA],
    ['or is', native.getxattrat(folder, 'link', 0, 'user.plain', none), 5],
    ['the names: the size', native.listxattrat(folder, 'file', NOFOLLOW, none), listBytes],
    ['the names: too small', native.listxattrat(folder, 'file', NOFOLLOW, three), -ERANGE],
  ] as const)
    t.equal(result, want, rule);
  native.getxattrat(folder, 'file', NOFOLLOW, 'user.plain', bytes);
  t.equal(text(bytes.subarray(0, 5)), 'value');
  const names = text(bytes.subarray(0, native.listxattrat(folder, 'file', NOFOLLOW, bytes))).split('\0');
  t.ok(names.includes('user.plain') && names.at(-1) === '', 'each name is ended by a NUL');
  native.close(folder);
});

t.test('getxattr and listxattr', async t => {
  const program = `import os, sys
os.setxattr(sys.argv[1], 'user.plain', b'value')
print(len(b''.join(os.fsencode(n) + b'\\0' for n in os.listxattr(sys.argv[1]))))`;
  const listBytes = Number(python(program, [file]));
  const three = bytes.subarray(0, 3);
  const link = join(tree, 'link');
  const [fdOfFile, fdOfLink] = [file, link].map(path => `/proc/self/fd/${openOrThrow(path, O_PATH | O_NOFOLLOW)}`) as [
    string,
    string,
  ];
  for (const [rule, result, want] of [
    ['the size', native.getxattr(file, 'user.plain', none), 5],
    ['a value', native.getxattr(file, 'user.plain', bytes), 5],
    ['no such name', native.getxattr(file, 'user.none', none), -ENODATA],
    ['too small', native.getxattr(file, 'user.plain', three), -ERANGE],
    ['a link is followed', native.getxattr(link, 'user.plain', none), 5],
    ['what a descriptor is of', native.getxattr(fdOfFile, 'user.plain', none), 5],
    ['a descriptor of a link is of the link', native.getxattr(fdOfLink, 'user.plain', none), -ENODATA],
    ['the names: the size', native.listxattr(link, none), listBytes],
    ['the names: too small', native.listxattr(file, three), -ERANGE],
    ['the names of what a descriptor is of', native.listxattr(fdOfFile, none), listBytes],
  ] as const)
    t.equal(result, want, rule);
  native.getxattr(file, 'user.plain', bytes);
  t.equal(text(bytes.subarray(0, 5)), 'value');
  const names = text(bytes.subarray(0, native.listxattr(link, bytes))).split('\0');
  t.ok(names.includes('user.plain') && names.at(-1) === '', 'each name is ended by a NUL');
  for (const path of [fdOfFile, fdOfLink]) native.close(Number(path.slice('/proc/self/fd/'.length)));
});

/** Of f_flags alone: glibc takes it away. Source: linux/statfs.h. */
const ST_VALID = 0x20;

t.test('fstatfs and filesystemUuid', async t => {
  const program = `import fcntl, json, os, sys
s, uuid = os.statvfs(sys.argv[1]), bytearray(17)
try: fcntl.ioctl(os.open(sys.argv[1], os.O_RDONLY), 0x80111500, uuid)
except OSError as e: uuid = b''
print(json.dumps([s.f_namemax, s.f_frsize, s.f_flag, uuid[1:].hex()]))`;
  for (const path of [tree, '/proc', '/dev/shm']) {
    const fd = openOrThrow(path);
    const [namemax, frsize, flags, uuid] = JSON.parse(python(program, [path])) as [number, number, number, string];
    const out = new Float64Array(10);
    t.equal(native.fstatfs(fd, out), 0, path);
    const s = fs.statfsSync(path);
    t.same(
      [out[0], out[1], out[2], out[5]],
      [s.type, s.bsize, s.blocks, s.files],
      `${path}: type, bsize, blocks, files`,
    );
    t.same([out[7], out[8]], [namemax, frsize], `${path}: namelen, frsize`);
    t.equal((out[9] as number) & ~ST_VALID, flags, `${path}: flags`);
    if (path === '/proc') t.same([out[3], out[4], out[6]], [s.bfree, s.bavail, s.ffree], `${path}: nothing is free`);
    const n = native.filesystemUuid(fd, bytes);
    if (uuid) t.equal(Buffer.from(bytes.subarray(0, n)).toString('hex'), uuid, `${path}: its uuid`);
    else t.equal(n, -ENOTTY, `${path}: no uuid`);
    native.close(fd);
  }
});

t.test('file handles', async t => {
  const program = `import ctypes, sys
handle, mount = ctypes.create_string_buffer(b'\\x80\\0\\0\\0', 136), ctypes.c_uint64()
ctypes.CDLL(None).name_to_handle_at(-100, sys.argv[1].encode(), handle, ctypes.byref(mount), 0)
print(handle.raw[:8 + handle.raw[0]].hex(), end='')`;
  const out = new Uint8Array(256);
  const size = native.nameToHandleAt(AT_FDCWD, file, 0, out);
  if (size === -EOPNOTSUPP) return t.pass('round trip', { skip: 'this filesystem has no file handles' });
  t.equal(Buffer.from(out.subarray(0, size)).toString('hex'), python(program, [file]), 'is what C gives');
  t.equal(native.nameToHandleAt(AT_FDCWD, file, 0, new Uint8Array(size)), size, 'just fits');
  t.equal(native.nameToHandleAt(AT_FDCWD, file, 0, new Uint8Array(size - 1)), -EOVERFLOW, 'one byte short');
  t.equal(native.nameToHandleAt(AT_FDCWD, file, 0, none), -EOVERFLOW, 'no room');
  t.equal(native.nameToHandleAt(AT_FDCWD, file, 1, new Uint8Array(256)), size, 'AT_HANDLE_MNT_ID_UNIQUE does no harm');

  const mount = openOrThrow(tree);
  const fd = native.openByHandleAt(mount, out, fs.constants.O_RDONLY);
  if (fd === -EPERM) return t.pass('opening', { skip: 'opening by handle needs CAP_DAC_READ_SEARCH' });
  t.equal(fs.fstatSync(fd).ino, fs.statSync(file).ino, 'opens the same inode');
  t.ok(closesOnExec(fd), 'close-on-exec');
  native.close(fd);

  const gone = join(tree, 'gone');
  fs.writeFileSync(gone, '');
  native.nameToHandleAt(AT_FDCWD, gone, 0, out);
  fs.unlinkSync(gone);
  t.equal(native.openByHandleAt(mount, out, 0), -ESTALE, 'a file that is gone');
  const odd = out.slice(0, size);
  odd[4] = 0xee;
  t.equal(native.openByHandleAt(mount, odd, 0), -ESTALE, 'a handle of an unknown type');
  odd.set([0xff, 0xff, 0xff, 0xff]);
  t.equal(native.openByHandleAt(mount, odd, 0), -EINVAL, 'a length past every bound');
  odd.set([0, 0, 0, 0]);
  t.equal(native.openByHandleAt(mount, odd, 0), -EINVAL, 'a length of zero');
  native.close(mount);
});

t.test('fs-verity', async t => {
  const fd = openOrThrow(join(tree, 'sub/inner'));
  const unsupported = [-ENOTTY, -EOPNOTSUPP];
  t.ok([-ENODATA, ...unsupported].includes(native.measureVerity(fd, bytes)), 'a file without verity has no digest');

  // Digest of an empty file: the published example of fsverity(1), `fsverity digest /dev/null`.
  const empty = '3d248ca542a24fc62d1c43b916eae5016878e2533c88238480b26128a1f1af95';
  const path = join(home, 'empty');
  fs.writeFileSync(path, '');
  const sealed = openOrThrow(path);
  const result = native.enableVerity(sealed, 1, 4096);
  if (unsupported.includes(result)) t.pass('enabling', { skip: `no fs-verity here: ${errnoName(result)}` });
  else {
    t.equal(result, 0, 'enables');
    t.equal(native.measureVerity(sealed, bytes), 36, 'the size of a SHA-256 struct fsverity_digest');
    t.equal(Buffer.from(bytes.subarray(0, 36)).toString('hex'), `01002000${empty}`, 'the digest');
    t.equal(native.measureVerity(sealed, new Uint8Array(35)), -EOVERFLOW, 'one byte short');
  }
  native.close(sealed);
  native.close(fd);
});

t.test('hashBlocks', async t => {
  const hex = (from: Uint8Array): string => Buffer.from(from).toString('hex');
  const blocks = Uint8Array.from({ length: 2 * 4096 + 100 }, (_, i) => i % 251);
  const shared = new Uint8Array(new SharedArrayBuffer(blocks.length));
  shared.set(blocks);
  const salt = new Uint8Array(128).fill(7);
  const want = (H: typeof sha256 | typeof sha512, data: Uint8Array, blockBytes: number, salt: Uint8Array): string[] =>
    Array.from({ length: Math.ceil(data.length / blockBytes) }, (_, i) => {
      const block = Buffer.concat([salt, data.subarray(i * blockBytes, (i + 1) * blockBytes)]);
      return hex(H(Buffer.concat([block, Buffer.alloc(salt.length + blockBytes - block.length)])));
    });
  for (const [rule, algorithm, salt1, data, blockBytes] of [
    ['whole blocks', 1, none, blocks.subarray(0, 8192), 4096],
    ['the last one filled up with zeros', 1, none, blocks, 4096],
    ['after a salt', 1, salt.subarray(0, 64), blocks, 4096],
    ['a salt need not fill a block of the hash', 1, salt.subarray(0, 3), blocks, 4096],
    ['SHA-512', 2, salt, blocks, 4096],
    ['shared memory', 1, none, shared, 4096],
    ['a part of an array', 1, none, shared.subarray(1, 5001), 1024],
    ['one block of any size', 2, none, blocks.subarray(0, 100), 100],
    ['blocks of one byte', 1, none, blocks.subarray(0, 3), 1],
    ['the largest blocks', 1, none, blocks, 65536],
    ['no blocks', 1, salt, none, 4096],
  ] as const) {
    const hashes = want(algorithm === 1 ? sha256 : sha512, data, blockBytes, salt1);
    const bytes = hashes.join('').length / 2;
    const out = new Uint8Array(new SharedArrayBuffer(bytes + 1)).fill(0xee);
    t.equal(native.hashBlocks(algorithm, salt1, data, blockBytes, out), hashes.length, `${rule}: how many`);
    t.equal(hex(out), `${hashes.join('')}ee`, rule);
  }
});

t.test('benchPaths', async t => {
  const dir = openOrThrow(tree, O_PATH);
  const { stat, miss, open, read, list } = BenchOperation;
  const before = descriptors();
  for (const [rule, operation, paths, bufferBytes, want, timed] of [
    ['stat, also of a dead link', stat, ['file', 'sub/inner', 'loop'], 0, 3, 3],
    ['stat of nothing is a failure', stat, ['file', 'missing', 'file'], 0, -ENOENT, 1],
    ['a miss must be one', miss, ['missing', 'sub/missing', 'file', 'missing'], 0, -EEXIST, 2],
    ['and no other failure', miss, ['file/x'], 0, -ENOTDIR, 0],
    ['open', open, ['file', 'sub'], 0, 2, 2],
    ['open follows no link', open, ['link'], 0, -ELOOP, 0],
    ['read', read, ['file', 'sub/inner'], 64, 2, 2],
    ['read of a directory', read, ['sub'], 64, -EISDIR, 0],
    ['list', list, ['.', 'sub'], 4096, 2, 2],
    ['list of a file', list, ['file'], 4096, -ENOTDIR, 0],
    ['list with no room for an entry', list, ['.'], 8, -EINVAL, 0],
    ['no paths', stat, [], 0, 0, 0],
  ] as const) {
    const out = new Float64Array(paths.length + 1);
    const text = Buffer.from(paths.map(path => `${path}\0`).join(''));
    t.equal(native.benchPaths(dir, operation, text, new Uint8Array(bufferBytes), out), want, rule);
    t.strictSame(
      [...out].map(time => time > 0),
      [...out.keys()].map(i => i < timed),
      `${rule}: each success has a time`,
    );
  }
  const [buffer, out] = [new Uint8Array(5), new Float64Array(1)];
  native.benchPaths(dir, read, Buffer.from('file\0'), buffer, out);
  t.equal(text(buffer), 'hello', 'as many bytes as there is room for are read');
  t.equal(descriptors(), before, 'nothing stays open');
  native.close(dir);
});

t.test('benchPaths that change files, benchWrites', async t => {
  const home = t.testdir();
  const dir = openOrThrow(home, O_PATH);
  const before = descriptors();
  const { create, chmod, append, remove } = BenchOperation;
  const bytes = Buffer.from('four');
  const run = (operation: number, name: string): number =>
    native.benchPaths(dir, operation, Buffer.from(`${name}\0`), bytes, new Float64Array(1));
  t.equal(run(create, 'new'), 1);
  t.equal(run(create, 'new'), -EEXIST, 'a name that is there is not a new file');
  t.equal(run(append, 'new'), 1);
  t.equal(fs.readFileSync(join(home, 'new'), 'latin1'), 'fourfour', 'written, and written at the end');
  t.equal(run(chmod, 'new'), 1);
  t.equal(fs.statSync(join(home, 'new')).mode & 0o7777, 0o640);
  fs.symlinkSync('new', join(home, 'link'));
  t.equal(run(append, 'link'), -ELOOP, 'no link is followed');
  t.equal(run(remove, 'new'), 1);
  t.strictSame(fs.readdirSync(home), ['link']);
  t.equal(run(remove, 'new'), -ENOENT);
  const fd = native.openat(dir, 'parts', 0o101, 0o600);
  const times = new Float64Array(2);
  t.equal(native.benchWrites(fd, Float64Array.of(4, 0), bytes, times), 2);
  t.equal(fs.readFileSync(join(home, 'parts'), 'latin1'), 'fourfour', 'each offset is written');
  t.ok(
    times.every(time => time > 0),
    'each write has a time',
  );
  t.equal(native.benchWrites(fd, Float64Array.of(-1), bytes, times), -EINVAL, 'no offset is negative');
  native.close(fd);
  t.equal(descriptors(), before, 'nothing stays open');
  native.close(dir);
});

t.test('benchReads, benchTouches', async t => {
  const fd = openOrThrow(join(tree, 'file'));
  const before = descriptors();
  const timed = (out: Float64Array): number => out.filter(time => time > 0).length;
  const size = 'hello, world\n'.length;
  for (const [rule, offsets, bufferBytes, want] of [
    ['each offset is read', [0, 7, 1], 5, 3],
    ['up to the end', [size - 5], 5, 1],
    ['a read that ends early is a failure', [1, size - 4], 5, -ENODATA],
    ['no offset is negative', [-1], 5, -EINVAL],
    ['no offsets', [], 5, 0],
  ] as const) {
    const out = new Float64Array(offsets.length);
    t.equal(native.benchReads(fd, Float64Array.from(offsets), new Uint8Array(bufferBytes), out), want, rule);
    t.equal(timed(out), want >= 0 ? want : offsets.length - 1, `${rule}: each success has a time`);
  }
  for (const [rule, offsets, want] of [
    ['each offset is looked at', [0, size - 1], 2],
    ['the end is past the map', [0, size], -EINVAL],
    ['a negative offset is not in the map', [-1], -EINVAL],
  ] as const)
    t.equal(native.benchTouches(fd, Float64Array.from(offsets), new Float64Array(2)), want, rule);
  const buffer = new Uint8Array(5);
  native.benchReads(fd, Float64Array.of(7), buffer, new Float64Array(1));
  t.equal(text(buffer), 'world', 'what is read is what is there');
  t.equal(descriptors(), before, 'nothing stays open');
  native.close(fd);
});

t.test('benchRuns', async t => {
  const before = descriptors();
  const log = join(tree, 'runs');
  for (const [rule, program, value, want] of [
    ['a program is run so many times', '/bin/sh', `echo x >> ${log}`, 3],
    ['its output is not seen', '/bin/sh', 'echo seen; echo seen >&2', 3],
    ['another status than 0 is a failure', '/bin/sh', 'exit 3', -ECHILD],
    ['so is a signal', '/bin/sh', 'kill -9 $$', -ECHILD],
    ['no program', join(tree, 'missing'), 'x', -ENOENT],
    ['what is none', join(tree, 'file'), 'x', -EACCES],
  ] as const) {
    const out = new Float64Array(3);
    t.equal(native.benchRuns(program, '-c', value, out), want, rule);
    t.equal(out.filter(time => time > 1e4).length, want < 0 ? 0 : want, `${rule}: starting a program takes time`);
  }
  t.equal(fs.readFileSync(log, 'latin1'), 'x\nx\nx\n', 'once for each time');
  t.equal(descriptors(), before, 'nothing stays open');
});
