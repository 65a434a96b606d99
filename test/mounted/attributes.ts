/** Attributes and xattrs through real mounts, beside the kernel's overlayfs, and what a mount answers that was made writable. */
import { execFileSync, spawnSync } from 'node:child_process';
import { chmodSync, mkdirSync, mkdtempSync, rmSync, statSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { EINVAL, ENODATA, ENOTTY, EOPNOTSUPP, EROFS, errnoName, must } from '../../src/sys/errno.ts';
import { native } from '../../src/sys/native.ts';
import { noErofs, noProgram, run, withKernelMount } from '../fixtures/mounts/kernel-mount.ts';
import { withMount } from '../fixtures/mounts/mounted.ts';
import { withScratchAsync } from '../fixtures/scratch.ts';
import { without, withoutFuse } from '../fixtures/skips.ts';

const AT_FDCWD = -100;
const O_RDONLY = 0;
const MS_RDONLY = 1;
const MS_REMOUNT = 32;
const empty = new Uint8Array(0);

/** A layer `a` with an object of each type, and an empty one `b`. */
function makeLayers(home: string): void {
  for (const path of ['a/directory', 'b']) mkdirSync(join(home, path), { recursive: true });
  writeFileSync(join(home, 'a/file'), 'text');
  symlinkSync('file', join(home, 'a/symlink'));
  for (const [name, ...type] of [
    ['fifo', 'p'],
    ['device', 'c', '1', '3'],
  ] as const) {
    execFileSync('mknod', [join(home, 'a', name), ...type]);
  }
}
const TYPES = ['file', 'directory', 'symlink', 'fifo', 'device'] as const;

/** Calls `use` with the place where the kernel's overlayfs shows the layers; false where it does not. */
async function withKernel(home: string, use: (root: string) => Promise<void> | void): Promise<boolean> {
  const root = mkdtempSync(join(tmpdir(), 'lowerdata-overlay-'));
  try {
    if (native.mount('overlay', root, 'overlay', MS_RDONLY, `lowerdir=${home}/a:${home}/b`) < 0) return false;
    try {
      await use(root);
    } finally {
      must(native.umount(root, 0), 'umount');
    }
    return true;
  } finally {
    rmSync(root, { recursive: true });
  }
}

const long = (prefix: string, bytes: number): string => prefix + 'x'.repeat(bytes - prefix.length);
const missing: readonly (readonly [rule: string, name: string, want: number])[] = [
  ['a missing user xattr', 'user.none', ENODATA],
  ['the longest name', long('user.', 255), ENODATA],
  ['a missing trusted xattr', 'trusted.none', ENODATA],
  ['a missing security xattr', 'security.none', ENODATA],
  ['no ACL', 'system.posix_acl_access', ENODATA],
  ['no default ACL', 'system.posix_acl_default', ENODATA],
  ['a namespace alone', 'trusted.', EINVAL],
  ['another one', 'security.', EINVAL],
  ['a namespace without its dot', 'user', EOPNOTSUPP],
  ['a namespace in capitals', 'User.a', EOPNOTSUPP],
  ['an unknown namespace', 'other.a', EOPNOTSUPP],
  ['no namespace', 'none', EOPNOTSUPP],
  ['what else system. may be', 'system.none', EOPNOTSUPP],
  ['system. alone', 'system.', EOPNOTSUPP],
  ['the prefix of overlayfs alone', 'trusted.overlay.', EINVAL],
  ['a mark of overlayfs', 'trusted.overlay.opaque', ENODATA],
];

/** What the table says, but for symlinks and special files: user xattrs and ACLs are only of files and directories. */
function wanted(type: string, name: string, want: number): number {
  if (type === 'symlink' && name.startsWith('system.posix_acl')) return EOPNOTSUPP;
  return want;
}

function checkXattrs(t: Test, root: string): void {
  for (const type of TYPES)
    for (const [rule, name, want] of missing) {
      const got = native.lgetxattr(join(root, type), name, empty);
      t.equal(errnoName(got), errnoName(-wanted(type, name, want)), `${type}: ${rule}`);
    }
  for (const type of ['file', 'directory'])
    t.equal(errnoName(native.lgetxattr(join(root, type), 'user.', empty)), 'EINVAL', `${type}: user. alone`);
  for (const type of ['symlink', 'fifo', 'device'])
    t.equal(errnoName(native.lgetxattr(join(root, type), 'user.', empty)), 'ENODATA', `${type}: has no user xattrs`);
}

t.test('xattrs that are not there', { skip: withoutFuse }, t =>
  withScratchAsync(async home => {
    makeLayers(home);
    await withMount([`${home}/a:${home}/b`], root => checkXattrs(t, root));
    await t.test('as the kernel answers', async t => {
      if (!(await withKernel(home, root => checkXattrs(t, root)))) t.pass('', { skip: 'this kernel has no overlayfs' });
    });
  }),
);

// ---- birth times and flags ----------------------------------------------------------------------------------------

const birth = (path: string): bigint => statSync(path, { bigint: true }).birthtimeNs;

/** What FS_IOC_GETFLAGS and FS_IOC_FSGETXATTR give, or the names of errors. */
function flagsOf(path: string): string[] {
  const fd = must(native.openat2(AT_FDCWD, path, O_RDONLY, 0), path);
  const [flags, fsxattr] = [new Uint8Array(4), new Uint8Array(28)];
  const results = [native.fileFlags(fd, flags), native.fileXattr(fd, fsxattr)];
  native.close(fd);
  const shown = [flags, fsxattr].map(bytes => Buffer.from(bytes).toString('hex'));
  return results.map((result, i) => (result < 0 ? errnoName(result) : (shown[i] as string)));
}

t.test('birth times and flags of a directory layer', { skip: withoutFuse }, t =>
  withScratchAsync(async home => {
    makeLayers(home);
    const marked = !without('chattr') && spawnSync('chattr', ['+Ad', join(home, 'a/file')]).status === 0;
    const types = ['file', 'directory'] as const;
    const check = (t: Test, root: string): void => {
      for (const type of types) {
        const [ours, its] = [root, join(home, 'a')].map(path => join(path, type)) as [string, string];
        t.equal(birth(ours), birth(its), `${type}: its birth time`);
        t.same(flagsOf(ours), flagsOf(its), `${type}: its flags`);
      }
    };
    await withMount([`${home}/a:${home}/b`], root => {
      check(t, root);
      if (marked) t.not(flagsOf(join(root, 'file'))[0], flagsOf(join(root, 'directory'))[0], 'flags of chattr show');
    });
    await t.test('as the kernel shows them', async t => {
      if (!(await withKernel(home, root => check(t, root)))) t.pass('', { skip: 'this kernel has no overlayfs' });
    });
  }),
);

const noImages = withoutFuse || noErofs() || noProgram('mkfs.erofs') || false;
t.test('an image has neither', { skip: noImages }, t =>
  withScratchAsync(async home => {
    makeLayers(home);
    const image = join(home, 'image');
    run('mkfs.erofs', '--quiet', image, join(home, 'a'));
    const answers = (root: string): unknown[] =>
      ['file', 'directory'].map(type => [flagsOf(join(root, type)), birth(join(root, type)) <= 0n]);
    const want = [ENOTTY, ENOTTY].map(errno => errnoName(-errno));
    const kernel = withKernelMount(image, root => ['file', 'directory'].map(type => flagsOf(join(root, type))));
    t.same(kernel, [want, want], 'for the kernel');
    await withMount([image], root => {
      t.same(
        answers(root).map(answer => (answer as unknown[])[0]),
        kernel,
        'nor for a mount',
      );
    });
  }),
);

// ---- a mount that was made writable -------------------------------------------------------------------------------

/** Tries each change in a mount, and prints what comes of it. */
const CHANGES = `
import ctypes, errno, fcntl, os, socket, sys
os.chdir(sys.argv[1])
os.read(os.open('file', os.O_RDONLY), 1) # from here on the kernel opens files itself, where it was told to
libc = ctypes.CDLL(None, use_errno=True)
def called(result):
    if result < 0: raise OSError(ctypes.get_errno(), '')
def setflags(): fcntl.ioctl(os.open('file', os.O_RDONLY), 0x40086602, bytearray(8))
for name, change in [
  ('open to write', lambda: os.open('file', os.O_WRONLY)),
  ('open to read and write', lambda: os.open('file', os.O_RDWR)),
  ('open to append', lambda: os.open('file', os.O_WRONLY | os.O_APPEND)),
  ('write', lambda: os.write(os.open('file', os.O_WRONLY), b'x')),
  ('open to truncate', lambda: os.open('file', os.O_RDONLY | os.O_TRUNC)),
  ('open what is there, or make it', lambda: os.open('file', os.O_WRONLY | os.O_CREAT)),
  ('create', lambda: os.open('new', os.O_WRONLY | os.O_CREAT)),
  ('create anew', lambda: os.open('new', os.O_WRONLY | os.O_CREAT | os.O_EXCL)),
  ('a file without a name', lambda: os.open('.', os.O_WRONLY | os.O_TMPFILE)),
  ('truncate', lambda: os.truncate('file', 0)),
  ('chmod', lambda: os.chmod('file', 0o600)),
  ('chown', lambda: os.chown('file', 1, 1)),
  ('utimes', lambda: os.utime('file', (1, 1))),
  ('mkdir', lambda: os.mkdir('new')),
  ('mkfifo', lambda: os.mkfifo('new')),
  ('mknod', lambda: os.mknod('new', 0o020600, os.makedev(1, 3))),
  ('bind', lambda: socket.socket(socket.AF_UNIX).bind('new')),
  ('symlink', lambda: os.symlink('file', 'new')),
  ('link', lambda: os.link('file', 'new')),
  ('rename', lambda: os.rename('file', 'new')),
  ('exchange', lambda: called(libc.renameat2(-100, b'file', -100, b'directory', 2))),
  ('unlink', lambda: os.unlink('file')),
  ('rmdir', lambda: os.rmdir('directory')),
  ('setxattr', lambda: os.setxattr('file', 'user.a', b'b')),
  ('removexattr', lambda: os.removexattr('file', 'user.a')),
  ('chattr', setflags),
]:
  try:
    change()
    print(name, 'done')
  except OSError as error:
    print(name, errno.errorcode[error.errno])
`;

for (const [rule, options] of [
  ['each', []],
  ['none', ['-o', 'opens=none']],
] as const) {
  t.test(
    `a mount that was made writable is read-only all the same: opens=${rule}`,
    { skip: withoutFuse || without('python3') },
    t =>
      withScratchAsync(async home => {
        makeLayers(home);
        chmodSync(join(home, 'a'), 0o777);
        await withMount([`${home}/a:${home}/b`, ...options], root => {
          must(native.mount('none', root, '', MS_REMOUNT, ''), 'remount');
          const said = execFileSync('python3', ['-c', CHANGES, root], { encoding: 'utf8' }).trim().split('\n');
          t.ok(said.length > 20, 'all are tried');
          const others = said.filter(line => !line.endsWith(` ${errnoName(EROFS)}`));
          t.same(others, rule === 'none' ? OPENED_BY_THE_KERNEL : [], 'each is EROFS');
        });
        t.equal(statSync(join(home, 'a/file')).size, 4, 'and nothing has changed');
      }),
  );
}
/** It asks for the write instead. */
const OPENED_BY_THE_KERNEL = [
  'open to write done',
  'open to read and write done',
  'open to append done',
  'open what is there, or make it done',
];
