/**
 * Proves the part of native-shims/xattr.c that changes extended attributes, and the ioctls of changes.c: what Python, lsattr and
 * filefrag see of the changes, and the kernel's refusals.
 */
import { execFileSync } from 'node:child_process';
import * as fs from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import {
  E2BIG,
  EBADF,
  EEXIST,
  EINVAL,
  EISDIR,
  ENAMETOOLONG,
  ENODATA,
  ENOENT,
  ENOSYS,
  ENOTDIR,
  ENOTTY,
  EOPNOTSUPP,
  EPERM,
  EXDEV,
} from '../../src/sys/errno.ts';
import { native } from '../../src/sys/native.ts';
import { withFilesystem, withoutFilesystem } from '../fixtures/mounts/ext4.ts';
import { openOrThrow, python } from '../fixtures/native.ts';

const AT_FDCWD = -100;
const [NOFOLLOW, EMPTY_PATH] = [0x100, 0x1000]; // AT_*
const [CREATE, REPLACE] = [1, 2]; // XATTR_*
const O_PATH = 0o10000000;

const home = t.testdir({ file: 'hello, world\n', sub: {}, link: t.fixture('symlink', 'file') });
const at = (name: string): string => join(home, name);
const base = openOrThrow(home, O_PATH);
const file = openOrThrow(at('file'), O_PATH);
t.teardown(() => {
  native.close(base);
  native.close(file);
});
const bytes = (text: string): Uint8Array => Uint8Array.from(Buffer.from(text, 'latin1'));
const none = new Uint8Array(0);

/** The user's attributes of what a path leads to, as Python lists them: names and values as latin1. */
function attributes(name: string): Record<string, string> {
  const program = `import json, os, sys
path = sys.argv[1]
names = [n for n in os.listxattr(path) if n.startswith('user.')]
print(json.dumps({os.fsencode(n).decode('latin1'): os.getxattr(path, n).decode('latin1') for n in names}))`;
  return JSON.parse(python(program, [at(name)])) as Record<string, string>;
}

const before = native.removexattrat(AT_FDCWD, '/', 0, 'user.none') === -ENOSYS ? 'needs Linux 6.13' : false;
/** A path to what a name leads to; the empty name to what a descriptor for the path alone is of. */
const way = (name: string): string => (name === '' ? `/proc/self/fd/${file}` : at(name));
type Set = (path: string, name: string, value: Uint8Array, flags: number) => number;
type Remove = (path: string, name: string) => number;
const calls: [rule: string, skip: string | false, set: Set, remove: Remove][] = [
  [
    'setxattr and removexattr',
    false,
    (path, name, value, flags) => native.setxattr(way(path), name, value, flags),
    (path, name) => native.removexattr(way(path), name),
  ],
  [
    'setxattrat and removexattrat',
    before,
    (path, name, value, flags) => native.setxattrat(base, path || way(path), 0, name, value, flags),
    (path, name) => native.removexattrat(base, path || way(path), 0, name),
  ],
];
for (const [name, skip, set, remove] of calls)
  t.test(name, { skip }, async t => {
    for (const [rule, path, name, value, flags, want] of [
      ['a value', 'file', 'user.plain', 'value', 0, 0],
      ['replaces', 'file', 'user.plain', 'longer value', 0, 0],
      ['creates', 'file', 'user.created', '', CREATE, 0],
      ['names and values are bytes', 'file', 'user.\xff\xe9', '\0\xff', 0, 0],
      ['through a symlink', 'link', 'user.link', 'l', 0, 0],
      ['by a descriptor for the path alone', '', 'user.fd', 'f', 0, 0],
      ['is there already', 'file', 'user.plain', 'x', CREATE, -EEXIST],
      ['nothing to replace', 'file', 'user.none', 'x', REPLACE, -ENODATA],
      ['an unknown flag', 'file', 'user.none', 'x', 4, -EINVAL],
      ['an unknown namespace', 'file', 'nothing.x', 'x', 0, -EOPNOTSUPP],
      ['a value past 64 KiB', 'file', 'user.none', 'x'.repeat(65537), 0, -E2BIG],
      ['a name of 256 bytes', 'file', `user.${'x'.repeat(251)}`, 'x', 0, -ENAMETOOLONG],
      ['a NUL in the name', 'file', 'user.a\0b', 'x', 0, -EINVAL],
      ['a NUL in the path', 'fi\0le', 'user.none', 'x', 0, -EINVAL],
      ['a path too long', 'x'.repeat(256), 'user.none', 'x', 0, -ENAMETOOLONG],
      ['below a file', 'file/a', 'user.none', 'x', 0, -ENOTDIR],
      ['nothing there', 'missing', 'user.none', 'x', 0, -ENOENT],
    ] as const)
      t.equal(set(path, name, bytes(value), flags), want, `set: ${rule}`);
    const want = { 'user.created': '', 'user.fd': 'f', 'user.link': 'l', 'user.plain': 'longer value' };
    t.same(attributes('file'), { ...want, 'user.\xff\xe9': '\0\xff' }, 'set: what Python sees');

    for (const [rule, path, name, want] of [
      ['one', 'file', 'user.plain', 0],
      ['it is gone', 'file', 'user.plain', -ENODATA],
      ['names are bytes', 'file', 'user.\xff\xe9', 0],
      ['through a symlink', 'link', 'user.link', 0],
      ['by a descriptor for the path alone', '', 'user.fd', 0],
      ['a name of 256 bytes', 'file', `user.${'x'.repeat(251)}`, -ENAMETOOLONG],
      ['a NUL in the name', 'file', 'user.created\0', -EINVAL],
      ['a path too long', 'x'.repeat(256), 'user.created', -ENAMETOOLONG],
      ['nothing there', 'missing', 'user.created', -ENOENT],
    ] as const)
      t.equal(remove(path, name), want, `remove: ${rule}`);
    t.same(attributes('file'), { 'user.created': '' }, 'remove: what Python sees');
    t.equal(remove('file', 'user.created'), 0);
  });

t.test('setxattrat and removexattrat: flags and descriptors', { skip: before }, async t => {
  const fd = openOrThrow(at('file'));
  for (const [rule, result, want] of [
    ['an open file', native.setxattrat(fd, '', EMPTY_PATH, 'user.a', none, 0), 0],
    ['an open file loses it', native.removexattrat(fd, '', EMPTY_PATH, 'user.a'), 0],
    ['a descriptor for the path alone', native.setxattrat(file, '', EMPTY_PATH, 'user.a', none, 0), -EBADF],
    ['nor can that one remove', native.removexattrat(file, '', EMPTY_PATH, 'user.a'), -EBADF],
    ['an empty path', native.setxattrat(fd, '', 0, 'user.a', none, 0), -ENOENT],
    ['a symlink has none of user', native.setxattrat(base, 'link', NOFOLLOW, 'user.a', none, 0), -EPERM],
    ['nor can it lose one', native.removexattrat(base, 'link', NOFOLLOW, 'user.a'), -EPERM],
    ['an unknown flag to set', native.setxattrat(base, 'file', 1, 'user.a', none, 0), -EINVAL],
    ['an unknown flag to remove', native.removexattrat(base, 'file', 1, 'user.a'), -EINVAL],
    ['no descriptor to set', native.setxattrat(9999, 'file', 0, 'user.a', none, 0), -EBADF],
    ['no descriptor to remove', native.removexattrat(9999, 'file', 0, 'user.a'), -EBADF],
  ] as const)
    t.equal(result, want, rule);
  t.same(attributes('file'), {}, 'nothing stays set');
  native.close(fd);
});

t.test('setFileFlags and setFileXattr', { skip: withoutFilesystem('xfs') }, async t => {
  await withFilesystem(home, 'xfs', root => {
    const path = join(root, 'file');
    fs.writeFileSync(path, 'x');
    const [fd, device] = [openOrThrow(path), openOrThrow('/dev/null')];
    /** Columns of lsattr: the project and the letters of the flags. */
    const seen = (): string[] =>
      execFileSync('lsattr', ['-p', path], { encoding: 'latin1' }).replaceAll('-', '').trim().split(/\s+/).slice(0, 2);
    const flags = (value: number): Uint8Array => {
      const out = new Uint8Array(5).subarray(1); // an odd address
      new DataView(out.buffer, 1).setUint32(0, value, true);
      return out;
    };
    for (const [rule, value, want, letters] of [
      ['immutable and no access times', 0x90, 0, 'iA'],
      ['append only', 0x20, 0, 'a'],
      ['one that xfs has not', 0x40000000, -EOPNOTSUPP, 'a'],
    ] as const) {
      t.equal(native.setFileFlags(fd, flags(value)), want, `setFileFlags: ${rule}`);
      t.same(seen(), ['0', letters], `setFileFlags: ${rule}: what lsattr sees`);
    }
    t.equal(native.setFileFlags(fd, flags(0)), 0);

    const xattr = new Uint8Array(29).subarray(1); // struct fsxattr
    const v = new DataView(xattr.buffer, 1);
    v.setUint32(0, 0x40 | 0x80, true); // fsx_xflags: FS_XFLAG_NOATIME, FS_XFLAG_NODUMP
    v.setUint32(12, 4_000_000_000, true); // fsx_projid
    t.equal(native.setFileXattr(fd, xattr), 0, 'setFileXattr');
    t.same(seen(), ['4000000000', 'dA'], 'setFileXattr: what lsattr sees');
    v.setUint32(0, 0x800, true); // FS_XFLAG_EXTSIZE
    v.setUint32(4, 1000, true); // fsx_extsize: not a multiple of a block
    t.equal(native.setFileXattr(fd, xattr), -EINVAL, 'setFileXattr: a value that is not valid');

    for (const [rule, result, want] of [
      ['setFileFlags: a device', native.setFileFlags(device, flags(0)), -ENOTTY],
      ['setFileXattr: a device', native.setFileXattr(device, xattr), -ENOTTY],
      ['setFileFlags: a descriptor for the path alone', native.setFileFlags(file, flags(0)), -EBADF],
      ['setFileXattr: a descriptor for the path alone', native.setFileXattr(file, xattr), -EBADF],
    ] as const)
      t.equal(result, want, rule);
    native.close(fd);
    native.close(device);
  });
});

t.test('clone', { skip: withoutFilesystem('xfs') }, async t => {
  await withFilesystem(t.testdir({}), 'xfs', root => {
    const content = 'blocks'.repeat(10_000);
    fs.writeFileSync(join(root, 'from'), content);
    const [from, to] = [openOrThrow(join(root, 'from')), fs.openSync(join(root, 'to'), 'wx')];
    const [elsewhere, folder] = [openOrThrow(at('file')), openOrThrow(root)];
    t.equal(native.clone(to, from), 0, 'works');
    t.equal(fs.readFileSync(join(root, 'to'), 'latin1'), content, 'the bytes');
    const extents = execFileSync('filefrag', ['-v', join(root, 'to')], { encoding: 'latin1' });
    t.match(extents, /\bshared\b/, 'filefrag says that the blocks are shared');
    for (const [rule, result, want] of [
      ['from another filesystem', native.clone(to, elsewhere), -EXDEV],
      ['to a file open for reading', native.clone(from, to), -EBADF],
      ['from a directory', native.clone(to, folder), -EISDIR],
      ['from no descriptor', native.clone(to, 9999), -EBADF],
    ] as const)
      t.equal(result, want, rule);
    for (const fd of [from, to, elsewhere, folder]) native.close(fd);
  });
});
