/** What happens to a mount when its daemon is in trouble: it answers on, or it is gone. Nothing in between stays. */
import { execFileSync } from 'node:child_process';
import {
  closeSync,
  constants,
  existsSync,
  mkdirSync,
  openSync,
  rmdirSync,
  rmSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import t from 'tap';
import { FT_REG_FILE } from '../../src/erofs/format.ts';
import { craft, type Entry } from '../fixtures/images/craft.ts';
import { DIRECTORIES, ends, NOBODY, placed } from '../fixtures/mounts/fault-place.ts';
import { ForegroundMount, soon } from '../fixtures/mounts/foreground.ts';
import { directory, regular } from '../fixtures/mounts/hostile-mount.ts';

// ---- where it is mounted ---------------------------------------------------------------------------------------------

for (const [who, id] of [
  ['root', 0],
  ['an ordinary user', NOBODY],
] as const) {
  placed(`${who}: a mount point inside a layer`, { id }, async (t, place) => {
    const at = join(place.home, 'A', 'inside');
    const mount = await place.mount('attr_timeout=0', id, {}, at);
    // Root has a clone of the layer without what is mounted in it, as overlayfs has; others may not go where a mount is.
    t.equal(await place.ask('list', 'inside', at), id === 0 ? '' : 'EXDEV', 'it does not lead into itself');
    t.equal(await place.ask('slurp', 'a', at), 'from A', 'the others are there');
    t.match(await place.ask('list', '', at), /^a b d0 .* inside$/, 'and listed');
    await ends(t, mount);
  });

  placed(`${who}: layers inside the mount point, and in its place`, { id }, async (t, place) => {
    for (const at of [place.home, join(place.home, 'A')]) {
      const mount = await place.mount('attr_timeout=0', id, {}, at);
      t.equal(await place.ask('slurp', 'b', at), 'from B', 'they are open, and stay what they are');
      t.equal(await place.ask('slurp', 'd1/file', at), 'file 1');
      await ends(t, mount);
    }
  });
}

// ---- what it runs out of ---------------------------------------------------------------------------------------------

/** @param id the user whose daemon it is */
const limitDescriptors = ({ daemon }: ForegroundMount, count: number, id: number): unknown =>
  execFileSync('prlimit', ['--pid', String(daemon.pid), `--nofile=${count}:`], { uid: id, gid: id });

for (const [who, id] of [
  ['root', 0],
  ['an ordinary user', NOBODY],
] as const) {
  placed(`${who}: few descriptors`, { id }, async (t, place) => {
    const mount = await place.mount('attr_timeout=0', id);
    limitDescriptors(mount, 64, id);
    for (let round = 0; round < 2; round++) {
      const wrong: string[] = [];
      for (let i = 0; i < DIRECTORIES; i++) {
        const answer = `${await place.ask('list', `d${i}`)}: ${await place.ask('slurp', `d${i}/file`)}`;
        if (answer !== `file: file ${i}`) wrong.push(answer);
      }
      t.strictSame(wrong, [], 'what is open for speed alone makes room');
    }
    await ends(t, mount);
  });

  placed(`${who}: no descriptors`, { id }, async (t, place) => {
    const mount = await place.mount('attr_timeout=0', id);
    const fd = await place.ask('open', 'b');
    t.type(fd, 'number');
    t.equal(await place.ask('slurp', 'd1/file'), 'file 1');
    limitDescriptors(mount, 8, id);
    t.equal(await place.ask('slurp', 'd2/file'), 'EMFILE', 'what needs one fails');
    t.equal(await place.agent.ask('pread', fd, 100, 0), 'from B', 'what is open is read');
    mount.signal('SIGTERM');
    // fusermount3 cannot even be started.
    t.ok(
      await soon(() => (id === 0 ? /is busy/ : /EMFILE/).test(mount.log)),
      `asked to end, it says why not: ${mount.log}`,
    );
    t.ok(mount.mount, 'and goes on');
    limitDescriptors(mount, 1024, id);
    t.equal(await place.ask('slurp', 'd2/file'), 'file 2', 'with descriptors again it is what it was');
    await place.agent.ask('close', fd);
    await ends(t, mount);
  });
}

placed('a log that takes nothing', {}, async (t, place) => {
  const wrong = join(place.home, 'A', 'd0');
  for (const [rule, to] of [
    ['a full disk', openSync('/dev/full', 'w')],
    ['a pipe that nobody reads', brokenPipe(join(place.home, 'pipe'))],
  ] as const) {
    const mount = await place.mount('attr_timeout=0,debug', 0, { stderr: to });
    closeSync(to);
    const fd = await place.ask('open', 'b');
    rmSync(wrong, { recursive: true, force: true });
    t.equal(await place.ask('list', 'd0'), 'ENOENT', `${rule}: an error that would be logged is answered`);
    mount.signal('SIGTERM');
    await sleep(300);
    t.equal(await place.agent.ask('pread', fd, 100, 0), 'from B', `${rule}: busy, it goes on`);
    await place.agent.ask('close', fd);
    await ends(t, mount);
  }
});

placed('a log that nobody reads any further', {}, async (t, place) => {
  const pipe = join(place.home, 'pipe');
  execFileSync('mkfifo', [pipe]);
  const reader = openSync(pipe, constants.O_RDONLY | constants.O_NONBLOCK);
  const full = openSync(pipe, constants.O_WRONLY | constants.O_NONBLOCK);
  t.throws(() => {
    for (;;) writeSync(full, 'x'.repeat(4096));
  }, /EAGAIN/);
  const to = openSync(pipe, 'w'); // who writes there waits
  const mount = await place.mount('attr_timeout=0', 0, { stderr: to });
  for (const fd of [to, full]) closeSync(fd);
  mount.signal('SIGUSR1');
  const fd = await place.ask('open', 'b');
  mount.signal('SIGTERM');
  await sleep(300);
  t.equal(await place.agent.ask('pread', fd, 100, 0), 'from B', 'it has told why it is busy, and waits for no reader');
  await place.agent.ask('close', fd);
  await ends(t, mount);
  closeSync(reader);
});

/** The writing end of a pipe without a reader. */
function brokenPipe(path: string): number {
  execFileSync('mkfifo', [path]);
  const reader = openSync(path, constants.O_RDONLY | constants.O_NONBLOCK);
  const writer = openSync(path, 'w');
  closeSync(reader);
  return writer;
}

/** A group with a limit of memory, by either interface. Source: cgroup-v1/memory.rst, cgroup-v2.rst. */
class MemoryGroup {
  static readonly isV2 = !existsSync('/sys/fs/cgroup/memory') && existsSync('/sys/fs/cgroup/cgroup.controllers');
  static readonly root = MemoryGroup.isV2 ? '/sys/fs/cgroup' : '/sys/fs/cgroup/memory';
  private readonly path = join(MemoryGroup.root, `lowerdata-test-${process.pid}`);

  /** @param bytes its processes may have */
  constructor(pid: number, bytes: number) {
    mkdirSync(this.path);
    writeFileSync(join(this.path, 'cgroup.procs'), String(pid));
    writeFileSync(join(this.path, MemoryGroup.isV2 ? 'memory.max' : 'memory.limit_in_bytes'), String(bytes));
  }

  close(): void {
    rmdirSync(this.path);
  }
}

const withoutGroups = canLimitMemory() ? false : 'memory cannot be limited here';

function canLimitMemory(): boolean {
  try {
    const path = join(MemoryGroup.root, `lowerdata-probe-${process.pid}`);
    mkdirSync(path);
    const can = existsSync(join(path, MemoryGroup.isV2 ? 'memory.max' : 'memory.limit_in_bytes'));
    rmdirSync(path);
    return can;
  } catch {
    return false;
  }
}

placed('a limit of memory that it reaches', { skip: withoutGroups }, async (t, place) => {
  const image = join(place.home, 'image');
  writeFileSync(image, craft({ blockBits: 12, inodes: [{ ...directory([]), entries: crowd() }, regular({})] }));
  const mount = await ForegroundMount.make(image, place.mnt);
  const group = new MemoryGroup(mount.daemon.pid as number, GROWTH_BYTES);
  try {
    const answers = Promise.all([place.ask('walk', ''), place.ask('walk', '')]);
    t.equal(await mount.ended(), null, 'the kernel kills it');
    t.equal(mount.daemon.signalCode, 'SIGKILL');
    t.ok(await soon(() => mount.mount === undefined), 'and nothing is mounted');
    await answers;
  } finally {
    await mount.clear();
    group.close();
  }
});

/** What it may take beyond what it has, which counts for the group that it was in: less than a listing of the crowd. */
const GROWTH_BYTES = 2 ** 22;

/** Many names of one file. */
const crowd = (): Entry[] =>
  Array.from({ length: 200_000 }, (_, i) => [`name-${String(i).padStart(9, '0')}`, 1, FT_REG_FILE]);

placed('a heap that is full', {}, async (t, place) => {
  const image = join(place.home, 'image');
  writeFileSync(image, craft({ blockBits: 12, inodes: [{ ...directory([]), entries: crowd() }, regular({})] }));
  const env = { NODE_OPTIONS: '--max-old-space-size=16' };
  const mount = await ForegroundMount.make(image, place.mnt, '', 0, { env });
  try {
    t.match(await place.ask('list', ''), /^(ENOTCONN|ECONNABORTED)$/, 'who asks hears of it');
    t.equal(await mount.ended(), null, 'Node.js gives up');
    t.match(mount.log, /heap out of memory/);
    t.ok(await soon(() => mount.mount === undefined), 'and nothing is mounted');
  } finally {
    await mount.clear();
  }
});

t.end();
