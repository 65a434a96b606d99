/** Mounts by the command line: when it returns, what it says, and that nothing is ever left behind. */
import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import {
  chmodSync,
  chownSync,
  closeSync,
  existsSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { stat } from 'node:fs/promises';
import { dirname, join, resolve } from 'node:path';
import { text } from 'node:stream/consumers';
import { setTimeout as sleep } from 'node:timers/promises';
import t, { type Test } from 'tap';
import { type Mount, mountAt, readMounts } from '../../src/fuse/mountinfo.ts';
import { byteStringFromText } from '../../src/sys/bytes.ts';
import { native } from '../../src/sys/native.ts';
import { lowerdata, packageFolder } from '../fixtures/mounts/mounted.ts';
import { withScratchAsync } from '../fixtures/scratch.ts';
import { withoutFuse, withoutUserMounts } from '../fixtures/skips.ts';

const MNT_DETACH = 2;
const NOBODY = 65534;
const MS_BIND = 4096;
const NOBODY_WORDS = ['setpriv', `--reuid=${NOBODY}`, `--regid=${NOBODY}`, '--clear-groups'];

interface Result {
  status: number | null;
  stderr: string;
}

/** A scratch directory with the layers A (file a), B (file b, directory d) and C (file c), and an empty `mnt`. */
class Place {
  readonly directory: string;
  readonly mnt: string;
  readonly stack: string;

  constructor(directory: string) {
    this.directory = directory;
    this.mnt = join(directory, 'mnt');
    for (const name of ['A', 'B', 'C']) {
      mkdirSync(join(directory, name));
      writeFileSync(join(directory, name, name.toLowerCase()), `${name}\n`);
    }
    mkdirSync(join(directory, 'B', 'd'));
    mkdirSync(this.mnt);
    chmodSync(directory, 0o755);
    this.stack = `${directory}/A:${directory}/B`;
  }

  run(...args: string[]): Result {
    return run([process.execPath, lowerdata, ...args], this.directory);
  }

  get mount(): Mount | undefined {
    return mountAt(readMounts(), byteStringFromText(this.mnt));
  }

  get daemon(): number {
    return daemonOf(this.mnt);
  }
}

/** The daemon of a mount: by its arguments and, where these are relative, by its watcher, which is beside the mount point. */
function daemonOf(mountpoint: string): number {
  const home = dirname(mountpoint);
  const pid = readdirSync('/proc').find(entry => {
    const words = /^\d+$/.test(entry) ? commandLine(entry) : [];
    if (!words.includes('--daemon')) return false;
    return (
      words.includes(mountpoint) || (words.some(word => resolve(home, word) === mountpoint) && isBeside(entry, home))
    );
  });
  if (!pid) throw new Error(`no daemon for ${mountpoint}`);
  return Number(pid);
}

/** Whether a child of a process is in a directory. */
function isBeside(pid: string, directory: string): boolean {
  try {
    const children = readFileSync(`/proc/${pid}/task/${pid}/children`, 'utf8').trim().split(' ');
    return children.some(child => readlinkSync(`/proc/${child}/cwd`) === directory);
  } catch {
    return false; // it has gone meanwhile
  }
}

function run([program = '', ...args]: string[], cwd: string, env = process.env): Result {
  const { status, stderr } = spawnSync(program, args, { cwd, env, encoding: 'utf8', timeout: 20_000 });
  return { status, stderr: stderr.trim() };
}

function commandLine(pid: string): string[] {
  try {
    return readFileSync(`/proc/${pid}/cmdline`, 'utf8').split('\0').slice(0, -1);
  } catch {
    return []; // it has gone meanwhile
  }
}

/** Whether `condition` holds within ten seconds. */
async function soon(condition: () => boolean): Promise<boolean> {
  for (let waited = 0; waited < 10_000; waited += 10) {
    if (condition()) return true;
    await sleep(10);
  }
  return false;
}

const isGone = (pid: number): boolean => !existsSync(`/proc/${pid}`) || commandLine(String(pid)).length === 0;

/** A test with a place of its own, where nothing stays mounted. */
function placed(rule: string, use: (t: Test, place: Place) => Promise<void>): void {
  t.test(rule, { skip: withoutFuse }, t =>
    withScratchAsync(async directory => {
      const place = new Place(directory);
      try {
        await use(t, place);
      } finally {
        while (place.mount) native.umount(byteStringFromText(place.mnt), MNT_DETACH);
      }
    }),
  );
}

/** What the command says that is protected, where the kernel reads data itself and where it does not. */
const ON_OPEN =
  'metadata is not checked (digest=HEX does); data that has a digest is checked when it is opened, not again unless it has fs-verity (the kernel reads it itself; verify=read checks each read); the daemon can open only its layers, with CAP_DAC_READ_SEARCH and CAP_SYS_ADMIN';
const ON_READ =
  'metadata is not checked (digest=HEX does); data that has a digest is checked whenever it is read (no passthrough without CAP_SYS_ADMIN); the daemon can open only its layers, with ';

placed('the command returns when the mount answers, and umount when the daemon has gone', async (t, place) => {
  t.same(place.run('mount', '-v', place.stack, place.mnt), {
    status: 0,
    stderr: `lowerdata: ${place.mnt}: ${ON_OPEN}`,
  });
  t.same(readdirSync(place.mnt).sort(), ['a', 'b', 'd']);
  t.equal(readFileSync(join(place.mnt, 'b'), 'utf8'), 'B\n');
  t.equal(place.mount?.type, 'fuse.lowerdata');
  t.equal(place.mount?.source, place.stack);
  const { daemon } = place;
  const state = `/run/lowerdata/${daemon}.json`;
  const socket = `/run/lowerdata/${daemon}.sock`;
  t.ok(existsSync(socket), 'it can be asked');
  t.match(JSON.parse(readFileSync(state, 'utf8')), { pid: daemon, mountpoint: place.mnt, device: place.mount?.device });
  t.same(place.run('umount', place.mnt), { status: 0, stderr: '' });
  t.equal(place.mount, undefined);
  t.ok(isGone(daemon), 'the daemon');
  t.notOk(existsSync(state) || existsSync(socket), 'its state file and its socket');
});

placed('the daemon keeps nobody busy', async (t, place) => {
  place.run('mount', 'A:B', 'mnt');
  const { daemon } = place;
  const process = `/proc/${daemon}`;
  t.equal(readFileSync(`${process}/stat`, 'utf8').split(' ')[5], String(daemon), 'it leads a session');
  t.equal(readlinkSync(`${process}/cwd`), '/');
  for (const fd of [0, 1]) t.equal(readlinkSync(`${process}/fd/${fd}`), '/dev/null');
  t.ok(existsSync(join(place.mnt, 'a')), 'relative layers are still found');
});

placed('a mount is silent, and needs no command before a source that looks like layers', async (t, place) => {
  const { mnt } = place;
  for (const words of [
    ['mount', 'A', mnt],
    ['A:B', mnt],
    ['./A', mnt],
    ['A', mnt],
    ['none', mnt, '-o', 'ro,lowerdir=A:B'],
  ]) {
    t.same(place.run(...words), { status: 0, stderr: '' }, words.join(' '));
    t.equal(place.mount?.type, 'fuse.lowerdata', words.join(' '));
    t.same(place.run('umount', mnt), { status: 0, stderr: '' });
  }
});

placed('what was wrong is said by the command', async (t, place) => {
  const { directory, mnt } = place;
  writeFileSync(join(directory, 'file'), 'x');
  writeFileSync(join(directory, 'image'), Buffer.alloc(8192));
  for (const [rule, args, status, message] of [
    ['no such layer', ['mount', 'A:nope', mnt], 32, /^lowerdata: layer nope: No such file or directory$/],
    ['a layer twice', ['mount', 'A:A', mnt], 32, /^lowerdata: layer A is the same as layer A$/],
    ['no image', ['mount', 'image', mnt], 32, /^lowerdata: .*image/],
    ['no such mount point', ['mount', 'A:B', 'nope'], 32, /^lowerdata: mount point nope: No such file or directory$/],
    ['a file as mount point', ['mount', 'A:B', 'file'], 32, /^lowerdata: mount point file: not a directory$/],
    ['an unknown option', ['mount', 'A:B', mnt, '-o', 'frob'], 1, /^lowerdata: option frob: unknown$/],
    [
      'an unknown flag',
      ['mount', 'A:B', mnt, '--frob'],
      1,
      /^lowerdata: mount: --frob: unknown option; see lowerdata mount --help$/,
    ],
    [
      'no mount point',
      ['mount', 'A:B'],
      1,
      /^lowerdata: mount: the argument <mountpoint> is missing; see lowerdata mount --help$/,
    ],
    [
      'too much',
      ['mount', 'A:B', mnt, 'x'],
      1,
      /^lowerdata: mount: x: one argument too many; see lowerdata mount --help$/,
    ],
    ['an upper directory alone', ['mount', 'A:B', mnt, '-o', 'upperdir=C'], 1, /upperdir: needs workdir/],
    ['a mistyped command', ['mout', 'A', mnt], 1, /^lowerdata: mout: unknown command; did you mean mount\?$/],
    ['the C name of umount', ['unmount', mnt], 1, /^lowerdata: unmount: unknown command; did you mean umount\?$/],
    ['no command', ['frob'], 1, /^lowerdata: frob: unknown command; see lowerdata --help$/],
    ['unmount a directory', ['umount', mnt], 1, /mnt: not mounted$/],
    ['unmount another filesystem', ['umount', '/proc'], 1, /^lowerdata: \/proc: no mount of lowerdata, but proc$/],
    ['not checked further with -s', ['mount', 'A:B', mnt, '-s', '-o', 'frob', '--fake'], 0, /^$/],
  ] as const) {
    const result = place.run(...args);
    t.equal(result.status, status, rule);
    t.match(result.stderr, message, rule);
    t.equal(mountAt(readMounts(), byteStringFromText(mnt)), undefined);
  }
});

for (const signal of ['SIGTERM', 'SIGINT', 'SIGHUP'] as const) {
  placed(`${signal} unmounts`, async (t, place) => {
    place.run('mount', place.stack, place.mnt);
    const { daemon } = place;
    process.kill(daemon, signal);
    t.ok(await soon(() => isGone(daemon)), 'the daemon ends');
    t.equal(place.mount, undefined);
  });
}

placed('a daemon that is killed leaves no mount and no state', async (t, place) => {
  const odd = join(place.directory, 'back\\slash, space\nline');
  mkdirSync(odd);
  const { status } = place.run('mount', place.stack, odd);
  t.equal(status, 0);
  const at = (): Mount | undefined => mountAt(readMounts(), byteStringFromText(odd));
  const pid = daemonOf(odd);
  const state = `/run/lowerdata/${pid}.json`;
  t.ok(existsSync(state));
  process.kill(pid, 'SIGKILL');
  t.ok(await soon(() => at() === undefined), 'the mount');
  t.ok(await soon(() => !existsSync(state) && !existsSync(`/run/lowerdata/${pid}.sock`)), 'the state file, the socket');
  while (at()) native.umount(byteStringFromText(odd), MNT_DETACH);
});

placed('what covers a dead mount stays, and the dead mount goes when it is seen again', async (t, place) => {
  place.run('mount', place.stack, place.mnt);
  const { daemon } = place;
  native.mount('none', byteStringFromText(place.mnt), 'tmpfs', 0, '');
  process.kill(daemon, 'SIGKILL');
  await soon(() => isGone(daemon));
  await sleep(300);
  t.equal(place.mount?.type, 'tmpfs');
  t.equal(native.umount(byteStringFromText(place.mnt), 0), 0);
  t.ok(await soon(() => place.mount === undefined));
});

for (const [who, ...as] of [['root'], ['nobody', ...NOBODY_WORDS]])
  placed(`${who}: umount --force ends a mount whose daemon hangs`, async (t, place) => {
    if (as.length > 0 && spawnSync('fusermount3', ['-V']).error) return t.comment('fusermount3 is not installed');
    const { directory, mnt, stack } = place;
    if (as.length > 0) chownSync(mnt, NOBODY, NOBODY);
    const env = { ...process.env, XDG_RUNTIME_DIR: join(directory, 'run') };
    mkdirSync(env.XDG_RUNTIME_DIR, { mode: 0o700 });
    if (as.length > 0) chownSync(env.XDG_RUNTIME_DIR, NOBODY, NOBODY);
    const call = (...words: string[]): Result => run([...as, process.execPath, lowerdata, ...words], directory, env);
    t.equal(call('mount', '-r', stack, mnt).status, 0);
    const { daemon } = place;
    process.kill(daemon, 'SIGSTOP');
    const [cat = '', ...words] = [...as, 'cat', join(mnt, 'b')];
    const waiting = spawn(cat, words, { stdio: ['ignore', 'ignore', 'pipe'] });
    const said = text(waiting.stderr);
    await sleep(300);
    t.equal(waiting.exitCode, null, 'who reads waits');
    t.same(call('umount', '--force', mnt), { status: 0, stderr: '' });
    t.match(await said, /Software caused connection abort|not connected|connection/i, 'who waits gets an error');
    t.equal(place.mount, undefined);
    if (!isGone(daemon)) process.kill(daemon, 'SIGCONT');
    t.ok(await soon(() => isGone(daemon)), 'and its daemon ends');
  });

placed('a busy mount goes on; a second signal detaches it', async (t, place) => {
  place.run('mount', place.stack, place.mnt);
  const { daemon } = place;
  const fd = openSync(join(place.mnt, 'a'), 'r');
  const refused = place.run('umount', place.mnt);
  t.equal(refused.status, 32);
  t.match(refused.stderr, /busy: .* --lazy/);
  process.kill(daemon, 'SIGTERM');
  await sleep(200);
  t.equal(readFileSync(join(place.mnt, 'b'), 'utf8'), 'B\n', 'it still answers');
  process.kill(daemon, 'SIGTERM');
  t.ok(await soon(() => place.mount === undefined), 'out of sight');
  t.notOk(isGone(daemon), 'but it serves its last user');
  closeSync(fd);
  t.ok(await soon(() => isGone(daemon)), 'and ends with it');
});

placed('bound to another place as well', async (t, place) => {
  place.run('mount', place.stack, place.mnt);
  const { daemon } = place;
  const bound = join(place.mnt, '..', 'bound');
  mkdirSync(bound);
  try {
    t.equal(native.mount(byteStringFromText(place.mnt), byteStringFromText(bound), '', MS_BIND, ''), 0);
    process.kill(daemon, 'SIGTERM');
    t.ok(await soon(() => place.mount === undefined), 'it goes where it was made');
    t.equal(readFileSync(join(bound, 'b'), 'utf8'), 'B\n', 'and answers at the other place');
    process.kill(daemon, 'SIGTERM');
    t.ok(await soon(() => isGone(daemon)), 'until it is asked again');
  } finally {
    native.umount(byteStringFromText(bound), MNT_DETACH);
  }
});

placed('umount --lazy', async (t, place) => {
  place.run('mount', place.stack, place.mnt);
  const { daemon } = place;
  const fd = openSync(join(place.mnt, 'a'), 'r');
  t.same(place.run('umount', '--lazy', place.mnt), { status: 0, stderr: '' });
  t.equal(place.mount, undefined);
  closeSync(fd);
  t.ok(await soon(() => isGone(daemon)));
});

placed('unmounted by someone else', async (t, place) => {
  place.run('mount', place.stack, place.mnt);
  const { daemon } = place;
  t.equal(native.umount(byteStringFromText(place.mnt), 0), 0);
  t.ok(await soon(() => isGone(daemon)));
});

placed('two mounts, one over the other', async (t, place) => {
  place.run('mount', place.stack, place.mnt);
  t.same(place.run('mount', `${place.directory}/B:${place.directory}/C`, place.mnt).status, 0);
  t.same(readdirSync(place.mnt).sort(), ['b', 'c', 'd']);
  t.equal(place.run('umount', place.mnt).status, 0);
  t.same(readdirSync(place.mnt).sort(), ['a', 'b', 'd']);
  t.equal(place.run('umount', place.mnt).status, 0);
});

placed('in the foreground', async (t, place) => {
  const child = spawn(process.execPath, [lowerdata, 'mount', place.stack, place.mnt, '-f'], { stdio: 'ignore' });
  t.ok(await soon(() => place.mount !== undefined));
  await stat(join(place.mnt, 'a'));
  child.kill('SIGTERM');
  t.equal(await statusOf(child), 0);
  t.equal(place.mount, undefined);
});

placed('asked to end while it is being mounted', async (t, place) => {
  for (let round = 0; round < 5; round++) {
    const child = spawn(process.execPath, [lowerdata, 'mount', place.stack, place.mnt, '-f'], { stdio: 'ignore' });
    while (place.mount === undefined) await sleep(0);
    child.kill('SIGTERM');
    t.equal(await statusOf(child), 0, 'it is mounted, and then unmounted');
    t.equal(place.mount, undefined);
  }
});

function statusOf(child: ChildProcess): Promise<number | null> {
  return new Promise(resolve => child.on('exit', status => resolve(status)));
}

placed('as mount(8) and mount.fuse3 call it', async (t, place) => {
  const bin = join(place.directory, 'bin');
  mkdirSync(bin);
  chmodSync(lowerdata, 0o755);
  symlinkSync(lowerdata, join(bin, 'lowerdata'));
  symlinkSync(lowerdata, join(bin, 'mount.lowerdata'));
  const env = { ...process.env, PATH: `${bin}:${process.env.PATH}` };
  const { directory, mnt, stack } = place;
  for (const [rule, words] of [
    ['mount.fuse3', ['lowerdata', stack, mnt, '-o', 'rw,dev,suid']],
    [
      'a helper of mount(8)',
      ['mount.lowerdata', stack, mnt, '-s', '-n', '-v', '-o', 'rw,nofail,frob', '-t', 'lowerdata'],
    ],
    ['an absolute stack in options', ['lowerdata', 'none', mnt, '-o', `lowerdata,lowerdir=${stack}`, '-s']],
  ] as const) {
    t.equal(run([...words], directory, env).status, 0, rule);
    t.same(readdirSync(mnt).sort(), ['a', 'b', 'd'], rule);
    t.equal(run(['lowerdata', 'umount', mnt], directory, env).status, 0, rule);
  }
  t.equal(run(['mount.lowerdata', stack, mnt, '-f', '-o', 'rw'], directory, env).status, 0, 'mount -f');
  t.equal(place.mount, undefined, 'mounts nothing');
  if (!existsSync('/sbin/mount.fuse3')) return t.comment('no mount.fuse3 here');
  const source = `${bin}/lowerdata#${stack}`; // in place of -t fuse.lowerdata: mount(8) has a PATH of its own
  const words = ['mount', '-t', 'fuse', source, mnt, '-o', 'nofail,allow_other'];
  t.same(run(words, directory, env), { status: 0, stderr: '' });
  t.same(readdirSync(mnt).sort(), ['a', 'b', 'd'], 'through mount(8) and mount.fuse3');
  t.equal(run(['umount', mnt], directory, env).status, 0, 'umount(8)');
});

placed('without root, through fusermount3', async (t, place) => {
  if (spawnSync('fusermount3', ['-V']).error) return t.comment('fusermount3 is not installed');
  const { directory, mnt } = place;
  chownSync(mnt, 65534, 65534);
  const asNobody = (...words: string[]): Result => run([...NOBODY_WORDS, ...words], directory);
  t.same(asNobody(process.execPath, lowerdata, 'mount', '-v', place.stack, mnt), {
    status: 0,
    stderr: `lowerdata: ${mnt}: ${ON_READ}no capabilities`,
  });
  t.equal(asNobody('ls', `${mnt}/a`, `${mnt}/d`).status, 0);
  t.match(readFileSync('/proc/self/mountinfo', 'utf8'), new RegExp(`${mnt} ro,nosuid,nodev.*user_id=65534`));
  t.same(asNobody(process.execPath, lowerdata, 'umount', mnt), { status: 0, stderr: '' });
  t.equal(place.mount, undefined);

  asNobody(process.execPath, lowerdata, 'mount', place.stack, mnt);
  process.kill(place.daemon, 'SIGTERM');
  t.ok(await soon(() => place.mount === undefined), 'SIGTERM');
  asNobody(process.execPath, lowerdata, 'mount', place.stack, mnt);
  process.kill(place.daemon, 'SIGKILL');
  t.ok(await soon(() => place.mount === undefined), 'SIGKILL');

  if (/^user_allow_other/m.test(readFileSync('/etc/fuse.conf', 'utf8'))) return;
  const refused = asNobody(process.execPath, lowerdata, 'mount', place.stack, mnt, '-o', 'allow_other');
  t.equal(refused.status, 32);
  t.match(refused.stderr, /user_allow_other/);
});

placed('in a user namespace', async (t, { directory, mnt, stack }) => {
  const words = ['unshare', '-Urm', 'sh', '-ec'];
  const script = `"$0" "$1" mount -v "$2" "$3"; ls "$3" >"$4"; "$0" "$1" umount "$3"`;
  if (run(['unshare', '-Urm', 'true'], directory).status !== 0) return t.comment('no user namespaces here');
  const result = run([...words, script, process.execPath, lowerdata, stack, mnt, `${directory}/out`], directory);
  t.same(result, { status: 0, stderr: `lowerdata: ${mnt}: ${ON_READ}CAP_DAC_READ_SEARCH` });
  t.equal(readFileSync(`${directory}/out`, 'utf8'), 'a\nb\nd\n');
});

placed('a kernel overlay that is mounted on top at once', async (t, place) => {
  const { directory, mnt, stack } = place;
  const over = join(directory, 'over');
  mkdirSync(over);
  chmodSync(join(directory, 'A'), 0o755);
  t.equal(place.run('mount', stack, mnt, '-o', 'allow_other').status, 0);
  const mounted = native.mount(
    'o',
    byteStringFromText(over),
    'overlay',
    1,
    byteStringFromText(`lowerdir=${mnt}:${directory}/C`),
  );
  if (mounted < 0) return t.comment(`no overlay here: ${mounted}`);
  const { status, stdout } = spawnSync('ls', [over], { uid: NOBODY, gid: NOBODY, encoding: 'utf8' });
  native.umount(byteStringFromText(over), MNT_DETACH);
  t.same({ status, stdout }, { status: 0, stdout: 'a\nb\nc\nd\n' }, 'lets others in');
});

placed('remounted', async (t, place) => {
  const { stack, mnt } = place;
  place.run('mount', stack, mnt);
  for (const [rule, options, flags] of [
    ['with other access times', 'remount,noatime', ['ro', 'noatime']],
    [
      'with more flags, as mount(8) repeats those that are there',
      'ro,noatime,user_id=0,remount,nosuid',
      ['ro', 'nosuid', 'noatime'],
    ],
    ['with fewer', 'remount,suid,relatime,verity=require', ['ro', 'relatime']],
  ] as const) {
    t.same(place.run('mount', '-o', options, stack, mnt), { status: 0, stderr: '' }, rule);
    t.strictSame(place.mount?.flags, flags, rule);
  }
  const { status, stderr } = place.run('mount', '-o', 'remount,rw', stack, mnt);
  t.equal(status, 32);
  t.equal(stderr, `lowerdata: ${mnt}: it cannot be made writable; give ro with remount`);
  t.match(place.run('mount', '-o', 'remount,ro', stack, '/proc'), { status: 32, stderr: /not a mount of lowerdata/ });
  t.same(readdirSync(mnt).sort(), ['a', 'b', 'd'], 'it goes on');
});

placed('without /proc', async (t, { directory, mnt, stack }) => {
  const script = 'umount -l /proc && exec "$@"';
  for (const [status, words, said] of [
    [0, ['--version'], /^$/],
    [1, ['ls', stack, '/'], /^lowerdata: layer .*A: \/: reading xattrs needs \/proc, which is missing$/],
    [32, ['mount', '-f', stack, mnt], /^lowerdata: mounts need \/proc: No such file or directory$/],
    [32, ['umount', mnt], /^lowerdata: .*: mounts need \/proc$/],
    [1, ['status'], /^lowerdata: .*: mounts need \/proc$/],
  ] as const) {
    const command = ['unshare', '-m', 'sh', '-c', script, 'sh', process.execPath, lowerdata, ...words];
    t.match(run(command, directory), { status, stderr: said }, words[0]);
  }
});

placed('on a mount of another user', async (t, { directory, mnt, stack }) => {
  if (withoutUserMounts) return t.comment(withoutUserMounts);
  chownSync(mnt, NOBODY, NOBODY);
  const as = { cwd: directory, uid: NOBODY, gid: NOBODY };
  t.equal(spawnSync(process.execPath, [lowerdata, 'mount', stack, mnt], as).status, 0);
  const { status, stderr } = run([process.execPath, lowerdata, 'mount', stack, mnt], directory);
  t.equal(status, 32);
  t.equal(
    stderr,
    `lowerdata: mount point ${mnt}: Permission denied: a FUSE mount of user 65534, which nobody else may enter without allow_other, not even root`,
  );
});

/** Runs its arguments with a lock, and both ends of a pipe's write end, on descriptors that shells cannot close by number. */
const locked = `
import fcntl, os, subprocess, sys
lock = os.open('lock', os.O_CREAT | os.O_RDWR); fcntl.flock(lock, fcntl.LOCK_EX)
ends = os.pipe()
for fd, at in [(lock, 9), (lock, 10), (lock, 40), (ends[1], 11), (ends[1], 300)]: os.dup2(fd, at)
child = subprocess.Popen(sys.argv[2:], pass_fds=(9, 10, 11, 40, 300), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
if sys.argv[1] == 'waits': child.wait()
else:
    while not os.path.ismount('mnt'): pass
    os.listdir('mnt')
for fd in [lock, 9, 10, 40, ends[1], 11, 300]: os.close(fd)
fcntl.flock(os.open('lock', os.O_RDWR), fcntl.LOCK_EX | fcntl.LOCK_NB)
assert os.read(ends[0], 1) == b'', 'the pipe has a writer'
`;
for (const [rule, waits, ...words] of [
  ['in the background', true, 'mount'],
  ['in the foreground', false, 'mount', '-f'],
  ['by the launcher', true, 'bin/lowerdata', 'mount'],
  ['by a helper of mount(8)', true, 'bin/lowerdata', '--called', 'mount.lowerdata'],
] as const)
  placed(`what a caller has open is not kept: ${rule}`, async (t, place) => {
    const [first = '', ...rest] = words;
    const program = first.startsWith('bin/') ? [join(packageFolder, first)] : [process.execPath, lowerdata, first];
    const args = ['-c', locked, waits ? 'waits' : 'goes on', ...program, ...rest, place.stack, place.mnt];
    const { status, stderr } = spawnSync('python3', args, { cwd: place.directory, encoding: 'utf8', timeout: 30_000 });
    t.equal(status, 0, stderr);
    t.equal(place.run('umount', place.mnt).status, 0);
  });

placed('a supervisor hears of it', async (t, place) => {
  const socket = join(place.directory, 'notify');
  const script = `
import socket, sys
s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM); s.bind(sys.argv[1]); s.settimeout(20)
print("bound", flush=True)
print(s.recv(4096).decode().replace("\\n", " "), flush=True)
print(s.recv(4096).decode().replace("\\n", " "), flush=True)`;
  const listener = spawn('python3', ['-c', script, socket], { stdio: ['ignore', 'pipe', 'ignore'] });
  let heard = '';
  listener.stdout.on('data', piece => {
    heard += piece;
  });
  t.ok(await soon(() => heard.includes('bound')));
  run([process.execPath, lowerdata, 'mount', place.stack, place.mnt], place.directory, {
    ...process.env,
    NOTIFY_SOCKET: socket,
  });
  const { daemon } = place;
  process.kill(daemon, 'SIGTERM');
  await statusOf(listener);
  const [, ready, stopping] = heard.split('\n');
  t.equal(ready, `READY=1 MAINPID=${daemon} STATUS=${place.mnt} is mounted`);
  t.match(stopping, /^STOPPING=1 /);
});
