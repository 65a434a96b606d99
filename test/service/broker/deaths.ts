/**
 * Deaths of the service: its broker and its servers are killed at random while users read. A program in the place of the service manager
 * starts the broker again. `LOWERDATA_HAMMER=500` makes so many mounts, and kills for a minute.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { mkdirSync, mkdtempSync, readdirSync, readlinkSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { setTimeout as sleep } from 'node:timers/promises';
import t from 'tap';
import { mountInterface } from '../../../src/service/broker/interface.ts';
import { CallError, VarlinkClient } from '../../../src/service/varlink/client.ts';
import { isRunning } from '../../../src/sys/processes/process.ts';
import { soon } from '../../fixtures/mounts/foreground.ts';
import { command, packageFolder } from '../../fixtures/mounts/mounted.ts';
import { member } from '../../fixtures/oci/archives.ts';
import { archiveOf, TAG, writeImage, writeIndex } from '../../fixtures/oci/layout.ts';
import { without, withoutFuse, withoutRoot } from '../../fixtures/skips.ts';

t.setTimeout(300_000);
const missing = withoutFuse || withoutRoot || ['python3', 'unshare'].map(without).find(reason => reason);
const hammer = Number(process.env.LOWERDATA_HAMMER ?? 0);
const MOUNTS = hammer || 40;
const KILL_MS = hammer ? 60_000 : 5000;
const READERS = 3;
const IMAGES = 8;
const FILES = 10;
const seed = Number(process.env.LOWERDATA_SEED ?? Date.now() % 2 ** 31);
const launcher = join(packageFolder, 'bin', 'lowerdata');
const fixtures = join(packageFolder, 'test', 'fixtures', 'service');

/** A store with images, of which each file says where it is. */
function makeStore(home: string): void {
  const layout = join(home, 'layout');
  const file = (image: number, i: number): Buffer =>
    member({ name: `f${i}` }, `image-${image} f${i} `.repeat(1000 * (i + 1)));
  const images = Array.from({ length: IMAGES }, (_, image) => ({
    ...writeImage(layout, [
      archiveOf(
        member({ name: 'usr/', type: '5', mode: 0o755 }),
        ...Array.from({ length: FILES }, (_, i) => file(image, i)),
      ),
    ]),
    annotations: { [TAG]: `image-${image}` },
  }));
  writeIndex(layout, images);
  for (let i = 0; i < IMAGES; i++)
    command('pull', `oci:${layout}:image-${i}`, '--store', join(home, 'store'), '--name', `image-${i}`);
}

/** The service, below the program that starts it again. */
class Service {
  readonly manager: ChildProcess;
  /** The broker's process ID, and how many descriptors it was given, for each time it was started. */
  readonly starts: (readonly [pid: number, kept: number])[] = [];
  /** All servers that it has had. */
  readonly servers = new Set<number>();
  /** How many descriptors were kept at the end. */
  left: number | undefined;
  log = '';
  private readonly socket: string;

  constructor(home: string) {
    this.socket = join(home, 'socket');
    const serve = [launcher, 'serve', '--store', join(home, 'store'), '--allow-unsigned'];
    this.manager = spawn('python3', [join(fixtures, 'manager.py'), this.socket, ...serve], {
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    const { stdout, stderr } = this.manager;
    if (!stdout || !stderr) throw new Error('no pipes');
    stderr.setEncoding('utf8').on('data', text => (this.log += text));
    createInterface({ input: stdout }).on('line', line => {
      const [word, first, second] = line.split(' ');
      if (word === 'started') this.starts.push([Number(first), Number(second)]);
      else this.left = Number(first);
    });
  }

  get broker(): number {
    return this.starts.at(-1)?.[0] ?? -1;
  }

  /** All mounts that the service lists; undefined while no broker answers. */
  list() {
    return this.ask(client => {
      const reply = client.call(mountInterface, 'List', {});
      if (reply instanceof CallError) return undefined;
      for (const { pid } of reply.mounts) this.servers.add(pid);
      return reply.mounts;
    });
  }

  /** Wants no more of any mount. */
  release(): void {
    this.ask(client => {
      const reply = client.call(mountInterface, 'List', {});
      if (reply instanceof CallError) return;
      for (const { mountId } of reply.mounts) client.call(mountInterface, 'Release', { mountId });
    });
  }

  private ask<T>(question: (client: VarlinkClient) => T): T | undefined {
    try {
      const client = new VarlinkClient(this.socket, 10_000);
      try {
        return question(client);
      } finally {
        client.close();
      }
    } catch {
      return undefined; // no broker answers
    }
  }

  async end(): Promise<void> {
    const ended = new Promise(done => this.manager.once('close', done));
    this.manager.kill('SIGTERM');
    await ended;
  }
}

/** Clients in mount namespaces of their own, in Python. */
function client(home: string, program: string, ...words: string[]) {
  const lines = ['python3', join(fixtures, 'client.py'), program, join(home, 'socket'), ...words];
  const without = 'umount -a -l -t fuse.lowerdata 2>/dev/null; exec "$@"'; // mounts of tests that run meanwhile end in time
  const child = spawn('unshare', ['-m', 'sh', '-c', without, 'sh', ...lines], {
    cwd: home,
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  let text = '';
  for (const stream of [child.stdout, child.stderr]) stream.setEncoding('utf8').on('data', piece => (text += piece));
  const ended = new Promise<string>(done => child.once('close', () => done(text)));
  return { child, ended };
}

const READING = `
import random, threading
path, mounts, images, readers, files = sys.argv[2], *map(int, sys.argv[3:7])
random.seed(sys.argv[7])
def patiently(act):
    while True:
        try:
            return act(Client(path))
        except (Failed, OSError) as error: # its broker has died
            if str(error) not in ('closed', '[Errno 104] Connection reset by peer', '[Errno 32] Broken pipe'): raise
def mount(client, i):
    os.makedirs(f'mnt/{i}', exist_ok=True)
    image = f'image-{i % images}'
    if i % 2: client.mount(image, f'mnt/{i}', None)
    elif not os.path.ismount(f'mnt/{i}'): client.serve(f'mnt/{i}', image=image)
for i in range(mounts): patiently(lambda client: mount(client, i))
wanted = [[f'image-{image} f{i} ' * (1000 * (i + 1)) for i in range(files)] for image in range(images)]
counts = {'reads': 0, 'wrong': 0}
def read():
    while not os.path.exists('stop'):
        i, j = random.randrange(mounts), random.randrange(files)
        with open(f'mnt/{i}/f{j}') as file:
            half = file.read(500)
            if random.random() < .1: time.sleep(.2)
            if half + file.read() != wanted[i % images][j]: counts['wrong'] += 1
        counts['reads'] += 1
def remount():
    os.mkdir('mnt/again')
    while not os.path.exists('stop'):
        image = random.randrange(images)
        patiently(lambda client: client.mount(f'image-{image}', 'mnt/again', None))
        if open('mnt/again/f0').read() != wanted[image][0]: counts['wrong'] += 1
        while os.path.ismount('mnt/again'): run('umount', '-l', 'mnt/again')
import time
failed = []
def guarded(act):
    try: act()
    except BaseException as error: failed.append(repr(error)); open('stop', 'w').close()
threads = [threading.Thread(target=guarded, args=[act]) for act in [read] * readers + [remount]]
open('begun', 'w').close()
for one in threads: one.start()
for one in threads: one.join()
print(counts['wrong'], failed, counts['reads'])
`;

/** Numbers from 0 to 1, the same for the same seed. */
function generator(state: number): () => number {
  let at = state;
  return () => {
    at = (Math.imul(at, 1_664_525) + 1_013_904_223) >>> 0;
    return at / 2 ** 32;
  };
}

/** Kills brokers and servers until it is time. @returns how many of each */
async function killAll(service: Service): Promise<{ brokers: number; servers: number }> {
  const random = generator(seed);
  const killed = { brokers: 0, servers: 0 };
  const end = performance.now() + KILL_MS;
  while (performance.now() < end) {
    await sleep(100 + 700 * random());
    const servers = [...new Set(service.list()?.map(({ pid }) => pid) ?? [])].filter(pid => pid > 0);
    const which = random();
    if (which < 0.6) killed.brokers += kill(service.broker);
    const server = servers[Math.floor(random() * servers.length)];
    if (which > 0.4 && server !== undefined) killed.servers += kill(server);
  }
  return killed;
}

function kill(pid: number): number {
  try {
    process.kill(pid, 'SIGKILL');
    return 1;
  } catch {
    return 0; // it has just died
  }
}

if (missing) t.plan(0, missing);
else {
  const home = mkdtempSync('/tmp/deaths-');
  t.teardown(() => rmSync(home, { recursive: true, force: true }));
  makeStore(home);
  mkdirSync(join(home, 'mnt'));

  t.test(`${MOUNTS} mounts, seed ${seed}`, async t => {
    const service = new Service(home);
    t.ok(await soon(() => service.list() !== undefined), 'the service answers');
    const numbers = [MOUNTS, IMAGES, READERS, FILES, seed].map(String);
    const { ended } = client(home, READING, ...numbers);
    t.ok(await soon(() => readdirSync(home).includes('begun')), 'all are mounted');
    const killed = await killAll(service);
    t.ok(killed.brokers > 1 && killed.servers > 1, `killed: ${JSON.stringify(killed)}`);
    const last = await settled(service);
    t.equal(last?.length, new Set(last?.map(({ mountId }) => mountId)).size, 'each mount has its own id');
    writeFileSync(join(home, 'stop'), '');
    const said = await ended;
    t.match(said, /^0 \[\] \d+\n$/, 'no wrong byte, and no error');
    if (!/^0 \[\]/.test(said)) t.comment(service.log.slice(-2000));
    t.ok(
      service.starts.slice(1).every(([, kept]) => kept > MOUNTS / 2),
      'each broker goes on with all mounts',
    );
    service.release(); // or else the last one is kept for a minute, for another client
    t.ok(await soon(() => service.list()?.length === 0), 'when they are unmounted, none is left');
    const open = readdirSync(`/proc/${service.broker}/fd`).map(fd => linkOf(`/proc/${service.broker}/fd/${fd}`));
    t.strictSame(
      open.filter(path => /\/fuse|memfd/.test(path)),
      [],
      'the broker has no descriptor of them',
    );
    await service.end();
    t.equal(service.left, 2, 'the server of the store alone is kept, and the next number');
    t.ok(await soon(() => ![...service.servers].some(isRunning)), 'no server is left');
  });
}

/** What a descriptor leads to; '' if it was just closed. */
function linkOf(path: string): string {
  try {
    return readlinkSync(path);
  } catch {
    return '';
  }
}

/** What is listed once a broker answers. */
async function settled(service: Service) {
  let list = service.list();
  await soon(() => {
    list = service.list();
    return list !== undefined;
  });
  return list;
}
t.end();
