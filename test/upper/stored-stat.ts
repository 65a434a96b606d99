/**
 * Owners and modes in xattrs (`xattr_permissions`). A tree whose files all belong to root, with modes that say nothing, shows and
 * does what the kernel's overlay does with a tree whose inodes have those owners and modes. fuse-overlayfs reads what is left.
 */
import { execFileSync, spawnSync } from 'node:child_process';
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { command, withMount } from '../fixtures/mounts/mounted.ts';
import {
  type Change,
  dumpTrees,
  runChanges,
  withoutWritableOverlay,
  withWritable,
} from '../fixtures/mounts/writable.ts';
import { withScratchAsync } from '../fixtures/scratch.ts';
import { without } from '../fixtures/skips.ts';

t.setTimeout(300_000);

const LAYER = `
umask 022
mkdir d d/sub e g open
for name in f big suid cap private d/x d/sub/y h1; do echo "$name" >$name; done
ln h1 h2 && ln -s f sl && mkfifo p && mknod c c 1 3 && mknod b b 7 0
chgrp 100 g && chmod 2775 g && chmod 777 open
chown 1000:1000 private && chmod 600 private && chown 7:8 big suid && chmod 6777 suid && chown 5:6 d p c && chmod 1711 d
python3 -c '
import os, struct
os.setxattr("f", "user.a", b"b")
os.setxattr("cap", "security.capability", struct.pack("<5I", 0x02000001, 1 << 10, 0, 0, 0))'
find . -exec touch -h -d '2001-02-03 04:05:06.123456789' {} +
`;

/** Has a tree keep owners and modes in xattrs, as containers/storage extracts layers with force_mask=0700. */
const MASK = `
import os, stat, sys
for at, folders, files in os.walk(".", topdown=False):
    found = [(path, os.lstat(path)) for path in [os.path.join(at, name) for name in files] + [at]]
    for path, s in found:
        kind = stat.S_IFMT(s.st_mode)
        if kind == stat.S_IFLNK or kind == stat.S_IFCHR and s.st_rdev == 0:
            continue
        word = {stat.S_IFREG: "file", stat.S_IFDIR: "dir", stat.S_IFIFO: "pipe", stat.S_IFCHR: "char", stat.S_IFBLK: "block"}[kind]
        if kind in (stat.S_IFCHR, stat.S_IFBLK):
            word += f"-{os.major(s.st_rdev)}-{os.minor(s.st_rdev)}"
        if kind not in (stat.S_IFREG, stat.S_IFDIR):
            os.unlink(path)
            open(path, "x").close()
        caps = "security.capability" in os.listxattr(path) and os.getxattr(path, "security.capability")
        if s.st_nlink == 1 or kind == stat.S_IFDIR or path.endswith("h1"):
            os.setxattr(path, "user.containers.override_stat", f"{s.st_uid}:{s.st_gid}:{stat.S_IMODE(s.st_mode):04o}:{word}".encode())
            os.chown(path, 0, 0)
            os.chmod(path, 0o700)
        if caps:
            os.setxattr(path, "security.capability", caps)
        os.utime(path, ns=(s.st_atime_ns, s.st_mtime_ns))
`;

const cases: readonly (readonly [rule: string, ...statements: readonly string[]])[] = [
  ['nothing is changed', "get('f')", "names('d')", "show('p')"],
  [
    'modes',
    "chmod('f', 0o6755)",
    "chmod('d', 0o700)",
    "chmod('p', 0o600)",
    "chmod('c', 0o600)",
    "chmod('suid', 0o777)",
  ],
  ['owners', "chown('f', 5, 6)", "chown('d', 7, -1)", "chown('p', -1, 8)", "chown('b', 3, 4)"],
  ['the owner of a file with set-user-ID', "chown('suid', 1, 1)", "show('suid')"],
  ['the owner of a file with a capability', "chown('cap', 1, 1)", "listxattr('cap')"],
  ['mode and owner', "chmod('big', 0o4755)", "chown('big', 1, 2)", "chmod('big', 0o4711)", "show('big')"],
  ['times', "utime('f', ns=(5, 1234567890123456789))", "utime('d', ns=(5, 6))", "utime('p', ns=(5, 6))"],
  ['data', "append('f', 'more')", "append('big', 'more')", "truncate('suid', 1)", "put('d/x', '')"],
  ['two links', "chmod('h1', 0o600)", "append('h2', 'x')", "show('h1')", "show('h2')"],
  ['a user writes to a file with set-user-ID', "by(1000, \"append('suid', 'x')\")", "show('suid')"],
  ['a user has his own', "by(1000, \"append('private', 'x')\", \"chmod('private', 0o640)\", \"get('private')\")"],
  [
    'a user has no right',
    "by(1000, \"append('f', 'x')\", \"chmod('f', 0)\", \"put('d/n', '')\", \"names('d')\", \"get('d/x')\")",
  ],
  [
    'new objects',
    "put('n', 'new')",
    "mkdir('m')",
    "symlink('x', 'l')",
    "mkfifo('q')",
    "bind('s')",
    "mknod('nc', 0o20640, os.makedev(1, 5))",
  ],
  ['new objects with modes', "put('n', '', O_CREAT, 0o6711)", "mkdir('m', 0o1777)", "mkfifo('q', 0o600)"],
  ['the umask', 'os.umask(0o077)', "put('n', '')", "mkdir('m')", "mkfifo('q')", 'os.umask(0o022)'],
  ['set-group-ID of a directory', "put('g/n', '')", "mkdir('g/m')", "mkfifo('g/q')", "show('g/m')"],
  [
    'new objects of a user',
    "by(1000, \"put('open/n', 'new')\", \"mkdir('open/m')\", \"mkfifo('open/q')\", \"put('open/n', 'x')\")",
  ],
  ['a file without a name', "nameless('.', 'text', 'n')", "by(1000, \"nameless('open', 'text', 'open/n')\")"],
  ['a device that is used', "get('c')", "mknod('zero', 0o20666, os.makedev(1, 5))", "at(open('zero', O_RDONLY), 0, 3)"],
  [
    'objects are removed',
    "unlink('f')",
    "unlink('p')",
    "unlink('c')",
    "shutil.rmtree('d')",
    "put('f', 'again')",
    "mkdir('d')",
  ],
  [
    'other names',
    "rename('big', 'd/big2')",
    "rename('d', 'dd')",
    "rename('p', 'dd/p')",
    "rename2('c', 'e', EXCHANGE)",
    "names('dd')",
  ],
  ['a directory over an empty one', "rename('d', 'e')", "show('e')"],
  ['a name that is hidden', "unlink('big')", "put('big', 'x')", "chmod('big', 0o600)"],
  ['xattrs', "setxattr('f', 'user.b', b'c')", "removexattr('f', 'user.a')", "listxattr('f')"],
];

const missing = withoutWritableOverlay || without('setfattr');
const directoryOf = (i: number): string => String(i).padStart(2, '0');
const STORED = 'user.containers.override_stat';
const now = (): bigint => BigInt(Date.now()) * 1_000_000n;
/** What the lines of a dump say of objects below the root, whose time is that of its making; inodes differ. */
const linesOf = (dump: Record<string, string>): [string, string][] =>
  Object.entries(dump)
    .filter(([path]) => path !== '.')
    .map(([path, line]) => [path, line.replace(/ (ino=\S+|blocks|no-blocks)/g, '')]);

function makeLayers(home: string): { plain: string; masked: string } {
  const [plain, masked] = [join(home, 'plain'), join(home, 'masked')];
  for (const [i] of cases.entries()) {
    mkdirSync(join(plain, directoryOf(i)), { recursive: true });
    execFileSync('sh', ['-ec', LAYER], { cwd: join(plain, directoryOf(i)) });
  }
  execFileSync('cp', ['-a', plain, masked]);
  execFileSync('python3', ['-c', MASK], { cwd: masked });
  return { plain, masked };
}

t.test('beside a tree whose inodes have owners and modes', { skip: withoutWritableOverlay }, t =>
  withScratchAsync(async home => {
    const { plain, masked } = makeLayers(home);
    const since = now();
    const options = 'metacopy=on,redirect_dir=on';
    const change = (root: string) => {
      const results = runChanges(cases.map(([, ...statements], i): Change => [join(root, directoryOf(i)), statements]));
      return { results, dump: linesOf(dumpTrees([[root, 'merged']], since, [])[0] ?? {}) };
    };
    for (const name of ['kernel', 'ours']) mkdirSync(join(home, name));
    const kernel = await withWritable('kernel', { lowerdir: plain, home: join(home, 'kernel'), options }, change);
    const stack = { lowerdir: masked, home: join(home, 'ours'), options: `${options},dev,suid,xattr_permissions=2` };
    const ours = await withWritable('lowerdata', stack, change);
    for (const [i, [rule]] of cases.entries()) t.strictSame(ours.results[i], kernel.results[i], rule);
    t.strictSame(ours.dump, kernel.dump, 'the trees');
    const again = await withWritable('lowerdata', stack, root =>
      linesOf(dumpTrees([[root, 'merged']], since, [])[0] ?? {}),
    );
    t.strictSame(again, kernel.dump, 'and in the next mount');
    const upper = execFileSync(
      'find',
      [join(home, 'ours/upper'), '(', '-uid', '+0', '-o', '-perm', '/7000', '-o', '-type', 'p', ')', '-print'],
      { encoding: 'utf8' },
    );
    t.equal(upper, '', 'no inode of the upper layer has another owner or type');

    const layers = `${join(home, 'ours/upper')}:${masked}`;
    const read = await withMount([layers, '-o', 'xattr_permissions=0,redirect_dir=follow,metacopy=on,dev,suid'], root =>
      linesOf(dumpTrees([[root, 'merged']], since, [])[0] ?? {}),
    );
    t.strictSame(read.map(withoutLinks), kernel.dump.map(withoutLinks), 'and as layers that are read');
  }),
);
/** A link of a lower file is broken by the copy-up of one; nothing else depends on which layer is written to. */
const withoutLinks = ([path, line]: [string, string]): [string, string] => [path, line.replace(/ nlink=\d+/, '')];

const SHOW = "find . -mindepth 1 -printf '%P %M %U:%G %y\\n' | sort";
const shownIn = (root: string): string[] =>
  execFileSync('sh', ['-c', SHOW], { cwd: root, encoding: 'utf8' }).trim().split('\n');

t.test('beside fuse-overlayfs', { skip: missing || without('fuse-overlayfs') }, t =>
  withScratchAsync(async home => {
    const at = (name: string): string => join(home, name);
    for (const name of ['lower', 'theirs/upper', 'theirs/work', 'ours/upper', 'ours/work', 'mnt'])
      mkdirSync(at(name), { recursive: true });
    execFileSync('sh', ['-ec', 'mkdir d; echo f >f; echo x >d/x; ln -s f sl'], { cwd: at('lower') });
    execFileSync('python3', ['-c', MASK], { cwd: at('lower') });
    execFileSync('setfattr', ['-n', STORED, '-v', '5:6:0755', at('lower/f')]);
    const withTheirs = (options: string, use: () => void): void => {
      execFileSync('fuse-overlayfs', ['-o', options, at('mnt')], { stdio: 'ignore' });
      try {
        use();
      } finally {
        execFileSync('umount', [at('mnt')]);
      }
    };
    const CHANGES =
      'echo more >>f; chown 7:8 d/x; echo n >n; chmod 4751 n; chown 9:10 n; mkdir new; chmod 1733 new; chown 1:1 new';
    let theirs: string[] = [];
    withTheirs(
      `lowerdir=${at('lower')},upperdir=${at('theirs/upper')},workdir=${at('theirs/work')},xattr_permissions=2`,
      () => {
        execFileSync('sh', ['-ec', CHANGES], { cwd: at('mnt') });
        theirs = shownIn(at('mnt'));
      },
    );
    t.match(theirs.join('\n'), /^n -rwxr-x--x 9:10 f$/m, 'it has stored owners and modes');
    const ours = (name: string) =>
      `lowerdir=${at('lower')},upperdir=${at(`${name}/upper`)},workdir=${at(`${name}/work`)},xattr_permissions=2,metacopy=off`;
    const role = ['whiteouts=both'];
    await withMount(['stack', '-o', [ours('theirs'), ...role].join()], root => {
      t.strictSame(shownIn(root), theirs, 'its upper layer shows the same');
      execFileSync('sh', ['-ec', 'chmod 600 n; chown 2:2 d'], { cwd: root });
    });
    withTheirs(`lowerdir=${at('theirs/upper')}:${at('lower')}`, () => {
      const after = shownIn(at('mnt')).filter(line => /^(n|d) /.test(line));
      t.strictSame(after, ['d drwxr-xr-x 2:2 d', 'n -rw------- 9:10 f'], 'and it reads what was changed then');
    });
    await withMount(['stack', '-o', [ours('ours'), ...role].join()], root => {
      execFileSync('sh', ['-ec', CHANGES], { cwd: root });
      t.strictSame(shownIn(root), theirs, 'the same changes show the same');
    });
    withTheirs(`lowerdir=${at('ours/upper')}:${at('lower')}`, () => {
      t.strictSame(shownIn(at('mnt')), theirs, 'and it reads them');
    });
  }),
);

t.test('what a user may not do, and what is refused', { skip: missing }, t =>
  withScratchAsync(async home => {
    const at = (name: string): string => join(home, name);
    for (const name of ['lower', 'bad', 'upper', 'work']) mkdirSync(at(name));
    execFileSync('sh', ['-ec', 'echo f >f; chown 1000:1000 f; echo g >g'], { cwd: at('lower') });
    execFileSync('setfattr', ['-n', STORED, '-v', '0:0:04755', at('lower/f')]); // no xattr of the root: an xattr like others
    const stack = { lowerdir: at('lower'), home, options: 'xattr_permissions=2' };
    const [found] = await withWritable('lowerdata', stack, root =>
      runChanges([
        [
          root,
          [
            "show('f')",
            `setxattr('f', '${STORED}', b'0:0:04755')`,
            "setxattr('f', 'user.fuseoverlayfs.override_stat', b'0:0:104755')",
            `removexattr('f', '${STORED}')`,
            "setxattr('f', 'system.posix_acl_access', acl_for(1001, 6))",
            "append('f', 'x')",
            "show('f')",
            "listxattr('f')",
          ],
        ],
      ]),
    );
    t.strictSame(found, [
      '-rw-r--r-- 1000:1000 nlink=1 size=2',
      `setxattr('f', '${STORED}', b'0:0:04755'): ENOTSUP`,
      "setxattr('f', 'user.fuseoverlayfs.override_stat', b'0:0:104755'): ENOTSUP",
      `removexattr('f', '${STORED}'): ENOTSUP`,
      "setxattr('f', 'system.posix_acl_access', acl_for(1001, 6)): ENOTSUP",
      '-rw-r--r-- 1000:1000 nlink=1 size=3',
      [],
    ]);
    for (const [name, value] of [
      ['.', '0:0:0755'],
      ['file', 'root'],
      ['other', '0:0:0755:dir'],
    ] as const) {
      execFileSync('sh', ['-ec', `[ -e ${name} ] || : >${name}; setfattr -n ${STORED} -v ${value} ${name}`], {
        cwd: at('bad'),
      });
    }
    await withMount([at('bad'), '-o', 'xattr_permissions=0'], root => {
      for (const name of ['file', 'other'])
        t.match(spawnSync('stat', [join(root, name)], { encoding: 'utf8' }).stderr, /Invalid argument/, name);
    });
    t.match(command('stat', at('bad'), '/file'), /700|644/, 'without the option, inodes count');
  }),
);
