/** Proves src/cli/commands/doctor.ts and its probes: each fact is held against another source, as several users. */
import { spawnSync } from 'node:child_process';
import { chmodSync, chownSync, mkdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { release } from 'node:os';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import type { Fact } from '../../src/doctor/facts.ts';
import { GROUPS } from '../../src/doctor/groups.ts';
import { isSince, versionOf } from '../../src/doctor/machine.ts';
import { readMounts } from '../../src/fuse/mountinfo.ts';
import { noFsverity } from '../fixtures/images/verity.ts';
import { withExt4, withFilesystem, withoutExt4 } from '../fixtures/mounts/ext4.ts';
import { run } from '../fixtures/mounts/kernel-mount.ts';
import { lowerdata } from '../fixtures/mounts/mounted.ts';
import { withScratchAsync } from '../fixtures/scratch.ts';
import { without, withoutFuse, withoutRoot, withoutUserMounts, withoutUserNamespaces } from '../fixtures/skips.ts';
import { changeWitness, initWitness, type Testimony, witness } from '../fixtures/witness.ts';

t.setTimeout(300_000);

const CAP_DAC_READ_SEARCH = 2;
const CAP_SYS_ADMIN = 21;
const NOBODY = ['setpriv', '--reuid=65534', '--regid=65534', '--clear-groups'];
const USER_NAMESPACE = ['unshare', '-Urm'];
/** A user's own has no place for the state of its root's mounts. */
const USERS_NAMESPACE = [...NOBODY, ...USER_NAMESPACE, 'sh', '-c', 'mount -t tmpfs none /run && exec "$0" "$@"'];
const UUID = '0f1e2d3c-4b5a-6978-8796-a5b4c3d2e1f0';
/** Programs that nobody may run, too. */
const PATH = '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin';

interface Report {
  facts: Fact[];
  directories: { path: string; facts: Fact[] }[];
  conclusion: { mounts: string | null; data: string | null; origins: string; text: string };
}
interface Result {
  status: number | null;
  stdout: string;
  stderr: string;
}

/** Runs a program as what the wrapper makes of this user. */
function runAs(wrapper: readonly string[], command: readonly string[], env: Record<string, string> = {}): Result {
  const [program = '', ...args] = [...wrapper, ...command];
  const { status, stdout, stderr } = spawnSync(program, args, {
    env: { ...process.env, PATH, ...env },
    encoding: 'utf8',
    cwd: '/',
  });
  return { status, stdout, stderr };
}

const doctor = (wrapper: readonly string[], ...args: string[]): Result =>
  runAs(wrapper, [process.execPath, lowerdata, 'doctor', ...args]);

function examine(wrapper: readonly string[], ...directories: string[]): Report & { status: number | null } {
  const { status, stdout } = doctor(wrapper, '--json', ...directories);
  return { status, ...(JSON.parse(stdout) as Report) };
}

function named(facts: readonly Fact[], name: string): Fact {
  const found = facts.find(fact => fact.name === name);
  if (!found) throw new Error(`no fact ${name}`);
  return found;
}

/** What a mount by the command itself comes to; a stack of one directory. */
function tryMount(wrapper: readonly string[], scratch: string): { status: number | null; passthrough: unknown } {
  const script = `"$0" "$1" mount A mnt >/dev/null || exit 1
    "$0" "$1" status --json mnt; "$0" "$1" umount mnt >/dev/null`;
  const inside = ['sh', '-c', `cd "$2" && ${script}`, process.execPath, lowerdata, scratch];
  const { status, stdout } = runAs(wrapper, inside, { XDG_RUNTIME_DIR: join(scratch, 'run') });
  if (status !== 0) return { status, passthrough: undefined };
  const { mounts } = JSON.parse(stdout) as { mounts: [{ protection: { passthrough: unknown } }] };
  return { status, passthrough: mounts[0].protection.passthrough };
}

/** A place with a layer and a mount point of nobody's. */
function withPlace<T>(use: (scratch: string) => Promise<T>): Promise<T> {
  return withScratchAsync(scratch => {
    chmodSync(scratch, 0o755);
    for (const name of ['A', 'mnt', 'run']) mkdirSync(join(scratch, name));
    for (const name of ['mnt', 'run']) chownSync(join(scratch, name), 65534, 65534);
    return use(scratch);
  });
}

/** A tmpfs, an ext4 with a uuid, and /proc. */
function withFilesystems(scratch: string, use: (directories: string[]) => void): Promise<void> {
  return withFilesystem(scratch, 'tmpfs', tmpfs =>
    withExt4(scratch, ext4 => use([tmpfs, ext4, '/proc']), { uuid: UUID }),
  );
}

function sameAsWitness(t: Test, { facts, directories }: Report, said: Testimony): void {
  const can = (capability: number): boolean => Math.floor(said.capabilities / 2 ** capability) % 2 === 1;
  for (const [name, ok] of [
    ['fuse-device', said.device === 'ok'],
    ['mount', said.mount === 'ok'],
    ['allow-other', said.mount === 'ok' || said.allowOther],
    ['passthrough', can(CAP_SYS_ADMIN) && said.isInitial],
    ['open-by-handle', can(CAP_DAC_READ_SEARCH) && said.isInitial],
  ] as const)
    t.equal(named(facts, name).ok, ok, `${name}: as Python has it`);
  t.equal(named(facts, 'kernel').value, said.release, 'kernel: as Python has it');
  for (const { path, facts } of directories) {
    const { encoded, decoded } = said.handles[path] ?? { encoded: '', decoded: '' };
    t.equal(named(facts, 'handles').ok, encoded === 'ok', `${path}: handles`);
    if (encoded !== 'ok') t.match(named(facts, 'handles').why, encoded, `${path}: why there are none`);
    t.equal(named(facts, 'open-by-handle').ok, decoded === 'ok', `${path}: open by handle`);
  }
}

const FILESYSTEM_TYPES: Readonly<Record<string, string>> = { 'ext2/ext3': 'ext4' };

function sameAsPrograms(t: Test, wrapper: readonly string[], { facts, directories }: Report): void {
  t.equal(named(facts, 'kernel').value, run('uname', '-r').trim(), 'kernel: uname -r');
  const path = runAs([], ['sh', '-c', 'command -v fusermount3']).stdout.trim();
  const isSetuid = path !== '' && run('stat', '-L', '-c', '%u %A', path).startsWith('0 -rws');
  if (isSetuid) t.match(named(facts, 'fusermount3').value, path, 'fusermount3: stat');
  t.equal(named(facts, 'node').value, process.version.slice(1), 'node');
  const uring = runAs([], ['cat', '/sys/module/fuse/parameters/enable_uring']).stdout.trim();
  t.equal(named(facts, 'fuse-io-uring').ok, uring === 'Y', 'io_uring: the parameter');
  const latency = runAs(wrapper, ['test', '-w', '/dev/cpu_dma_latency']).status;
  t.equal(named(facts, 'low-latency').ok, latency === 0, 'low latency: test -w');
  const known = readFileSync('/proc/filesystems', 'utf8').split('\n');
  if (known.includes('nodev\toverlay')) t.ok(named(facts, 'overlayfs').ok, 'overlayfs: /proc/filesystems');
  if (known.includes('\terofs')) t.ok(named(facts, 'erofs').ok, 'erofs: /proc/filesystems');
  for (const { path, facts } of directories) {
    const type = run('stat', '-f', '-c', '%T', path).trim();
    t.equal(named(facts, 'filesystem').value, FILESYSTEM_TYPES[type] ?? type, `${path}: stat -f`);
  }
}

const USERS: readonly (readonly [who: string, wrapper: readonly string[], skip: string | false])[] = [
  ['root', [], withoutExt4],
  ['nobody', NOBODY, withoutExt4 || withoutUserMounts],
  ['root of a user namespace', USER_NAMESPACE, withoutExt4 || withoutUserNamespaces],
  ['nobody as root of a user namespace', USERS_NAMESPACE, withoutExt4 || withoutUserNamespaces],
];

for (const [who, wrapper, skip] of USERS)
  t.test(who, { skip: withoutFuse || skip }, async t =>
    withPlace(async scratch =>
      withFilesystems(scratch, directories => {
        const before = directories.slice(0, 2).map(path => statSync(path, { bigint: true }).ctimeNs);
        const report = examine(wrapper, ...directories);
        const after = directories.slice(0, 2).map(path => statSync(path, { bigint: true }).ctimeNs);
        t.strictSame(after, before, 'directories are as they were');
        sameAsPrograms(t, wrapper, report);
        const { stdout } = runAs(wrapper, ['python3', '-c', witness, ...directories]);
        sameAsWitness(t, report, JSON.parse(stdout) as Testimony);
        const trial = tryMount(wrapper, scratch);
        t.equal(report.status === 0, trial.status === 0, 'a mount works where it says so');
        t.equal(report.conclusion.data === 'kernel', trial.passthrough === true, 'and data is read as it says');
        t.equal(report.conclusion.mounts, wrapper === NOBODY ? 'fusermount3' : 'mount');
        const { stdout: text } = doctor(wrapper, ...directories);
        t.strictSame([...text.matchAll(/^.{81,}$/gm)].map(String), [], 'no line is longer than 80 columns');
        t.ok(text.replace(/\s+/g, ' ').includes(report.conclusion.text), 'text says the same as JSON');
        const [, ext4] = report.directories.map(({ facts }) => named(facts, 'uuid').value);
        if (isSince(versionOf(release()), [6, 9])) t.equal(ext4, UUID, 'the uuid is that of mkfs');
      }),
    ),
  );

/** Bind-mounts a file over another, in a mount namespace of its own, for the command that follows. */
const covered = (file: string, path: string): string[] => [
  'unshare',
  '-m',
  'sh',
  '-c',
  'mount --bind "$0" "$1" && shift && exec "$@"',
  file,
  path,
];

t.test('where something is missing', { skip: withoutUserMounts || withoutUserNamespaces }, async t =>
  withPlace(async scratch => {
    const file = (name: string, content: string, mode: number): string => {
      writeFileSync(join(scratch, name), content);
      chmodSync(join(scratch, name), mode);
      return join(scratch, name);
    };
    const helper = runAs([], ['sh', '-c', 'command -v fusermount3']).stdout.trim();
    const noNamespaces = ['sh', '-c', 'echo 0 >/proc/sys/user/max_user_namespaces && exec "$0" "$@"'];
    const hidden = file('fuse', '', 0o600);
    const plain = file('plain', readFileSync(helper, 'latin1'), 0o755);
    const conf = file('conf', 'mount_max = 9\nuser_allow_other\n', 0o644);
    for (const [rule, wrapper, status, fact, ok, why] of [
      [
        '/dev/fuse',
        [...covered(hidden, '/dev/fuse'), ...NOBODY],
        1,
        'fuse-device',
        false,
        /^\/dev\/fuse: Permission denied$/,
      ],
      ['set-user-ID', [...covered(plain, helper), ...NOBODY], 1, 'fusermount3', false, /^it is not set-user-ID root$/],
      ['new privileges', [...NOBODY, '--no-new-privs'], 1, 'fusermount3', false, /no_new_privs/],
      ['a mount namespace', ['unshare', '-Ur'], 1, 'fusermount3', false, /in this mount namespace/],
      ['user_allow_other is there', [...covered(conf, '/etc/fuse.conf'), ...NOBODY], 0, 'allow-other', true, undefined],
      ['namespaces', [...USER_NAMESPACE, ...noNamespaces], 0, 'user-namespaces', false, /^user.max_user_name.* is 0$/],
    ] as const) {
      const report = examine(wrapper);
      const found = named(report.facts, fact);
      t.equal(report.status, status, `${rule}: the exit status`);
      t.equal(found.ok, ok, `${rule}: ${fact}`);
      if (why) t.match(found, { why, help: /./ }, `${rule}: why, and what helps`);
      if (status === 1) {
        t.match(report.conclusion, { mounts: null, data: null }, `${rule}: the conclusion`);
        t.ok(report.conclusion.text.includes(found.why ?? '-'), `${rule}: in words`);
      }
      t.equal(tryMount(wrapper, scratch).status, status, `${rule}: so it is with mounts`);
    }
  }),
);

t.test('what the kernel tells a mount', { skip: withoutFuse }, async t => {
  const { facts } = examine([]);
  const witnessed = runAs(['unshare', '-m'], ['python3', '-c', initWitness, '/mnt']).stdout;
  const [minor = 0, low = 0, high = 0] = witnessed.split(' ').map(Number);
  t.ok(minor > 30, 'Python has got an INIT');
  t.match(named(facts, 'fuse-protocol').value, new RegExp(`^7\\.${minor}, as reported to a mount$`), 'the version');
  const bit = (n: number): boolean => Math.floor((n < 32 ? low : high) / 2 ** (n % 32)) % 2 === 1;
  // linux/fuse.h: FUSE_ASYNC_READ 0, FUSE_DO_READDIRPLUS 13, … FUSE_PASSTHROUGH 37, FUSE_NO_EXPORT_SUPPORT 38
  const all = [0, 3, 4, 5, 6, 12, 13, 15, 16, 17, 18, 20, 21, 22, 23, 24, 28, 29, 30, 36, 37, 38, 39, 40, 41];
  const offered = all.filter(bit).length;
  t.equal(named(facts, 'fuse-flags').value, `${offered} of the ${all.length} that lowerdata asks for`, 'flags');
  t.equal(named(facts, 'passthrough').ok, bit(37), 'passthrough');
  t.equal(named(facts, 'fuse-io-uring').ok, bit(41), 'io_uring');
  const left = readMounts().filter(({ path, type }) => path === '/sys' && type.startsWith('fuse'));
  t.strictSame(left, [], 'nothing is left mounted');

  const alone = JSON.parse(runAs([], [process.execPath, lowerdata, 'doctor', '--json'], { PATH: '/none' }).stdout);
  t.match(
    named(alone.facts, 'fuse-protocol').value,
    /or later, according to the version of the kernel$/,
    'without unshare(1)',
  );
  t.match(named(alone.facts, 'fusermount3').why, /not on the PATH/, 'without fusermount3');
});

t.test('fs-verity and change times', { skip: withoutExt4 || noFsverity }, async t =>
  withPlace(async scratch =>
    withFilesystems(scratch, directories => {
      for (const { path, facts } of examine([], ...directories).directories) {
        const file = path === '/proc' ? '/proc/version' : join(path, 'file');
        if (path !== '/proc') writeFileSync(file, 'x');
        const { stderr } = spawnSync('fsverity', ['measure', file], {
          encoding: 'utf8',
          env: { ...process.env, LC_ALL: 'C' },
        });
        const { ok, why = '' } = named(facts, 'fs-verity');
        t.equal(ok, /No data available/.test(stderr), `${path}: fs-verity`);
        const [reason = ''] = why.split(':');
        t.ok(ok || stderr.includes(reason), `${path}: ${reason}`);
        if (path === '/proc') continue;
        const changes = Number(run('python3', '-c', changeWitness, path));
        t.equal(named(facts, 'change-times').ok, changes === 20, `${path}: ${changes} of 20 changes are told apart`);
      }
    }),
  ),
);

const NAMES = [
  ...['kernel', 'node', 'openssl'],
  ...['fuse-device', 'fuse-protocol', 'fuse-flags', 'mount', 'fusermount3', 'allow-other', 'passthrough'],
  ...['fuse-io-uring', 'low-latency', 'user-namespaces', 'overlayfs', 'erofs', 'overlay-data-only', 'overlay-verity'],
  ...['overlay-nesting', 'erofs-file', 'overlay-detached', 'overlay-user-data', 'composefs-tier', 'open-by-handle'],
];
const DIRECTORY_NAMES = ['filesystem', 'uuid', 'handles', 'open-by-handle', 'fs-verity', 'change-times'];

t.test('keys', async t => {
  const { status, ...report } = examine([], '/proc', '/none', '/proc/version');
  const [proc, none, file] = report.directories;
  t.strictSame(Object.keys(report), ['version', 'facts', 'directories', 'conclusion']);
  t.strictSame(Object.keys(report.conclusion), ['mounts', 'data', 'origins', 'text']);
  t.equal(status === 0, report.conclusion.mounts !== null, 'the exit status follows from mounts alone');
  const names = (facts: readonly Fact[] = []): string[] => facts.map(({ name }) => name);
  t.strictSame(names(report.facts), NAMES, 'of the machine');
  t.strictSame(names(proc?.facts), DIRECTORY_NAMES, 'of a directory');
  t.strictSame(names(none?.facts), ['filesystem'], 'of none');
  t.match(none, {
    path: '/none',
    facts: [{ ok: false, value: null, why: '/none: No such file or directory', help: /directory/ }],
  });
  t.match(file?.facts, [{ ok: false, why: '/proc/version: Not a directory' }], 'of a file');
  for (const fact of [...report.facts, ...(proc?.facts ?? [])]) {
    const keys = ['name', 'ok', 'value', ...(fact.ok ? [] : ['why', 'help'])];
    t.strictSame(Object.keys(fact), keys, `${fact.name}: the keys of a fact`);
  }
});

t.test('the width of a terminal', { skip: without('script') }, async t => {
  for (const columns of [60, 140]) {
    const call = `stty cols ${columns}; '${process.execPath}' '${lowerdata}' doctor /proc`;
    const { stdout } = runAs([], ['script', '-qec', call, '/dev/null']);
    const lines = stdout.split(/\r?\n/).filter(line => line.trim().includes(' ')); // a path alone cannot be broken
    const widest = Math.max(...lines.map(line => line.length));
    t.ok(widest <= columns && widest > columns - 20, `${columns} columns: ${widest}`);
    for (const { title } of GROUPS) t.ok(stdout.replace(/\s+/g, ' ').includes(title), title);
  }
});

t.test('calls', { skip: withoutRoot }, async t => {
  t.match(doctor([], '--help'), { status: 0, stdout: /lowerdata doctor \[options\] \[DIR\.\.\.\]/ });
  t.match(doctor([], '--nope'), {
    status: 1,
    stdout: '',
    stderr: /--nope: unknown option; see lowerdata doctor --help/,
  });
});
t.end();
