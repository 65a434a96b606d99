/** What `lowerdata status` says that a mount is doing, against what was done with it. */
import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import {
  closeSync,
  cpSync,
  existsSync,
  lstatSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { connect } from 'node:net';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import type { Activity } from '../../src/driver/activity.ts';
import type { LiveNumbers } from '../../src/mount/control-socket.ts';
import { ForegroundMount, soon } from '../fixtures/mounts/foreground.ts';
import { lowerdata } from '../fixtures/mounts/mounted.ts';
import { parseMetrics } from '../fixtures/prometheus.ts';
import { withScratchAsync } from '../fixtures/scratch.ts';
import { without, withoutFuse, withoutFuseUring } from '../fixtures/skips.ts';

const NAMES = 1000;
const NOBODY = 65534;

/** `status` of a mount, with one more option. */
function ask(mount: ForegroundMount, ...options: string[]): string {
  const args = [lowerdata, 'status', ...options, mount.root];
  const { status, stdout, stderr } = spawnSync(process.execPath, args, { encoding: 'utf8', timeout: 60_000 });
  if (status !== 0 || stderr !== '') throw new Error(`status ${options}: ${status} ${stderr}`);
  return stdout;
}
const live = (mount: ForegroundMount): LiveNumbers => JSON.parse(ask(mount, '--json')).mounts[0];
const activity = (mount: ForegroundMount): Activity => live(mount).activity as Activity;

const countOf = ({ operations }: Activity, name: string): number =>
  operations.find(({ operation }) => operation === name)?.count ?? 0;
const errorsOf = ({ operations }: Activity, name: string): unknown =>
  operations.find(({ operation }) => operation === name)?.errors;

/** Source: linux/fcntl.h. */
const O_PATH = 0o10000000;

/** Looks names up, and has the kernel keep them, though others on this machine have it drop its caches. */
function pin(mount: ForegroundMount, names: string[]): () => void {
  const pinned = names.map(name => openSync(join(mount.root, name), O_PATH));
  return () => {
    for (const fd of pinned) closeSync(fd);
  };
}

/** A test with a directory layer `A` of NAMES files, file i of i bytes, mounted with options. */
function mounted(
  rule: string,
  options: string,
  use: (t: Test, mount: ForegroundMount, names: string[]) => Promise<void>,
  skip: string | false = withoutFuse,
): void {
  t.test(rule, { skip, timeout: 180_000 }, t =>
    withScratchAsync(async directory => {
      const layer = join(directory, 'A');
      const names = Array.from({ length: NAMES }, (_, i) => `name${i}`);
      mkdirSync(layer);
      for (const [i, name] of names.entries()) writeFileSync(join(layer, name), 'x'.repeat(i));
      const mount = await ForegroundMount.make(layer, join(directory, 'mnt'), options);
      try {
        await use(t, mount, names);
      } finally {
        await mount.clear();
      }
    }),
  );
}

for (const [transport, skip] of [
  ['dev', withoutFuse],
  ['uring', withoutFuseUring],
] as const) {
  mounted(
    `lookups, transport=${transport}`,
    `transport=${transport},entry_timeout=0,attr_timeout=3600,negative_timeout=0`,
    async (t, mount, names) => {
      const before = activity(mount);
      const started = performance.now();
      const unpin = pin(mount, names);
      const took = (performance.now() - started) * 1e6;
      const cold = activity(mount);
      t.equal(countOf(cold, 'LOOKUP') - countOf(before, 'LOOKUP'), NAMES, 'each name is asked for once');
      t.equal(cold.caches.dentries?.misses, NAMES, 'and not known');
      t.equal(cold.caches.dentries?.hits, 0);
      t.equal(cold.caches.dentries?.entries, NAMES, 'and then it is');
      t.equal(cold.open.nodes, NAMES, 'by the kernel, too');

      const lookups = cold.operations.find(({ operation }) => operation === 'LOOKUP');
      t.equal(
        lookups?.buckets.reduce((sum, count) => sum + count, 0),
        countOf(cold, 'LOOKUP'),
        'each has a time',
      );
      t.ok((lookups?.nanoseconds as number) > NAMES * 500, 'half a microsecond at least');
      t.ok((lookups?.nanoseconds as number) < took, 'and all of them no more than whoever asked has waited');

      for (const name of names) lstatSync(join(mount.root, name));
      const again = activity(mount);
      t.equal(countOf(again, 'LOOKUP') - countOf(cold, 'LOOKUP'), NAMES, 'names that the kernel may not keep');
      t.strictSame(
        [again.caches.dentries?.hits, again.caches.dentries?.misses],
        [0, 2 * NAMES],
        'are not kept here, either',
      );

      for (let i = 0; i < 17; i++) t.notOk(existsSync(join(mount.root, `none${i}`)));
      const missed = activity(mount);
      t.equal(missed.missing, 17, 'names that are not there');
      t.equal(
        (errorsOf(missed, 'LOOKUP') as { ENOENT?: number }).ENOENT,
        17,
        'are errors, where the kernel is to ask again',
      );
      t.match(ask(mount), /\n {2}requests +[\d,]+; names not found: 17; bytes read through the daemon: 0\n/);
      t.match(ask(mount), /\n {4}LOOKUP +2,01[78] .* ENOENT 17\n/, 'so says the text');
      unpin();
    },
    skip,
  );
}

mounted('what the kernel keeps is not asked for', 'attr_timeout=3600', async (t, mount, names) => {
  const before = countOf(activity(mount), 'LOOKUP'); // of the directory that is the root
  const unpin = pin(mount, names);
  const first = activity(mount);
  for (const name of names) lstatSync(join(mount.root, name));
  const second = activity(mount);
  t.equal(countOf(first, 'LOOKUP') - before, NAMES);
  t.equal(countOf(second, 'LOOKUP') - before, NAMES);
  unpin();
});

mounted('reads and opens', 'passthrough=off', async (t, mount, names) => {
  let bytes = 0;
  const unpin = pin(mount, names.slice(0, 500));
  for (const name of names.slice(0, 500)) bytes += readFileSync(join(mount.root, name)).length;
  t.equal(bytes, (499 * 500) / 2);
  await soon(() => countOf(activity(mount), 'RELEASE') === 500); // which the kernel does not wait for
  const read = activity(mount);
  t.equal(read.readBytes, bytes, 'every byte came through the daemon, once');
  t.equal(countOf(read, 'OPEN'), 500);
  t.match(read.caches.files, { hits: 0, misses: 500, entries: 500 });
  t.strictSame(read.open.handles, 0);
  const held = openSync(join(mount.root, 'name7'), 'r');
  t.match(activity(mount), {
    open: { handles: 1, backings: 0 },
    caches: { files: { hits: 1, misses: 500, entries: 499 } },
  });
  closeSync(held);
  unpin();
});

mounted('reads with passthrough', 'passthrough=on', async (t, mount) => {
  t.equal(readFileSync(join(mount.root, 'name999')).length, 999);
  t.match(activity(mount), { readBytes: 0, open: { backings: 1 } }, 'are not seen');
});

mounted('the process', '', async (t, mount, names) => {
  for (const name of names) lstatSync(join(mount.root, name));
  const { process: told } = live(mount);
  const words = readFileSync(`/proc/${mount.daemon.pid}/stat`, 'latin1')
    .replace(/^.*\) /s, '')
    .split(' ');
  const seconds = (Number(words[11]) + Number(words[12])) / 100; // utime and stime, in ticks; proc_pid_stat(5)
  const ran = Number(readFileSync('/proc/uptime', 'latin1').split(' ')[0]) - Number(words[19]) / 100;
  t.ok(Math.abs(told.userSeconds + told.systemSeconds - seconds) < 0.5, 'processor time');
  t.ok(Math.abs(told.residentBytes / mount.residentBytes - 1) < 0.2, 'memory');
  t.ok(told.uptimeSeconds <= ran && told.uptimeSeconds > ran - 20, 'uptime');
});

mounted('SIGUSR1', '', async (t, mount) => {
  lstatSync(join(mount.root, 'name1'));
  const before = mount.log;
  mount.signal('SIGUSR1');
  t.ok(await soon(() => /listings.*\n/.test(mount.log)), 'numbers come to the log');
  const lines = mount.log.slice(before.length).trimEnd().split('\n');
  t.ok(
    lines.every(line => line.startsWith('lowerdata: ')),
    'and nothing else, such as a debugger of Node.js',
  );
  t.match(
    lines.join('\n'),
    /running +for .*\n(?:.*\n)+.* LOOKUP +[12] .*\n(?:.*\n)+.* dentries +1 +65,536 +0 +1 +0\.0%\n/,
  );
  t.equal(lstatSync(join(mount.root, 'name2')).size, 2, 'and it goes on');
});

mounted('metrics', 'negative_timeout=0', async (t, mount, names) => {
  const before = countOf(activity(mount), 'LOOKUP'); // of the directory that is the root
  for (const name of names) lstatSync(join(mount.root, name));
  t.notOk(existsSync(join(mount.root, 'none')));
  const text = ask(mount, '--metrics');
  const metrics = parseMetrics(text);
  const value = (name: string, wanted: Record<string, string> = {}): number | undefined =>
    [...metrics.values()]
      .flatMap(({ samples }) => samples)
      .find(
        sample =>
          sample.name === `lowerdata_${name}` && Object.entries(wanted).every(([k, v]) => sample.labels[k] === v),
      )?.value;
  t.equal(value('up'), 1);
  t.equal(value('info', { mountpoint: mount.root, transport: 'dev', pid: String(mount.daemon.pid) }), 1);
  t.equal(value('request_duration_seconds_count', { operation: 'LOOKUP' }), before + NAMES + 1);
  t.equal(value('errors_total', { operation: 'LOOKUP', errno: 'ENOENT' }), 1);
  t.equal(value('missing_names_total'), 1);
  t.equal(value('cache_entries', { cache: 'dentries' }), NAMES + 1);
  t.equal(value('cache_misses_total', { cache: 'dentries' }), NAMES + 1);
  t.equal(value('checks_total', { result: 'failed' }), 0);
  t.ok((value('resident_memory_bytes') as number) > 1e7);
  t.ok(Math.abs((value('start_time_seconds') as number) - Date.now() / 1000) < 600);
  const { samples = [] } = metrics.get('lowerdata_request_duration_seconds') ?? {};
  const bounds = new Set(samples.map(({ labels }) => labels.le).filter(le => le !== undefined));
  t.ok(bounds.has('0.000001024') || bounds.has('1.024e-6'), 'bounds are seconds, powers of two in nanoseconds');

  if (without('promtool'))
    return t.comment('promtool is not installed: only the reader of this test has seen the metrics');
  const { status, stderr } = spawnSync('promtool', ['check', 'metrics'], { input: text, encoding: 'utf8' });
  t.same([status, stderr], [0, ''], 'promtool');
});

t.test('names that would break out of a label', { skip: withoutFuse, timeout: 120_000 }, t =>
  withScratchAsync(async directory => {
    mkdirSync(join(directory, 'A'));
    const mount = await ForegroundMount.make(join(directory, 'A'), join(directory, 'a"b\\c\nd é'));
    try {
      const [sample] = parseMetrics(ask(mount, '--metrics')).get('lowerdata_up')?.samples ?? [];
      t.strictSame(
        sample?.labels,
        { mountpoint: join(directory, 'a"b\\x5cc\\x0ad é') },
        'as status shows them elsewhere',
      );
    } finally {
      await mount.clear();
    }
  }),
);

t.test('checks of objects', { skip: withoutFuse, timeout: 180_000 }, t =>
  withScratchAsync(async directory => {
    const at = (name: string): string => join(directory, name);
    const [tree, image, store, objects] = [at('tree'), at('image'), at('store'), at('objects')];
    const sizes = { small: 5000, large: 3_000_000, other: 700_000, bad: 200_000 }; // what is above 128 KiB is measured elsewhere
    mkdirSync(tree);
    for (const [name, size] of Object.entries(sizes)) writeFileSync(join(tree, name), name[0]?.repeat(size) ?? '');
    const made = spawnSync(process.execPath, [lowerdata, 'mkfs', `--digest-store=${store}`, tree, image]);
    t.equal(made.status, 0);
    cpSync(store, objects, { recursive: true }); // of which none has fs-verity, whatever this kernel can do
    const listed = readdirSync(objects, { recursive: true, encoding: 'utf8' }).map(name => join(objects, name));
    writeFileSync(listed.find(path => statSync(path).size === sizes.bad) as string, 'x', { flag: 'r+' });

    const mount = await ForegroundMount.make(image, join(directory, 'mnt'), `basedir=${objects},verify=read`);
    try {
      const good = ['small', 'large', 'other'] as const;
      const open = (name: string): unknown => closeSync(openSync(join(mount.root, name), 'r'));
      for (let i = 0; i < 4; i++) for (const name of good) open(name);
      for (let i = 0; i < 2; i++) t.throws(() => open('bad'), { code: 'EIO' });
      const numbers = activity(mount);
      t.strictSame(numbers.checks, { measured: 3, remembered: 9, byKernel: 0, failed: 2 });
      t.strictSame([countOf(numbers, 'OPEN'), errorsOf(numbers, 'OPEN')], [14, { EIO: 2 }]);
      t.equal(numbers.readBytes, 0, 'what is measured is not read by anybody');
      for (const name of good) t.equal(readFileSync(join(mount.root, name)).length, sizes[name]);
      t.equal(activity(mount).readBytes, sizes.small + sizes.large + sizes.other);
      t.match(ask(mount), /\n {2}checks {6}3 measured, 12 remembered, 0 by the kernel, 2 failed\n/);
    } finally {
      await mount.clear();
    }
  }),
);

mounted('who may ask', '', async (t, mount) => {
  const socket = mount.state.replace(/json$/, 'sock');
  t.equal(statSync(socket).mode & 0o777, 0o600);
  const script = `
    require('node:net').connect(process.argv[1]).on('error', e => console.log(e.code)).on('data', d => console.log('heard'))`;
  const { stdout } = spawnSync(process.execPath, ['-e', script, socket], {
    uid: NOBODY,
    gid: NOBODY,
    encoding: 'utf8',
  });
  t.equal(stdout, 'EACCES\n', 'nobody else');

  const open = (): number => readdirSync(`/proc/${mount.daemon.pid}/fd`).length;
  t.equal(countOf(activity(mount), 'INIT'), 1, 'it is there to be asked');
  const before = open();
  for (let i = 0; i < 50; i++)
    connect(socket)
      .on('error', () => {})
      .destroy();
  const rude = connect(socket); // never reads, never ends
  await once(rude, 'connect');
  t.equal(countOf(activity(mount), 'INIT'), 1, 'it answers while others are rude');
  rude.destroy();
  t.ok(await soon(() => open() === before), 'and keeps no descriptor of theirs');
});

mounted('a daemon that is stopped', '', async (t, mount) => {
  mount.signal('SIGSTOP');
  try {
    const started = Date.now();
    t.match(ask(mount), /\n {2}running {5}the daemon does not answer\n$/);
    t.ok(Date.now() - started < 30_000, 'is not waited for');
    t.match(JSON.parse(ask(mount, '--json')).mounts, [{ mountpoint: mount.root, process: null, activity: null }]);
    const metrics = parseMetrics(ask(mount, '--metrics'));
    t.equal(metrics.get('lowerdata_up')?.samples[0]?.value, 0);
    t.equal(metrics.has('lowerdata_request_duration_seconds'), false);
  } finally {
    mount.signal('SIGCONT');
  }
  t.equal(countOf(activity(mount), 'INIT'), 1, 'and answers when it goes on');
});

mounted('sockets that lead nowhere', '', async (t, mount) => {
  const socket = mount.state.replace(/json$/, 'sock');
  rmSync(socket);
  t.match(ask(mount), /the daemon does not answer/, 'no socket');
  writeFileSync(socket, 'no socket');
  t.match(ask(mount), /the daemon does not answer/, 'a file');
  rmSync(socket);
  const listener = spawn('python3', [
    '-c',
    'import socket, sys; s = socket.socket(socket.AF_UNIX); s.bind(sys.argv[1]); print(1, flush=True)',
    socket,
  ]);
  await once(listener, 'exit');
  t.ok(statSync(socket).isSocket());
  t.match(ask(mount), /the daemon does not answer/, 'one whose process is dead');
  t.ok(lstatSync(join(mount.root, 'name1')).isFile(), 'the mount goes on');
  mount.signal('SIGTERM');
  t.equal(await mount.ended(), 0);
  t.notOk(existsSync(socket), 'what is there goes with the mount');
});

t.test('what leaves no number', { skip: withoutFuse || fuseNativeMissing() }, t =>
  withScratchAsync(async directory => {
    mkdirSync(join(directory, 'A'));
    const mount = await ForegroundMount.make(join(directory, 'A'), join(directory, 'mnt'), 'transport=fuse-native');
    try {
      t.match(ask(mount), /running +for .*\n {2}requests {4}are not counted with transport=fuse-native\n$/);
      t.equal(live(mount).activity, null);
      t.equal(parseMetrics(ask(mount, '--metrics')).get('lowerdata_up')?.samples[0]?.value, 1);
    } finally {
      await mount.clear();
    }
  }),
);

function fuseNativeMissing(): string | false {
  const found = spawnSync(process.execPath, ['-e', "require.resolve('fuse-native')"]).status === 0;
  return found ? false : 'the package fuse-native is not installed';
}

t.test('options that exclude each other', async t => {
  const { status, stderr } = spawnSync(process.execPath, [lowerdata, 'status', '--json', '--metrics'], {
    encoding: 'utf8',
  });
  t.same([status, stderr], [1, 'lowerdata: --json and --metrics exclude each other\n']);
});
t.end();
