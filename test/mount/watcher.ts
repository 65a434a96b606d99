/** A daemon that is killed at the worst moments, played by a process that mounts and then kills itself. */
import { spawnSync } from 'node:child_process';
import { chmodSync, chownSync, existsSync, mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import t from 'tap';
import { mountAt, readMounts } from '../../src/fuse/mountinfo.ts';
import { byteStringFromText } from '../../src/sys/bytes.ts';
import { native } from '../../src/sys/native.ts';
import { isRunning } from '../../src/sys/processes/process.ts';
import { ForegroundMount, soon } from '../fixtures/mounts/foreground.ts';
import { packageFolder } from '../fixtures/mounts/mounted.ts';
import { withScratchAsync } from '../fixtures/scratch.ts';
import { withoutFuse, withoutUserMounts } from '../fixtures/skips.ts';

const MNT_DETACH = 2;
const NOBODY = 65534;
const source = join(packageFolder, 'dist', 'src');

/** Mounts at its argument; `mounted` is what it tells its watcher afterwards. */
const script = (mounted: string): string => `
  import { Watcher } from '${source}/mount/watcher.js';
  import { mounter, mountFuse } from '${source}/fuse/mount.js';
  import { MountPoint } from '${source}/fuse/mount-point.js';
  import { mountAt, readMounts } from '${source}/fuse/mountinfo.js';
  const [at] = process.argv.slice(-1);
  const point = MountPoint.find(at);
  const watcher = new Watcher(mounter(), point.directory);
  watcher.mounting(point);
  await mountFuse(point, { fsname: 'a  #b,\\\\c [d]*? - fuse.e ' + '\\xc3\\xbc '.repeat(600), subtype: 'lowerdata', allowOther: false, flags: [] });
  ${mounted}
  process.kill(process.pid, 'SIGKILL');
`;
const told = `watcher.mounted(mountAt(readMounts(), at), mounter(), '');`;

for (const [rule, after, uid, other] of [
  ['killed before it knew the device', '', 0, false],
  ['killed before the mount answered', told, 0, false],
  ['killed before it knew the device, as a user', '', NOBODY, false],
  ['killed before the mount answered, as a user', told, NOBODY, false],
  ['over another mount', '', 0, true],
  ['over another mount, whose device it knew', told, 0, true],
] as const) {
  t.test(rule, { skip: uid === 0 ? withoutFuse : withoutUserMounts }, t =>
    withScratchAsync(async directory => {
      const mnt = join(directory, 'mnt');
      mkdirSync(mnt);
      chmodSync(directory, 0o755);
      chownSync(mnt, uid, uid);
      const top = (): string | undefined => mountAt(readMounts(), byteStringFromText(mnt))?.type;
      if (other) native.mount('none', byteStringFromText(mnt), 'tmpfs', 0, '');
      const { signal, stderr } = spawnSync(process.execPath, ['--input-type=module', '-e', script(after), mnt], {
        uid,
        gid: uid,
        encoding: 'utf8',
      });
      t.equal(signal, 'SIGKILL', stderr);
      for (let waited = 0; waited < 5000 && top() === 'fuse.lowerdata'; waited += 10) await sleep(10);
      t.equal(top(), other ? 'tmpfs' : undefined);
      while (top()) native.umount(byteStringFromText(mnt), MNT_DETACH);
    }),
  );
}

for (const [rule, sourceOf, isStopped] of [
  ['and the source', (other: ForegroundMount) => other.mount?.spelledSource, false],
  ['and does not answer', () => '/another', true],
] as const)
  t.test(`killed when another daemon had the device number already, ${rule}`, { skip: withoutFuse }, t =>
    withScratchAsync(async directory => {
      for (const name of ['A', 'B', 'own']) mkdirSync(join(directory, name));
      const other = await ForegroundMount.make(`${directory}/A:${directory}/B`, join(directory, 'mnt'));
      if (isStopped) other.signal('SIGSTOP');
      try {
        const dies = `
          import { Watcher } from '${source}/mount/watcher.js';
          import { readFileSync, writeSync } from 'node:fs';
          import { MountPoint } from '${source}/fuse/mount-point.js';
          const point = MountPoint.find('${directory}/own');
          const watcher = new Watcher('mount', point.directory);
          watcher.mounting(point);
          watcher.mounted({ device: '${other.mount?.device}', spelledSource: '${sourceOf(other)}' }, 'mount', '');
          writeSync(1, readFileSync('/proc/self/task/' + process.pid + '/children', 'latin1'));
          process.kill(process.pid, 'SIGKILL');`;
        const { stdout, stderr } = spawnSync(process.execPath, ['--input-type=module', '-e', dies], {
          encoding: 'utf8',
        });
        t.match(stdout, /^\d+ $/, stderr);
        t.ok(await soon(() => !isRunning(Number(stdout))), 'the watcher ends');
        t.equal(other.mount?.type, 'fuse.lowerdata', 'and leaves alone what somebody serves');
      } finally {
        other.signal('SIGCONT');
        await other.clear();
      }
    }),
  );

t.test('killed before it has read what it is asked', { timeout: 60_000 }, async t => {
  const asks = `
    import { Watcher } from '${source}/mount/watcher.js';
    import { openSync, readFileSync } from 'node:fs';
    const watcher = new Watcher('mount', openSync('/', 'r'));
    const shell = Number(readFileSync('/proc/self/task/' + process.pid + '/children', 'latin1'));
    process.kill(shell, 'SIGSTOP');
    const answer = watcher.unmount(false).then(() => 'unmounted', error => error.message);
    setTimeout(() => process.kill(shell, 'SIGKILL'), 100);
    console.log(await answer);
    await watcher.gone();
    console.log('gone');`;
  const { stdout, stderr } = spawnSync(process.execPath, ['--input-type=module', '-e', asks], { encoding: 'utf8' });
  t.equal(stdout, 'the watcher is gone, who would unmount\ngone\n', stderr);
});

t.test('a helper that refuses once', { skip: withoutUserMounts }, t =>
  withScratchAsync(async directory => {
    const [mnt, refused] = [join(directory, 'mnt'), join(directory, 'refused')];
    const helper = spawnSync('sh', ['-c', 'command -v fusermount3'], { encoding: 'utf8' }).stdout.trim();
    const wrapper = `#!/bin/sh
case $1 in -u) [ -e ${refused} ] || { : >${refused}; exit 1; } ;; esac
exec ${helper} "$@"
`;
    mkdirSync(mnt);
    mkdirSync(join(directory, 'bin'));
    writeFileSync(join(directory, 'bin', 'fusermount3'), wrapper, { mode: 0o755 });
    chmodSync(directory, 0o777); // whoever runs the helper leaves its mark there
    chownSync(mnt, NOBODY, NOBODY);
    const options = { uid: NOBODY, gid: NOBODY, env: { ...process.env, PATH: `${directory}/bin:${process.env.PATH}` } };
    spawnSync(process.execPath, ['--input-type=module', '-e', script(told), mnt], options);
    const top = (): string | undefined => mountAt(readMounts(), byteStringFromText(mnt))?.type;
    for (let waited = 0; waited < 5000 && top() !== undefined; waited += 10) await sleep(10);
    t.ok(existsSync(refused), 'it was asked');
    t.equal(top(), undefined, 'and asked again');
    while (top()) native.umount(byteStringFromText(mnt), MNT_DETACH);
  }),
);
/** Puts a symlink to `victim` in the place of the mount point's directory, once, at the moment when its argument is unmounted. */
const swapping = (directory: string, umount: string): string => `#!/bin/sh
[ -e ${directory}/kept ] || { mv ${directory}/parent ${directory}/kept && ln -s victim ${directory}/parent; }
exec ${umount} "$@"
`;
for (const [rule, signal] of [
  ['killed', 'SIGKILL'],
  ['asked to end', 'SIGTERM'],
] as const)
  t.test(`${rule} while the directory of the mount point becomes a symlink`, { skip: withoutFuse }, t =>
    withScratchAsync(async directory => {
      const victim = join(directory, 'victim', 'mnt');
      for (const name of ['A', 'B', 'bin', 'victim/mnt']) mkdirSync(join(directory, name), { recursive: true });
      const umount = spawnSync('sh', ['-c', 'command -v umount'], { encoding: 'utf8' }).stdout.trim();
      writeFileSync(join(directory, 'bin', 'umount'), swapping(directory, umount), { mode: 0o755 });
      const mount = await ForegroundMount.make(
        `${directory}/A:${directory}/B`,
        join(directory, 'parent', 'mnt'),
        '',
        0,
        {
          env: { PATH: `${directory}/bin:${process.env.PATH}` },
        },
      );
      const isThere = (name: string): boolean =>
        mountAt(readMounts(), byteStringFromText(join(directory, name, 'mnt'))) !== undefined;
      native.mount('victim', byteStringFromText(victim), 'tmpfs', 0, '');
      try {
        mount.signal(signal);
        await mount.ended();
        t.ok(await soon(() => existsSync(join(directory, 'kept')) && !isThere('kept')), 'its own mount is taken away');
        t.ok(isThere('victim'), 'another one is not');
      } finally {
        await mount.clear();
        for (const name of ['kept', 'parent', 'victim'])
          while (isThere(name)) native.umount(byteStringFromText(join(directory, name, 'mnt')), MNT_DETACH);
      }
    }),
  );
t.end();
