/** What happens to a mount when its daemon is in trouble: it answers on, or it is gone. Nothing in between stays. */
import { execFileSync } from 'node:child_process';
import { chmodSync, closeSync, constants, mkdirSync, openSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import t, { type Test } from 'tap';
import { Agent, type Answer } from '../fixtures/agent.ts';
import { ForegroundMount, type ForegroundOptions, PATIENCE_MS, soon } from '../fixtures/foreground.ts';
import { withScratchAsync } from '../fixtures/scratch.ts';
import { withoutFuse, withoutUserMounts } from '../fixtures/skips.ts';

const NOBODY = 65534;
/** Directories of layer A: more than there are descriptors for. */
const DIRECTORIES = 120;

/** Layers A (a, and 120 directories with a file each) and B (b), and what is mounted of them. */
class Place {
  readonly home: string;
  readonly mnt: string;
  readonly stack: string;
  readonly agent: Agent;
  private readonly mounts: ForegroundMount[] = [];

  constructor(home: string, id = 0) {
    this.home = home;
    this.mnt = join(home, 'mnt');
    this.stack = `${home}/A:${home}/B`;
    mkdirSync(join(home, 'A'));
    mkdirSync(join(home, 'B'));
    for (let i = 0; i < DIRECTORIES; i++) {
      mkdirSync(join(home, 'A', `d${i}`));
      writeFileSync(join(home, 'A', `d${i}`, 'file'), `file ${i}`);
    }
    writeFileSync(join(home, 'A', 'a'), 'from A');
    writeFileSync(join(home, 'B', 'b'), 'from B');
    this.agent = new Agent(id);
  }

  /** Mounts the stack. @param options of the mount */
  async mount(options = '', id = 0, extra: ForegroundOptions = {}, at = this.mnt): Promise<ForegroundMount> {
    const mount = await ForegroundMount.make(this.stack, at, options, id, extra);
    this.mounts.push(mount);
    return mount;
  }

  /** What a call gives on the mount, or `nothing` where it does not come back. */
  ask(call: string, path: string, at = this.mnt): Promise<Answer> {
    const nothing = sleep(PATIENCE_MS, 'nothing', { ref: false });
    return Promise.race([this.agent.ask(call, join(at, path)), nothing]);
  }

  async clear(): Promise<void> {
    for (const mount of this.mounts.reverse()) await mount.clear();
    await this.agent.end();
  }
}

interface Case {
  /** Who mounts, and asks. */
  readonly id?: number;
}

/** A test with a place of its own, where nothing stays. */
function placed(rule: string, { id = 0 }: Case, use: (t: Test, place: Place) => Promise<void>): void {
  const skip = id === 0 ? withoutFuse : withoutUserMounts;
  t.test(rule, { skip, timeout: 120_000 }, t =>
    withScratchAsync(async home => {
      chmodSync(home, 0o755);
      const place = new Place(home, id);
      try {
        await use(t, place);
      } finally {
        await place.clear();
      }
    }),
  );
}

/** Asked to end, a mount that nobody uses is gone, and so are its daemon and the file that tells of it. */
async function ends(t: Test, mount: ForegroundMount): Promise<void> {
  mount.signal('SIGTERM');
  t.equal(await mount.ended(), 0, 'it ends when it is asked to');
  t.equal(mount.mount, undefined, 'and nothing is mounted');
}

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
    // fusermount3 can not even be started.
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

/** The writing end of a pipe without a reader. */
function brokenPipe(path: string): number {
  execFileSync('mkfifo', [path]);
  const reader = openSync(path, constants.O_RDONLY | constants.O_NONBLOCK);
  const writer = openSync(path, 'w');
  closeSync(reader);
  return writer;
}

t.end();
