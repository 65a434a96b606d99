/**
 * What somebody who may rename, link and mount in a layer can have others see, and see themselves: the object that a name leads to,
 * as far as its own modes let them, and never another one's data, names or attributes in its place.
 */
import { type SpawnSyncReturns, spawnSync } from 'node:child_process';
import {
  chmodSync,
  chownSync,
  copyFileSync,
  linkSync,
  mkdirSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { withExt4, withoutExt4 } from '../fixtures/mounts/ext4.ts';
import { run } from '../fixtures/mounts/kernel-mount.ts';
import { lowerdata } from '../fixtures/mounts/mounted.ts';
import { python } from '../fixtures/native.ts';
import { withScratchAsync } from '../fixtures/scratch.ts';
import { withoutFuse, withoutUserMounts } from '../fixtures/skips.ts';

const NOBODY = 65534;
/** Nothing takes as long: what does has hung. */
const PATIENCE_MS = 20_000;

function runAs(id: number, program: string, args: readonly string[], cwd: string): SpawnSyncReturns<string> {
  const env = { ...process.env, LC_ALL: 'C', HOME: '/' };
  return spawnSync(program, args, { uid: id, gid: id, cwd, timeout: PATIENCE_MS, encoding: 'utf8', env });
}

/** What a shell of nobody prints, errors included. */
function asNobody(script: string, home: string): string {
  const { stdout, error } = runAs(NOBODY, '/bin/sh', ['-c', `exec 2>&1\n${script}`], home);
  return error ? error.message : stdout.trim();
}

/** Mounts D:E at M, all of them in `home`, for as long as `use` takes. */
async function mounted(t: Test, home: string, options: string, use: () => void | Promise<void>, id = 0): Promise<void> {
  const call = (...args: string[]): SpawnSyncReturns<string> => runAs(id, process.execPath, [lowerdata, ...args], home);
  const made = call('mount', `${home}/D:${home}/E`, join(home, 'M'), ...(options ? ['-o', options] : []));
  if (made.status !== 0) throw new Error(made.stderr);
  try {
    await use();
  } finally {
    t.equal(call('umount', join(home, 'M')).status, 0, 'umount');
  }
}

/** Calls `use` with a directory that holds D and E, which nobody owns, and M. */
async function withLayers(use: (home: string) => Promise<void>): Promise<void> {
  await withScratchAsync(async home => {
    chmodSync(home, 0o755);
    for (const name of ['D', 'E', 'M']) mkdirSync(join(home, name));
    for (const name of ['D', 'E']) chownSync(join(home, name), NOBODY, NOBODY);
    await use(home);
  });
}

/** What root has put into D, what nobody does then, and what that prints. */
type Attack = readonly [rule: string, prepare: (d: string) => void, script: string, want: RegExp];

const SECRET = 'of root alone';

function plantSecret(d: string): void {
  writeFileSync(join(d, 'secret'), SECRET, { mode: 0o600 });
  python("import os, sys; os.setxattr(sys.argv[1], 'user.note', sys.argv[2].encode())", [join(d, 'secret'), SECRET]);
}

const NOTE = `note() { python3 -c "
import os, sys
try: print(os.getxattr(sys.argv[1], 'user.note').decode())
except OSError as e: print(e.strerror)" "$1"; }
`;

const attacks: readonly Attack[] = [
  [
    'a closed file in the place of an open one',
    plantSecret,
    'echo mine >D/mine; stat -c %a M/mine; mv D/mine D/old; mv D/secret D/mine; cat M/mine; cat M/old',
    /^644\ncat: M\/mine: Permission denied\nmine$/,
  ],
  [
    'a hard link of a closed file in the place of an open one',
    d => {
      mkdirSync(join(d, '..', 'closed'), { mode: 0o700 });
      writeFileSync(join(d, '..', 'closed', 'shadow'), SECRET, { mode: 0o600 });
      linkSync(join(d, '..', 'closed', 'shadow'), join(d, 'link'));
    },
    'echo mine >D/mine; stat -c %a M/mine; mv D/link D/mine; cat M/mine',
    /^644\ncat: M\/mine: Permission denied$/,
  ],
  [
    'a program of one’s own in the place of a set-user-ID program',
    d => {
      copyFileSync('/bin/true', join(d, 'helper'));
      chmodSync(join(d, 'helper'), 0o4755);
    },
    'stat -c %a M/helper; mv D/helper D/old; cp /usr/bin/id D/helper; M/helper -u; stat -c "%a %u" M/helper',
    new RegExp(`^4755\n${NOBODY}\n755 ${NOBODY}$`),
  ],
  [
    'a closed directory in the place of an open one',
    d => {
      mkdirSync(join(d, 'closed'), { mode: 0o700 });
      writeFileSync(join(d, 'closed', 'name'), SECRET);
    },
    'mkdir D/open; stat -c %a M/open; mv D/open D/old; mv D/closed D/open; cat M/open/name; ls M/open',
    /^755\ncat: M\/open\/name: (No such file or directory|Permission denied\nls: .*: Permission denied)$/, // the old one, or the new
  ],
  [
    'xattrs of a closed file',
    plantSecret,
    `${NOTE}echo mine >D/mine; note M/mine; mv D/mine D/old; mv D/secret D/mine; note M/mine`,
    /^No data available\n(No data available|Permission denied)$/,
  ],
];

const WAYS = ['', 'attr_timeout=0', 'timeout=0,negative_timeout=0', 'passthrough=off', 'dentry_cache=0'];
for (const options of WAYS)
  t.test(`renames as an attack: ${options || 'by default'}`, { skip: withoutFuse, timeout: 300_000 }, async t => {
    for (const [rule, prepare, script, want] of attacks)
      await withLayers(async home => {
        prepare(join(home, 'D'));
        await mounted(t, home, `allow_other${options && `,${options}`}`, () => {
          t.match(asNobody(script, home), want, rule);
        });
      });
  });

t.test('the same where the kernel opens files without asking', { skip: withoutFuse, timeout: 120_000 }, async t => {
  for (const [rule, prepare, script] of attacks)
    await withLayers(async home => {
      prepare(join(home, 'D'));
      await mounted(t, home, 'allow_other,opens=none', () => {
        const got = asNobody(script, home);
        t.notMatch(got, new RegExp(`${SECRET}|^0$`, 'm'), `${rule}: nothing of root's is seen`);
      });
    });
});

t.test('a mode that was taken back counts at the next open', { skip: withoutFuse, timeout: 60_000 }, async t => {
  await withLayers(async home => {
    const file = join(home, 'D', 'file');
    writeFileSync(file, 'open', { mode: 0o644 });
    await mounted(t, home, 'allow_other', () => {
      t.equal(asNobody('cat M/file', home), 'open');
      chmodSync(file, 0o600);
      t.equal(asNobody('cat M/file', home), 'cat: M/file: Permission denied', 'of a file that is kept open, too');
    });
  });
});

t.test('an ACL that was taken back counts at the next open', { skip: withoutFuse, timeout: 60_000 }, async t => {
  const setAcl = `import os, struct, sys
entries = [(1, 6, -1), (2, int(sys.argv[2]), ${NOBODY}), (4, 0, -1), (16, 4, -1), (32, 0, -1)]
value = struct.pack('<I', 2) + b''.join(struct.pack('<HHi', *entry) for entry in entries)
os.setxattr(sys.argv[1], 'system.posix_acl_access', value)`;
  await withLayers(async home => {
    const file = join(home, 'D', 'file');
    writeFileSync(file, 'open', { mode: 0o600 });
    python(setAcl, [file, '4']);
    await mounted(t, home, 'allow_other', () => {
      t.equal(asNobody('cat M/file', home), 'open', 'the ACL lets nobody in');
      python(setAcl, [file, '0']);
      t.equal(asNobody('cat M/file', home), 'cat: M/file: Permission denied', 'the mode is the same');
    });
  });
});

/** What somebody does who has an object open, or works in it, while its name goes away. */
const holders: readonly (readonly [rule: string, script: string])[] = [
  [
    'a working directory that is renamed',
    'mkdir D/a D/a/s; echo x >D/a/f; cd M/a; ls; mv $h/D/a $h/D/b; ls; cat f; stat -c %F . s; find . | sort',
  ],
  ['a working directory that is removed', 'mkdir D/a; echo x >D/a/f; cd M/a; ls; rm -r $h/D/a; stat -c %F .; ls -d .'],
  [
    'a file that is removed, and opened again',
    'echo x >D/f; exec 3<M/f; rm D/f; cat /proc/self/fd/3; stat -Lc %s /proc/self/fd/3',
  ],
  [
    'a file whose directory is removed',
    'mkdir D/a; echo x >D/a/f; exec 3<M/a/f; rm -r D/a; cat <&3; cat /proc/self/fd/3; stat -Lc %s /proc/self/fd/3',
  ],
];

for (const options of ['', 'attr_timeout=0', 'timeout=0,negative_timeout=0'])
  t.test(`what is in use stays so: ${options || 'by default'}`, { skip: withoutFuse, timeout: 120_000 }, async t => {
    for (const [rule, script] of holders)
      await withLayers(async home => {
        const steps = `h=$PWD; ${script}`;
        const byKernel = kernelShows(home, steps);
        emptied(home);
        await mounted(t, home, `allow_other${options && `,${options}`}`, () => {
          t.equal(asNobody(steps, home), byKernel, `${rule}: as in the kernel`);
        });
      });
  });

/** Steps, with the word `wait` before what is to be seen, and what is seen where nothing is remembered any more. */
const renames: readonly (readonly [rule: string, script: string, fresh: string])[] = [
  [
    'a log that is rotated',
    'echo old >D/log; cat M/log; mv D/log D/log.1; echo new, longer >D/log; wait; cat M/log.1 M/log; stat -c %s M/log.1 M/log',
    'old\nold\nnew, longer\n4\n12',
  ],
  [
    'a file that is saved by renaming',
    'echo one >D/c; cat M/c; echo second >D/t; cat M/t; mv D/t D/c; wait; cat M/c; ls -l M | grep -c "?"',
    'one\nsecond\nsecond\n0',
  ],
  [
    'a reader of a file that is renamed',
    'echo old >D/log; exec 3<M/log; mv D/log D/log.1; echo new >D/log; wait; cat <&3; cat M/log',
    'old\nnew',
  ],
  [
    'a directory that is exchanged',
    `mkdir D/a D/b; echo in a >D/a/f; echo in b >D/b/f; cat M/a/f M/b/f; mv D/a D/c; mv D/b D/a; mv D/c D/b; wait
     cat M/a/f M/b/f`,
    'in a\nin b\nin b\nin a',
  ],
];

for (const [options, wait, isFresh] of [
  ['', ':', false],
  ['attr_timeout=0', ':', false],
  ['timeout=0,negative_timeout=0', ':', true],
  ['timeout=1,negative_timeout=1', 'sleep 3', true],
] as const)
  t.test(`renames in use: ${options || 'by default'}`, { skip: withoutFuse, timeout: 120_000 }, async t => {
    for (const [rule, script, fresh] of renames) {
      const steps = script.replace('wait', wait);
      await withLayers(async home => {
        const byKernel = linesOf(kernelShows(home, steps));
        emptied(home);
        await mounted(t, home, `allow_other${options && `,${options}`}`, () => {
          const got = asNobody(steps, home);
          if (isFresh) t.equal(got, fresh, rule);
          else
            t.match(got, new RegExp(`^${either(byKernel, linesOf(fresh))}$`), `${rule}: as in the kernel, or at once`);
        });
      });
    }
  });

const linesOf = (text: string): string[] => text.split('\n');
const either = (a: readonly string[], b: readonly string[]): string =>
  a.map((line, i) => `(${line}|${b[i]})`).join('\n');

function kernelShows(home: string, script: string): string {
  run('mount', '-t', 'overlay', '-o', `lowerdir=${home}/D:${home}/E`, 'overlay', join(home, 'M'));
  try {
    return asNobody(script, home);
  } finally {
    run('umount', join(home, 'M'));
  }
}

function emptied(home: string): void {
  rmSync(join(home, 'D'), { recursive: true });
  mkdirSync(join(home, 'D'));
  chownSync(join(home, 'D'), NOBODY, NOBODY);
}

t.test('a name that becomes another type', { skip: withoutFuse, timeout: 60_000 }, async t => {
  await withLayers(async home => {
    await mounted(t, home, 'allow_other,timeout=0,negative_timeout=0', () => {
      const script =
        'echo mine >D/x; cat M/x; mkfifo D/y; mv D/y D/x; stat -c %F M/x; ln -sf /none D/x; readlink M/x; rm D/x; ls M/x; mkdir D/x; ls M/x';
      t.equal(asNobody(script, home), "mine\nfifo\n/none\nls: cannot access 'M/x': No such file or directory");
    });
  });
});

t.test('an inode number that is used again', { skip: withoutFuse || withoutExt4, timeout: 120_000 }, async t => {
  await withScratchAsync(async scratch => {
    for (const inodeBytes of [256, 128]) // where there is no room for birth times, handles tell objects apart
      await withExt4(
        scratch,
        async home => {
          for (const name of ['D', 'E', 'M']) mkdirSync(join(home, name));
          const at = (name: string): string => join(home, 'D', name);
          await mounted(t, home, '', () => {
            let again = 0;
            for (let i = 0; i < 20; i++) {
              writeFileSync(at(`a${i}`), `content of a${i}`);
              const { ino } = statSync(at(`a${i}`));
              t.equal(statSync(join(home, 'M', `a${i}`)).size, `content of a${i}`.length);
              writeFileSync(at(`other${i}`), '');
              t.ok(statSync(join(home, 'M', `other${i}`)).isFile(), 'the daemon holds another one');
              rmSync(at(`a${i}`));
              writeFileSync(at(`b${i}`), `content of b${i} is longer`);
              if (statSync(at(`b${i}`)).ino === ino) again++;
              const seen = join(home, 'M', `b${i}`);
              t.equal(readFileSync(seen, 'latin1'), `content of b${i} is longer`, `inodes of ${inodeBytes} bytes`);
              t.equal(statSync(seen).size, `content of b${i} is longer`.length);
            }
            t.ok(again > 0, `the filesystem has used ${again} numbers again`);
          });
        },
        { inodeBytes },
      );
  });
});

t.test('a mount that is made in a layer', { skip: withoutUserMounts, timeout: 120_000 }, async t => {
  const ask = 'stat -c %a M/x; stat -c %a M/x/inner; readlink M/x; ls M/x';
  await withLayers(async home => {
    mkdirSync(join(home, 'D', 'x', 'inner'), { recursive: true });
    chownSync(join(home, 'M'), NOBODY, NOBODY);
    for (const [rule, options] of [
      ['a name that is known', 'attr_timeout=0,entry_timeout=100'],
      ['a name that is asked for again', 'timeout=0'],
    ] as const)
      await mounted(
        t,
        home,
        options,
        () => {
          t.match(asNobody(ask, home), /^755\n755\ninner$/, 'before');
          run('mount', '--bind', join(home, 'M'), join(home, 'D', 'x'));
          const before = asNobody(ask, home);
          run('umount', join(home, 'D', 'x'));
          t.notMatch(before, /ETIMEDOUT/, `${rule}: nobody waits for the mount to answer itself`);
          t.match(before, /Invalid cross-device link/, `${rule}: what is mounted there is not the layer`);
          t.match(asNobody(ask, home), /^755\n755\ninner$/, 'and afterwards');
        },
        NOBODY,
      );
  });
});

t.test(
  'directories that change places with closed ones, all the time',
  { skip: withoutFuse, timeout: 120_000 },
  async t => {
    await withLayers(async home => {
      const d = join(home, 'D');
      mkdirSync(join(d, 'open'));
      mkdirSync(join(d, 'closed'), { mode: 0o700 });
      for (const [place, text] of [
        ['open', 'open'],
        ['closed', SECRET],
      ] as const)
        writeFileSync(join(d, place, 'f'), text, { mode: 0o644 });
      await mounted(t, home, 'allow_other,attr_timeout=0', () => {
        const swap = `i=0; while [ $i -lt 300 ]; do mv -T D/open D/t; mv -T D/closed D/open; mv -T D/open D/closed; mv -T D/t D/open
        cat M/open/f; i=$((i + 1)); done 2>/dev/null | sort | uniq -c | grep -c "${SECRET}"`;
        t.equal(asNobody(swap, home), '0', 'what is closed stays closed');
      });
    });
  },
);

t.end();
