/** Mounts with `restart=on`, whose daemons are killed: what users of the mount notice is a pause. */
import { spawn, spawnSync } from 'node:child_process';
import {
  appendFileSync,
  chmodSync,
  chownSync,
  closeSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  readSync,
  renameSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { mountAt, readMounts } from '../../src/fuse/mountinfo.ts';
import { readStates } from '../../src/mount/state.ts';
import { byteStringFromText } from '../../src/sys/bytes.ts';
import { native } from '../../src/sys/native.ts';
import { isRunning } from '../../src/sys/processes/process.ts';
import { soon } from '../fixtures/mounts/foreground.ts';
import { packageFolder } from '../fixtures/mounts/mounted.ts';
import { withScratchAsync } from '../fixtures/scratch.ts';
import { withoutFuse, withoutUserMounts } from '../fixtures/skips.ts';
import { aclValue } from '../fixtures/xattrs.ts';

const launcher = join(packageFolder, 'bin', 'lowerdata');
const MNT_DETACH = 2;
const NOBODY = 65534;
const LARGE = Buffer.alloc(3 << 20, 'large file ');

interface Place {
  readonly home: string;
  readonly mnt: string;
  /** Runs the command in `home`. @returns what it said on stderr */
  run(...words: string[]): string;
  /** Kills the daemon. @returns its process ID */
  kill(): number;
  /** The process ID of the daemon that has written its state; undefined if none has. */
  pid(): number | undefined;
}

const mountIn = (mnt: string) => mountAt(readMounts(), byteStringFromText(mnt));

function placed(rule: string, use: (t: Test, place: Place) => void | Promise<void>, uid = 0): void {
  t.test(rule, { skip: uid === 0 ? withoutFuse : withoutUserMounts }, t =>
    withScratchAsync(async home => {
      const mnt = join(home, 'mnt');
      for (const name of ['tree', 'tree/d', 'objects', 'mnt', 'run']) mkdirSync(join(home, name));
      writeFileSync(join(home, 'tree', 'large'), LARGE);
      writeFileSync(join(home, 'tree', 'd', 'small'), 'small\n'.repeat(100));
      const env = uid === 0 ? process.env : { ...process.env, XDG_RUNTIME_DIR: join(home, 'run') };
      const run: Place['run'] = (...words) => {
        const options = { cwd: home, encoding: 'utf8', timeout: 20_000, uid, gid: uid, env } as const;
        return spawnSync(launcher, words, options).stderr;
      };
      chmodSync(home, 0o755);
      chmodSync(join(home, 'run'), 0o700);
      for (const name of ['objects', 'mnt', 'run', '.']) chownSync(join(home, name), uid, uid);
      t.equal(run('mkfs', '--digest-store=objects', 'tree', 'image'), '');
      const pid = (): number | undefined => {
        const { stdout } = spawnSync(launcher, ['status', '--json'], { encoding: 'utf8', uid, gid: uid, env });
        const { mounts } = JSON.parse(stdout) as { mounts: { mountpoint: string; pid: number | null }[] };
        return mounts.find(({ mountpoint }) => mountpoint === mnt)?.pid ?? undefined;
      };
      const kill = (): number => {
        const daemon = pid();
        if (daemon === undefined) throw new Error('no daemon');
        process.kill(daemon, 'SIGKILL');
        return daemon;
      };
      try {
        await use(t, { home, mnt, run, kill, pid });
      } finally {
        while (mountIn(mnt)) native.umount(byteStringFromText(mnt), MNT_DETACH);
      }
    }),
  );
}

const STACK = 'image::objects';

for (const [rule, options] of [
  ['with passthrough', 'restart=on'],
  ['read by the process', 'restart=on,passthrough=off'],
  ['opened by the kernel alone', 'restart=on,opens=none'],
] as const)
  placed(`files stay open, and everything goes on, ${rule}`, async (t, { mnt, run, kill, home, pid }) => {
    t.equal(run('mount', STACK, 'mnt', '-o', options), '');
    const large = openSync(join(mnt, 'large'), 'r');
    const piece = Buffer.alloc(4096);
    readSync(large, piece, 0, piece.length, 0);
    for (let round = 0; round < 2; round++) {
      const killed = kill();
      const at = (round + 1) << 20;
      t.equal(readSync(large, piece, 0, piece.length, at), piece.length, 'an open file is read');
      t.ok(piece.equals(LARGE.subarray(at, at + piece.length)), 'with its bytes');
      t.ok(readFileSync(join(mnt, 'large')).equals(LARGE), 'it can be opened once more');
      t.equal(readFileSync(join(mnt, 'd', 'small'), 'latin1'), 'small\n'.repeat(100), 'and others, too');
      t.same(readdirSync(mnt).sort(), readdirSync(join(home, 'tree')).sort());
      t.not(pid(), killed, 'another daemon serves');
    }
    closeSync(large);
    const last = pid() ?? 0;
    t.equal(run('umount', 'mnt'), '');
    t.equal(mountIn(mnt), undefined, 'it is unmounted as any other');
    t.ok(await soon(() => !isRunning(last)), 'and the daemon ends');
  });

placed(
  'the mount of an ordinary user goes on',
  (t, { mnt, run, kill }) => {
    t.equal(run('mount', STACK, 'mnt', '-o', 'restart=on'), '');
    kill();
    const { stdout } = spawnSync('cat', [join(mnt, 'd', 'small')], { uid: NOBODY, gid: NOBODY, encoding: 'latin1' });
    t.equal(stdout, 'small\n'.repeat(100));
    t.equal(run('umount', 'mnt'), '');
  },
  NOBODY,
);

placed('a request that waits for its answer gets it', async (t, { mnt, run, kill, pid }) => {
  t.equal(run('mount', STACK, 'mnt', '-o', 'restart=on'), '');
  process.kill(pid() ?? 0, 'SIGSTOP');
  const reader = spawn('cat', [join(mnt, 'd', 'small')]);
  let text = '';
  reader.stdout.on('data', piece => {
    text += piece;
  });
  const ended = new Promise(done => reader.once('close', done));
  await soon(() => /fuse|request/.test(readFileSync(`/proc/${reader.pid}/wchan`, 'latin1')));
  kill();
  t.equal(await ended, 0);
  t.equal(text, 'small\n'.repeat(100));
});

placed('layers that were renamed are found, and others in their place are not taken', (t, { home, mnt, run, kill }) => {
  t.equal(run('mount', STACK, 'mnt', '-o', 'restart=on'), '');
  for (const name of ['image', 'objects']) renameSync(join(home, name), join(home, `${name}.old`));
  mkdirSync(join(home, 'objects'));
  writeFileSync(join(home, 'image'), 'another');
  kill();
  t.ok(readFileSync(join(mnt, 'large')).equals(LARGE));
});

placed('an image that was written to ends the mount', async (t, { home, mnt, run, kill }) => {
  t.equal(run('mount', STACK, 'mnt', '-o', 'restart=on'), '');
  appendFileSync(join(home, 'image'), 'x');
  kill();
  t.throws(() => readFileSync(join(mnt, 'large')), 'nobody waits for ever');
  t.ok(await soon(() => mountIn(mnt) === undefined), 'and no dead mount is left');
});

placed('a mount that is unmounted while nobody serves it is gone', async (t, { mnt, run, kill }) => {
  t.equal(run('mount', STACK, 'mnt', '-o', 'restart=on'), '');
  const pid = kill();
  native.umount(byteStringFromText(mnt), MNT_DETACH);
  t.ok(await soon(() => !isRunning(pid)));
  t.equal(mountIn(mnt), undefined);
});

placed('daemons that die at once are not started forever', async (t, { mnt, run }) => {
  t.equal(run('mount', STACK, 'mnt', '-o', 'restart=on'), '');
  const killed = new Set<number>();
  const isGone = (): boolean => {
    const { pid } = readStates().find(({ mountpoint }) => mountpoint === byteStringFromText(mnt)) ?? {};
    if (pid !== undefined && !killed.has(pid)) process.kill(pid, 'SIGKILL');
    if (pid !== undefined) killed.add(pid);
    return mountIn(mnt) === undefined;
  };
  t.ok(await soon(isGone), 'the mount is taken away');
  t.ok(killed.size > 3, `${killed.size} have died`);
});

placed('the root with ACLs stays what it was', (t, { home, mnt, run, kill }) => {
  const acl = aclValue('user', 1, 5, 0o755);
  native.setxattr(byteStringFromText(join(home, 'tree')), 'system.posix_acl_access', acl, 0);
  t.equal(run('mkfs', '--digest-store=objects', 'tree', 'image'), '');
  t.equal(run('mount', STACK, 'mnt', '-o', 'restart=on'), '');
  const before = statSync(mnt, { bigint: true });
  kill();
  t.same(readdirSync(mnt).sort(), ['d', 'large']);
  t.equal(statSync(mnt, { bigint: true }).ino, before.ino);
});

placed('what cannot go on is refused', (t, { run, mnt }) => {
  for (const [stack, options, message] of [
    ['tree:objects', 'restart=on', /^lowerdata: option restart=on: only for one image above data-only layers/],
    [STACK, 'restart=on,transport=uring', /^lowerdata: option restart=on: not with transport=uring\n$/],
    [STACK, 'restart=maybe', /^lowerdata: option restart=maybe: not one of on, off\n$/],
  ] as const) {
    t.match(run('mount', stack, 'mnt', '-o', options), message);
    t.equal(mountIn(mnt), undefined);
  }
  t.match(run('mount', '-f', STACK, 'mnt', '-o', 'restart=on'), /^lowerdata: option restart=on: not in the foreground/);
});
t.end();
