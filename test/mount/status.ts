/** Proves src/cli/commands/status.ts, with real mounts. */
import { spawnSync } from 'node:child_process';
import { chmodSync, chownSync, mkdirSync, readdirSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { mountAt, readMounts } from '../../src/fuse/mountinfo.ts';
import { byteStringFromText } from '../../src/sys/bytes.ts';
import { native } from '../../src/sys/native.ts';
import { lowerdata } from '../fixtures/mounts/mounted.ts';
import { withScratch } from '../fixtures/scratch.ts';
import { withoutFuse, withoutUserMounts } from '../fixtures/skips.ts';

const MNT_DETACH = 2;
const MS_MOVE = 8192;
const NOBODY = 65534;
const PROTECTION =
  'metadata is not checked (digest=HEX does); data that has a digest is checked when it is opened, not again unless it has fs-verity (the kernel reads it itself; verify=read checks each read)';
const CONFINEMENT =
  '  confinement the daemon can open only its layers, with CAP_DAC_READ_SEARCH and CAP_SYS_ADMIN; system calls are filtered';
const ON_READ =
  'metadata is not checked (digest=HEX does); data that has a digest is checked whenever it is read (verify=read)';
/** A name that would make two lines, one of them a lie, if it were printed as it is. */
const FORGED = 'odd\n  protection  all is well \\ é';
const FORGED_SHOWN = 'odd\\x0a  protection  all is well \\x5c é';

interface Result {
  status: number | null;
  stdout: string;
  stderr: string;
}

/** Runs the command as whoever owns the directory, in which its runtime directory is. */
function run(directory: string, ...args: string[]): Result {
  const { uid, gid } = owner;
  const env = { ...process.env, XDG_RUNTIME_DIR: join(directory, 'run') };
  const options = { cwd: directory, uid, gid, env, encoding: 'utf8', timeout: 30_000 } as const;
  const { status, stdout, stderr } = spawnSync(process.execPath, [lowerdata, ...args], options);
  return { status, stdout, stderr };
}
let owner = { uid: 0, gid: 0 };

/** What `status` says of mounts in a directory; other tests mount as the same users. */
function listed(directory: string): string {
  const { stdout } = run(directory, 'status');
  return (stdout.match(/^\S.*\n(?: .*\n)*/gm) ?? []).filter(block => block.startsWith(`${directory}/`)).join('');
}
const listedAsJson = (directory: string): { mountpoint: string }[] =>
  JSON.parse(run(directory, 'status', '--json').stdout).mounts.filter((one: { mountpoint: string }) =>
    one.mountpoint.startsWith(`${directory}/`),
  );

/** Layers A, B, C, two mount points and whatever is mounted there; nothing stays mounted. */
function placed(as: number, use: (directory: string) => void): void {
  owner = { uid: as, gid: as };
  withScratch(directory => {
    const at = (name: string): string => join(directory, name);
    const mountpoints = ['one', FORGED].map(at);
    for (const path of [...['A', 'B', 'C', 'run'].map(at), ...mountpoints]) mkdirSync(path);
    for (const path of [at('run'), ...mountpoints]) chownSync(path, as, as);
    chmodSync(directory, 0o755);
    try {
      use(directory);
    } finally {
      for (const path of mountpoints.map(byteStringFromText))
        while (mountAt(readMounts(), path)) native.umount(path, MNT_DETACH);
    }
  });
}

/** What a mount is made of, which does not change as what it is doing does. */
const made = ({ stdout }: Result): string[] => stdout.split('\n').slice(0, 6);
const withoutNumbers = ({ process, activity, ...rest }: Record<string, unknown>): unknown => rest;

const deviceOf = (path: string): string | undefined => mountAt(readMounts(), byteStringFromText(path))?.device;

t.test('as root', { skip: withoutFuse, timeout: 120_000 }, async t => {
  placed(0, directory => {
    const [one, odd] = [join(directory, 'one'), join(directory, FORGED)];
    const before = Date.now();
    t.equal(run(directory, 'mount', 'A:B::C', one).status, 0);
    t.equal(run(directory, 'mount', 'A', odd, '-o', `verify=read,fsname=x\ny`).status, 0);
    const after = Date.now();

    const text = run(directory, 'status', one);
    const [, pid = '', since = ''] = /daemon {6}(\d+), since (\S+),/.exec(text.stdout) ?? [];
    const block = (source: string, layers: string): RegExp =>
      new RegExp(
        `^  source      ${source}\n  layers      ${layers}\n  daemon      \\d+, since \\S+, transport dev\n  protection  `,
      );
    t.equal(text.stderr, '');
    t.equal(text.status, 0);
    t.equal(text.stdout.split('\n')[0], one, 'the mount point');
    t.match(
      text.stdout.slice(one.length + 1),
      block('A:B::C', `${directory}/A ${directory}/B ::${directory}/C`),
      'what it is made of',
    );
    t.equal(text.stdout.split('\n')[4], `  protection  ${PROTECTION}`, 'what protects it');
    t.equal(text.stdout.split('\n')[5], CONFINEMENT, 'how the daemon is confined');
    t.match(text.stdout.split('\n')[6], /^ {2}running {5}for \d+ s, /, 'and then what it is doing');
    t.match(readFileSync(`/proc/${pid}/cmdline`, 'utf8').split('\0'), /one/, 'the daemon is the one that serves it');
    t.ok(Date.parse(since) >= before && Date.parse(since) <= after, 'when it began');

    t.match(run(directory, 'status', odd).stdout.split('\n')[6], /^ {2}running /, 'a name cannot make lines');
    t.equal(run(directory, 'status', odd).stdout.split('\n')[0], join(directory, FORGED_SHOWN));

    for (const [rule, path] of [
      ['a relative path', 'one'],
      ['with slashes', `${one}//`],
      ['a path with a symlink', 'link'],
      ['with dots', './A/../one/.'],
    ] as const) {
      if (path === 'link') symlinkSync(one, join(directory, 'link'));
      t.strictSame(made(run(directory, 'status', path)), made(text), rule);
    }

    const wanted = {
      mountpoint: one,
      source: 'A:B::C',
      pid: Number(pid),
      device: deviceOf(one),
      startedAt: `${(Date.parse(since) / 1000).toFixed(3)}000000`,
      transport: 'dev',
      layers: [
        { path: join(directory, 'A'), dataOnly: false },
        { path: join(directory, 'B'), dataOnly: false },
        { path: join(directory, 'C'), dataOnly: true },
      ],
      store: null,
      name: null,
      upperdir: null,
      workdir: null,
      protection: { metadata: 'none', data: 'open', required: false, passthrough: true },
      confinement: { capabilities: ['CAP_DAC_READ_SEARCH', 'CAP_SYS_ADMIN'], files: 'layers', systemCalls: true },
      finding: null,
    };
    const json = run(directory, 'status', '--json', one);
    t.strictSame(JSON.parse(json.stdout).mounts.map(withoutNumbers), [wanted], 'JSON');
    const all = JSON.parse(run(directory, 'status', '--json').stdout).mounts as { mountpoint: string }[];
    const ours = all.filter(({ mountpoint }) => mountpoint.startsWith(directory)); // other tests mount, too
    t.equal(ours.length, 2, 'all mounts');
    t.strictSame(withoutNumbers(ours.find(({ mountpoint }) => mountpoint === one) ?? {}), wanted);
    t.match(
      ours,
      [{}, {}].map(() => ({ layers: Array, protection: { passthrough: true } })),
    );
    t.match(
      ours.find(({ mountpoint }) => mountpoint.endsWith(FORGED_SHOWN)) as unknown,
      { source: 'x\\x0ay', protection: { data: 'read' } },
      'with strange names',
    );
    const lines = run(directory, 'status').stdout.split('\n');
    t.ok(lines.includes(one) && lines.includes(join(directory, FORGED_SHOWN)), 'in text');
    t.ok(lines.includes(`  protection  ${ON_READ}`));

    for (const [rule, args, message] of [
      ['no mount', [directory], /^lowerdata: .*: not a mount of lowerdata and of this user\n$/],
      ['another filesystem', ['/proc'], /^lowerdata: \/proc: not a mount of lowerdata/],
      ['no such path', ['nope'], /^lowerdata: nope: not a mount of lowerdata/],
      ['two paths', [one, odd], /one argument too many/],
    ] as const) {
      const result = run(directory, 'status', ...args);
      t.match(result, { status: 1, stdout: '', stderr: message }, rule);
    }
    const elsewhere = join(directory, 'C', 'moved');
    mkdirSync(elsewhere);
    native.mount(byteStringFromText(one), byteStringFromText(elsewhere), '', MS_MOVE, '');
    t.equal(run(directory, 'status', elsewhere).stdout.split('\n')[0], elsewhere, 'where it is, when it was moved');
    t.ok(run(directory, 'status').stdout.split('\n').includes(elsewhere), 'in the list, too');
    t.equal(run(directory, 'umount', elsewhere).status, 0);
    t.equal(run(directory, 'status', one).status, 1, 'nor what was a mount');
    t.notMatch(run(directory, 'status').stdout, one, 'which is in no list either');
  });
});

t.test('as an ordinary user', { skip: withoutUserMounts, timeout: 120_000 }, async t => {
  placed(NOBODY, directory => {
    const one = join(directory, 'one');
    t.equal(listed(directory), '', 'no mounts');
    t.strictSame(listedAsJson(directory), [], 'no mounts in JSON');
    t.equal(run(directory, 'mount', 'A::C', one).status, 0);
    const all = { ...run(directory, 'status'), stdout: listed(directory) };
    t.strictSame(made(all), made(run(directory, 'status', one)), 'one is all');
    t.match(made(all).at(-2), /checked whenever it is read \(no passthrough without CAP_SYS_ADMIN\)$/);
    t.match(made(all).at(-1), /only its layers, with no capabilities; system calls are filtered$/);
    const json = listedAsJson(directory);
    t.match(json, [
      { mountpoint: one, protection: { data: 'read', passthrough: 'no passthrough without CAP_SYS_ADMIN' } },
    ]);

    const states = join(directory, 'run', 'lowerdata');
    const [file = ''] = readdirSync(states).filter(name => name.endsWith('.json'));
    const state = JSON.parse(readFileSync(join(states, file), 'utf8'));
    const dead = spawnSync('true').pid;
    writeFileSync(join(states, `${dead}.json`), JSON.stringify({ ...state, pid: dead, mountpoint: '/dead' }));
    const again = { ...state, pid: process.pid, mountpoint: '/again' };
    writeFileSync(join(states, `${process.pid}.json`), JSON.stringify(again));
    writeFileSync(join(states, '1.json'), '{"pid": 1, "dev');
    for (const name of readdirSync(states)) chownSync(join(states, name), NOBODY, NOBODY);
    const afterwards = { ...run(directory, 'status'), stdout: listed(directory) };
    t.strictSame(
      made(afterwards),
      made(all),
      'what dead daemons have left is passed over, also where another process has the number',
    );
    t.equal(afterwards.stdout.match(/^\S/gm)?.length, 1, 'and no mount of its own');
    t.strictSame(made(run(directory, 'status', one)), made(all));

    owner = { uid: 0, gid: 0 };
    t.match(run(directory, 'status', one), { status: 1, stderr: /not a mount of lowerdata and of this user/ }, 'root');
    t.notMatch(run(directory, 'status').stdout, one, 'sees mounts of root alone');
    owner = { uid: NOBODY, gid: NOBODY };
    t.equal(run(directory, 'umount', one).status, 0);
    t.equal(listed(directory), '', 'and then none is left');
  });
});

t.test('a mount whose runtime directory belongs to another user', { skip: withoutUserMounts }, async t => {
  placed(NOBODY, directory => {
    const [one, precious] = [join(directory, 'one'), join(directory, 'run', 'precious')];
    mkdirSync(join(directory, 'run', 'lowerdata'), { mode: 0o777 });
    writeFileSync(precious, 'data');
    chownSync(precious, NOBODY, NOBODY);
    t.equal(run(directory, 'mount', 'A::C', one).status, 0);
    t.strictSame(readdirSync(join(directory, 'run', 'lowerdata')), [], 'nothing is written there');
    symlinkSync('/dev/zero', join(directory, 'run', 'lowerdata', '1.json'));
    const stdout = listed(directory);
    t.match(stdout, `${one}\n  source      A::C\n  daemon      not known`, 'it is listed with what is known');
    t.equal(run(directory, 'status', one).stdout, stdout, 'and found');
    const [json] = JSON.parse(run(directory, 'status', '--json', one).stdout).mounts;
    t.match(json, { mountpoint: one, source: 'A::C', pid: null, activity: null });
    t.equal(run(directory, 'status', '--metrics').status, 0);
    t.equal(run(directory, 'umount', one).status, 0);
  });
});

t.test('as root of a user namespace, which may not write to /run', { skip: withoutUserMounts }, async t => {
  placed(NOBODY, directory => {
    const script = `"$0" "$1" mount A::C one && "$0" "$1" status one && "$0" "$1" umount one && "$0" "$1" status`;
    const env = { ...process.env, XDG_RUNTIME_DIR: join(directory, 'run') };
    const options = { cwd: directory, ...owner, env, encoding: 'utf8' } as const;
    const words = ['-Urm', 'sh', '-c', script, process.execPath, lowerdata];
    if (spawnSync('unshare', ['-Urm', 'true'], options).status !== 0)
      return t.comment('no user namespaces for users here');
    const { status, stdout, stderr } = spawnSync('unshare', words, options);
    t.equal(status, 0, stderr);
    t.match(stdout.split('\n')[1], /^ {2}source {6}A::C$/, 'the mount is found');
    t.match(stdout.split('\n')[5], /with CAP_DAC_READ_SEARCH; system calls are filtered$/);
    t.equal(stdout.match(/^\S/gm)?.length, 1, 'and it alone, once');
    t.strictSame(readdirSync(join(directory, 'run', 'lowerdata')), [], 'nothing is left');
  });
});
t.end();
