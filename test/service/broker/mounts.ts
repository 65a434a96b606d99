/** Mounts of the service, by real server processes that are killed. */
import { execFile, execFileSync } from 'node:child_process';
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { promisify } from 'node:util';
import t, { type Test } from 'tap';
import { mountAt, readMounts } from '../../../src/fuse/mountinfo.ts';
import { type ImageToMount, Mounts } from '../../../src/service/broker/mounts.ts';
import { ServerGroup } from '../../../src/service/broker/server-group.ts';
import { byteStringFromText } from '../../../src/sys/bytes.ts';
import { native } from '../../../src/sys/native.ts';
import { Readiness } from '../../../src/sys/sockets/readiness.ts';
import { packageFolder } from '../../fixtures/mounts/mounted.ts';
import { openOrThrow } from '../../fixtures/native.ts';
import { withScratchAsync } from '../../fixtures/scratch.ts';
import { withoutFuse } from '../../fixtures/skips.ts';

const launcher = join(packageFolder, 'bin', 'lowerdata');
const MNT_DETACH = 2;
const MOVE_MOUNT_F_EMPTY_PATH = 4;
const O_PATH = 0o10000000;
const call = promisify(execFile);

interface Place {
  readonly home: string;
  readonly mounts: Mounts;
  readonly lines: string[];
  /** The image of a tree whose only file `name` has these contents. */
  image(name: string, contents: string): ImageToMount;
  /** Mounts it at a name in `home`. @returns the id of its superblock */
  mount(image: ImageToMount, name: string, uid?: number): Promise<number>;
  /** What `cat` says, in another process: this one serves nothing, but must not wait for the server either. */
  cat(path: string): Promise<string>;
  /** Kills the server of a superblock. */
  kill(id: number): number;
}

function placed(rule: string, use: (t: Test, place: Place) => Promise<void>): void {
  t.test(rule, { skip: withoutFuse }, t =>
    withScratchAsync(async home => {
      mkdirSync(join(home, 'objects'));
      const readiness = new Readiness();
      const lines: string[] = [];
      const log = (line: string): void => void lines.push(line);
      const objects = openOrThrow(join(home, 'objects'), O_PATH);
      const begin = { kind: 'begin', mayPassThrough: true } as const;
      const domain = { name: 'test', uid: 0, gid: 0, staysWarm: false, begin, objects: [objects] };
      const group = new ServerGroup(readiness, domain, log);
      const mounts = new Mounts(log);
      const places: string[] = [];
      readiness.run();
      const image = (name: string, contents: string): ImageToMount => {
        mkdirSync(join(home, name, 'tree'), { recursive: true });
        writeFileSync(join(home, name, 'tree', 'file'), contents);
        const made = join(home, name, 'image');
        execFileSync(launcher, ['mkfs', `--digest-store=${home}/objects`, join(home, name, 'tree'), made]);
        const own = { digest: undefined, verity: 'require', group } as const;
        return { fd: openOrThrow(made), shown: name, ...own };
      };
      const mount: Place['mount'] = async (of, name, uid = 0) => {
        const { fd, superblock } = await mounts.mount(of, uid, undefined);
        const at = join(home, name);
        mkdirSync(at);
        places.push(at);
        t.equal(native.moveMount(fd, '', -100, byteStringFromText(at), MOVE_MOUNT_F_EMPTY_PATH), 0);
        native.close(fd);
        return superblock.id;
      };
      const kill = (id: number): number => {
        const pid = mounts.get(id)?.pid ?? 0;
        process.kill(pid, 'SIGKILL');
        return pid;
      };
      const cat = async (path: string): Promise<string> => (await call('cat', [join(home, path)])).stdout;
      try {
        await use(t, { home, mounts, lines, image, mount, cat, kill });
      } finally {
        for (const at of places)
          while (mountAt(readMounts(), byteStringFromText(at))) native.umount(byteStringFromText(at), MNT_DETACH);
        for (const { id, users } of mounts.list()) for (const uid of users) mounts.release(id, uid);
        // a mount namespace that another test makes meanwhile has copies of them
        for (let waited = 0; waited < 30_000 && mounts.list().length > 0; waited += 10) await sleep(10);
        t.same(mounts.list(), [], 'no mount is left');
        readiness.stop();
      }
    }),
  );
}

const LARGE = 'large '.repeat(100_000);

placed('one superblock for an image, whoever asks', async (t, { image, mount, cat, mounts }) => {
  const first = image('one', LARGE);
  const again = { ...first, fd: native.duplicate(first.fd, 0) };
  const other = image('two', 'another');
  const id = await mount(first, 'a', 1);
  t.equal(await mount(again, 'b', 2), id);
  t.not(await mount(other, 'c', 2), id);
  t.same([await cat('a/file'), await cat('b/file'), await cat('c/file')], [LARGE, LARGE, 'another']);
  t.same([mounts.countOf(1), mounts.countOf(2), mounts.countOf(3)], [1, 2, 0]);
});

placed(
  'another server goes on with all mounts of one that was killed',
  async (t, { image, mount, cat, kill, lines }) => {
    const ids = [await mount(image('one', LARGE), 'a'), await mount(image('two', 'second'), 'b')];
    t.equal(await cat('a/file'), LARGE);
    const pid = kill(ids[1] as number);
    t.same([await cat('b/file'), await cat('a/file')], ['second', LARGE]);
    t.match(lines.at(-1), `test: process ${pid} has died; another goes on with 2 mounts`);
  },
);

placed('a wrong digest, and what is no image, are errors', async (t, { image, mounts, home }) => {
  const right = image('one', 'x');
  const wrong = { ...right, digest: '0'.repeat(64) };
  await t.rejects(mounts.mount(wrong, 0, undefined), /one: the digest of the image is [0-9a-f]{64}, not 0{64}/);
  writeFileSync(join(home, 'text'), 'x'.repeat(10_000));
  const none = { ...image('two', 'x'), fd: openOrThrow(join(home, 'text')) };
  await t.rejects(mounts.mount(none, 0, undefined), /^two: /);
  await t.rejects(mounts.serve(image('three', 'x'), 0, openOrThrow('/dev/fuse', 2)), /Operation not permitted/);
});

placed('the mounts of servers that die at once are divided', async (t, { image, mount, cat, kill, mounts, lines }) => {
  const ids: number[] = [];
  for (const name of ['a', 'b', 'c', 'd']) ids.push(await mount(image(`image-${name}`, name), name));
  const [bad = 0, , , last = 0] = ids;
  for (let deaths = 0; mounts.get(bad) !== undefined && deaths < 12; deaths++) {
    const pid = kill(bad);
    for (let waited = 0; waited < 5000 && mounts.get(bad)?.pid === pid; waited += 10) await sleep(10);
    for (let waited = 0; waited < 5000 && mounts.get(bad) && !mounts.get(bad)?.pid; waited += 10) await sleep(10);
  }
  t.equal(mounts.get(bad), undefined, 'the one that is always served by those that die is given up');
  t.match(lines.join('\n'), /image-a: given up: its servers die at once/);
  await t.rejects(cat('a/file'), /not connected|connection abort/);
  t.same([await cat('b/file'), await cat('c/file'), await cat('d/file')], ['b', 'c', 'd'], 'the others go on');
  t.ok(mounts.get(last));
});
t.end();
