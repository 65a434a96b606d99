/** The flags immutable and append-only, beside the kernel's overlayfs: what they forbid, and what is left in the upper layer. */
import { execFileSync, spawnSync } from 'node:child_process';
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { Backing } from '../../src/driver/backing.ts';
import { Files, type OpenReply } from '../../src/driver/files.ts';
import { Measurer } from '../../src/driver/measurer.ts';
import { openWritable } from '../../src/driver/writable/open.ts';
import { ROOT } from '../../src/fuse/filesystem.ts';
import { DEFAULT_MEMORY } from '../../src/overlay/cache.ts';
import { openOverlay } from '../../src/overlay/open.ts';
import { parseLowerdir } from '../../src/overlay/options/lowerdir.ts';
import { settleRules } from '../../src/overlay/options/rules.ts';
import { step } from '../../src/overlay/step.ts';
import { EOPNOTSUPP } from '../../src/sys/errno.ts';
import { UpperRoots } from '../../src/upper/roots.ts';
import { MeasurePool } from '../../src/verity/measure-pool.ts';
import {
  type Change,
  dumpTrees,
  type Maker,
  runChanges,
  withoutWritableOverlay,
  withWritable,
} from '../fixtures/mounts/writable.ts';
import { withScratch, withScratchAsync } from '../fixtures/scratch.ts';
import { without } from '../fixtures/skips.ts';

t.setTimeout(300_000);

/** Whether files of the temporary directory can have the flags. */
const withoutFlags =
  withoutWritableOverlay ||
  without('chattr') ||
  withScratch(home => {
    writeFileSync(join(home, 'file'), '');
    if (spawnSync('chattr', ['+i', join(home, 'file')]).status !== 0)
      return 'no flags of chattr on the filesystem of the temporary directory';
    execFileSync('chattr', ['-i', join(home, 'file')]);
    return false;
  });

const LAYER = `
umask 022
mkdir d d/sub e && echo hello >f && echo other >g && echo 'x of d' >d/x && echo y >d/sub/y
chown 1000:1000 g
python3 -c 'import os; os.setxattr("f", "user.a", b"b")'
`;
const ACL = 'acl_for(1001, 6)';

const ON_A_FILE = [
  "get('f')",
  "flags('f')",
  "append('f', 'more')",
  "put('f', 'new')",
  "put('f', 'new', 0)",
  "close(open('f', O_RDONLY | O_TRUNC))",
  "truncate('f', 1)",
  "chmod('f', 0o600)",
  "chown('f', 1, 1)",
  "utime('f')",
  "utime('f', ns=(5, 6))",
  "setxattr('f', 'user.b', b'c')",
  "setxattr('f', 'trusted.b', b'c')",
  "removexattr('f', 'user.a')",
  "removexattr('f', 'user.none')",
  `setxattr('f', 'system.posix_acl_access', ${ACL})`,
  "link('f', 'd/f2')",
  "unlink('f')",
  "rename('f', 'h')",
  "rename('f', 'd/h')",
  "rename('g', 'f')",
  "rename2('f', 'g', EXCHANGE)",
  "rename2('g', 'f', EXCHANGE)",
  "rename2('g', 'f', NOREPLACE)",
  "fallocate('f', 0, 0, 10000)",
  "get('f')",
  "show('f')",
];
const ON_A_DIRECTORY = [
  "names('d')",
  "flags('d')",
  "put('d/new', 'new')",
  "mkdir('d/dir')",
  "mkfifo('d/fifo')",
  "symlink('x', 'd/link')",
  "link('f', 'd/f2')",
  "nameless('d', 'text')",
  "rename('g', 'd/g')",
  "rename('d/x', 'd/z')",
  "rename('d/x', 'x')",
  "rename2('d/x', 'f', EXCHANGE)",
  "unlink('d/x')",
  "append('d/x', 'more')",
  "put('d/sub/new', 'new')",
  "rmdir('e')",
  "rmdir('d/sub')",
  "shutil.rmtree('d/sub')",
  "rename('d', 'dd')",
  "rename('d', 'e')",
  "chmod('d', 0o700)",
  "utime('d')",
  "utime('d', ns=(5, 6))",
  "setxattr('d', 'user.b', b'c')",
  "names('d')",
  "show('d')",
];
/** Descriptors that were opened before. */
const BEFORE = ["fd = open('f', O_RDWR)", "ap = open('f', O_WRONLY | O_APPEND)"];
const BY_DESCRIPTORS = [
  "pwrite(fd, b'J', 0)",
  "os.write(ap, b'end')",
  'fchmod(fd, 0o600)',
  'fchown(fd, 1, 1)',
  'called(libc.fallocate(fd, 0, ctypes.c_long(0), ctypes.c_long(100)))',
  'called(libc.fallocate(fd, KEEP_SIZE, ctypes.c_long(0), ctypes.c_long(200)))',
  'called(libc.fallocate(fd, KEEP_SIZE | PUNCH_HOLE, ctypes.c_long(0), ctypes.c_long(1)))',
  'ftruncate(fd, 50)',
  'close(fd)',
  'close(ap)',
  "get('f')",
];
/** What the flags let pass afterwards, and that nothing is left of them. */
const FREED = [
  "chattr('f', '')",
  "flags('f')",
  "append('f', 'more')",
  "chmod('f', 0o600)",
  "rename('f', 'h')",
  "show('h')",
  "unlink('h')",
];

const FORGET = "put('/proc/sys/vm/drop_caches', '3', 0)";

const cases: readonly (readonly [rule: string, ...statements: readonly string[]])[] = [
  ['an immutable file', "chattr('f', 'i')", ...ON_A_FILE, ...FREED],
  ['one that the kernel has forgotten', "chattr('f', 'i')", FORGET, ...ON_A_FILE, FORGET, ...FREED],
  ['an append-only file', "chattr('f', 'a')", ...ON_A_FILE, ...FREED],
  ['one that the kernel has forgotten', "chattr('f', 'a')", FORGET, ...ON_A_FILE, FORGET, ...FREED],
  ['a file that is both', "chattr('f', 'ai')", ...ON_A_FILE, "chattr('f', 'a')", ...ON_A_FILE, ...FREED],
  [
    'a new file',
    "unlink('f')",
    "put('f', 'hello')",
    "setxattr('f', 'user.a', b'b')",
    "chattr('f', 'i')",
    ...ON_A_FILE,
    ...FREED,
  ],
  ['an immutable directory', "chattr('d', 'i')", ...ON_A_DIRECTORY, "chattr('d', '')", ...ON_A_DIRECTORY],
  ['an append-only directory', "chattr('d', 'a')", ...ON_A_DIRECTORY, "chattr('d', '')", "unlink('d/x')", "names('d')"],
  ['a directory that the kernel has forgotten', "chattr('d', 'i')", FORGET, ...ON_A_DIRECTORY],
  ['an immutable file that was open', ...BEFORE, "chattr('f', 'i')", ...BY_DESCRIPTORS],
  ['an append-only file that was open', ...BEFORE, "chattr('f', 'a')", ...BY_DESCRIPTORS],
  [
    'a descriptor of an append-only file',
    "chattr('f', 'a')",
    "fd = open('f', O_WRONLY | O_APPEND)",
    "os.write(fd, b'1')",
    "pwrite(fd, b'2', 0)", // Linux appends
    'ftruncate(fd, 0)',
    'called(libc.fallocate(fd, KEEP_SIZE, ctypes.c_long(0), ctypes.c_long(10000)))',
    'called(libc.fallocate(fd, 0, ctypes.c_long(0), ctypes.c_long(10000)))',
    "get('f')",
    "append('f', '3')",
    "os.write(fd, b'4')",
    "get('f')",
    "chattr('f', '')",
    "os.write(fd, b'5')",
    'ftruncate(fd, 3)',
    "get('f')",
  ],
  [
    'a reader sees what is appended',
    "fd = open('f', O_RDONLY)",
    'at(fd)',
    "chattr('f', 'a')",
    "append('f', 'more')",
    'at(fd)',
    "append('f', 'x' * 5000)",
    'at(fd)',
    'fstat(fd).st_size',
  ],
  [
    'the whole range of an ioctl',
    "fssetxattr('f', 8)",
    "flags('f')",
    "unlink('f')",
    "fssetxattr('f', 16)",
    "flags('f')",
    "fssetxattr('f', 0)",
    "flags('f')",
  ],
  [
    'beside other flags',
    "chattr('f', 'iA')",
    "flags('f')",
    "chattr('f', 'A')",
    "flags('f')",
    "chattr('f', 'i')",
    "flags('f')",
  ],
  [
    'two names of one file',
    "link('g', 'g2')",
    "chattr('g', 'i')",
    "flags('g2')",
    "append('g2', 'x')",
    "unlink('g2')",
    "chattr('g2', '')",
    "unlink('g')",
    "show('g2')",
  ],
  [
    'another name, then flags',
    "rename('f', 'd/h')",
    "chattr('d/h', 'i')",
    "append('d/h', 'x')",
    "chattr('d', 'i')",
    "chattr('d/h', '')",
    "append('d/h', 'x')",
    "unlink('d/h')",
  ],
  [
    'without the capability',
    `without_capability(CAP_LINUX_IMMUTABLE, "chattr('f', 'i')", "chattr('f', 'a')", "fssetxattr('f', 8)", "chattr('f', 'A')", "flags('f')")`,
    "append('f', 'x')",
  ],
  [
    'they cannot be cleared without it',
    "chattr('f', 'i')",
    `without_capability(CAP_LINUX_IMMUTABLE, "chattr('f', '')", "chattr('f', 'A')", "fssetxattr('f', 0)", "chattr('f', 'iA')", "flags('f')")`,
    "unlink('f')",
  ],
  [
    'an owner who is not root',
    "by(1000, \"chattr('g', 'i')\", \"chattr('g', 'd')\", \"flags('g')\")",
    "chattr('g', 'i')",
    "by(1000, \"chattr('g', '')\", \"flags('g')\")",
  ],
  ['an object without flags', "mkfifo('p')", "chattr('e', 'i')", "rmdir('e')", "put('e/n', '')"],
];

/** Cases in which the lower layer has the flags. */
const ofLower: readonly (readonly [rule: string, prepare: string, ...statements: readonly string[]])[] = [
  ['a file of the lower layer is immutable', 'chattr +i f', ...ON_A_FILE, ...FREED],
  ['a file of the lower layer is append-only', 'chattr +a f', ...ON_A_FILE, FORGET, ...ON_A_FILE, ...FREED],
  [
    'a directory of the lower layer is immutable',
    'chattr +i d',
    ...ON_A_DIRECTORY,
    FORGET,
    "put('d/new', '')",
    "flags('d')",
  ],
  ['a directory of the lower layer is append-only', 'chattr +a d', ...ON_A_DIRECTORY, FORGET, ...ON_A_DIRECTORY],
];

const directoryOf = (i: number): string => String(i).padStart(2, '0');
const all = [
  ...cases.map(([rule, ...statements]) => ({ rule, prepare: ':', statements })),
  ...ofLower.map(([rule, prepare, ...statements]) => ({ rule, prepare, statements })),
];

/** Where the answer is not the kernel's, which decides by the flags of an inode: a FUSE inode has none. */
const others: readonly (readonly [
  rule: string,
  statements: readonly string[],
  kernel: readonly string[],
  ours: readonly string[],
])[] = [
  [
    'an append-only file is not opened for reading and writing: others would see what is written to a shared map',
    ["chattr('f', 'a')", "close(open('f', O_RDWR | O_APPEND))"],
    [],
    ["close(open('f', O_RDWR | O_APPEND)): EPERM"],
  ],
  [
    'O_APPEND can be taken away, and then only the end can be written to',
    [
      "chattr('f', 'a')",
      "fd = open('f', O_WRONLY | O_APPEND)",
      'fcntl.fcntl(fd, fcntl.F_SETFL, 0)',
      "pwrite(fd, b'J', 0)",
      "get('f')",
    ],
    ['fcntl.fcntl(fd, fcntl.F_SETFL, 0): EPERM', '1', 'hello\nJ'],
    ["pwrite(fd, b'J', 0): EPERM", 'hello\n'],
  ],
  ['access(2) looks at the mode alone', ["chattr('f', 'i')", "str(os.access('f', os.W_OK))"], ['False'], ['True']],
  [
    'the mode is looked at first',
    ["chattr('f', 'i')", "by(1000, \"append('f', 'x')\")"],
    ["append('f', 'x'): EPERM"],
    ["append('f', 'x'): EACCES"],
  ],
];

const LATER = [
  "flags('f')",
  "append('f', 'later')",
  "unlink('f')",
  "chattr('f', '')",
  "flags('d')",
  "put('d/later', '')",
  "chattr('d', '')",
  "unlink('d/x')",
];
const now = (): bigint => BigInt(Date.now()) * 1_000_000n;
/** The lines below the root, whose time is that of its making. */
const withoutNumbers = (dump: Record<string, string>): [string, string][] =>
  Object.entries(dump)
    .filter(([path]) => path !== '.')
    .map(([path, line]) => [path, line.replace(/ ino=\S+/, '')]);

t.test('what the flags forbid', { skip: withoutFlags }, t =>
  withScratchAsync(async home => {
    const lower = join(home, 'lower');
    for (const [i, { prepare }] of all.entries()) {
      const directory = join(lower, directoryOf(i));
      mkdirSync(directory, { recursive: true });
      execFileSync('sh', ['-ec', `${LAYER}\n${prepare}`], { cwd: directory });
    }
    try {
      const since = now();
      const stackOf = (maker: Maker) => ({
        lowerdir: lower,
        home: join(home, maker),
        options: 'metacopy=on,redirect_dir=on',
      });
      const made = async (maker: Maker, by: Maker, statements: (i: number) => readonly string[]) =>
        withWritable(by, stackOf(maker), root => {
          const changes = all.map((_, i): Change => [join(root, directoryOf(i)), statements(i)]);
          const results = runChanges(changes);
          return { results, dump: withoutNumbers(dumpTrees([[root, 'merged']], since, [])[0] ?? {}) };
        });
      const left = (maker: Maker) =>
        withoutNumbers(dumpTrees([[join(home, maker, 'upper'), 'upper']], since, [])[0] ?? {});
      for (const maker of ['kernel', 'lowerdata'] as const) mkdirSync(join(home, maker));
      const [kernel, ours] = [
        await made('kernel', 'kernel', i => all[i]?.statements ?? []),
        await made('lowerdata', 'lowerdata', i => all[i]?.statements ?? []),
      ];
      for (const [i, { rule }] of all.entries()) t.strictSame(ours.results[i], kernel.results[i], rule);
      t.strictSame(ours.dump, kernel.dump, 'the trees');
      t.strictSame(left('lowerdata'), left('kernel'), 'the upper layers');
      const [later, ourLater] = [
        await made('kernel', 'lowerdata', () => LATER),
        await made('lowerdata', 'kernel', () => LATER),
      ];
      for (const [i, { rule }] of all.entries())
        t.strictSame(later.results[i], ourLater.results[i], `${rule}, then the other one goes on`);
      t.strictSame(later.dump, ourLater.dump);
    } finally {
      execFileSync('chattr', ['-R', '-ia', lower]);
    }
  }),
);

t.test('what differs from the kernel', { skip: withoutFlags }, t =>
  withScratchAsync(async home => {
    const lower = join(home, 'lower');
    for (const [i] of others.entries()) {
      mkdirSync(join(lower, directoryOf(i)), { recursive: true });
      execFileSync('sh', ['-ec', LAYER], { cwd: join(lower, directoryOf(i)) });
    }
    for (const maker of ['kernel', 'lowerdata'] as const) {
      mkdirSync(join(home, maker));
      const stack = { lowerdir: lower, home: join(home, maker), options: '' };
      const found = await withWritable(maker, stack, root =>
        runChanges(others.map(([, statements], i): Change => [join(root, directoryOf(i)), statements])),
      );
      for (const [i, [rule, , kernel, ours]] of others.entries())
        t.strictSame((found[i] ?? []).flat().map(String), maker === 'kernel' ? kernel : ours, `${maker}: ${rule}`);
    }
  }),
);

t.test('a kernel that does not check who sets them', { skip: withoutFlags }, t =>
  withScratch(home => {
    const at = (name: string): string => join(home, name);
    for (const name of ['lower', 'upper', 'work']) mkdirSync(at(name));
    const upper = { upperdir: at('upper'), workdir: at('work'), redirects: true, volatile: true, index: false };
    const cache = { entrySeconds: 0, attrSeconds: 0, negativeSeconds: 0, asksToOpen: true };
    const backing = new Backing(-1, false, () => {});
    let roots: UpperRoots | undefined;
    const overlay = openOverlay(
      { ...settleRules(), layers: parseLowerdir(at('lower')) },
      step,
      { ...DEFAULT_MEMORY, dentries: 0 },
      (context, opaque, source) => {
        roots = new UpperRoots(upper, context, { opaque, source, noatime: false });
        return roots.layer;
      },
    );
    const measurer = new Measurer<OpenReply | number>(new MeasurePool());
    const files = new Files(overlay, backing, { idleMax: 1, verify: 'open', measurer });
    const rules = { metacopy: true, redirects: true, volatile: true, ownersMayDiffer: false };
    const { changes } = openWritable(
      overlay,
      roots as unknown as UpperRoots,
      rules,
      backing,
      files,
      cache,
      undefined,
      () => {},
    );
    const value = overlay.fileAttributes(overlay.root, 'flags') as Uint8Array;
    value[0] = (value[0] ?? 0) | 0x10;
    changes.begin(38, true);
    t.equal(changes.setFileAttributes(ROOT, 'flags', value), -EOPNOTSUPP, 'before Linux 6.6');
    changes.begin(39, true);
    t.equal(changes.setFileAttributes(ROOT, 'flags', value), 0);
    changes.close();
    overlay.close();
    t.end();
  }),
);
