/**
 * Compares mounts of the service with mounts of their own: how long until a mount answers, and what 32 clients get from 16 mounts.
 *
 *     npm run build && node dist/scripts/bench/service-clients.js [ROUNDS [TREE]]
 *
 * 16 images of a directory (by default /usr/lib/python3), which differ in one name, are in one repository. The ways take turns:
 *
 * - `service`: `lowerdata serve`, asked for each mount by varlink;
 * - `daemons`: `lowerdata mount`, one process for each mount, as a whole command;
 * - `kernel`: EROFS below overlayfs, two calls of mount(2), as mount.composefs does; digests are not checked.
 *
 * `firstMs` and `againMs` are medians of the time from the request to the answer to stat(2) of a name, for an image that is new to the
 * service or was mounted before. In `clients`, two threads in C for each mount list all directories with attributes, and open, read and
 * close small files, at the same time; caches are dropped before. Medians go to standard output as JSON. Needs root.
 */
import { execFileSync, spawn } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { Clients } from '../../src/bench/clients.ts';
import { type BenchNames, benchNames } from '../../src/bench/names.ts';
import { chosenWorkloads } from '../../src/bench/workloads.ts';
import { readTree } from '../../src/composefs/read.ts';
import { newInode } from '../../src/composefs/tree.ts';
import { writeImage } from '../../src/composefs/write.ts';
import { openImage, readImageFile } from '../../src/erofs/image.ts';
import { attachMount } from '../../src/fuse/detached-mount.ts';
import { MountPoint } from '../../src/fuse/mount-point.ts';
import { launcher } from '../../src/mount/launch.ts';
import { Repository } from '../../src/oci/repository.ts';
import { settleRules } from '../../src/overlay/options/rules.ts';
import { mountInterface } from '../../src/service/broker/interface.ts';
import { CallError, VarlinkClient } from '../../src/service/varlink/client.ts';
import { byteStringFromText } from '../../src/sys/bytes.ts';
import { must } from '../../src/sys/errno.ts';
import { native } from '../../src/sys/native.ts';

const MOUNTS = 16;
const CLIENTS_EACH = 2;
const MS_RDONLY = 1;
const MNT_DETACH = 2;
const WORKLOADS = chosenWorkloads('walk,open,read');

const [rounds = 3, tree = '/usr/lib/python3'] = [Number(process.argv[2] ?? 3), process.argv[3]];
const home = mkdtempSync(join(tmpdir(), 'lowerdata-bench-'));
const at = (...names: string[]): string => join(home, ...names);
const bytes = (...names: string[]): string => byteStringFromText(at(...names));
const run = (...words: string[]): string => execFileSync(launcher, words, { encoding: 'utf8' });
const images = Array.from({ length: MOUNTS }, (_, i) => `image-${i}`);

/** Makes the images, each named in the repository. @returns where their bytes are */
function makeImages(): Map<string, string> {
  new Repository(bytes('store'), undefined).close();
  run('mkfs', '--digest-store', at('store/objects'), tree, at('image'));
  const repository = new Repository(bytes('store'), undefined);
  const paths = new Map<string, string>();
  for (const name of images) {
    const root = readTree(openImage(readImageFile(bytes('image'))));
    root.entries.set(name, { inode: newInode(0o100644), link: false });
    const digest = repository.addObject(writeImage(root));
    repository.objects.finish();
    repository.addImage(digest);
    repository.nameImage(digest, name);
    paths.set(name, at('store/objects', digest.slice(0, 2), digest.slice(2)));
  }
  repository.close();
  return paths;
}

/** One way to mount. */
interface Way {
  /** Mounts an image at a directory, and is done when the mount can be used. */
  mount(image: string, place: string): void;
  unmount(place: string): void;
  /** Ends what served. */
  end(): Promise<void>;
}

const detach = (place: string): void => void native.umount(byteStringFromText(place), MNT_DETACH);

async function service(): Promise<Way> {
  const socket = at('socket');
  const words = ['serve', '--store', at('store'), '--socket', socket, '--allow-unsigned'];
  const child = spawn(launcher, words, { stdio: 'ignore' });
  const ended = new Promise(done => child.once('exit', done));
  const connected = (): VarlinkClient | undefined => {
    try {
      return new VarlinkClient(socket, 30_000);
    } catch {
      return undefined;
    }
  };
  let client = connected();
  for (; client === undefined; client = connected()) await sleep(20);
  const connection = client;
  await sleep(1000); // its servers are warm by then, as on a machine where it runs
  return {
    mount: (image, place) => {
      const reply = connection.call(mountInterface, 'Mount', { image });
      if (reply instanceof CallError) throw reply;
      const fd = reply.mountFileDescriptor.take();
      const point = MountPoint.find(byteStringFromText(place));
      must(attachMount(fd, point), place);
      point.close();
      native.close(fd);
    },
    unmount: detach,
    end: async () => {
      connection.close();
      child.kill('SIGTERM');
      await ended;
      rmSync(socket, { force: true });
    },
  };
}

const daemons = async (): Promise<Way> => ({
  mount: (image, place) => void run('mount', '-o', `store=${at('store')}`, image, place),
  unmount: place => void run('umount', place),
  end: async () => {},
});

const kernel = (paths: ReadonlyMap<string, string>) => async (): Promise<Way> => ({
  mount: (image, place) => {
    const erofs = `${byteStringFromText(place)}.erofs`;
    mkdirSync(`${place}.erofs`);
    must(native.mount(byteStringFromText(paths.get(image) as string), erofs, 'erofs', MS_RDONLY, ''), 'mount -t erofs');
    const data = `metacopy=on,redirect_dir=on,lowerdir=${erofs}::${bytes('store/objects')}`;
    must(native.mount('overlay', byteStringFromText(place), 'overlay', MS_RDONLY, data), 'mount -t overlay');
  },
  unmount: place => {
    detach(place);
    detach(`${place}.erofs`);
    rmSync(`${place}.erofs`, { recursive: true });
  },
  end: async () => {},
});

/** Milliseconds until each of the mounts has answered. */
function mountAll(way: Way, name: string): number[] {
  return images.map((image, i) => {
    const place = at('mnt', `${name}-${i}`);
    mkdirSync(place);
    const begin = performance.now();
    way.mount(image, place);
    statSync(join(place, image));
    return performance.now() - begin;
  });
}

function unmountAll(way: Way, name: string): void {
  for (let i = 0; i < MOUNTS; i++) {
    const place = at('mnt', `${name}-${i}`);
    way.unmount(place);
    rmSync(place, { recursive: true });
  }
}

/** Operations a second, and the microseconds that one in a hundred exceeds, of all clients together. */
async function workAll(name: string, names: BenchNames): Promise<Record<string, [perSecond: number, p99: number]>> {
  const groups = images.map(() => new Clients(CLIENTS_EACH, names, undefined, new AbortController().signal));
  const result: Record<string, [number, number]> = {};
  for (const workload of WORKLOADS) {
    const settle = async (): Promise<void> => void (await sleep(500));
    const places = images.map((_, i) => ({ root: bytes('mnt', `${name}-${i}`), settle }));
    const pairs = places.map((place, i) => (groups[i] as Clients).measure(place, workload, CLIENTS_EACH));
    const timings = await Promise.all(pairs);
    const seconds = Math.max(...timings.map(timing => timing.seconds));
    const all = timings.flatMap(({ nanoseconds }) => [...nanoseconds]).sort((a, b) => a - b);
    result[workload.name] = [all.length / seconds, (all[Math.floor(all.length * 0.99)] as number) / 1000];
  }
  await Promise.all(groups.map(group => group.stop()));
  return result;
}

const median = (all: readonly number[]): number => [...all].sort((a, b) => a - b)[all.length >> 1] as number;
const rounded = (number: number): number => Number(number.toPrecision(3));

interface Round {
  readonly first: number[];
  readonly again: number[];
  readonly clients: Record<string, [perSecond: number, p99: number]>;
}

async function measure(name: string, begin: () => Promise<Way>, names: BenchNames): Promise<Round> {
  const way = await begin();
  const first = mountAll(way, name);
  unmountAll(way, name);
  const again = mountAll(way, name);
  const clients = await workAll(name, names);
  unmountAll(way, name);
  await way.end();
  return { first, again, clients };
}

function summary(all: readonly Round[]): object {
  const clients = WORKLOADS.map(({ name }) => {
    const of = (column: 0 | 1): number => rounded(median(all.map(round => round.clients[name]?.[column] ?? 0)));
    return [name, { perSecond: of(0), p99Microseconds: of(1) }];
  });
  const ms = (column: 'first' | 'again'): number => rounded(median(all.flatMap(round => round[column])));
  return { firstMs: ms('first'), againMs: ms('again'), clients: Object.fromEntries(clients) };
}

mkdirSync(at('mnt'));
try {
  const ways = { service, daemons, kernel: kernel(makeImages()) };
  const layers = [
    { path: bytes('image'), dataOnly: false },
    { path: bytes('store/objects'), dataOnly: true },
  ];
  const names = benchNames({ layers, ...settleRules() }, 1);
  const all: Record<string, Round[]> = { service: [], daemons: [], kernel: [] };
  for (let round = 0; round < rounds; round++)
    for (const [name, begin] of Object.entries(ways)) all[name]?.push(await measure(name, begin, names));
  const rows = Object.fromEntries(Object.entries(all).map(([name, each]) => [name, summary(each)]));
  console.log(
    JSON.stringify(
      { tree, entries: names.entries, mounts: MOUNTS, clients: MOUNTS * CLIENTS_EACH, rounds, rows },
      null,
      2,
    ),
  );
} catch (error) {
  console.error(error, `what was made stays in ${home}`);
  process.exit(1);
}
rmSync(home, { recursive: true });
