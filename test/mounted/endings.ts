/** How mounts end: by signals, by force, by death, over each other, in the middle of storms, and again and again. */
import { execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmdirSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import t from 'tap';
import { mountAt, readMounts } from '../../src/fuse/mountinfo.ts';
import { byteStringFromText } from '../../src/sys/bytes.ts';
import { must } from '../../src/sys/errno.ts';
import { native } from '../../src/sys/native.ts';
import { DIRECTORIES, ends, type Place, placed } from '../fixtures/mounts/fault-place.ts';
import { type ForegroundMount, soon } from '../fixtures/mounts/foreground.ts';
import { lowerdata } from '../fixtures/mounts/mounted.ts';

const MNT_FORCE = 1;
const MNT_DETACH = 2;

placed('three signals, and a user who stays', {}, async (t, place) => {
  const mount = await place.mount();
  const fd = await place.ask('open', 'b');
  for (const [signal, seen] of [
    ['SIGTERM', true],
    ['SIGINT', false],
  ] as const) {
    mount.signal(signal);
    await sleep(300);
    t.equal(mount.mount !== undefined, seen, 'the first is refused, the second takes it out of sight');
    t.equal(await place.agent.ask('pread', fd, 100, 0), 'from B', 'it is still read');
  }
  mount.signal('SIGINT');
  t.equal(await mount.ended(), 1, 'the third gives up');
  t.match(mount.log, /given up while in use/);
});

for (const [rule, abort] of [
  ['umount -f', ({ root }: ForegroundMount) => native.umount(byteStringFromText(root), MNT_FORCE)],
  ['an administrator, in /sys/fs/fuse', ({ mount }: ForegroundMount) => abortConnection(mount?.device ?? '')],
] as const) {
  placed(`a connection that is cut: ${rule}`, {}, async (t, place) => {
    const mount = await place.mount();
    const fd = await place.ask('open', 'b');
    abort(mount);
    t.equal(await mount.ended(), 1, 'the daemon ends');
    t.match(mount.log, /aborted|by force/);
    t.ok(await soon(() => mount.mount === undefined), 'no dead mount stays');
    await place.agent.ask('close', fd);
    await ends(t, await place.mount());
  });
}

/** Through a filesystem of its own, which may not be mounted. Source: linux/Documentation/filesystems/fuse.rst. */
function abortConnection(device: string): void {
  const directory = mkdtempSync(join(tmpdir(), 'lowerdata-fusectl-'));
  must(native.mount('none', directory, 'fusectl', 0, ''), 'mount -t fusectl');
  try {
    writeFileSync(join(directory, device.split(':')[1] as string, 'abort'), '1');
  } finally {
    native.umount(directory, 0);
    rmdirSync(directory);
  }
}

placed('two daemons on one mount point', {}, async (t, place) => {
  for (const dies of ['the upper', 'the lower'] as const) {
    const [lower, upper] = [await place.mount(), await place.mount('fsname=upper')];
    t.equal(upper.mount?.source, 'upper');
    const [dead, alive] = dies === 'the upper' ? [upper, lower] : [lower, upper];
    dead.signal('SIGKILL');
    t.equal(await dead.ended(), null);
    if (dies === 'the upper')
      t.ok(await soon(() => alive.mount?.source === place.stack), 'the lower one is seen again');
    else await sleep(300);
    t.equal(await place.ask('slurp', 'b'), 'from B', `${dies} one dies, and the other answers`);
    alive.signal('SIGTERM');
    t.equal(await alive.ended(), 0, 'and ends when it is asked to');
    if (dies === 'the upper') t.equal(alive.mount, undefined);
    else t.ok(await soon(() => dead.mount === undefined), 'what was covered is taken away when it is seen again');
  }
});

// ---- again and again -------------------------------------------------------------------------------------------------

/** Opens, reads and lists as fast as it can, until the mount is gone. */
const storm = `
import os, sys
top = sys.argv[1]
def use(path):
    with open(path, 'rb') as f:
        return f.read()
n = 0
while True:
    try:
        names = os.listdir(top)
        assert use(top + '/b') == b'from B', 'b'
        for name in os.listdir(top + '/d%d' % (n % ${DIRECTORIES})):
            assert use(top + '/d%d/' % (n % ${DIRECTORIES}) + name) == b'file %d' % (n % ${DIRECTORIES}), name
        n += 1
    except OSError as e:
        if not os.path.exists(top + '/b'):
            sys.exit(0)
        sys.exit(str(e))
`;
const STORMS = 9;
const STORMERS = 3;

placed('unmounted in the middle of storms', {}, async (t, place) => {
  for (let round = 0; round < STORMS; round++) {
    const mount = await place.mount(round % 2 ? 'attr_timeout=0,entry_timeout=0' : '');
    const stormers = Array.from({ length: STORMERS }, () => spawn('python3', ['-c', storm, place.mnt], { cwd: '/' }));
    const exits = stormers.map(async child => [(await once(child, 'exit'))[0], child] as const);
    await sleep(200);
    const lazily = round % 3 === 2;
    if (lazily) native.umount(byteStringFromText(place.mnt), MNT_DETACH);
    else for (let tries = 0; !mount.hasExited && tries < 2; tries++) await sleep(50, mount.signal('SIGTERM'));
    const status = await mount.ended();
    const { signalCode } = mount.daemon;
    t.equal(status, 0, lazily ? 'unmounted lazily, it ends' : 'asked to end, it ends', { signalCode, log: mount.log });
    t.equal(mount.mount, undefined);
    for (const exit of exits) t.equal((await exit)[0], 0, 'nobody saw anything but the end');
  }
});

/** Cycles of mount and unmount. `LOWERDATA_CYCLES=500` for a longer look. */
const CYCLES = Number(process.env.LOWERDATA_CYCLES ?? '25');

placed(`${CYCLES} times mounted and unmounted`, { timeout: 60_000 + CYCLES * 4000 }, async (t, place) => {
  const temporary = join(place.home, 'tmp');
  for (const path of [temporary, place.mnt]) mkdirSync(path);
  const before = await settled(() => leftovers(place));
  const env = { TMPDIR: temporary, LOWERDATA_MARK: place.home };
  for (let i = 0; i < CYCLES; i++) {
    commandWith(env, 'mount', place.stack, place.mnt);
    if ((await place.ask('slurp', 'b')) !== 'from B') t.fail(`cycle ${i}: it does not answer`);
    const states = statesOf(place); // the daemon of the cycle before may be about to end
    if (i % 5 === 4) process.kill(states[0]?.pid as number, 'SIGKILL');
    else commandWith(env, 'umount', place.mnt);
    if (!(await soon(() => mountAt(readMounts(), byteStringFromText(place.mnt)) === undefined)))
      t.fail(`cycle ${i}: it is still mounted`, { states, now: leftovers(place) });
  }
  await soon(() => JSON.stringify(leftovers(place)) === JSON.stringify(before));
  t.strictSame(leftovers(place), before, 'no process, mount, descriptor or file is left');
});

/** What a question answers as soon as it answers the same for 300 ms: pipes of a test before are closed a moment after its end. */
async function settled<Answer>(question: () => Answer): Promise<Answer> {
  let answer = question();
  for (let same = 0; same < 3; ) {
    await sleep(100);
    const next = question();
    same = JSON.stringify(next) === JSON.stringify(answer) ? same + 1 : 0;
    answer = next;
  }
  return answer;
}

/** What is there of the mounts of a place. */
function leftovers(place: Place): Record<string, unknown> {
  return {
    descriptors: readdirSync('/proc/self/fd').length,
    processes: readdirSync('/proc').filter(pid => environmentOf(pid).includes(`LOWERDATA_MARK=${place.home}`)),
    mounts: readMounts().filter(({ path }) => path.startsWith(place.home)),
    states: statesOf(place),
    temporary: readdirSync(join(place.home, 'tmp')),
  };
}

interface State {
  readonly pid: number;
  readonly mountpoint: string;
  readonly startedAt: number;
}

/** What the daemons of root have left about themselves, the newest first. */
function statesOf({ mnt }: Place): State[] {
  const directory = '/run/lowerdata';
  const states = readdirSync(directory).flatMap(name => {
    try {
      return [JSON.parse(readFileSync(join(directory, name), 'utf8')) as State];
    } catch {
      return []; // another daemon's, which is being written or has gone
    }
  });
  return states.filter(({ mountpoint }) => mountpoint === mnt).sort((a, b) => b.startedAt - a.startedAt);
}

function environmentOf(pid: string): string[] {
  try {
    return /^\d+$/.test(pid) ? readFileSync(`/proc/${pid}/environ`, 'latin1').split('\0') : [];
  } catch {
    return []; // it has ended
  }
}

function commandWith(env: Record<string, string>, ...args: string[]): void {
  execFileSync(process.execPath, [lowerdata, ...args], { env: { ...process.env, ...env }, stdio: 'pipe' });
}

t.end();
