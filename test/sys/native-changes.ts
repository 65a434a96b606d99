/**
 * Proves native-shims/changes.c: what Node sees of the changes, and the kernel's refusals. Extended attributes, flags and clones
 * are in native-attributes.ts.
 */
import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import * as fs from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import {
  EBADF,
  EEXIST,
  EFBIG,
  EINVAL,
  EISDIR,
  ELOOP,
  ENAMETOOLONG,
  ENODEV,
  ENOENT,
  ENOTDIR,
  ENOTEMPTY,
  EOPNOTSUPP,
  EPERM,
} from '../../src/sys/errno.ts';
import { native } from '../../src/sys/native.ts';
import { closesOnExec, openOrThrow, python } from '../fixtures/native.ts';
import { withoutRoot } from '../fixtures/skips.ts';

const AT_FDCWD = -100;
const [NOFOLLOW, REMOVEDIR, FOLLOW, EMPTY_PATH] = [0x100, 0x200, 0x400, 0x1000]; // AT_*
const [NOREPLACE, EXCHANGE, RENAME_WHITEOUT] = [1, 2, 4]; // RENAME_*
const [FIFO, SOCKET, CHARACTER, BLOCK, REGULAR, DIRECTORY] = [
  0o010000, 0o140000, 0o020000, 0o060000, 0o100000, 0o040000,
];
const O_PATH = 0o10000000;
const O_TMPFILE = 0o20200000;
const { O_RDONLY, O_WRONLY, O_RDWR, O_CREAT, O_EXCL, O_TRUNC, O_APPEND, O_DIRECTORY, O_NOFOLLOW } = fs.constants;

process.umask(0o022);
const home = t.testdir({
  file: 'hello, world\n',
  sub: { inner: 'x' },
  link: t.fixture('symlink', 'file'),
  dead: t.fixture('symlink', 'nowhere'),
});
const at = (...names: string[]): string => join(home, ...names);
const base = openOrThrow(home, O_PATH);
t.teardown(() => native.close(base));
const read = (name: string): string => fs.readFileSync(at(name), 'latin1');
const mode = (name: string): number => fs.lstatSync(at(name)).mode;
const bytes = (text: string): Uint8Array => Uint8Array.from(Buffer.from(text, 'latin1'));
const long = 'x'.repeat(256);

/** What all calls with a directory and a name refuse: [rule, dirfd, name, want]. */
const REFUSED = [
  ['no descriptor', 9999, 'a', -EBADF],
  ['a NUL', base, 'a\0b', -EINVAL],
  ['a name of 256 bytes', base, long, -ENAMETOOLONG],
  ['a path of 4,096 bytes', base, './'.repeat(2048), -ENAMETOOLONG],
  ['through a file', base, 'file/a', -ENOTDIR],
  ['below nothing', base, 'missing/a', -ENOENT],
] as const;
type At = (dirfd: number, path: string) => number;

t.test('a directory and a name', async t => {
  const calls: Record<string, At> = {
    openat: (dirfd, path) => native.openat(dirfd, path, O_CREAT, 0o644),
    mkdirat: (dirfd, path) => native.mkdirat(dirfd, path, 0o755),
    mknodat: (dirfd, path) => native.mknodat(dirfd, path, FIFO, 0, 0),
    symlinkat: (dirfd, path) => native.symlinkat('target', dirfd, path),
    'linkat, from': (dirfd, path) => native.linkat(dirfd, path, base, 'new', 0),
    'linkat, to': (dirfd, path) => native.linkat(base, 'file', dirfd, path, 0),
    unlinkat: (dirfd, path) => native.unlinkat(dirfd, path, 0),
    'renameat2, from': (dirfd, path) => native.renameat2(dirfd, path, base, 'new', 0),
    'renameat2, to': (dirfd, path) => native.renameat2(base, 'file', dirfd, path, 0),
    fchownat: (dirfd, path) => native.fchownat(dirfd, path, -1, -1, 0),
    fchmodat: (dirfd, path) => native.fchmodat(dirfd, path, 0o644),
    utimensat: (dirfd, path) => native.utimensat(dirfd, path, new Uint8Array(32), 0),
  };
  const before = fs.readdirSync(home);
  for (const [name, call] of Object.entries(calls))
    for (const [rule, dirfd, path, want] of REFUSED) t.equal(call(dirfd, path), want, `${name}: ${rule}`);
  t.equal(native.symlinkat('a\0b', base, 'new'), -EINVAL, 'symlinkat: a NUL in the target');
  t.equal(native.symlinkat('x'.repeat(4096), base, 'new'), -ENAMETOOLONG, 'symlinkat: a target of 4,096 bytes');
  t.same(fs.readdirSync(home), before, 'nothing was made');
});

t.test('openat', async t => {
  for (const [rule, path, flags, permissions, want, content] of [
    ['reads', 'file', O_RDONLY, 0, undefined, 'hello, world\n'],
    ['creates, less the umask', 'made', O_CREAT | O_EXCL | O_RDWR, 0o666, 0o100644, ''],
    ['a set-user-ID file', 'special', O_CREAT | O_RDWR, 0o4711, 0o104711, ''],
    ['no mode at all', 'closed', O_CREAT | O_RDWR, 0, 0o100000, ''],
    ['empties', 'made', O_TRUNC | O_RDWR, 0, 0o100644, ''],
    ['is there already', 'made', O_CREAT | O_EXCL, 0o644, -EEXIST, ''],
    ['is no directory', 'file', O_DIRECTORY, 0, -ENOTDIR, ''],
    ['a directory is not written', 'sub', O_WRONLY, 0, -EISDIR, ''],
    ['a link is not followed', 'link', O_NOFOLLOW, 0, -ELOOP, ''],
  ] as const) {
    const fd = native.openat(base, path, flags, permissions);
    if (fd < 0) t.equal(fd, want, rule);
    else {
      t.ok(closesOnExec(fd), `${rule}: close-on-exec`);
      t.equal(fs.readFileSync(fd, 'latin1'), content, `${rule}: the content`);
      if (want !== undefined) t.equal(fs.fstatSync(fd).mode, want, `${rule}: the mode`);
      native.close(fd);
    }
  }
  const fd = native.openat(base, 'appended', O_CREAT | O_APPEND | O_WRONLY, 0o644);
  fs.writeSync(fd, 'a');
  fs.writeFileSync(at('appended'), 'bc');
  fs.writeSync(fd, 'd');
  native.close(fd);
  t.equal(read('appended'), 'bcd', 'flags other than close-on-exec are kept');
  const odd = Buffer.from(at('\xff\xe9'), 'latin1'); // no UTF-8
  native.close(native.openat(base, '\xff\xe9', O_CREAT, 0o644));
  t.ok(fs.existsSync(odd), 'a name is bytes');
  fs.unlinkSync(odd);

  const unnamed = native.openat(base, '.', O_TMPFILE | O_RDWR, 0o640);
  if (unnamed === -EOPNOTSUPP) return t.pass('a file without a name', { skip: 'this filesystem has none' });
  t.same([fs.fstatSync(unnamed).nlink, fs.fstatSync(unnamed).mode], [0, 0o100640], 'a file without a name');
  fs.writeSync(unnamed, 'named');
  t.equal(native.linkat(AT_FDCWD, `/proc/self/fd/${unnamed}`, base, 'named', FOLLOW), 0, 'linkat: gives it one');
  t.equal(read('named'), 'named');
  native.close(unnamed);
});

t.test('mkdirat, symlinkat, linkat', async t => {
  t.equal(native.mkdirat(base, 'dir', 0o1777), 0);
  t.equal(mode('dir'), DIRECTORY | 0o1755, 'mkdirat: the mode, less the umask');
  t.equal(native.mkdirat(base, 'dir', 0o755), -EEXIST, 'mkdirat: is there already');

  t.equal(native.symlinkat('\xff/../é', base, 'bytes'), 0);
  t.equal(fs.readlinkSync(at('bytes'), 'latin1'), '\xff/../é', 'symlinkat: the target is bytes');
  t.equal(native.symlinkat('', base, 'empty'), -ENOENT, 'symlinkat: an empty target');
  t.equal(native.symlinkat('x', base, 'bytes'), -EEXIST, 'symlinkat: is there already');

  t.equal(native.linkat(base, 'link', base, 'sub/hard', 0), 0);
  t.ok(fs.lstatSync(at('sub/hard')).isSymbolicLink(), 'linkat: of the symlink itself');
  t.equal(native.linkat(base, 'link', base, 'hard', FOLLOW), 0);
  t.equal(fs.lstatSync(at('hard')).ino, fs.lstatSync(at('file')).ino, 'linkat: of what the symlink leads to');
  t.equal(fs.lstatSync(at('hard')).nlink, 2);
  t.equal(native.linkat(base, 'sub', base, 'again', 0), -EPERM, 'linkat: no directory');
  t.equal(native.linkat(base, 'file', base, 'hard', 0), -EEXIST, 'linkat: is there already');
  t.equal(native.linkat(base, 'file', base, 'again', 0x10), -EINVAL, 'linkat: an unknown flag');
});

t.test('mknodat', async t => {
  const root = process.getuid?.() === 0;
  for (const [name, type, major, minor, wantType] of [
    ['fifo', FIFO, 0, 0, FIFO],
    ['socket', SOCKET, 0, 0, SOCKET],
    ['plain', REGULAR, 0, 0, REGULAR],
    ['no type', 0, 0, 0, REGULAR],
    ['whiteout', CHARACTER, 0, 0, CHARACTER],
    ['null', CHARACTER, 1, 3, CHARACTER],
    ['large numbers', BLOCK, 4095, 0xfffff, BLOCK],
  ] as const) {
    if (type === CHARACTER && name !== 'whiteout' && !root) continue;
    if (type === BLOCK && !root) continue;
    t.equal(native.mknodat(base, name, type | 0o666, major, minor), 0, name);
    t.equal(mode(name), wantType | 0o644, `${name}: type and mode, less the umask`);
    const want = `${major.toString(16)},${minor.toString(16)}\n`;
    if (type === CHARACTER || type === BLOCK)
      t.equal(execFileSync('stat', ['-c', '%t,%T', at(name)], { encoding: 'latin1' }), want, `${name}: the device`);
  }
  t.equal(native.mknodat(base, 'what', CHARACTER, 4096, 0), -EINVAL, 'a major number past 12 bits');
  t.equal(native.mknodat(base, 'what', CHARACTER, 0, 2 ** 20), -EINVAL, 'a minor number past 20 bits');
  t.equal(native.mknodat(base, 'a directory', DIRECTORY | 0o755, 0, 0), -EPERM, 'no directory');
  t.equal(native.mknodat(base, 'fifo', FIFO, 0, 0), -EEXIST, 'is there already');
  t.equal(native.mknodat(base, 'what', 0o050000, 0, 0), -EINVAL, 'no type that exists');
});

t.test('unlinkat and renameat2', async t => {
  for (const name of ['one', 'two', 'three']) fs.writeFileSync(at(name), name);
  fs.mkdirSync(at('full/inner'), { recursive: true });
  const sub = openOrThrow(at('sub'), O_PATH);
  for (const [rule, from, toDirfd, to, flags, want] of [
    ['moves to another directory', 'one', sub, 'moved', 0, 0],
    ['nothing is left', 'one', sub, 'moved', 0, -ENOENT],
    ['does not replace', 'two', base, 'three', NOREPLACE, -EEXIST],
    ['exchanges', 'two', base, 'three', EXCHANGE, 0],
    ['exchanges a file and a directory', 'two', base, 'full', EXCHANGE, 0],
    ['a file does not replace a directory', 'three', base, 'two', 0, -EISDIR],
    ['nor a directory a file', 'two', base, 'three', 0, -ENOTDIR],
    ['no directory goes below itself', 'two', base, 'two/inner/x', 0, -EINVAL],
    ['a directory that is not empty stays', 'dir', base, 'two', 0, -ENOTEMPTY],
    ['an unknown flag', 'three', base, 'four', 8, -EINVAL],
    ['contradicting flags', 'three', base, 'four', NOREPLACE | EXCHANGE, -EINVAL],
  ] as const)
    t.equal(native.renameat2(base, from, toDirfd, to, flags), want, `renameat2: ${rule}`);
  t.same([read('sub/moved'), read('three'), read('full')], ['one', 'two', 'three'], 'renameat2: each is at its place');
  t.same(fs.readdirSync(at('two')), ['inner']);
  const left = native.renameat2(base, 'three', base, 'left', RENAME_WHITEOUT);
  if (left === 0)
    t.same([fs.lstatSync(at('three')).rdev, mode('three')], [0, CHARACTER], 'renameat2: a whiteout stays');
  else t.ok([-EINVAL, -EPERM].includes(left), 'renameat2: no whiteouts here');

  for (const [rule, name, flags, want] of [
    ['a directory', 'two', 0, -EISDIR],
    ['a directory that is not empty', 'two', REMOVEDIR, -ENOTEMPTY],
    ['an empty directory', 'two/inner', REMOVEDIR, 0],
    ['a file as a directory', 'full', REMOVEDIR, -ENOTDIR],
    ['a symlink and not its target', 'link', 0, 0],
    ['an unknown flag', 'file', 0x10, -EINVAL],
    ['nothing', 'link', 0, -ENOENT],
  ] as const)
    t.equal(native.unlinkat(base, name, flags), want, `unlinkat: ${rule}`);
  t.equal(read('file'), 'hello, world\n');
  t.same(fs.readdirSync(at('two')), []);
  fs.symlinkSync('file', at('link'));
  native.close(sub);
});

t.test('fchmodat and utimensat', async t => {
  const pathOnly = openOrThrow(at('link'), O_PATH);
  for (const [rule, dirfd, path, value] of [
    ['a file', base, 'file', 0o4755],
    ['through a symlink', base, 'link', 0o600],
    ['by a descriptor for the path alone', AT_FDCWD, `/proc/self/fd/${pathOnly}`, 0o7],
    ['again', base, 'file', 0o644],
  ] as const) {
    t.equal(native.fchmodat(dirfd, path, value), 0, `fchmodat: ${rule}`);
    t.equal(mode('file'), REGULAR | value, `fchmodat: ${rule}: the mode`);
  }
  t.equal(native.fchmodat(base, 'dead', 0o644), -ENOENT, 'fchmodat: a symlink to nothing');

  const [NOW, OMIT] = [0x3fffffff, 0x3ffffffe]; // UTIME_*
  const times = (...values: [bigint, number, bigint, number]): Uint8Array => {
    const out = new Uint8Array(new ArrayBuffer(40), 3, 32); // an odd address
    const v = new DataView(out.buffer, 3);
    for (const i of [0, 2] as const) {
      v.setBigInt64(i * 8, values[i], true);
      v.setBigInt64(i * 8 + 8, BigInt(values[i + 1] as number), true);
    }
    return out;
  };
  const seen = (name: string): bigint[] => {
    const s = fs.lstatSync(at(name), { bigint: true });
    return [s.atimeNs, s.mtimeNs];
  };
  t.equal(native.utimensat(base, 'link', times(1n, 2, 2n ** 33n, 999_999_999), 0), 0);
  t.same(seen('file'), [1_000_000_002n, 2n ** 33n * 1_000_000_000n + 999_999_999n], 'utimensat: through a symlink');
  t.equal(native.utimensat(base, 'file', times(0n, OMIT, -5n, 0), 0), 0);
  t.same(seen('file'), [1_000_000_002n, -5_000_000_000n], 'utimensat: one of them, before 1970');
  t.equal(native.utimensat(pathOnly, '', times(7n, 0, 8n, 0), EMPTY_PATH), 0);
  t.same(seen('file'), [7_000_000_000n, 8_000_000_000n], 'utimensat: of a descriptor for the path alone');
  t.equal(native.utimensat(base, 'link', times(3n, 0, 4n, 0), NOFOLLOW), 0);
  t.same(
    [seen('link'), seen('file')[1]],
    [[3_000_000_000n, 4_000_000_000n], 8_000_000_000n],
    'utimensat: of the symlink',
  );
  const before = BigInt(Date.now() - 1000) * 1_000_000n;
  t.equal(native.utimensat(base, 'file', times(0n, OMIT, 0n, NOW), 0), 0);
  t.ok((seen('file')[1] ?? 0n) > before, 'utimensat: now');
  t.equal(
    native.utimensat(base, 'file', times(0n, 1_000_000_000, 0n, 0), 0),
    -EINVAL,
    'utimensat: too many nanoseconds',
  );
  t.equal(native.utimensat(base, 'file', times(0n, 0, 0n, 0), 1), -EINVAL, 'utimensat: an unknown flag');
  native.close(pathOnly);
});

t.test('fchownat', { skip: withoutRoot }, async t => {
  const largest = 2 ** 32 - 2;
  for (const [rule, path, uid, gid, flags, want] of [
    ['both', 'file', 1, 2, 0, [1, 2]],
    ['the user', 'file', 3, -1, 0, [3, 2]],
    ['the group', 'file', -1, 4, 0, [3, 4]],
    ['neither', 'file', -1, -1, 0, [3, 4]],
    ['2^32 - 1 is -1', 'file', 2 ** 32 - 1, 5, 0, [3, 5]],
    ['the largest, through a symlink', 'link', largest, largest, 0, [largest, largest]],
    ['a symlink itself', 'link', 0, 0, NOFOLLOW, [largest, largest]],
    ['past 2^31', 'file', 2 ** 31, 2 ** 31 + 1, 0, [2 ** 31, 2 ** 31 + 1]],
  ] as const) {
    t.equal(native.fchownat(base, path, uid, gid, flags), 0, rule);
    const { uid: u, gid: g } = fs.lstatSync(at('file'));
    t.same([u, g], want, `${rule}: the owner`);
  }
  t.equal(native.fchownat(base, 'file', 0, 0, 1), -EINVAL, 'an unknown flag');
  fs.chownSync(at('file'), 0, 0);
});

t.test('pwrite, ftruncate and fallocate', async t => {
  const fd = native.openat(base, 'data', O_CREAT | O_RDWR, 0o644);
  const readOnly = openOrThrow(at('data'));
  const folder = openOrThrow(home, O_DIRECTORY);
  const source = new Uint8Array(new ArrayBuffer(10), 1, 8);
  source.set(bytes('abcdefgh'));
  for (const [rule, from, length, position, content] of [
    ['the start', 0, 4, 0, 'abcd'],
    ['from the middle of the bytes', 6, 2, 1, 'aghd'],
    ['nothing', 8, 0, 100, 'aghd'],
    ['over the end of the file', 0, 3, 3, 'aghabc'],
    ['after a hole', 7, 1, 8, 'aghabc\0\0h'],
  ] as const) {
    t.equal(native.pwrite(fd, source, from, length, position), length, `pwrite: ${rule}: the count`);
    t.equal(read('data'), content, `pwrite: ${rule}`);
  }
  t.equal(native.pwrite(fd, new Uint8Array(new SharedArrayBuffer(2)).fill(0x7a), 0, 2, 2 ** 32 + 1), 2);
  const end = Buffer.alloc(2);
  fs.readSync(fd, end, 0, 2, 2 ** 32 + 1);
  t.same([end.toString(), fs.fstatSync(fd).size], ['zz', 2 ** 32 + 3], 'pwrite: past 2^32, from shared memory');

  for (const [rule, result, want] of [
    ['pwrite: open for reading', native.pwrite(readOnly, source, 0, 1, 0), -EBADF],
    ['pwrite: a directory', native.pwrite(folder, source, 0, 1, 0), -EBADF],
    ['ftruncate: open for reading', native.ftruncate(readOnly, 0), -EINVAL],
    ['ftruncate: a directory', native.ftruncate(folder, 0), -EINVAL],
    ['ftruncate', native.ftruncate(fd, 2), 0],
  ] as const)
    t.equal(result, want, rule);
  t.equal(read('data'), 'ag', 'ftruncate: cuts');
  t.equal(native.ftruncate(fd, 4), 0);
  t.equal(read('data'), 'ag\0\0', 'ftruncate: adds zeros');

  const [KEEP_SIZE, PUNCH_HOLE] = [1, 2];
  fs.writeFileSync(at('data'), 'x'.repeat(12288));
  for (const [rule, mode, offset, length, want, size] of [
    ['extends', 0, 0, 20000, 0, 20000],
    ['keeps the size', KEEP_SIZE, 0, 40000, 0, 20000],
    ['punches a hole', KEEP_SIZE | PUNCH_HOLE, 4096, 4096, 0, 20000],
    ['no bytes', 0, 0, 0, -EINVAL, 20000],
    ['an unknown mode', 0x4000, 0, 1, -EOPNOTSUPP, 20000],
  ] as const) {
    t.equal(native.fallocate(fd, mode, offset, length), want, `fallocate: ${rule}`);
    t.equal(fs.fstatSync(fd).size, size, `fallocate: ${rule}: the size`);
  }
  const want = `${'x'.repeat(4096)}${'\0'.repeat(4096)}${'x'.repeat(4096)}${'\0'.repeat(20000 - 12288)}`;
  t.equal(read('data'), want, 'fallocate: only the hole is gone');
  t.equal(native.fallocate(readOnly, 0, 0, 1), -EBADF, 'fallocate: open for reading');
  const device = openOrThrow('/dev/null', O_RDWR);
  t.equal(native.fallocate(device, 0, 0, 1), -ENODEV, 'fallocate: a device');

  // A write over the limit is cut, and the one after it fails and raises SIGXFSZ, which ends tap unless something listens.
  process.on('SIGXFSZ', () => undefined);
  const limit = (soft: string): string =>
    python(
      `import resource as r, sys
pid, soft = map(int, sys.argv[1:])
print(r.prlimit(pid, r.RLIMIT_FSIZE, (soft, r.prlimit(pid, r.RLIMIT_FSIZE)[1]))[0])`,
      [String(process.pid), soft],
    ).trim();
  native.ftruncate(fd, 0);
  const before = limit('6');
  const cut = native.pwrite(fd, source, 0, 8, 2);
  const failed = [native.pwrite(fd, source, 0, 8, 6), native.ftruncate(fd, 7), native.fallocate(fd, 0, 0, 7)];
  limit(before);
  t.equal(cut, 4, 'pwrite: the bytes before an error are counted');
  t.same(failed, [-EFBIG, -EFBIG, -EFBIG], 'pwrite, ftruncate, fallocate: past the largest size');
  t.equal(read('data'), '\0\0abcd');
  for (const one of [fd, readOnly, folder, device]) native.close(one);
});

t.test('fsync, fdatasync, syncfs and copyFileRange', async t => {
  const content = Uint8Array.from({ length: 100_000 }, (_, i) => (i * i) % 253);
  fs.writeFileSync(at('source'), content);
  const [from, to] = [openOrThrow(at('source')), native.openat(base, 'target', O_CREAT | O_RDWR, 0o644)];
  const [folder, pathOnly, device] = [openOrThrow(home), openOrThrow(home, O_PATH), openOrThrow('/dev/null')];
  for (const [name, rule, result, want] of [
    ['copyFileRange', 'a part', native.copyFileRange(from, 10, to, 3, 90_000), 90_000],
    ['copyFileRange', 'up to the end', native.copyFileRange(from, 99_990, to, 90_003, 100), 10],
    ['copyFileRange', 'at the end', native.copyFileRange(from, 100_000, to, 0, 100), 0],
    ['copyFileRange', 'to a file open for reading', native.copyFileRange(to, 0, from, 0, 1), -EBADF],
    ['copyFileRange', 'from a directory', native.copyFileRange(folder, 0, to, 0, 1), -EISDIR],
    ['copyFileRange', 'over itself', native.copyFileRange(to, 0, to, 1, 100), -EINVAL],
    ['copyFileRange', 'from a device', native.copyFileRange(device, 0, to, 0, 1), -EINVAL],
    ['fsync', 'a file', native.fsync(to), 0],
    ['fsync', 'a directory', native.fsync(folder), 0],
    ['fsync', 'a descriptor for the path alone', native.fsync(pathOnly), -EBADF],
    ['fsync', 'a device', native.fsync(device), -EINVAL],
    ['fdatasync', 'a file', native.fdatasync(to), 0],
    ['fdatasync', 'a device', native.fdatasync(device), -EINVAL],
    ['fdatasync', 'a descriptor for the path alone', native.fdatasync(pathOnly), -EBADF],
    ['syncfs', 'by a device, of devtmpfs', native.syncfs(device), 0],
    ['syncfs', 'a descriptor for the path alone', native.syncfs(pathOnly), -EBADF],
  ] as const)
    t.equal(result, want, `${name}: ${rule}`);
  const want = Buffer.concat([Buffer.alloc(3), content.subarray(10, 90_010), content.subarray(99_990)]);
  const digest = (data: Uint8Array): string => createHash('sha256').update(data).digest('hex');
  t.equal(digest(fs.readFileSync(at('target'))), digest(want), 'copyFileRange: the bytes');
  t.equal(native.lseek(from, 0, 1), 0, 'copyFileRange: the offset of the file stays');
  for (const fd of [from, to, folder, pathOnly, device]) native.close(fd);
});
