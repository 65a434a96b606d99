/** Proves src/driver/confinement.ts: what the threads of real mounts have left, and what they cannot do any more. */
import { spawn, spawnSync } from 'node:child_process';
import { chmodSync, chownSync, existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { confinementDetails, confinementText } from '../../src/driver/confinement.ts';
import { mountAt, readMounts } from '../../src/fuse/mountinfo.ts';
import { byteStringFromText } from '../../src/sys/bytes.ts';
import { native } from '../../src/sys/native.ts';
import { lowerdata } from '../fixtures/mounts/mounted.ts';
import { withScratch } from '../fixtures/scratch.ts';
import { withoutFuse, withoutFuseUring, withoutRoot, withoutUserMounts } from '../fixtures/skips.ts';

const MNT_DETACH = 2;
const NOBODY = 65534;
/** Bits of linux/capability.h. */
const READ_SEARCH = '0000000000000004';
const ADMIN = '0000000000200000';
const BOTH = '0000000000200004';
const NONE = '0000000000000000';

/** Runs the command as a user, in a directory. */
function run(uid: number, cwd: string, ...args: string[]): { status: number | null; stdout: string; stderr: string } {
  const env = { ...process.env, XDG_RUNTIME_DIR: join(cwd, 'run') };
  const options = { cwd, uid, gid: uid, env, encoding: 'utf8', timeout: 30_000 } as const;
  const { status, stdout, stderr } = spawnSync(process.execPath, [lowerdata, ...args], options);
  return { status, stdout, stderr };
}

/** Layers A and B, an image with an object that root alone may read, and a mount point. */
function placed(uid: number, use: (directory: string, mnt: string) => void): void {
  withScratch(directory => {
    const mnt = join(directory, 'mnt');
    for (const name of ['A', 'B', 'run', 'mnt']) mkdirSync(join(directory, name));
    writeFileSync(join(directory, 'A', 'large'), Buffer.alloc(300_000, 'x')); // measured by a thread of its own
    writeFileSync(join(directory, 'A', 'private'), 'x', { mode: 0o600 });
    chownSync(join(directory, 'A', 'private'), NOBODY, NOBODY);
    writeFileSync(join(directory, 'A', 'tool'), readFileSync('/bin/true'), { mode: 0o755 });
    chmodSync(directory, 0o755);
    for (const name of ['run', 'mnt']) chownSync(join(directory, name), uid, uid);
    run(0, directory, 'mkfs', '--digest-store=objects', 'A', 'image');
    try {
      use(directory, mnt);
    } finally {
      while (mountAt(readMounts(), byteStringFromText(mnt))) native.umount(byteStringFromText(mnt), MNT_DETACH);
    }
  });
}

interface Status {
  readonly [field: string]: string;
}

function threadsOf(pid: number): Status[] {
  return readdirSync(`/proc/${pid}/task`).map(thread => {
    const text = readFileSync(`/proc/${pid}/task/${thread}/status`, 'latin1');
    return Object.fromEntries([...text.matchAll(/^(\w+):\s*(.*)$/gm)].map(([, name, value]) => [name, value]));
  });
}

/** What threads have in a field, each value once. */
const setsOf = (threads: readonly Status[], field: string): string[] =>
  [...new Set(threads.map(one => one[field] ?? ''))].sort();

for (const [rule, uid, args, want] of [
  ['passthrough, and objects by path or origin', 0, ['image::objects'], [BOTH]],
  ['no passthrough', 0, ['image::objects', '-o', 'passthrough=off'], [READ_SEARCH]],
  ['a directory with trusted.* xattrs', 0, ['A:B', '-o', 'passthrough=off'], [BOTH]],
  ['over io_uring', 0, ['A:B', '-o', 'transport=uring'], [BOTH]],
  ['an image alone', 0, ['image', '-o', 'passthrough=off,verity=off'], [NONE]],
  ['an image alone, with passthrough', 0, ['image', '-o', 'verity=off'], [ADMIN]],
  ['an ordinary user', NOBODY, ['A:B'], [NONE]],
] as const) {
  const skip = uid !== 0 ? withoutUserMounts : args.some(arg => arg.includes('uring')) ? withoutFuseUring : withoutFuse;
  t.test(rule, { skip, timeout: 60_000 }, async t =>
    placed(uid, (directory, mnt) => {
      const [source = '', ...options] = args;
      const { status, stderr } = run(uid, directory, 'mount', source, mnt, ...options);
      t.equal(status, 0, stderr);
      const as = { uid, gid: uid };
      const { stdout } = spawnSync('cat', [join(mnt, 'large')], as);
      t.equal(stdout.length, source === 'image' ? 0 : 300_000, 'it serves what it has');
      if (source !== 'image') t.equal(spawnSync(join(mnt, 'tool'), as).status, 0, 'programs, too');
      if (source === 'A:B') t.equal(spawnSync('cat', [join(mnt, 'private')], as).status, 0, 'files of others, too');
      sameForAllThreads(t, directory, uid, want);
      t.equal(run(uid, directory, 'umount', mnt).status, 0);
    }),
  );
}

function sameForAllThreads(t: Test, directory: string, uid: number, want: readonly string[]): void {
  const [state] = JSON.parse(run(uid, directory, 'status', '--json', 'mnt').stdout).mounts as { pid: number }[];
  const { pid = 0 } = state ?? {};
  const threads = threadsOf(pid);
  t.ok(threads.length > 5, 'Node has threads of its own, too');
  for (const field of ['CapEff', 'CapPrm']) t.strictSame(setsOf(threads, field), want, field);
  t.strictSame(setsOf(threads, 'CapInh'), [NONE]);
  t.strictSame(setsOf(threads, 'CapAmb'), [NONE]);
  t.strictSame(setsOf(threads, 'NoNewPrivs'), ['1']);
  t.strictSame(setsOf(threads, 'Seccomp'), ['2'], 'a filter');
  t.strictSame(setsOf(threads, 'Uid'), [[uid, uid, uid, uid].join('\t')], 'the user stays');
}

t.test('a signal still unmounts, and leaves nothing', { skip: withoutFuse, timeout: 60_000 }, async t => {
  for (const confine of ['auto', 'off']) {
    placed(0, (directory, mnt) => {
      t.equal(run(0, directory, 'mount', 'A:B', mnt, '-o', `confine=${confine}`).status, 0);
      const [{ pid, confinement }] = JSON.parse(run(0, directory, 'status', '--json', mnt).stdout).mounts;
      if (confine === 'off') {
        t.equal(confinement, 'confine=off');
        t.match(run(0, directory, 'status', mnt).stdout, /^ {2}confinement not confined \(confine=off\)$/m);
        t.notSame(setsOf(threadsOf(pid), 'CapEff'), [BOTH], 'as root is');
        t.strictSame(setsOf(threadsOf(pid), 'Seccomp'), ['0']);
      }
      process.kill(pid, 'SIGTERM');
      spawnSync('sh', ['-c', `for i in $(seq 500); do [ -e /proc/${pid} ] || break; sleep 0.05; done`]);
      t.notOk(existsSync(`/proc/${pid}`), 'the daemon ends');
      t.equal(mountAt(readMounts(), byteStringFromText(mnt)), undefined, `confine=${confine}`);
      t.notOk(existsSync(`/run/lowerdata/${pid}.json`), 'its state file');
    });
  }
});

t.test('others are let in on request alone, and then by their permissions', { skip: withoutFuse }, async t => {
  for (const [options, wanted, refused] of [
    ['ro', 'default_permissions', 'allow_other'],
    ['allow_other', 'default_permissions,allow_other', 'nothing'],
  ] as const) {
    placed(0, (directory, mnt) => {
      writeFileSync(join(directory, 'A', 'secret'), 'x', { mode: 0o600 });
      run(0, directory, 'mount', 'A:B', mnt, '-o', options);
      const line =
        readFileSync('/proc/self/mountinfo', 'utf8')
          .split('\n')
          .find(line => line.includes(` ${mnt} `)) ?? '';
      for (const name of wanted.split(',')) t.match(line.split(' - ')[1], new RegExp(`\\b${name}\\b`), options);
      t.notMatch(line, refused, options);
      const cat = (name: string): number | null =>
        spawnSync('cat', [join(mnt, name)], { uid: NOBODY, gid: NOBODY }).status;
      t.equal(cat('large'), options === 'allow_other' ? 0 : 1, 'a file for all');
      t.equal(cat('secret'), 1, 'a file of root');
    });
  }
});

/** What a process of root can do when it has confined itself. Its arguments: a layer, a file elsewhere. */
const script = (before: string): string => `
  import { spawn, spawnSync } from 'node:child_process';
  import { promises, readFileSync, writeFileSync, chmodSync } from 'node:fs';
  import { Limits } from '${new URL('../../src/driver/confinement.js', import.meta.url)}';
  import { native } from '${new URL('../../src/sys/native.js', import.meta.url)}';
  const [layer, secret] = process.argv.slice(-2);
  const stack = { layers: [{ path: layer, dataOnly: true }], followOrigin: false };
  await promises.stat('/'); // the threads that open files for promises are there already
  ${before}
  const tried = async f => { try { await f(); return 'done'; } catch (error) { return error.code; } };
  console.log([
    await tried(() => readFileSync(layer + '/private')),
    await tried(() => promises.readFile(layer + '/private')),
    await tried(() => readFileSync(secret)),
    await tried(() => promises.readFile(secret)),
    await tried(() => writeFileSync(layer + '/new', '')),
    await tried(() => promises.writeFile(layer + '/new', '')),
    await tried(() => chmodSync(secret, 0o644)),
    spawnSync('/bin/true').error?.code ?? 'done',
    native.umount('/proc/none', 0),
    native.openByHandleAt(-1, Uint8Array.of(8, 0, 0, 0, 1, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8), 0),
    native.connectSocket('/none', 2),
  ].join(' '));
  native.exit(0);`;

for (const [rule, before, want] of [
  ['as it is', '', 'done done done done done done done done -2 -9 -2'],
  [
    'when it is confined',
    `new Limits(stack).enter(false);`,
    'done done EACCES EACCES EACCES EACCES EPERM EPERM -1 -1 -1',
  ],
] as const) {
  t.test(`what every thread of a process of root can do ${rule}`, { skip: withoutRoot }, async t =>
    placed(0, directory => {
      const [layer, secret] = [join(directory, 'A'), join(directory, 'secret')];
      writeFileSync(secret, 'x', { mode: 0o600 });
      const args = ['--input-type=module', '-e', script(before), layer, secret];
      const { stdout, stderr } = spawnSync(process.execPath, args, { encoding: 'utf8' });
      t.equal(stdout.trim(), want, stderr);
    }),
  );
}

/** [call, arguments, what must come]: by number, as whoever runs in the process could; `other` is another process of root. */
const attempts = (x64: boolean): readonly (readonly [string, number, string, number])[] => [
  ['kill', x64 ? 62 : 129, 'other, 0', -1],
  ['tkill', x64 ? 200 : 130, 'other, 0', -1],
  ['tgkill', x64 ? 234 : 131, 'other, other, 0', -1],
  ['tgkill of the process itself', x64 ? 234 : 131, 'process.pid, process.pid, 0', 0],
  ['rt_sigqueueinfo', x64 ? 129 : 138, 'other, 0, 0', -1],
  ['pidfd_open', 434, 'other, 0', -1],
  ['process_mrelease', 448, '99, 0', -1],
  ['setpriority', x64 ? 141 : 140, '0, other, 5', -1],
  ['sched_setscheduler', x64 ? 144 : 119, 'other, 0, 0', -1],
  ['sched_getaffinity', x64 ? 204 : 123, '0, 0, 0', -22],
  ['prlimit64', x64 ? 302 : 261, 'other, 7, 0', -1],
  ['prlimit64 of the process itself', x64 ? 302 : 261, '0, 7, 0', 0],
  ['shmget', x64 ? 29 : 194, '0, 4096, 0o1600', -1],
  ['msgget', x64 ? 68 : 186, '0, 0o1600', -1],
  ['mq_open', x64 ? 240 : 180, '0, 0, 0', -1],
  ['memfd_create', x64 ? 319 : 279, '0, 0', -1],
  ['setuid', x64 ? 105 : 146, '65534', -1],
  ['keyctl', x64 ? 250 : 219, '0, 0, 0', -1],
  ['unshare', x64 ? 272 : 97, '0x10000000', -1],
  ['a new process', x64 ? 56 : 220, '17, 0, 0', -1],
  ['a namespace with a thread', x64 ? 56 : 220, '0x10050f00 + 0x10000000, 0, 0', -1],
  ['clone3, which C libraries can do without', 435, '0, 0, 0', -38],
  ['open_tree', 428, '0, 0, 0', -1],
  ['open_tree_attr', 467, '0, 0, 0', -1],
  ['a call of younger kernels', 470, '0, 0, 0', -38],
  ['input for a terminal', x64 ? 16 : 29, '0, 0x5412, 0', -1],
];

t.test(
  'system calls of a process of root that is confined',
  { skip: withoutRoot || (['x64', 'arm64'].includes(process.arch) ? false : 'no filter') },
  t =>
    placed(0, directory => {
      const cases = attempts(process.arch === 'x64');
      const calls = cases.map(
        ([, number, args]) => `native.callOnThread(0, ${number}, ...[${args}, 0, 0].slice(0, 3))`,
      );
      const program = `
      import { once } from 'node:events';
      import { Worker } from 'node:worker_threads';
      import { Limits } from '${new URL('../../src/driver/confinement.js', import.meta.url)}';
      import { native } from '${new URL('../../src/sys/native.js', import.meta.url)}';
      const [layer, other] = [process.argv.at(-2), Number(process.argv.at(-1))];
      new Limits({ layers: [{ path: layer, dataOnly: true }], followOrigin: false }).enter(false);
      const results = [${calls.join(', ')}];
      await once(new Worker('', { eval: true }), 'exit');
      console.log(JSON.stringify(results));
      native.exit(0);`;
      const other = spawn('sleep', ['60'], { stdio: 'ignore' });
      const args = ['--input-type=module', '-e', program, join(directory, 'A'), String(other.pid)];
      const { stdout, stderr } = spawnSync(process.execPath, args, { encoding: 'utf8', timeout: 30_000 });
      t.equal(other.exitCode ?? other.signalCode, null, 'the other process goes on');
      other.kill();
      const results = JSON.parse(stdout || '[]') as number[];
      t.equal(results.length, cases.length, `and threads are started still ${stderr}`);
      for (const [at, [call, , , want]] of cases.entries()) t.equal(results[at], want, call);
      t.end();
    }),
);

t.test('in words', async t => {
  const all = { systemCalls: true, capabilities: ['CAP_SYS_ADMIN'], files: 'layers' } as const;
  for (const [confinement, words] of [
    [all, 'the daemon can open only its layers, with CAP_SYS_ADMIN; system calls are filtered'],
    [
      { ...all, capabilities: [], files: 'reading' },
      'the daemon can open files only for reading, with no capabilities; system calls are filtered',
    ],
    [
      { ...all, files: 'any', systemCalls: false },
      'the daemon is not confined to its layers (no Landlock), with CAP_SYS_ADMIN; system calls are not filtered (no seccomp)',
    ],
    ['confine=off', 'not confined (confine=off)'],
  ] as const) {
    t.equal(confinementDetails(confinement), words);
    t.ok(words.startsWith(confinementText(confinement)), 'the short form begins alike');
  }
});
t.end();
