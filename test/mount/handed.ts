/** Mounts that another program makes, and whose descriptor of /dev/fuse is served. */
import { execFileSync, spawnSync } from 'node:child_process';
import { mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { mountAt, readMounts } from '../../src/fuse/mountinfo.ts';
import { byteStringFromText } from '../../src/sys/bytes.ts';
import { native } from '../../src/sys/native.ts';
import { goldenFolder } from '../fixtures/images/golden-images.ts';
import { soon } from '../fixtures/mounts/foreground.ts';
import { packageFolder } from '../fixtures/mounts/mounted.ts';
import { withScratchAsync } from '../fixtures/scratch.ts';
import { without, withoutFuse } from '../fixtures/skips.ts';

const MNT_DETACH = 2;
const script = join(packageFolder, 'test', 'fixtures', 'mounts', 'handed.py');
const program = join(packageFolder, 'bin', 'lowerdata');
const SAFE = 'default_permissions';

interface Handing {
  readonly number?: number;
  readonly options?: string;
  readonly stack?: string;
  readonly mountpoint?: string;
}

/** What the command said, and what its caller then found in the mount. */
interface Handed {
  readonly status: number;
  readonly stderr: string;
  readonly names: readonly string[] | string | null;
}

/** A directory with the layers A and B, and an empty `mnt`. */
class Place {
  readonly mnt: string;
  readonly stack: string;

  constructor(home: string) {
    for (const name of ['A', 'B', 'mnt']) mkdirSync(join(home, name));
    for (const name of ['A', 'B']) writeFileSync(join(home, name, name.toLowerCase()), name);
    this.mnt = join(home, 'mnt');
    this.stack = `${home}/A:${home}/B`;
  }

  get isMounted(): boolean {
    return mountAt(readMounts(), byteStringFromText(this.mnt)) !== undefined;
  }

  /** The daemons that have this place's stack as an argument. */
  get daemons(): number[] {
    return readdirSync('/proc')
      .filter(pid => /^\d+$/.test(pid) && argumentsOf(pid).includes(this.stack))
      .filter(pid => argumentsOf(pid).includes('--daemon'))
      .map(Number);
  }

  /** Hands a connection over to a mount of a stack, and tells what came of it. */
  hand(where: string, { number = 7, options = SAFE, stack = this.stack, mountpoint = '' }: Handing = {}): Handed {
    const words = [program, 'mount', stack, mountpoint || `/dev/fd/${number}`];
    const result = execFileSync('python3', [script, String(number), where, options, this.mnt, ...words]);
    return JSON.parse(result.toString());
  }
}

const argumentsOf = (pid: string): string[] => {
  try {
    return readFileSync(`/proc/${pid}/cmdline`, 'utf8').split('\0');
  } catch {
    return []; // it has ended
  }
};

/** A test with a place of its own. */
function placed(rule: string, use: (t: Test, place: Place) => Promise<void>, skip = withoutFuse): void {
  t.test(rule, { skip }, t =>
    withScratchAsync(async home => {
      const place = new Place(home);
      try {
        await use(t, place);
      } finally {
        for (const pid of place.daemons) process.kill(pid, 'SIGKILL');
        if (place.isMounted) native.umount(byteStringFromText(place.mnt), MNT_DETACH);
      }
    }),
  );
}

for (const number of [3, 8, 9, 20])
  placed(`descriptor ${number}`, async (t, place) => {
    t.strictSame(place.hand('here', { number }), { status: 0, stderr: '', names: ['a', 'b'] });
    t.match(execFileSync(program, ['status', place.mnt], { encoding: 'utf8' }), 'handed', 'it has a status');
    execFileSync(program, ['umount', place.mnt]);
    t.notOk(place.isMounted, 'it is unmounted as others are');
    t.ok(await soon(() => place.daemons.length === 0), 'then the daemon ends');
  });

placed('a mount of another namespace', async (t, place) => {
  t.strictSame(place.hand('elsewhere'), { status: 0, stderr: '', names: ['a', 'b'] });
  t.ok(await soon(() => place.daemons.length === 0), 'the daemon ends with the namespace');
});

placed('a daemon that is killed', async (t, place) => {
  place.hand('here');
  for (const pid of place.daemons) process.kill(pid, 'SIGKILL');
  t.ok(await soon(() => !place.isMounted), 'leaves no dead mount');
});

placed(
  'mount.fuse3 without privileges',
  async (t, place) => {
    const words = [`${program}#${place.stack}`, place.mnt, '-o', `drop_privileges,${SAFE}`];
    t.equal(spawnSync('mount.fuse3', words).status, 0);
    t.strictSame(readdirSync(place.mnt), ['a', 'b']);
    const [pid] = place.daemons;
    t.match(readFileSync(`/proc/${pid}/status`, 'utf8'), /^CapPrm:\t0+$/m, 'the daemon has no privileges');
    native.umount(byteStringFromText(place.mnt), 0);
    t.ok(await soon(() => place.daemons.length === 0), 'it ends with the mount');
  },
  withoutFuse || without('mount.fuse3'),
);

const image = join(goldenFolder, 'images', 'small-1.cfs');
for (const [rule, where, given, message] of [
  [
    'without default_permissions',
    'here',
    { options: 'allow_other' },
    /\/dev\/fd\/7, mounted on .*: it was mounted without default_permissions\n$/,
  ],
  [
    'without a flag that a layer asks for',
    'here',
    { stack: image },
    /\/dev\/fd\/7, mounted on .*: it was mounted without nodev, but no digest vouches for the image .*\n$/,
  ],
  ['not mounted', 'nowhere', {}, /\/dev\/fd\/7: it is not mounted\n$/],
  ['no descriptor', 'nowhere', { mountpoint: '/dev/fd/99' }, /\/dev\/fd\/99: Bad file descriptor\n$/],
  ['another descriptor', 'nowhere', { mountpoint: '/dev/fd/1' }, /\/dev\/fd\/1: not a descriptor of \/dev\/fuse\n$/],
] as const)
  placed(`refused: ${rule}`, async (t, place) => {
    const { status, stderr } = place.hand(where, given);
    t.equal(status, 32);
    t.match(stderr, message);
    t.ok(await soon(() => !place.isMounted), 'no dead mount is left');
  });
