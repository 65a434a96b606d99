/** Objects that take long to check, through real mounts: who waits for that, who does not, and how it ends. */
import { spawnSync } from 'node:child_process';
import { chmodSync, mkdirSync, truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import t, { type Test } from 'tap';
import { fsverityDigest } from '../fixtures/images/verity.ts';
import { Agent } from '../fixtures/mounts/agent.ts';
import { ForegroundMount, PATIENCE_MS, soon } from '../fixtures/mounts/foreground.ts';
import { command, lowerdata } from '../fixtures/mounts/mounted.ts';
import { withScratchAsync } from '../fixtures/scratch.ts';
import { withoutFuse, withoutUserMounts } from '../fixtures/skips.ts';

const NOBODY = 65534;
const NAMES = 2000;
/** It has another digest, but that shows at its end, which no test waits for: it takes half a minute. */
const ENDLESS_BYTES = 2 ** 35;
const LARGE_BYTES = 2 ** 28;
const SMALL_BYTES = 20_000;
/** More than all requests of one test take. */
const REQUESTS_BYTES = 1 << 22;

/** An image with many names of a small object, two of a large one, two of an endless one; both take no space. */
function makeImage(home: string): void {
  chmodSync(home, 0o755);
  const objects = join(home, 'objects');
  mkdirSync(objects);
  const lines = ['/ 4096 40755 2 0 0 0 0.0 - - -', '/many 4096 40755 2 0 0 0 0.0 - - -'];
  const add = (name: string, object: string, size: number, digest: string): unknown =>
    lines.push(`/${name} ${size} 100644 1 0 0 0 0.0 ${object} - ${digest}`);
  for (const [object, size] of [
    ['small', SMALL_BYTES],
    ['large', LARGE_BYTES],
    ['endless', ENDLESS_BYTES],
  ] as const) {
    writeFileSync(join(objects, object), '');
    truncateSync(join(objects, object), size);
    const digest = object === 'endless' ? 'ab'.repeat(32) : fsverityDigest(join(objects, object));
    for (const name of [object, `${object}-2`]) add(name, object, size, digest);
    if (object === 'small') for (let i = 0; i < NAMES; i++) add(`many/${i}`, object, size, digest);
  }
  writeFileSync(join(home, 'dump'), `${lines.join('\n')}\n`);
  command('mkfs', '--from-file', join(home, 'dump'), join(home, 'image'));
}

interface Place {
  readonly home: string;
  readonly mount: ForegroundMount;
  readonly id: number;
  /** A new agent of the user who has mounted. */
  agent(): Agent;
}

/** Calls `use` with a mount; no agent and no mount stays. */
function placed(use: (place: Place) => Promise<void>, id: number): Promise<void> {
  return withScratchAsync(async home => {
    makeImage(home);
    const agents: Agent[] = [];
    const mount = await ForegroundMount.make(`${home}/image::${home}/objects`, join(home, 'mnt'), '', id);
    const agent = (): Agent => {
      agents.push(new Agent(id));
      return agents.at(-1) as Agent;
    };
    try {
      await use({ home, mount, id, agent });
    } finally {
      await Promise.all(agents.map(one => one.end()));
      await mount.clear();
    }
  });
}

/** An open that is under way, and whether it still is. */
async function opening(agent: Agent, mount: ForegroundMount, name = 'endless') {
  const state = { isDone: false, before: mount.bytesRead };
  const answer = agent.ask('open', join(mount.root, name)).finally(() => {
    state.isDone = true;
  });
  const begun = await soon(() => mount.bytesRead - state.before > REQUESTS_BYTES);
  if (!begun || state.isDone) throw new Error(`${name} was not opened: ${mount.log}`);
  return { answer, state };
}

/** Whether the daemon stops reading, long before the end of the endless object. */
async function stops(mount: ForegroundMount, before: number): Promise<boolean> {
  for (let last = -1; mount.bytesRead - before < ENDLESS_BYTES / 2; await sleep(250)) {
    const read = mount.bytesRead;
    if (read === last) return true;
    last = read;
  }
  return false;
}

const ways: readonly (readonly [rule: string, id: number, skip: string | false])[] = [
  ['root, with passthrough', 0, withoutFuse],
  ['an ordinary user, whose reads are checked', NOBODY, withoutUserMounts],
];
for (const [rule, id, missing] of ways) {
  t.test(rule, { skip: missing, timeout: 180_000 }, t => placed(place => use(t, place), id));
}

async function use(t: Test, { mount, agent }: Place): Promise<void> {
  const { root } = mount;
  const bystander = agent();
  const names = Array.from({ length: NAMES }, (_, i) => join(root, 'many', `${i}`));

  const idle = mount.bytesRead;
  t.equal(await bystander.ask('walk', root), NAMES + 6, 'the whole tree, with attributes and xattrs');
  t.ok(mount.bytesRead - idle < REQUESTS_BYTES, 'nothing of any object is read before the first open');

  const victim = agent();
  const { answer, state } = await opening(victim, mount);
  const fresh = names.map((name, i) => (i % 2 ? name : `${name}-missing`));
  t.equal(await bystander.ask('stats', fresh.slice(0, 100)), 50, 'names are looked up while an object is checked');
  t.equal(await bystander.ask('stats', fresh), NAMES / 2, 'all of them');
  t.equal(
    ((await bystander.ask('slurp', join(root, 'small'))) as string).length,
    SMALL_BYTES,
    'small objects are read',
  );
  t.type(await bystander.ask('open', join(root, 'small-2')), 'number');
  t.notOk(state.isDone, 'and all the time it is checked');

  const second = agent();
  const also = second.ask('open', join(root, 'endless-2'));
  t.equal(await bystander.ask('interrupted', join(root, 'endless'), 0.2), 'EINTR', 'an open that is interrupted');
  t.notOk(state.isDone, 'leaves others alone');
  await victim.end();
  t.equal(await answer, 'killed', 'an opener that is killed is gone');
  const read = mount.bytesRead;
  await sleep(1500); // more than the time in which somebody may come back
  t.ok(mount.bytesRead - read > REQUESTS_BYTES, 'while somebody else waits, the check goes on');
  await second.end();
  t.equal(await also, 'killed');
  t.ok(await stops(mount, state.before), 'when nobody waits any more, it ends');
  t.notMatch(mount.log, /EWRONGVERITY/, 'before it could know');

  const before = mount.bytesRead;
  const third = agent();
  const opened = await Promise.all([
    bystander.ask('open', join(root, 'large')),
    third.ask('open', join(root, 'large-2')),
    agent().ask('open', join(root, 'large')),
  ]);
  for (const fd of opened) t.type(fd, 'number', 'a large object is opened');
  t.type(await third.ask('open', join(root, 'large-2')), 'number', 'again');
  const bytes = mount.bytesRead - before;
  t.ok(bytes >= LARGE_BYTES && bytes < LARGE_BYTES + REQUESTS_BYTES, 'by four users and two names, and read once');
}

/** What ends a mount while an object is checked. Each is given the agent that opens it. */
const endings: readonly (readonly [
  rule: string,
  status: number | null,
  end: (t: Test, place: Place, agent: Agent) => Promise<void>,
])[] = [
  [
    'a busy mount is not unmounted, and goes on',
    0,
    async (t, place, agent) => {
      t.equal(umount(place), 32, 'lowerdata umount');
      place.mount.signal('SIGTERM');
      t.ok(await soon(() => place.mount.log.includes('is busy and stays mounted')), 'SIGTERM');
      await agent.end();
      t.equal(umount(place), 0, 'after its opener it can be');
    },
  ],
  [
    'a second SIGTERM detaches it, and its last opener ends it',
    0,
    async (t, { mount }, agent) => {
      mount.signal('SIGTERM');
      t.ok(await soon(() => mount.log.includes('is busy and stays mounted')));
      mount.signal('SIGTERM');
      t.ok(await soon(() => mount.mount === undefined), 'the mount is gone');
      t.notOk(mount.hasExited, 'the daemon is not');
      await agent.end();
    },
  ],
  [
    'umount --lazy',
    0,
    async (t, place, agent) => {
      t.equal(umount(place, '--lazy'), 0);
      t.equal(place.mount.mount, undefined);
      await agent.end();
    },
  ],
  [
    'a third SIGTERM ends it at once',
    1,
    async (t, { mount }) => {
      mount.signal('SIGTERM');
      t.ok(await soon(() => mount.log.includes('is busy and stays mounted')));
      mount.signal('SIGTERM');
      t.ok(await soon(() => mount.mount === undefined));
      mount.signal('SIGTERM');
    },
  ],
  ['a daemon that is killed', null, async (_t, { mount }) => mount.signal('SIGKILL')],
];

function umount({ mount, id }: Place, ...flags: string[]): number | null {
  const options = { uid: id, gid: id, timeout: PATIENCE_MS };
  return spawnSync(process.execPath, [lowerdata, 'umount', ...flags, mount.root], options).status;
}

for (const [rule, id, missing] of ways) {
  t.test(`${rule}: the end`, { skip: missing, timeout: 180_000 }, async t => {
    for (const [rule, status, end] of endings) {
      await t.test(rule, t =>
        placed(async place => {
          const { mount } = place;
          const agent = place.agent();
          const { answer } = await opening(agent, mount);
          await end(t, place, agent);
          t.equal(await mount.ended(), status, 'the daemon ends');
          const killed = agent.process.killed ? /^killed$/ : /^E(NOTCONN|CONNABORTED|IO)$/;
          t.match(await answer, killed, 'the open ends');
          t.ok(await soon(() => mount.mount === undefined), 'no mount is left');
        }, id),
      );
    }
  });
}
t.end();
